//! What a socket of any family says of itself in a list: addresses, queues, what it is connected to.

use netsnoop_common::listing::{COMMON_BYTES, Progress, SocketListing, UNIX_PATH_BYTES, UNKNOWN_QUEUE};
use netsnoop_common::offsets::ABSENT;

use crate::globals::offset;
use crate::kernel_read::{read, read_to};
use crate::socket::{
    AF_INET, AF_INET6, IPPROTO_MPTCP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, inode_number,
};

/// Families, include/linux/socket.h.
const AF_UNIX: u16 = 1;
const AF_NETLINK: u16 = 16;
const AF_PACKET: u16 = 17;
const AF_VSOCK: u16 = 40;

/// `TCP_LISTEN`, which all families use.
const LISTEN: u8 = 10;

/// `SOCK_DGRAM`, man 2 socket.
const SOCK_DGRAM: u16 = 2;

/// Writes all of the socket to `progress.socket` but its start and inode, and its path to `progress.path`.
#[inline(always)]
pub fn fill_listing(progress: &mut Progress, sk: u64) {
    clear(&mut progress.socket);
    if sk == 0 {
        return;
    }
    // One read for all that is in the part which all sockets have in common, as each read costs as much as ten
    // instructions.
    read_to(&mut progress.common, sk, 0);
    let common = &progress.common;
    let socket = &mut progress.socket;
    socket.family = field(common, offset!(skc_family));
    socket.state = field(common, offset!(skc_state));
    socket.cookie = field(common, offset!(skc_cookie));
    socket.interface = field(common, offset!(skc_bound_dev_if));
    let net: u64 = field(common, offset!(skc_net));
    if progress.net != net {
        progress.net_inode = read::<u32>(net, offset!(net_inum)) as u64;
        progress.net_cookie = read(net, offset!(net_cookie));
        progress.net = net;
    }
    socket.netns_inode = progress.net_inode as u32;
    socket.netns_cookie = progress.net_cookie;
    socket.uid = u32::MAX;
    read_to(&mut socket.uid, sk, offset!(sk_uid));
    read_to(&mut socket.protocol, sk, offset!(sk_protocol));
    read_to(&mut socket.socket_type, sk, offset!(sk_type));
    match socket.family {
        AF_INET | AF_INET6 => fill_internet(progress, sk),
        AF_UNIX => fill_unix(progress, sk),
        AF_NETLINK => {
            read_to(&mut socket.local_port, sk, offset!(netlink_portid));
            fill_memory_queues(socket, sk);
        }
        AF_PACKET => {
            socket.local_port = u16::from_be(read(sk, offset!(packet_num))) as u32;
            read_to(&mut socket.interface, sk, offset!(packet_ifindex));
            fill_memory_queues(socket, sk);
        }
        AF_VSOCK => {
            read_to(&mut socket.local_address[0], sk, offset!(vsock_local_cid));
            read_to(&mut socket.local_port, sk, offset!(vsock_local_port));
            read_to(&mut socket.remote_address[0], sk, offset!(vsock_remote_cid));
            read_to(&mut socket.remote_port, sk, offset!(vsock_remote_port));
        }
        _ => {}
    }
}

#[inline(always)]
fn clear(socket: &mut SocketListing) {
    socket.cookie = 0;
    socket.netns_cookie = 0;
    socket.peer_inode = 0;
    socket.local_address = [0; 4];
    socket.remote_address = [0; 4];
    socket.netns_inode = 0;
    socket.uid = u32::MAX;
    socket.interface = 0;
    socket.local_port = 0;
    socket.remote_port = 0;
    socket.receive_queue = UNKNOWN_QUEUE;
    socket.send_queue = UNKNOWN_QUEUE;
    socket.requests = 0;
    socket.family = 0;
    socket.protocol = 0;
    socket.socket_type = 0;
    socket.state = 0;
    socket.path_length = 0;
}

/// A member of the copied `struct sock_common`; zero if this kernel has none.
#[inline(always)]
fn field<T: Copy + Default>(common: &[u64; COMMON_BYTES / 8], offset: u32) -> T {
    let offset = offset as usize;
    if offset > COMMON_BYTES - size_of::<T>() {
        return T::default();
    }
    // SAFETY: the member ends within the copy, which is aligned as the struct is; `T` is an integer or made of some.
    unsafe { common.as_ptr().cast::<u8>().add(offset).cast::<T>().read() }
}

#[inline(always)]
fn fill_internet(progress: &mut Progress, sk: u64) {
    let (common, socket) = (&progress.common, &mut progress.socket);
    if socket.family == AF_INET6 {
        socket.local_address = field(common, offset!(skc_v6_rcv_saddr));
        socket.remote_address = field(common, offset!(skc_v6_daddr));
    } else {
        socket.local_address[0] = field(common, offset!(skc_rcv_saddr));
        socket.remote_address[0] = field(common, offset!(skc_daddr));
    }
    // A socket that is closing has lost `skc_num`, as said in `fill_socket`.
    let mut port = field::<u16>(common, offset!(skc_num));
    if port == 0 {
        port = u16::from_be(read(sk, offset!(inet_sport)));
    }
    socket.local_port = port as u32;
    socket.remote_port = u16::from_be(field(common, offset!(skc_dport))) as u32;
    match socket.protocol {
        IPPROTO_TCP => fill_tcp_queues(socket, sk),
        // Bytes and requests are those of the first subflow, which is what the kernel's tables of sockets show too.
        IPPROTO_MPTCP => fill_tcp_queues(socket, read(sk, offset!(mptcp_first))),
        IPPROTO_UDP | IPPROTO_UDPLITE => {
            fill_memory_queues(socket, sk);
            let deficit: u32 = read(sk, offset!(udp_forward_deficit));
            socket.receive_queue = socket.receive_queue.saturating_sub(deficit);
        }
        _ => fill_memory_queues(socket, sk),
    }
}

/// As `tcp_diag_get_info` has them, <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/tcp_diag.c>.
#[inline(always)]
fn fill_tcp_queues(socket: &mut SocketListing, sk: u64) {
    if socket.state == LISTEN {
        read_to(&mut socket.receive_queue, sk, offset!(sk_ack_backlog));
        read_to(&mut socket.send_queue, sk, offset!(sk_max_ack_backlog));
        read_to(&mut socket.requests, sk, offset!(icsk_requests));
        return;
    }
    let (received, copied): (u32, u32) = (read(sk, offset!(tcp_rcv_nxt)), read(sk, offset!(tcp_copied_seq)));
    // A FIN is counted as received and never copied.
    let waiting = received.wrapping_sub(copied);
    socket.receive_queue = if (waiting as i32) < 0 { 0 } else { waiting };
    let written: u32 = read(sk, offset!(tcp_write_seq));
    socket.send_queue = written.wrapping_sub(read(sk, offset!(tcp_snd_una)));
}

/// Memory that is taken by what waits. Of what is to be sent one byte is the socket's own
/// (`sk_wmem_alloc_get` in <https://github.com/torvalds/linux/blob/v6.12/include/net/sock.h>).
#[inline(always)]
fn fill_memory_queues(socket: &mut SocketListing, sk: u64) {
    read_to(&mut socket.receive_queue, sk, offset!(sk_rmem_alloc));
    let taken: u32 = read(sk, offset!(sk_wmem_alloc));
    socket.send_queue = taken.saturating_sub(1);
}

/// As `sk_diag_show_rqlen` has them, <https://github.com/torvalds/linux/blob/v6.12/net/unix/diag.c>.
#[inline(always)]
fn fill_unix(progress: &mut Progress, sk: u64) {
    let socket = &mut progress.socket;
    if socket.state == LISTEN {
        read_to(&mut socket.receive_queue, sk, offset!(sk_receive_queue_length));
        read_to(&mut socket.send_queue, sk, offset!(sk_max_ack_backlog));
    } else {
        let taken: u32 = read(sk, offset!(sk_wmem_alloc));
        socket.send_queue = taken.saturating_sub(1);
        if socket.socket_type == SOCK_DGRAM {
            socket.receive_queue = first_length(sk);
        } else {
            read_to(&mut socket.receive_queue, sk, offset!(unix_inq_len));
        }
    }
    let peer: u64 = read(sk, offset!(unix_peer));
    socket.peer_inode = inode_number(read(peer, offset!(sk_socket)));
    let address: u64 = read(sk, offset!(unix_addr));
    let name = offset!(unix_address_name);
    if address == 0 || name == ABSENT {
        return;
    }
    // The length counts the family, which comes first.
    let length = read::<u32>(address, offset!(unix_address_len)).saturating_sub(2);
    if length as usize <= UNIX_PATH_BYTES {
        socket.path_length = length as u8;
        read_to(&mut progress.path, address, name.wrapping_add(2));
    }
}

/// Bytes of the first datagram that waits.
#[inline(always)]
fn first_length(sk: u64) -> u32 {
    let queue = offset!(sk_receive_queue);
    // A queue begins with the pointer to its first element, which is the queue itself if there is none.
    let first: u64 = read(sk, queue);
    if first == sk.wrapping_add(queue as u64) { 0 } else { read(first, offset!(skb_len)) }
}
