//! The records that `inventory_iter` writes to its file: each process once, before its sockets, then each of its
//! descriptors that refers to a socket.
//!
//! Like [`record`](crate::record): machine byte order, ports in host order, every byte written, zero for what the kernel
//! could not give unless a field says otherwise.

use crate::record::ProcessPart;

/// Version of the layouts below; a reader refuses another.
pub const VERSION: u8 = 1;

/// [`Start::kind`]: what a record is.
pub mod kind {
    /// [`ProcessListing`](super::ProcessListing).
    pub const PROCESS: u8 = 1;
    /// [`SocketListing`](super::SocketListing), followed by `path_length` bytes of a Unix socket's path.
    pub const SOCKET: u8 = 2;
}

/// A queue's length that is not known.
pub const UNKNOWN_QUEUE: u32 = u32::MAX;

/// Longest path of a Unix socket: `UNIX_PATH_MAX`, man 7 unix.
pub const UNIX_PATH_BYTES: usize = 108;

/// Bytes at the start of a `struct sock` that hold its `struct sock_common`: 136 on all 64-bit kernels so far.
pub const COMMON_BYTES: usize = 136;

/// How each record begins.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// [`VERSION`].
    pub version: u8,
    /// One of [`kind`].
    pub kind: u8,
    /// Bytes of the whole record.
    pub length: u16,
    /// The descriptor's number; zero in a process's record.
    pub fd: u32,
}

/// A process with an open file.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ProcessListing {
    /// See there.
    pub start: Start,
    /// Who.
    pub process: ProcessPart,
    /// The address of its `css_set`: processes with the same one are in the same cgroups of every hierarchy.
    pub cgroups: u64,
    /// The inode of its network namespace; zero while it ends.
    pub netns_inode: u32,
    /// Zero.
    pub padding: [u8; 4],
}

/// A descriptor of the process told of last, and its socket.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SocketListing {
    /// See there.
    pub start: Start,
    /// Its inode in sockfs.
    pub inode: u64,
    /// Its cookie; zero if nobody asked the kernel for one yet.
    pub cookie: u64,
    /// The cookie of its network namespace.
    pub netns_cookie: u64,
    /// Unix: the inode of the socket at the other end.
    pub peer_inode: u64,
    /// IP: its own address in network order, 4 or 16 bytes by its family.
    pub local_address: [u32; 4],
    /// IP: the peer's address, likewise.
    pub remote_address: [u32; 4],
    /// The inode of its network namespace.
    pub netns_inode: u32,
    /// `sk_uid`.
    pub uid: u32,
    /// The interface it is bound to; zero if none.
    pub interface: u32,
    /// IP: its own port; packet: its protocol; netlink: its port id; vsock: its own port.
    pub local_port: u32,
    /// IP: the peer's port; vsock: the peer's port.
    pub remote_port: u32,
    /// Bytes, or connections, that wait to be read or accepted; [`UNKNOWN_QUEUE`] if that is not known.
    pub receive_queue: u32,
    /// Bytes that wait to be sent, or how many connections may wait; [`UNKNOWN_QUEUE`] if that is not known.
    pub send_queue: u32,
    /// Listening TCP sockets: connection requests that are not answered for good yet.
    pub requests: u32,
    /// `skc_family`; zero if the file has no socket any more.
    pub family: u16,
    /// `sk_protocol`.
    pub protocol: u16,
    /// `sk_type`.
    pub socket_type: u16,
    /// `skc_state`.
    pub state: u8,
    /// Bytes of its path that follow.
    pub path_length: u8,
}

/// How far the iterator has come, and space that its stack has not.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The task told of last.
    pub task: u64,
    /// The network namespace told of last, and its identity.
    pub net: u64,
    /// See [`SocketListing::netns_cookie`].
    pub net_cookie: u64,
    /// See [`SocketListing::netns_inode`].
    pub net_inode: u64,
    /// A copy of the socket's `struct sock_common`.
    pub common: [u64; COMMON_BYTES / 8],
    /// The process's record.
    pub process: ProcessListing,
    /// The socket's record.
    pub socket: SocketListing,
    /// What follows it.
    pub path: [u8; UNIX_PATH_BYTES],
    /// Zero.
    pub padding: [u8; 4],
}

const _: () = assert!(size_of::<ProcessListing>() == 72);
const _: () = assert!(size_of::<SocketListing>() == 112);
const _: () = assert!(size_of::<Progress>() == 464);
