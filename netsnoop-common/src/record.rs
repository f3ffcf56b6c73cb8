//! The records: what a program writes to the ring `EVENTS`, and the iterator to its file.
//!
//! Integers are in the machine's byte order and ports in host order. Every byte is written, padding as zero.
//! A value that the kernel could not give is zero, unless its field says otherwise.

use crate::limits::{COMM_BYTES, PATH_BYTES};

/// Version of all layouts below; a reader refuses another.
pub const VERSION: u8 = 1;

/// [`Header::kind`]: what a record tells, and so which struct it is.
pub mod kind {
    /// [`SocketRecord`](super::SocketRecord): the process called connect, or sent with Fast Open.
    pub const CONNECT: u8 = 1;
    /// [`SocketRecord`](super::SocketRecord): the process accepted the socket.
    pub const ACCEPT: u8 = 2;
    /// [`SocketRecord`](super::SocketRecord): the process listens on the socket.
    pub const LISTEN: u8 = 3;
    /// [`SocketRecord`](super::SocketRecord): first send of this process on this socket (UDP: to this peer).
    pub const FIRST_SEND: u8 = 4;
    /// [`SocketRecord`](super::SocketRecord): first receive of this process on this socket (UDP: from this peer).
    pub const FIRST_RECEIVE: u8 = 5;
    /// [`SocketRecord`](super::SocketRecord): the handshake of the client's socket ended well.
    pub const ESTABLISHED_CLIENT: u8 = 6;
    /// [`SocketRecord`](super::SocketRecord): the handshake of the server's child socket ended well.
    pub const ESTABLISHED_SERVER: u8 = 7;
    /// [`CloseRecord`](super::CloseRecord): the socket was closed.
    pub const CLOSED: u8 = 8;
    /// [`ExecRecord`](super::ExecRecord): the process runs a new program.
    pub const EXEC: u8 = 9;
    /// [`ExitRecord`](super::ExitRecord): the process (its last thread) ended.
    pub const EXIT: u8 = 10;
    /// [`SocketRecord`](super::SocketRecord), from the iterator only: the process holds the socket.
    pub const HOLDER: u8 = 11;
}

/// [`Header::rung`]: which way of knowing produced a record. The numbers are those of
/// `netsnoop_core::attribution::Rung`.
pub mod rung {
    /// kprobes and kretprobes.
    pub const KPROBE: u8 = 0;
    /// fentry and fexit.
    pub const FENTRY: u8 = 1;
    /// sockops and socket-address hooks at the cgroup v2 root.
    pub const SOCKOPS: u8 = 2;
    /// BTF tracepoints.
    pub const TP_BTF: u8 = 3;
    /// Raw tracepoints.
    pub const RAW_TP: u8 = 4;
    /// The iterator over all files.
    pub const ITERATOR: u8 = 5;
}

/// How each record begins.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// CLOCK_BOOTTIME at the moment told of; zero in iterator records.
    pub boot_nanos: u64,
    /// [`VERSION`].
    pub version: u8,
    /// One of [`kind`].
    pub kind: u8,
    /// One of [`rung`].
    pub rung: u8,
    /// Zero.
    pub padding: [u8; 5],
}

/// A process: always the thread group's leader, whichever thread acted.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ProcessPart {
    /// `start_boottime` of the leader, in nanoseconds.
    pub start_boot_nanos: u64,
    /// The cgroup v2 id (inode of its directory).
    pub cgroup_id: u64,
    /// The pid in the initial pid namespace; zero if the context belongs to no process or to a kernel thread.
    pub tgid: u32,
    /// Its real uid in the initial user namespace.
    pub uid: u32,
    /// Its real gid in the initial user namespace.
    pub gid: u32,
    /// Zero.
    pub padding: [u8; 4],
    /// Its name, NUL-padded.
    pub comm: [u8; COMM_BYTES],
}

/// A socket.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SocketPart {
    /// The address of its `struct sock`.
    pub address: u64,
    /// Its cookie; zero if nobody asked the kernel for one yet.
    pub cookie: u64,
    /// The cookie of its network namespace.
    pub netns_cookie: u64,
    /// Its inode in sockfs; zero if no file refers to it.
    pub inode: u64,
    /// The cgroup v2 id it is charged to.
    pub cgroup_id: u64,
    /// Its own address, in network order; IPv4 in the IPv4-mapped form (RFC 4291, section 2.5.5.2).
    pub local_address: [u8; 16],
    /// The peer's address, likewise.
    pub remote_address: [u8; 16],
    /// The inode of its network namespace.
    pub netns_inode: u32,
    /// `sk_uid`; `u32::MAX` if unknown.
    pub uid: u32,
    /// The client's initial sequence number, if `client_isn_known` is 1.
    pub client_isn: u32,
    /// Its own port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// `sk_protocol`: 6, 17, 136, or 262 for MPTCP.
    pub protocol: u16,
    /// `skc_state`.
    pub state: u8,
    /// 1 or 0.
    pub client_isn_known: u8,
    /// Zero.
    pub padding: [u8; 4],
}

/// A process and a socket.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SocketRecord {
    /// See there.
    pub header: Header,
    /// Who.
    pub process: ProcessPart,
    /// With which socket.
    pub socket: SocketPart,
}

/// How a socket ended.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CloseRecord {
    /// See there.
    pub header: Header,
    /// No process: a close is told of in whatever context the last packet arrived.
    pub process: ProcessPart,
    /// Which socket.
    pub socket: SocketPart,
    /// Payload bytes it sent and the peer acknowledged.
    pub sent_bytes: u64,
    /// Payload bytes it received.
    pub received_bytes: u64,
    /// `sk_err`: zero or an errno.
    pub error: u32,
    /// The state it left.
    pub from_state: u8,
    /// Zero.
    pub padding: [u8; 3],
}

/// A process that runs a new program.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExecRecord {
    /// See there.
    pub header: Header,
    /// Who, under its new name.
    pub process: ProcessPart,
    /// Bytes of `path` that count, without NUL; zero if the path was not absolute or too long.
    pub path_length: u32,
    /// Zero.
    pub padding: [u8; 4],
    /// The program's path as the kernel opened it; what follows the length is zero.
    pub path: [u8; PATH_BYTES],
}

/// A process that ended.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExitRecord {
    /// See there.
    pub header: Header,
    /// Who.
    pub process: ProcessPart,
}

// Layouts are a contract with an object built by another compiler: a size that drifts is a compile error here.
const _: () = assert!(size_of::<Header>() == 16);
const _: () = assert!(size_of::<ProcessPart>() == 48);
const _: () = assert!(size_of::<SocketPart>() == 96);
const _: () = assert!(size_of::<SocketRecord>() == 160);
const _: () = assert!(size_of::<CloseRecord>() == 184);
const _: () = assert!(size_of::<ExecRecord>() == 328);
const _: () = assert!(size_of::<ExitRecord>() == 64);
