//! Every socket of every network namespace, as one look at the node found it: what `netsnoop list` shows.
//!
//! Unlike [`crate::socket::SocketRow`], which serves connections, a [`ListedSocket`] is of any family and keeps
//! what people read off `ss`. Left out: how it is read, filtered and shown.

use core::net::IpAddr;
use core::num::{NonZeroU32, NonZeroU64};

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::attribution::Rung;
use crate::namespace::NamespaceKey;
use crate::process::{Container, Process};
use crate::socket::TcpState;
use crate::time::Timestamp;

/// What one look found. Sockets name namespaces and processes by their place in the lists here.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// Which way it was read: [`Rung::Iterator`], [`Rung::SockDiag`] or [`Rung::Proc`].
    pub rung: Rung,
    /// When reading began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Every namespace, those without a socket or a process too.
    pub namespaces: Vec<ListedNamespace>,
    /// Every process with an open file that could be looked at, those without a socket too.
    pub processes: Vec<ListedProcess>,
    /// Every socket, each once.
    pub sockets: Vec<ListedSocket>,
    /// What could not be seen, and why. Empty: this is all there is.
    pub unseen: Vec<Unseen>,
}

/// A network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedNamespace {
    /// Its identity.
    pub key: NamespaceKey,
    /// The name below `/run/netns`, where it has one.
    pub name: Option<Arc<str>>,
    /// Names of interfaces that its sockets are bound to, by index; as far as they can be told.
    pub interfaces: Vec<(NonZeroU32, Arc<str>)>,
}

/// A process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedProcess {
    /// Who it is.
    pub process: Process,
    /// The place of the namespace it is in; `None` if it may not be asked, or is gone.
    pub namespace: Option<u32>,
    /// The container it runs in.
    pub container: Option<Arc<Container>>,
}

/// A socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedSocket {
    /// The place of its namespace; `None` where only a descriptor shows the socket, which does not tell.
    pub namespace: Option<u32>,
    /// What kind of socket it is.
    pub protocol: Protocol,
    /// Its state; all families use TCP's numbers, and those not known here are kept.
    pub state: TcpState,
    /// What it is bound and connected to.
    pub addresses: Addresses,
    /// What `ss` calls Recv-Q: bytes not yet read; of a listening socket, connections that wait to be accepted.
    pub receive_queue: Option<u32>,
    /// What `ss` calls Send-Q: bytes not yet acknowledged or sent; of a listening socket, how many may wait.
    pub send_queue: Option<u32>,
    /// The inode in sockfs; `None` where no file refers to the socket.
    pub inode: Option<NonZeroU64>,
    /// The socket cookie, where this way has it.
    pub cookie: Option<NonZeroU64>,
    /// The uid that made the socket.
    pub uid: Option<u32>,
    /// Every descriptor that refers to it, by process and number.
    pub holders: Vec<Holder>,
    /// Why nobody holds it; `None` if somebody does.
    pub unheld: Option<Unheld>,
}

impl ListedSocket {
    /// A socket of which no more is known.
    pub const fn new(protocol: Protocol, state: TcpState, addresses: Addresses) -> Self {
        Self {
            namespace: None,
            protocol,
            state,
            addresses,
            receive_queue: None,
            send_queue: None,
            inode: None,
            cookie: None,
            uid: None,
            holders: Vec::new(),
            unheld: None,
        }
    }
}

/// A descriptor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Holder {
    /// The place of the process.
    pub process: u32,
    /// The descriptor's number.
    pub fd: u32,
}

/// What kind of socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// TCP, MPTCP too.
    Tcp,
    /// UDP.
    Udp,
    /// UDP-Lite (RFC 3828).
    UdpLite,
    /// DCCP (RFC 4340; removed in Linux 6.16).
    Dccp,
    /// SCTP (RFC 9260).
    Sctp,
    /// An unprivileged echo socket (man 7 icmp). In place of a port it has the echo identifier.
    Icmp,
    /// A raw IP socket (man 7 raw). In place of a port it has the IP protocol's number.
    Raw,
    /// A Unix socket (man 7 unix).
    Unix(SocketKind),
    /// A packet socket (man 7 packet).
    Packet(SocketKind),
    /// A netlink socket (man 7 netlink), with the number of its netlink family where it is known.
    Netlink(Option<u16>),
    /// A vsock socket (man 7 vsock).
    Vsock(SocketKind),
    /// Anything else.
    Other {
        /// The address family's number (`AF_*`).
        family: u16,
        /// The protocol's number within the family.
        protocol: u16,
    },
}

/// What protocols have in common that are asked for together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum ProtocolGroup {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// UDP-Lite.
    UdpLite,
    /// DCCP.
    Dccp,
    /// SCTP.
    Sctp,
    /// Echo sockets.
    Icmp,
    /// Raw IP sockets.
    Raw,
    /// Unix sockets of all types.
    Unix,
    /// Packet sockets of all types.
    Packet,
    /// Netlink sockets of all families.
    Netlink,
    /// Vsock sockets of all types.
    Vsock,
    /// Everything else.
    Other,
}

impl ProtocolGroup {
    /// All groups.
    pub const ALL: [Self; 12] = [
        Self::Tcp,
        Self::Udp,
        Self::UdpLite,
        Self::Dccp,
        Self::Sctp,
        Self::Icmp,
        Self::Raw,
        Self::Unix,
        Self::Packet,
        Self::Netlink,
        Self::Vsock,
        Self::Other,
    ];
}

/// A set of protocol groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProtocolSet(u16);

impl ProtocolSet {
    /// None.
    pub const EMPTY: Self = Self(0);
    /// All.
    pub const ALL: Self = Self(u16::MAX);

    /// Adds one.
    pub const fn insert(&mut self, group: ProtocolGroup) {
        self.0 |= 1 << group as u8;
    }

    /// Whether it is in.
    pub const fn contains(self, group: ProtocolGroup) -> bool {
        self.0 & (1 << group as u8) != 0
    }
}

/// A socket's type by its kernel number (man 2 socket); 0 where it is not known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketKind(pub u16);

impl SocketKind {
    /// `SOCK_STREAM`.
    pub const STREAM: Self = Self(1);
    /// `SOCK_DGRAM`.
    pub const DATAGRAM: Self = Self(2);
    /// `SOCK_RAW`.
    pub const RAW: Self = Self(3);
    /// `SOCK_SEQPACKET`.
    pub const SEQUENCED: Self = Self(5);
}

/// What a socket is bound and connected to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Addresses {
    /// IPv4 and IPv6.
    Internet {
        /// Its own end.
        local: SocketEnd,
        /// The peer's end: unspecified, port 0, if it has none.
        remote: SocketEnd,
        /// The index of the interface it is bound to.
        interface: Option<NonZeroU32>,
    },
    /// Unix sockets.
    Unix {
        /// What it is bound to.
        path: Option<UnixPath>,
        /// The inode of the socket at the other end.
        peer: Option<NonZeroU64>,
    },
    /// Packet sockets.
    Packet {
        /// The protocol it takes (`ETH_P_*`, host order); 3 is all, 0 none.
        protocol: u16,
        /// The index of the interface it is bound to; `None` is all.
        interface: Option<NonZeroU32>,
    },
    /// Netlink sockets.
    Netlink {
        /// Its own address; 0 is the kernel's.
        port_id: u32,
    },
    /// Vsock sockets.
    Vsock {
        /// Its own end.
        local: VsockEnd,
        /// The peer's end, [`VsockEnd::ANY`] if it has none.
        remote: VsockEnd,
    },
    /// Of a family that is not known here.
    Unknown,
}

/// An IP address and a port, exactly as the socket has them: unlike in [`crate::five_tuple::Endpoint`] an
/// IPv4-mapped address stays one, so the address tells the socket's family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketEnd {
    /// The address; unspecified is any.
    pub address: IpAddr,
    /// The port; 0 is none.
    pub port: u16,
}

/// The path of a Unix socket: any bytes. That of an abstract one begins with a NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnixPath(pub Box<[u8]>);

impl UnixPath {
    /// From an address as the kernel holds it: an abstract name as long as it is told, a path with the NUL at its end.
    /// `None` if it is bound to nothing (man 7 unix, "Address format").
    pub fn from_kernel(bytes: &[u8]) -> Option<Self> {
        let bytes = match bytes {
            [0, ..] => bytes,
            path => path.split(|byte| *byte == 0).next().unwrap_or_default(),
        };
        (!bytes.is_empty()).then(|| Self(bytes.into()))
    }

    /// Whether it is a name outside the file system.
    pub fn is_abstract(&self) -> bool {
        self.0.first() == Some(&0)
    }
}

/// A context id and a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VsockEnd {
    /// The machine.
    pub cid: u32,
    /// The port there.
    pub port: u32,
}

impl VsockEnd {
    /// No end (`VMADDR_CID_ANY`, `VMADDR_PORT_ANY`).
    pub const ANY: Self = Self { cid: u32::MAX, port: u32::MAX };
}

/// Why nobody holds a socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Unheld {
    /// The kernel waits out old packets of a closed connection.
    TimeWait,
    /// A connection that a client has asked for and that is not made yet.
    Request,
    /// A connection that is made and waits to be accepted.
    AwaitsAccept,
    /// Closed by its process; the kernel still sends, or waits for the peer.
    Orphan,
    /// The kernel's own.
    Kernel,
    /// A file refers to it, but no descriptor of any process: it is on its way between processes (man 7 unix,
    /// SCM_RIGHTS), registered with io_uring, the kernel's own, or was closed meanwhile.
    NoDescriptor,
    /// Not every process could be looked at, see [`Inventory::unseen`].
    Unseen,
}

/// Something that could not be seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Unseen {
    /// What.
    pub what: UnseenThing,
    /// Why.
    pub why: UnseenReason,
    /// How many; 0 where nobody can count them.
    pub count: u64,
}

/// What could not be seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum UnseenThing {
    /// Processes and what they hold.
    Processes,
    /// All sockets of a namespace.
    Namespaces,
    /// One protocol's sockets in a namespace.
    Tables,
    /// Sockets that nobody holds (TIME_WAIT, orphans, those waiting to be accepted) in a namespace.
    UnheldSockets,
    /// Single sockets.
    Sockets,
    /// Names of interfaces that sockets are bound to.
    InterfaceNames,
}

/// Why it could not be seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum UnseenReason {
    /// It may not be read.
    Permission,
    /// It was gone when it was read: normal on a busy node.
    Vanished,
    /// This `/proc` does not show every process of the node (`hidepid`, or a pid namespace).
    Hidden,
    /// It was read and not understood, or cut short.
    Unreadable,
    /// The kernel has no way to tell.
    Unsupported,
    /// Anything else the kernel said.
    Failed,
}

impl UnseenThing {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::Namespaces => "namespaces",
            Self::Tables => "tables",
            Self::UnheldSockets => "unheld_sockets",
            Self::Sockets => "sockets",
            Self::InterfaceNames => "interface_names",
        }
    }
}

impl UnseenReason {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Permission => "permission",
            Self::Vanished => "vanished",
            Self::Hidden => "hidden",
            Self::Unreadable => "unreadable",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
        }
    }
}

impl Unheld {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TimeWait => "time_wait",
            Self::Request => "request",
            Self::AwaitsAccept => "awaits_accept",
            Self::Orphan => "orphan",
            Self::Kernel => "kernel",
            Self::NoDescriptor => "no_descriptor",
            Self::Unseen => "unseen",
        }
    }

    /// Why a socket without a holder has none, as far as it tells itself.
    pub fn of(socket: &ListedSocket) -> Self {
        match (&socket.addresses, socket.inode, socket.state) {
            (Addresses::Netlink { port_id: 0 }, ..) => Self::Kernel,
            (_, Some(_), _) => Self::NoDescriptor,
            (_, None, TcpState::TIME_WAIT) => Self::TimeWait,
            (_, None, TcpState::SYN_RECV | TcpState::NEW_SYN_RECV) => Self::Request,
            (_, None, TcpState::ESTABLISHED | TcpState::CLOSE_WAIT) => Self::AwaitsAccept,
            (_, None, _) => Self::Orphan,
        }
    }
}

impl Protocol {
    /// Its group.
    pub const fn group(self) -> ProtocolGroup {
        match self {
            Self::Tcp => ProtocolGroup::Tcp,
            Self::Udp => ProtocolGroup::Udp,
            Self::UdpLite => ProtocolGroup::UdpLite,
            Self::Dccp => ProtocolGroup::Dccp,
            Self::Sctp => ProtocolGroup::Sctp,
            Self::Icmp => ProtocolGroup::Icmp,
            Self::Raw => ProtocolGroup::Raw,
            Self::Unix(_) => ProtocolGroup::Unix,
            Self::Packet(_) => ProtocolGroup::Packet,
            Self::Netlink(_) => ProtocolGroup::Netlink,
            Self::Vsock(_) => ProtocolGroup::Vsock,
            Self::Other { .. } => ProtocolGroup::Other,
        }
    }

    /// What the kernel calls by this name (`struct proto`, the first column of `/proc/net/protocols`). Types of sockets
    /// and netlink families have no names of their own.
    pub fn of_kernel_name(name: &[u8]) -> Self {
        const UNKNOWN: SocketKind = SocketKind(0);
        match name {
            b"TCP" | b"TCPv6" | b"MPTCP" | b"MPTCPv6" => Self::Tcp,
            b"UDP" | b"UDPv6" => Self::Udp,
            b"UDP-Lite" | b"UDPLITEv6" => Self::UdpLite,
            b"DCCP" | b"DCCPv6" => Self::Dccp,
            b"SCTP" | b"SCTPv6" => Self::Sctp,
            b"PING" | b"PINGv6" => Self::Icmp,
            b"RAW" | b"RAWv6" => Self::Raw,
            b"UNIX-STREAM" => Self::Unix(SocketKind::STREAM),
            b"UNIX" => Self::Unix(UNKNOWN),
            b"PACKET" => Self::Packet(UNKNOWN),
            b"NETLINK" => Self::Netlink(None),
            b"AF_VSOCK" => Self::Vsock(UNKNOWN),
            _ => Self::Other { family: 0, protocol: 0 },
        }
    }

    /// The name `ss` has for it in its column Netid.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::UdpLite => "udplite",
            Self::Dccp => "dccp",
            Self::Sctp => "sctp",
            Self::Icmp => "icmp",
            Self::Raw => "raw",
            Self::Unix(SocketKind::STREAM) => "u_str",
            Self::Unix(SocketKind::SEQUENCED) => "u_seq",
            Self::Unix(SocketKind::DATAGRAM) => "u_dgr",
            Self::Unix(_) => "unix",
            Self::Packet(SocketKind::RAW) => "p_raw",
            Self::Packet(SocketKind::DATAGRAM) => "p_dgr",
            Self::Packet(_) => "packet",
            Self::Netlink(_) => "nl",
            Self::Vsock(SocketKind::STREAM) => "v_str",
            Self::Vsock(SocketKind::DATAGRAM) => "v_dgr",
            Self::Vsock(_) => "vsock",
            Self::Other { .. } => "other",
        }
    }
}
