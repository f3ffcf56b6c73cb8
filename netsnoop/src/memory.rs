//! Memory that was needed to start and is not needed any more, and memory that is about to be filled.

use std::ffi::c_void;

use rustix::mm::{Advice, madvise};
use rustix::param::page_size;

/// Gives free memory back to the kernel. The types of the kernel leave tens of megabytes in small pieces, which
/// the C library keeps for the thread that freed them.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes a number, may be called by any thread at any time since glibc 2.8, and touches
    // only memory that is free. Whether there was any does not matter.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The kernel's smallest huge page on most machines; less is not worth asking.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Room for `capacity` elements that will soon be filled. For each small page that is touched first the kernel is entered,
/// which took a fifth of a long list's time; so it is asked for huge pages (man 2 madvise, MADV_HUGEPAGE), which stay as the
/// room grows. Where it has none, nothing is lost but speed.
pub fn room_for<T>(capacity: usize) -> Vec<T> {
    let mut room: Vec<T> = Vec::with_capacity(capacity);
    let bytes = size_of_val(room.spare_capacity_mut());
    if bytes >= HUGE_PAGE_BYTES {
        let start = room.as_mut_ptr().cast::<u8>();
        // Pieces of this size are mapped by themselves, with a few bytes before them (`M_MMAP_THRESHOLD` in man 3 mallopt).
        // All of the mapping is meant: one that is half of each kind could not grow in place.
        let before = start.addr() % page_size();
        let length = (before + bytes).next_multiple_of(page_size());
        let mapping = start.wrapping_sub(before).cast::<c_void>();
        // SAFETY: the advice changes no content, whatever is there: it is only about how the kernel backs it.
        let advised = unsafe { madvise(mapping, length, Advice::LinuxHugepage) };
        if let Err(error) = advised {
            log::debug!("no huge pages for {bytes} bytes: {error}");
        }
    }
    room
}
