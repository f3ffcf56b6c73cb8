//! The first time a process sends or receives on a socket, for what no connect or accept hook tells: sockets handed to
//! another process, accepted by io_uring, or connected UDP ones. Tracepoints since Linux 6.3, in the context of the
//! process, after the call. They come at every send and receive, so a socket already told of must cost little.

use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};
use netsnoop_common::record::rung;

use crate::current::current_tgid;
use crate::emit::emit_act;
use crate::first_use::{Use, Way};
use crate::globals::makes_cookies;
use crate::kernel_read::address_of;
use crate::programs::udp::{Datagram, tell_datagram};
use crate::socket::{
    End, IPPROTO_MPTCP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, internet_protocol, remote_end,
};

/// A send or receive that has just returned.
struct Call {
    sk: u64,
    /// Bytes, or a negative errno.
    result: i32,
    way: Way,
    rung: u8,
}

#[btf_tracepoint(function = "sock_send_length")]
fn send_length_btf(ctx: BtfTracePointContext) -> u32 {
    tell_by_btf(&ctx, Way::Send)
}

#[btf_tracepoint(function = "sock_recv_length")]
fn recv_length_btf(ctx: BtfTracePointContext) -> u32 {
    tell_by_btf(&ctx, Way::Receive)
}

#[raw_tracepoint(tracepoint = "sock_send_length")]
fn send_length_raw(ctx: RawTracePointContext) -> i32 {
    tell_raw(&ctx, Way::Send)
}

#[raw_tracepoint(tracepoint = "sock_recv_length")]
fn recv_length_raw(ctx: RawTracePointContext) -> i32 {
    tell_raw(&ctx, Way::Receive)
}

#[inline(always)]
fn tell_by_btf(ctx: &BtfTracePointContext, way: Way) -> u32 {
    let sk = ctx.arg::<*const u8>(0);
    let call = Call { sk: address_of(sk), result: ctx.arg(1), way, rung: rung::TP_BTF };
    tell(&call, || {
        if makes_cookies() {
            // SAFETY: see `socket_state`.
            unsafe { bpf_get_socket_cookie(sk.cast_mut().cast()) };
        }
    });
    0
}

#[inline(always)]
fn tell_raw(ctx: &RawTracePointContext, way: Way) -> i32 {
    tell(&Call { sk: ctx.arg(0), result: ctx.arg(1), way, rung: rung::RAW_TP }, || {});
    0
}

#[inline(always)]
fn tell(call: &Call, make_cookie: impl FnOnce()) {
    let Call { sk, result, way, rung } = *call;
    match internet_protocol(sk) {
        // Zero is a datagram without payload.
        Some(IPPROTO_UDP | IPPROTO_UDPLITE) if result >= 0 => {
            tell_datagram(&Datagram { sk, peer: End::NONE, way, rung }, make_cookie);
        }
        // Zero is the end of the stream.
        Some(IPPROTO_TCP | IPPROTO_MPTCP) if result > 0 => tell_stream(call, make_cookie),
        _ => {}
    }
}

/// Whether the socket is the client's or the server's is not known here, so no initial sequence number is told.
#[inline(always)]
fn tell_stream(call: &Call, make_cookie: impl FnOnce()) {
    if !Use::of_stream(call.sk, current_tgid(), remote_end(call.sk)).is_first() {
        return;
    }
    make_cookie();
    emit_act(call.way.kind(), call.rung, call.sk, |_| {});
}
