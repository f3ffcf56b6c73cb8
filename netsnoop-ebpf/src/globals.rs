//! What the loader tells the programs before the kernel checks them: it patches these statics, and the
//! verifier takes them for constants, so a branch that they switch off costs nothing.

use core::ptr;

use netsnoop_common::offsets::KernelOffsets;
use netsnoop_common::record::rung;

#[unsafe(no_mangle)]
pub static OFFSETS: KernelOffsets = KernelOffsets::NONE;

#[unsafe(no_mangle)]
static CONNECT_BY_STATE: u32 = 0;

#[unsafe(no_mangle)]
static ACCEPT_EXIT_RUNG: u32 = rung::TP_BTF as u32;

#[unsafe(no_mangle)]
static MAKES_COOKIES: u32 = 0;

#[unsafe(no_mangle)]
static ACCEPT_ARGUMENTS: u32 = 2;

/// The offset of a field in the running kernel, read anew at every use: the compiler must not take the value in
/// the source for the one at run time.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: the address is that of a field of a static, so it is valid and aligned.
        unsafe { core::ptr::read_volatile(&raw const $crate::globals::OFFSETS.$field) }
    };
}
pub(crate) use offset;

/// Whether no stronger connect hook is at work, so that state changes must tell connects.
#[inline(always)]
pub fn connect_by_state() -> bool {
    // SAFETY: the address is that of a static.
    unsafe { ptr::read_volatile(&raw const CONNECT_BY_STATE) != 0 }
}

/// The rung the accept syscall exits work for.
#[inline(always)]
pub fn accept_exit_rung() -> u8 {
    // SAFETY: the address is that of a static.
    unsafe { ptr::read_volatile(&raw const ACCEPT_EXIT_RUNG) as u8 }
}

/// Whether programs at BTF tracepoints may ask for a socket's cookie here.
#[inline(always)]
pub fn makes_cookies() -> bool {
    // SAFETY: the address is that of a static.
    unsafe { ptr::read_volatile(&raw const MAKES_COOKIES) != 0 }
}

/// How many arguments `inet_csk_accept` takes here.
#[inline(always)]
pub fn accept_arguments() -> u32 {
    // SAFETY: the address is that of a static.
    unsafe { ptr::read_volatile(&raw const ACCEPT_ARGUMENTS) }
}
