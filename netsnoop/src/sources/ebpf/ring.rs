//! The ring that kernel programs write to (`BPF_MAP_TYPE_RINGBUF`, since Linux 5.8), as it lies in memory.
//!
//! The kernel offers its data twice, one behind the other, so that a record that goes on at the ring's beginning lies in one
//! piece. All of a mapping counts as memory of this process, used or not, so here it is mapped once, and such a record
//! is handed over in two pieces. The layout is that of `struct bpf_ringbuf` in
//! <https://github.com/torvalds/linux/blob/v6.12/kernel/bpf/ringbuf.c>: the consumer's position on a page of its own,
//! then the producer's, then the data.

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

use anyhow::{Context, Result, bail};
use aya::maps::{Map, MapData};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::param::page_size;

/// Before each record: its length with two flags, and where the ring is (man 2 bpf says nothing of it; see
/// `struct bpf_ringbuf_hdr` in include/uapi/linux/bpf.h and Documentation/bpf/ringbuf.rst, since Linux 5.8).
const HEADER_BYTES: usize = 8;
/// It is being written.
const BUSY: u32 = 1 << 31;
/// It was given up.
const DISCARDED: u32 = 1 << 30;
/// Records begin at multiples of this.
const ALIGNMENT: usize = 8;

/// The ring's reading end.
#[derive(Debug)]
pub(super) struct Ring {
    pages: Pages,
    map: MapData,
}

impl Ring {
    /// Maps a ring of `bytes` bytes.
    pub(super) fn open(map: Map, bytes: usize) -> Result<Self> {
        let Map::RingBuf(map) = map else { bail!("it is no ring") };
        let pages = Pages::map(map.fd().as_fd(), bytes).context("mapping it")?;
        Ok(Self { pages, map })
    }

    /// Hands the next record to `take`, in one piece or two, and tells its length. `None` if none is complete.
    pub(super) fn next(&mut self, take: impl FnMut(&[u8])) -> Option<usize> {
        self.pages.next(take)
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.map.fd().as_fd().as_raw_fd()
    }
}

/// What is mapped of it. Positions count bytes from the beginning of time.
#[derive(Debug)]
struct Pages {
    /// Where we are, for the kernel to read.
    consumer: Mapping,
    /// Where the kernel is, and behind that page the data.
    producer: Mapping,
    bytes: usize,
    /// Read up to here.
    consumed: usize,
    /// Written at least up to here: asking the kernel's processors for each record would slow them down.
    produced: usize,
}

impl Pages {
    fn map(ring: BorrowedFd<'_>, bytes: usize) -> rustix::io::Result<Self> {
        let page = page_size();
        let consumer = Mapping::new(ring, ProtFlags::READ | ProtFlags::WRITE, (0, page))?;
        let producer = Mapping::new(ring, ProtFlags::READ, (page, page + bytes))?;
        let mut this = Self { consumer, producer, bytes, consumed: 0, produced: 0 };
        this.consumed = this.consumer.position().load(Ordering::Relaxed);
        this.produced = this.consumed;
        Ok(this)
    }

    fn next(&mut self, mut take: impl FnMut(&[u8])) -> Option<usize> {
        loop {
            // The kernel wakes us at a record that ends where we are: it must see that we are there, or we that it has
            // ended.
            fence(Ordering::SeqCst);
            if self.consumed == self.produced {
                self.produced = self.producer.position().load(Ordering::Relaxed);
                fence(Ordering::Acquire);
            }
            if self.consumed == self.produced {
                return None;
            }
            let header = self.header().load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if header & BUSY != 0 {
                return None;
            }
            let length = (header & !DISCARDED) as usize;
            let is_record = header & DISCARDED == 0;
            if is_record {
                self.pieces(length).into_iter().filter(|piece| !piece.is_empty()).for_each(&mut take);
            }
            let next = self.consumed.wrapping_add((HEADER_BYTES + length).next_multiple_of(ALIGNMENT));
            self.consumed = next;
            self.consumer.position().store(next, Ordering::Release);
            if is_record {
                return Some(length);
            }
        }
    }

    /// A place in the data. Their number is a power of two.
    fn data(&self, position: usize) -> (*const u8, usize) {
        let offset = position & (self.bytes - 1);
        (self.producer.start.as_ptr().cast::<u8>().wrapping_add(page_size() + offset).cast_const(), offset)
    }

    fn header(&self) -> &AtomicU32 {
        let (at, _) = self.data(self.consumed);
        // SAFETY: it is within the mapping, which lives as long as we do, and aligned: positions are multiples of 8. The
        // kernel writes it as one word; it is only loaded here, relaxed.
        unsafe { AtomicU32::from_ptr(at.cast_mut().cast::<u32>()) }
    }

    /// The record of `length` bytes that is next.
    fn pieces(&self, length: usize) -> [&[u8]; 2] {
        let (at, offset) = self.data(self.consumed + HEADER_BYTES);
        let first = length.min(self.bytes - offset);
        let rest = (length - first).min(offset);
        let (beginning, _) = self.data(0);
        // SAFETY: both pieces are within the data. The kernel has completed the record and leaves it alone until we say
        // that we have read it, which nobody can while these are borrowed.
        unsafe { [slice::from_raw_parts(at, first), slice::from_raw_parts(beginning, rest)] }
    }
}

/// Memory shared with the kernel.
#[derive(Debug)]
struct Mapping {
    start: NonNull<c_void>,
    length: usize,
}

// SAFETY: the memory is nobody else's in this process, and not bound to a thread.
unsafe impl Send for Mapping {}
// SAFETY: who shares it reads and writes one atomic.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(
        ring: BorrowedFd<'_>,
        protection: ProtFlags,
        (offset, length): (usize, usize),
    ) -> rustix::io::Result<Self> {
        // SAFETY: a new mapping at a place that the kernel chooses touches no other memory.
        let start =
            unsafe { mmap(ptr::null_mut(), length, protection, MapFlags::SHARED, ring, offset as u64) }?;
        let start = NonNull::new(start).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Self { start, length })
    }

    /// The position at its beginning.
    const fn position(&self) -> &AtomicUsize {
        // SAFETY: a page is aligned, is mapped as long as this lives, and holds an `unsigned long` at its beginning, which
        // both sides access as one word. What is mapped for reading alone is only loaded, relaxed, which never writes
        // (std::sync::atomic, "Atomic accesses to read-only memory").
        unsafe { AtomicUsize::from_ptr(self.start.as_ptr().cast::<usize>()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and no reference into it outlives us.
        if let Err(error) = unsafe { munmap(self.start.as_ptr(), self.length) } {
            log::debug!("unmapping a ring: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use rustix::io::pwrite;

    use super::*;

    const BYTES: usize = 4096;

    /// A file with the layout of a ring.
    struct Kernel {
        file: OwnedFd,
        produced: usize,
    }

    impl Kernel {
        fn new() -> Self {
            let file = memfd_create("ring", MemfdFlags::CLOEXEC).unwrap();
            ftruncate(&file, (2 * page_size() + BYTES) as u64).unwrap();
            Self { file, produced: 0 }
        }

        fn put(&self, position: usize, bytes: &[u8]) {
            for (place, byte) in (position..).zip(bytes) {
                let offset = 2 * page_size() + place % BYTES;
                pwrite(&self.file, slice::from_ref(byte), offset as u64).unwrap();
            }
        }

        /// Writes a record, and where it is.
        fn write(&mut self, content: &[u8], flags: u32) -> usize {
            let at = self.produced;
            self.put(at + HEADER_BYTES, content);
            self.put(at, &(u32::try_from(content.len()).unwrap() | flags).to_ne_bytes());
            self.produced += (HEADER_BYTES + content.len()).next_multiple_of(ALIGNMENT);
            pwrite(&self.file, &self.produced.to_ne_bytes(), page_size() as u64).unwrap();
            at
        }
    }

    fn next(pages: &mut Pages) -> Option<Vec<u8>> {
        let mut record = Vec::new();
        let length = pages.next(|piece| record.extend_from_slice(piece))?;
        assert_eq!(length, record.len());
        Some(record)
    }

    #[test]
    fn records_come_whole_and_in_order_all_around_the_ring() {
        let mut kernel = Kernel::new();
        let mut pages = Pages::map(kernel.file.as_fd(), BYTES).unwrap();
        assert_eq!(next(&mut pages), None);
        for round in 0..200_usize {
            let records = [round % 61, round % 7 * 100].map(|length| vec![round as u8; length]);
            records.iter().for_each(|record| {
                kernel.write(record, 0);
            });
            assert_eq!([next(&mut pages), next(&mut pages)], records.map(Some), "round {round}");
            assert_eq!(next(&mut pages), None);
        }
        assert_eq!(pages.consumer.position().load(Ordering::Relaxed), kernel.produced);
    }

    #[test]
    fn what_was_given_up_is_left_out_and_what_is_being_written_waited_for() {
        let mut kernel = Kernel::new();
        let mut pages = Pages::map(kernel.file.as_fd(), BYTES).unwrap();
        kernel.write(b"given up", DISCARDED);
        kernel.write(b"one", 0);
        let busy = kernel.write(b"other", BUSY);
        kernel.write(b"last", 0);
        assert_eq!(next(&mut pages), Some(b"one".to_vec()));
        assert_eq!(next(&mut pages), None, "the next one is not complete");
        kernel.put(busy, &5_u32.to_ne_bytes());
        assert_eq!(next(&mut pages), Some(b"other".to_vec()));
        assert_eq!(next(&mut pages), Some(b"last".to_vec()));
    }
}
