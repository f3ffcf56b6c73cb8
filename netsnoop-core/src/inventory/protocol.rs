//! What kinds of sockets there are, by themselves and in groups that are asked for together.

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
