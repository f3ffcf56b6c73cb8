//! Which (socket, process, peer) has been told of already, so that a flow costs one event, not one a datagram.

use netsnoop_common::record::{SocketRecord, kind};

use crate::globals::offset;
use crate::kernel_read::read;
use crate::maps::USES;
use crate::socket::{End, inode_number};

/// linux/errno.h.
const EEXIST: i32 = 17;
/// man 2 bpf, BPF_MAP_UPDATE_ELEM.
const BPF_NOEXIST: u64 = 1;

/// Which way the first datagram goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Send,
    Receive,
}

impl Way {
    /// The kind of record that tells of it.
    #[inline(always)]
    pub fn kind(self) -> u8 {
        match self {
            Self::Send => kind::FIRST_SEND,
            Self::Receive => kind::FIRST_RECEIVE,
        }
    }
}

/// A key without padding: its bytes are compared by the kernel.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Use {
    socket: u64,
    peer_address: [u8; 16],
    tgid: u32,
    peer_port: u16,
    way: u16,
}

const _: () = assert!(size_of::<Use>() == 32);

impl Use {
    /// A process's traffic of one way with one peer of a datagram socket. The socket goes by its inode: those of
    /// sockfs are counted up, while the address of a `struct sock` is taken again by the very next socket.
    #[inline(always)]
    pub fn of_datagrams(sk: u64, tgid: u32, peer: End, way: Way) -> Self {
        let inode = inode_number(read(sk, offset!(sk_socket)));
        let socket = if inode == 0 { sk } else { inode };
        Self { socket, peer_address: peer.address, tgid, peer_port: peer.port, way: way.kind() as u16 }
    }

    /// A process's use of a stream socket, whichever way. It has no inode yet when it is accepted, so it goes by its
    /// address, which the peer's port keeps apart from the next socket there.
    #[inline(always)]
    pub fn of_stream(sk: u64, tgid: u32, peer: End) -> Self {
        Self { socket: sk, peer_address: peer.address, tgid, peer_port: peer.port, way: 0 }
    }

    /// Makes later uses of a stream by the process that a record tells of not the first: its owner is known.
    #[inline(always)]
    pub fn note(record: &SocketRecord) {
        let SocketRecord { process, socket, .. } = record;
        let peer = End { address: socket.remote_address, port: socket.remote_port };
        Self::of_stream(socket.address, process.tgid, peer).is_first();
    }

    /// Whether this is the first time. A full table forgets the least recently used; one that cannot take the key
    /// says "first", as an event too many is better than none.
    #[inline(always)]
    pub fn is_first(&self) -> bool {
        USES.get_ptr(self).is_none() && USES.insert(self, 0, BPF_NOEXIST) != Err(-EEXIST)
    }
}
