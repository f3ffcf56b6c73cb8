//! Datagrams of unconnected UDP sockets where there are no kprobes: hooks at the cgroup v2 root that run in the context
//! of the sender, or of the receiver if it asks for the peer's address (Linux 4.18; receiving 5.2). Connected sockets
//! do not come here; `socket_use` sees them. Every program lets its datagram through.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use netsnoop_common::record::rung;

use crate::first_use::Way;
use crate::kernel_read::address_of;
use crate::programs::udp::{Datagram, tell_datagram};
use crate::socket::End;

const ALLOW: i32 = 1;

#[cgroup_sock_addr(sendmsg4)]
fn sock_addr_sendmsg4(ctx: SockAddrContext) -> i32 {
    tell(&ctx, peer_v4(ctx.sock_addr), Way::Send)
}

#[cgroup_sock_addr(sendmsg6)]
fn sock_addr_sendmsg6(ctx: SockAddrContext) -> i32 {
    tell(&ctx, peer_v6(ctx.sock_addr), Way::Send)
}

#[cgroup_sock_addr(recvmsg4)]
fn sock_addr_recvmsg4(ctx: SockAddrContext) -> i32 {
    tell(&ctx, peer_v4(ctx.sock_addr), Way::Receive)
}

#[cgroup_sock_addr(recvmsg6)]
fn sock_addr_recvmsg6(ctx: SockAddrContext) -> i32 {
    tell(&ctx, peer_v6(ctx.sock_addr), Way::Receive)
}

#[inline(always)]
fn tell(ctx: &SockAddrContext, peer: End, way: Way) -> i32 {
    // SAFETY: the context is valid while the program runs; the verifier turns this into a read of the real field.
    let sk = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    if !sk.is_null() {
        let datagram = Datagram { sk: address_of(sk), peer, way, rung: rung::SOCKOPS };
        tell_datagram(&datagram, || {
            // SAFETY: these programs may pass their context. Asking makes the cookie, see `sock_ops`.
            unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
        });
    }
    ALLOW
}

#[inline(always)]
fn port(ctx: *const bpf_sock_addr) -> u16 {
    // SAFETY: as in `tell`. The port is in network order in the first two bytes of a u32.
    u16::from_be(unsafe { (&raw const (*ctx).user_port).read_volatile() } as u16)
}

#[inline(always)]
fn peer_v4(ctx: *const bpf_sock_addr) -> End {
    // SAFETY: as in `tell`; this field may be read in the IPv4 hooks.
    let address = unsafe { (&raw const (*ctx).user_ip4).read_volatile() };
    End::v4(address.to_ne_bytes(), port(ctx))
}

#[inline(always)]
fn peer_v6(ctx: *const bpf_sock_addr) -> End {
    let mut address = [0; 16];
    for (word, bytes) in address.chunks_exact_mut(4).enumerate() {
        // SAFETY: as in `tell`; this field may be read in the IPv6 hooks, a word at a time, and has four.
        let part = unsafe { (&raw const (*ctx).user_ip6).cast::<u32>().add(word).read_volatile() };
        bytes.copy_from_slice(&part.to_ne_bytes());
    }
    End { address, port: port(ctx) }
}
