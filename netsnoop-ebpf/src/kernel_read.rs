//! Reading kernel memory at offsets that are only known at load time.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_probe_read_kernel, generated};
use netsnoop_common::offsets::ABSENT;

/// The field at `offset` of the struct at `base`; zero if there is no struct, no such field on this kernel, or
/// nothing readable.
#[inline(always)]
pub fn read<T: Copy + Default>(base: u64, offset: u32) -> T {
    if base == 0 || offset == ABSENT {
        return T::default();
    }
    read_at(base.wrapping_add(offset as u64))
}

/// Reads the field at `offset` of the struct at `base` to where it belongs, without a detour over the stack, which is
/// 512 bytes small. What cannot be read stays, or becomes, zero.
#[inline(always)]
pub fn read_to<T: Copy>(to: &mut T, base: u64, offset: u32) {
    if base == 0 || offset == ABSENT {
        return;
    }
    let source = base.wrapping_add(offset as u64) as *const c_void;
    // SAFETY: the helper writes `size_of::<T>()` bytes to a `T`, for which any bytes are a value, as in `read_at`; on a
    // bad source it writes zeros (man 7 bpf-helpers, since Linux 5.5), so its result tells nothing more.
    unsafe { generated::bpf_probe_read_kernel((&raw mut *to).cast(), size_of::<T>() as u32, source) };
}

/// The value at `address`; zero if it is not readable.
#[inline(always)]
pub fn read_at<T: Copy + Default>(address: u64) -> T {
    // SAFETY: the helper itself checks the address and fails on a bad one; every `T` used is made of integers,
    // for which any bytes are a value.
    unsafe { bpf_probe_read_kernel(address as *const T) }.unwrap_or_default()
}

/// The number in a pointer that the verifier follows. It refuses arithmetic by offsets it does not know on
/// pointers it knows the type of, so the pointer goes over the stack, and what comes back is a mere number.
#[inline(always)]
pub fn address_of<T>(pointer: *const T) -> u64 {
    let slot = pointer;
    // SAFETY: the source is a local variable, 8 bytes long; the bytes of a pointer are a u64.
    unsafe { bpf_probe_read_kernel((&raw const slot).cast::<u64>()) }.unwrap_or_default()
}
