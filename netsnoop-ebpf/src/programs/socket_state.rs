//! What becomes of TCP sockets: listening, established, closed, with the error and the bytes at the end. And, where no
//! stronger hook tells it, who connected.
//!
//! Only CLOSE -> SYN_SENT and CLOSE -> LISTEN happen in the process's own context; every other change comes in the
//! context of whatever was running when a packet arrived, so nothing is asked of the current task there.

use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};
use netsnoop_common::record::{CloseRecord, ProcessPart, SocketPart, SocketRecord, kind, rung};

use crate::current::{NOBODY, current_task, fill_process};
use crate::emit::{boot_nanos, count_lost, emit, emit_act, header};
use crate::first_use::Use;
use crate::globals::{connect_by_state, makes_cookies, offset};
use crate::kernel_read::{address_of, read, read_to};
use crate::maps::CONNECTING;
use crate::socket::{IPPROTO_TCP, fill_socket, internet_protocol, set_isn_of_client, set_isn_of_peer};

/// include/net/tcp_states.h.
const TCP_ESTABLISHED: u8 = 1;
const TCP_SYN_SENT: u8 = 2;
const TCP_SYN_RECV: u8 = 3;
const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;

/// The bit of `skc_flags` that is set when the peer's FIN arrived (enum sock_flags, the same since Linux 2.6):
/// <https://github.com/torvalds/linux/blob/v6.12/include/net/sock.h>.
const SOCK_DONE: u64 = 1 << 1;

/// Who connects a socket, and when, until its port is known.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Connecting {
    boot_nanos: u64,
    process: ProcessPart,
}

struct Change {
    sk: u64,
    from: u8,
    to: u8,
    rung: u8,
}

#[btf_tracepoint(function = "inet_sock_set_state")]
fn socket_state_btf(ctx: BtfTracePointContext) -> u32 {
    let sk = ctx.arg::<*const u8>(0);
    let change = Change {
        sk: address_of(sk),
        from: ctx.arg::<u32>(1) as u8,
        to: ctx.arg::<u32>(2) as u8,
        rung: rung::TP_BTF,
    };
    if is_told(&change) {
        if makes_cookies() {
            // SAFETY: tracing programs may pass a socket the verifier knows (since Linux 5.12; where not, the loader
            // says so, and the verifier never comes here). Asking makes the cookie, which is then in the socket.
            unsafe { bpf_get_socket_cookie(sk.cast_mut().cast()) };
        }
        tell(&change);
    }
    0
}

#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
fn socket_state_raw(ctx: RawTracePointContext) -> i32 {
    let change = Change {
        sk: ctx.arg::<u64>(0),
        from: ctx.arg::<u32>(1) as u8,
        to: ctx.arg::<u32>(2) as u8,
        rung: rung::RAW_TP,
    };
    if is_told(&change) {
        tell(&change);
    }
    0
}

/// SCTP and DCCP come here too; MPTCP's meta socket repeats what its subflows tell.
#[inline(always)]
fn is_told(change: &Change) -> bool {
    change.from != change.to && internet_protocol(change.sk) == Some(IPPROTO_TCP)
}

#[inline(always)]
fn tell(change: &Change) {
    if connect_by_state() {
        tell_connect_by_state(change);
    }
    match (change.from, change.to) {
        (TCP_SYN_SENT | TCP_SYN_RECV, TCP_ESTABLISHED) => tell_established(change),
        (TCP_CLOSE, TCP_LISTEN) => tell_listen(change),
        (_, TCP_CLOSE) => tell_close(change),
        _ => {}
    }
}

#[inline(always)]
fn tell_established(change: &Change) {
    let by_client = change.from == TCP_SYN_SENT;
    let kind = if by_client { kind::ESTABLISHED_CLIENT } else { kind::ESTABLISHED_SERVER };
    emit::<SocketRecord>(|record| {
        record.header = header(kind, change.rung);
        fill_socket_in(&mut record.socket, change);
        if by_client {
            set_isn_of_client(&mut record.socket);
        } else {
            set_isn_of_peer(&mut record.socket);
        }
    });
}

/// The socket after the change. The kernel calls before it stores the new state.
#[inline(always)]
fn fill_socket_in(part: &mut SocketPart, change: &Change) {
    fill_socket(part, change.sk);
    part.state = change.to;
}

/// Keeps who connects when SYN_SENT begins, as the port is chosen only afterwards, and tells it when that state ends.
#[inline(always)]
fn tell_connect_by_state(change: &Change) {
    if (change.from, change.to) == (TCP_CLOSE, TCP_SYN_SENT) {
        keep_connecting(change.sk);
    } else if change.from == TCP_SYN_SENT {
        // SAFETY: the value is copied at once; nobody writes to it while the socket is in SYN_SENT.
        let Some(connecting) = (unsafe { CONNECTING.get(change.sk) }).copied() else { return };
        if CONNECTING.remove(change.sk).is_err() {
            return;
        }
        emit::<SocketRecord>(|record| {
            record.header = header(kind::CONNECT, change.rung);
            record.header.boot_nanos = connecting.boot_nanos;
            record.process = connecting.process;
            fill_socket_in(&mut record.socket, change);
            set_isn_of_client(&mut record.socket);
            Use::note(record);
        });
    }
}

#[inline(always)]
fn keep_connecting(sk: u64) {
    let mut connecting = Connecting { boot_nanos: boot_nanos(), process: NOBODY };
    fill_process(&mut connecting.process, current_task());
    if CONNECTING.insert(sk, connecting, 0).is_err() {
        count_lost();
    }
}

/// listen(2) without bind(2) chooses its port only after this change: then there is nothing to tell yet.
#[inline(always)]
fn tell_listen(change: &Change) {
    if read::<u16>(change.sk, offset!(skc_num)) != 0 {
        emit_act(kind::LISTEN, change.rung, change.sk, |record| record.socket.state = change.to);
    }
}

#[inline(always)]
fn tell_close(change: &Change) {
    emit::<CloseRecord>(|record| {
        record.header = header(kind::CLOSED, change.rung);
        fill_socket_in(&mut record.socket, change);
        if change.from == TCP_SYN_SENT {
            set_isn_of_client(&mut record.socket);
        }
        record.sent_bytes = sent_payload(change.sk);
        record.received_bytes = received_payload(change.sk);
        read_to(&mut record.error, change.sk, offset!(sk_err));
        record.from_state = change.from;
    });
}

/// `bytes_acked` counts the client's SYN and an acknowledged FIN; `bytes_sent` counts neither, but what was sent and
/// never acknowledged, and repetitions, which `bytes_retrans` takes away again (both since Linux 4.19). The smaller one
/// is exact once all data is acknowledged, and one too many for a client that is cut off with data outstanding.
#[inline(always)]
fn sent_payload(sk: u64) -> u64 {
    let acked: u64 = read(sk, offset!(tcp_bytes_acked));
    let sent: u64 = read(sk, offset!(tcp_bytes_sent));
    let once = sent.saturating_sub(read(sk, offset!(tcp_bytes_retrans)));
    if once < acked { once } else { acked }
}

/// `bytes_received` counts the peer's FIN.
#[inline(always)]
fn received_payload(sk: u64) -> u64 {
    let received: u64 = read(sk, offset!(tcp_bytes_received));
    let fin = (read::<u64>(sk, offset!(skc_flags)) & SOCK_DONE) >> 1;
    received.saturating_sub(fin)
}
