//! Putting records in the ring. One that finds no room is counted, never waited for.

use core::arch::asm;

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_log_ebpf::debug;
use netsnoop_common::record::{CloseRecord, ExecRecord, ExitRecord, Header, SocketRecord, VERSION};

use crate::current::{current_task, fill_process};
use crate::maps::{EVENTS, LOST};
use crate::socket::fill_socket;

/// The header of a record about this very moment.
#[inline(always)]
pub fn header(kind: u8, rung: u8) -> Header {
    Header { boot_nanos: boot_nanos(), version: VERSION, kind, rung, padding: [0; 5] }
}

/// Now, on the clock that goes on in suspend.
#[inline(always)]
pub fn boot_nanos() -> u64 {
    // SAFETY: the helper (Linux 5.8) takes no argument and cannot fail.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// A record of integers and byte arrays alone: all zeros is a value of it.
///
/// # Safety
/// Only for such structs, aligned to at most 8 bytes.
pub unsafe trait Record: Copy + 'static {}

// SAFETY: see the layouts in `netsnoop_common::record`.
unsafe impl Record for SocketRecord {}
// SAFETY: as above.
unsafe impl Record for CloseRecord {}
// SAFETY: as above.
unsafe impl Record for ExecRecord {}
// SAFETY: as above.
unsafe impl Record for ExitRecord {}

/// Puts a record in the ring that was zero before `fill`.
#[inline(always)]
pub fn emit<T: Record>(fill: impl FnOnce(&mut T)) {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        count_lost();
        return;
    };
    // SAFETY: the ring gives room for one aligned record, which is initialised before a reference to it is made.
    fill(unsafe {
        entry.as_mut_ptr().write_bytes(0, 1);
        entry.assume_init_mut()
    });
    entry.submit(0);
}

/// Tells what the running process does with `sk`; `add` knows more of the socket.
#[inline(always)]
pub fn emit_act(kind: u8, rung: u8, sk: u64, add: impl FnOnce(&mut SocketRecord)) {
    emit::<SocketRecord>(|record| {
        record.header = header(kind, rung);
        fill_process(&mut record.process, current_task());
        fill_socket(&mut record.socket, sk);
        add(record);
    });
}

/// Counts a record that cannot be told.
#[inline(never)]
pub fn count_lost() {
    if let Some(lost) = LOST.get_ptr_mut(0) {
        // Another program may interrupt this one on the same CPU, hence one atomic instruction. `AtomicU64` has no
        // `fetch_add` on this target, which is declared to have no compare-and-swap.
        // SAFETY: the map gives a valid, aligned u64, and the instruction touches nothing else.
        unsafe { asm!("lock *(u64 *)({} + 0) += {}", in(reg) lost, in(reg) 1_u64, options(nostack)) };
    }
    debug!(&(), "no room: a record is lost");
}
