//! What a `struct sock` says of itself.

use netsnoop_common::offsets::ABSENT;
use netsnoop_common::record::SocketPart;

use crate::current::cgroup_id_of;
use crate::globals::offset;
use crate::kernel_read::{read, read_at, read_to};

pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;

pub const IPPROTO_TCP: u16 = 6;
pub const IPPROTO_UDP: u16 = 17;
pub const IPPROTO_UDPLITE: u16 = 136;
/// The socket a program holds over TCP subflows, since Linux 5.6.
pub const IPPROTO_MPTCP: u16 = 262;

/// An address and port, in the form records have them. Where there may be none, it is [`End::NONE`] rather than an
/// `Option`: the compiler reads the payload of an absent one early, and Linux 5.10 refuses to read a stack that nobody
/// wrote to.
#[derive(Clone, Copy)]
pub struct End {
    pub address: [u8; 16],
    pub port: u16,
}

impl End {
    /// No end: no datagram goes to or comes from port 0.
    pub const NONE: Self = Self { address: [0; 16], port: 0 };

    /// An IPv4 end, the address in network order.
    #[inline(always)]
    pub fn v4(address: [u8; 4], port: u16) -> Self {
        Self { address: mapped(address), port }
    }
}

/// The IPv4-mapped IPv6 form (RFC 4291, section 2.5.5.2).
#[inline(always)]
fn mapped([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// The protocol of an IPv4 or IPv6 socket; `None` for a socket of another family.
#[inline(always)]
pub fn internet_protocol(sk: u64) -> Option<u16> {
    match read(sk, offset!(skc_family)) {
        AF_INET | AF_INET6 => Some(read(sk, offset!(sk_protocol))),
        _ => None,
    }
}

/// The peer: address and port zero for a socket that has none.
#[inline(always)]
pub fn remote_end(sk: u64) -> End {
    let port = u16::from_be(read(sk, offset!(skc_dport)));
    End { address: address(sk, offset!(skc_daddr), offset!(skc_v6_daddr)), port }
}

#[inline(always)]
fn address(sk: u64, v4: u32, v6: u32) -> [u8; 16] {
    if read::<u16>(sk, offset!(skc_family)) == AF_INET6 { read(sk, v6) } else { mapped(read(sk, v4)) }
}

/// Writes all of the socket to a part that is still zero, but for its initial sequence number, for which the hook must
/// know the socket's role.
#[inline(never)]
pub fn fill_socket(part: &mut SocketPart, sk: u64) {
    part.address = sk;
    read_to(&mut part.cookie, sk, offset!(skc_cookie));
    let net: u64 = read(sk, offset!(skc_net));
    read_to(&mut part.netns_cookie, net, offset!(net_cookie));
    read_to(&mut part.netns_inode, net, offset!(net_inum));
    part.inode = inode_number(read(sk, offset!(sk_socket)));
    part.cgroup_id = charged_cgroup(sk);
    part.uid = u32::MAX;
    read_to(&mut part.uid, sk, offset!(sk_uid));
    part.local_address = address(sk, offset!(skc_rcv_saddr), offset!(skc_v6_rcv_saddr));
    read_to(&mut part.local_port, sk, offset!(skc_num));
    if part.local_port == 0 {
        // A socket that was reset before it is accepted, or is closing, is off the list of bound ones and has lost
        // `skc_num` (`inet_put_port`), while `inet_sport` still holds the port.
        part.local_port = u16::from_be(read(sk, offset!(inet_sport)));
    }
    let remote = remote_end(sk);
    part.remote_address = remote.address;
    part.remote_port = remote.port;
    read_to(&mut part.protocol, sk, offset!(sk_protocol));
    read_to(&mut part.state, sk, offset!(skc_state));
}

/// Number of the inode that is allocated together with a `struct socket`: zero without one.
#[inline(always)]
pub fn inode_number(socket: u64) -> u64 {
    let (from, to) = (offset!(socket_alloc_socket), offset!(socket_alloc_vfs_inode));
    if socket == 0 || from == ABSENT || to == ABSENT {
        return 0;
    }
    read(socket.wrapping_sub(from as u64).wrapping_add(to as u64), offset!(inode_i_ino))
}

/// The cgroup a socket is charged to. Until Linux 5.15 the field is a tagged union, whose lowest bit says that it
/// holds cgroup v1 data instead of a pointer,
/// <https://github.com/torvalds/linux/blob/v5.10/include/linux/cgroup-defs.h>.
#[inline(always)]
fn charged_cgroup(sk: u64) -> u64 {
    let cgroup: u64 = read(sk, offset!(sk_cgrp_data));
    if cgroup & 1 != 0 { 0 } else { cgroup_id_of(cgroup) }
}

/// Sets the client's initial sequence number, if all fields it is computed from exist here.
#[inline(always)]
fn set_isn(part: &mut SocketPart, isn: u32, known: bool) {
    if known && part.protocol == IPPROTO_TCP {
        part.client_isn = isn;
        part.client_isn_known = 1;
    }
}

/// At connect the next byte to be written has the initial sequence number:
/// <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/tcp_output.c>.
#[inline(always)]
pub fn set_isn_of_unsent_syn(part: &mut SocketPart) {
    let offset = offset!(tcp_write_seq);
    let isn = read(part.address, offset);
    set_isn(part, isn, offset != ABSENT);
}

/// On a client's socket, what is acknowledged was counted from the SYN on.
#[inline(always)]
pub fn set_isn_of_client(part: &mut SocketPart) {
    let (una, acked) = (offset!(tcp_snd_una), offset!(tcp_bytes_acked));
    let isn = read::<u32>(part.address, una).wrapping_sub(read::<u64>(part.address, acked) as u32);
    set_isn(part, isn, una != ABSENT && acked != ABSENT);
}

/// On a server's socket, what was received is counted from the byte after the client's SYN.
#[inline(always)]
pub fn set_isn_of_peer(part: &mut SocketPart) {
    let (next, received) = (offset!(tcp_rcv_nxt), offset!(tcp_bytes_received));
    let counted = read::<u64>(part.address, received) as u32;
    let isn = read::<u32>(part.address, next).wrapping_sub(counted).wrapping_sub(1);
    set_isn(part, isn, next != ABSENT && received != ABSENT);
}

/// The end that a `sockaddr` in kernel memory names; [`End::NONE`] if it names none.
#[inline(always)]
pub fn end_of_sockaddr(sockaddr: u64) -> End {
    if sockaddr == 0 {
        return End::NONE;
    }
    // sockaddr_in and sockaddr_in6 begin alike: family, port in network order (man 7 ip, man 7 ipv6).
    let port = u16::from_be(read_at(sockaddr.wrapping_add(2)));
    match read_at::<u16>(sockaddr) {
        AF_INET => End::v4(read_at(sockaddr.wrapping_add(4)), port),
        AF_INET6 => End { address: read_at(sockaddr.wrapping_add(8)), port },
        _ => End::NONE,
    }
}
