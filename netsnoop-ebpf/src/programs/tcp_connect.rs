//! The moment a process connects: `tcp_connect` runs in the context of connect(2) (or of a Fast Open sendto) after the
//! local port is chosen and before the SYN is built, so every connect is seen, refused ones too. Its one argument has
//! been the same since Linux 2.6. With MPTCP only the subflows come here.

use aya_ebpf::macros::{fentry, kprobe};
use aya_ebpf::programs::{FEntryContext, ProbeContext};
use netsnoop_common::record::{kind, rung};

use crate::emit::emit_act;
use crate::first_use::Use;
use crate::kernel_read::address_of;
use crate::socket::set_isn_of_unsent_syn;

#[kprobe]
fn tcp_connect_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(sk) = ctx.arg::<u64>(0) {
        tell_connect(sk, rung::KPROBE);
    }
    0
}

#[fentry(function = "tcp_connect")]
fn tcp_connect_fentry(ctx: FEntryContext) -> u32 {
    tell_connect(address_of(ctx.arg::<*const u8>(0)), rung::FENTRY);
    0
}

/// Tells that the running process connects `sk`, whose SYN is not yet sent.
#[inline(always)]
pub fn tell_connect(sk: u64, rung: u8) {
    emit_act(kind::CONNECT, rung, sk, |record| {
        set_isn_of_unsent_syn(&mut record.socket);
        Use::note(record);
    });
}
