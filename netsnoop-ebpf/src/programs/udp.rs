//! The first datagram a process sends to, or takes from, each peer of a UDP socket: kprobes and their fentry twins.
//! The local address of an unbound socket is a wildcard here; its port is always bound, as autobind runs before.

use aya_ebpf::macros::{fentry, kprobe};
use aya_ebpf::programs::{FEntryContext, ProbeContext};
use netsnoop_common::record::rung;

use crate::current::current_tgid;
use crate::emit::emit_act;
use crate::first_use::{Use, Way};
use crate::globals::offset;
use crate::kernel_read::{address_of, read, read_at};
use crate::socket::{End, IPPROTO_UDP, IPPROTO_UDPLITE, end_of_sockaddr, internet_protocol, remote_end};

#[kprobe]
fn udp_sendmsg_kprobe(ctx: ProbeContext) -> u32 {
    tell_message(probed_arguments(&ctx), rung::KPROBE)
}

#[kprobe]
fn udpv6_sendmsg_kprobe(ctx: ProbeContext) -> u32 {
    tell_message(probed_arguments(&ctx), rung::KPROBE)
}

#[kprobe]
fn udp_receive_kprobe(ctx: ProbeContext) -> u32 {
    tell_consumed(probed_arguments(&ctx), rung::KPROBE)
}

#[fentry(function = "udp_sendmsg")]
fn udp_sendmsg_fentry(ctx: FEntryContext) -> u32 {
    tell_message(entry_arguments(&ctx), rung::FENTRY)
}

#[fentry(function = "udpv6_sendmsg")]
fn udpv6_sendmsg_fentry(ctx: FEntryContext) -> u32 {
    tell_message(entry_arguments(&ctx), rung::FENTRY)
}

#[fentry(function = "skb_consume_udp")]
fn udp_receive_fentry(ctx: FEntryContext) -> u32 {
    tell_consumed(entry_arguments(&ctx), rung::FENTRY)
}

#[inline(always)]
fn probed_arguments(ctx: &ProbeContext) -> [u64; 2] {
    [ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0)]
}

#[inline(always)]
fn entry_arguments(ctx: &FEntryContext) -> [u64; 2] {
    [address_of(ctx.arg::<*const u8>(0)), address_of(ctx.arg::<*const u8>(1))]
}

/// `udp_sendmsg(sk, msg, len)`: the peer is in the message, or else the connected one.
#[inline(always)]
fn tell_message([sk, message]: [u64; 2], rung: u8) -> u32 {
    let peer = end_of_sockaddr(read(message, offset!(msghdr_msg_name)));
    tell_datagram(&Datagram { sk, peer, way: Way::Send, rung }, || {});
    0
}

/// `skb_consume_udp(sk, skb, len)` runs in the context of the process that takes the datagram (since Linux 4.10).
#[inline(always)]
fn tell_consumed([sk, skb]: [u64; 2], rung: u8) -> u32 {
    tell_datagram(&Datagram { sk, peer: sender_of(skb), way: Way::Receive, rung }, || {});
    0
}

/// Who sent the datagram in a buffer, from its headers.
#[inline(always)]
fn sender_of(skb: u64) -> End {
    let head: u64 = read(skb, offset!(skb_head));
    if head == 0 {
        return End::NONE;
    }
    let network = head.wrapping_add(read::<u16>(skb, offset!(skb_network_header)) as u64);
    let transport = head.wrapping_add(read::<u16>(skb, offset!(skb_transport_header)) as u64);
    let port = u16::from_be(read_at(transport));
    match read_at::<u8>(network) >> 4 {
        4 => End::v4(read_at(network.wrapping_add(12)), port),
        6 => End { address: read_at(network.wrapping_add(8)), port },
        _ => End::NONE,
    }
}

/// A datagram that the running process sends or takes.
pub struct Datagram {
    pub sk: u64,
    /// The peer where the hook knows it; [`End::NONE`] is the connected one, or an unknown one.
    pub peer: End,
    pub way: Way,
    pub rung: u8,
}

/// Tells of a datagram if it is the first of its process, way and peer on its socket. `make_cookie` is called before
/// the socket is read: a hook that can give it a cookie does so there.
#[inline(always)]
pub fn tell_datagram(datagram: &Datagram, make_cookie: impl FnOnce()) {
    let Datagram { sk, peer, way, rung } = *datagram;
    if !matches!(internet_protocol(sk), Some(IPPROTO_UDP | IPPROTO_UDPLITE)) {
        return;
    }
    let tgid = current_tgid();
    let is_named = peer.port != 0;
    let peer = if is_named { peer } else { connected_end(sk) };
    if !Use::of_datagrams(sk, tgid, peer, way).is_first() {
        return;
    }
    if is_named {
        // `socket_use` comes after this for the same datagram, and would tell it again without the peer.
        Use::of_datagrams(sk, tgid, End::NONE, way).is_first();
    }
    make_cookie();
    emit_act(way.kind(), rung, sk, |record| {
        record.socket.remote_address = peer.address;
        record.socket.remote_port = peer.port;
    });
}

/// The connected peer; [`End::NONE`] if there is none, whatever address an earlier one left behind.
#[inline(always)]
fn connected_end(sk: u64) -> End {
    let remote = remote_end(sk);
    if remote.port == 0 { End::NONE } else { remote }
}
