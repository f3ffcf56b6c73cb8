//! Addresses, ports and protocols of a socket or packet, in host order.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A transport protocol netsnoop tells connections of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Transport {
    /// TCP, and the first subflow of an MPTCP connection (protocol 262), which looks like TCP on the wire.
    Tcp,
    /// UDP.
    Udp,
    /// UDP-Lite (RFC 3828).
    UdpLite,
}

impl Transport {
    /// All protocols.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::UdpLite];

    /// The lower-case name, as OpenTelemetry's `network.transport` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::UdpLite => "udplite",
        }
    }

    /// The IANA protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::UdpLite => 136,
        }
    }
}

/// An address and a port. IPv4-mapped IPv6 addresses are held as IPv4, so that both faces of a
/// dual-stack socket compare equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address; unspecified (`0.0.0.0`, `::`) means a wildcard socket.
    pub address: IpAddr,
    /// The port; 0 where the kernel had none to tell.
    pub port: u16,
}

impl Endpoint {
    /// Makes an endpoint, turning an IPv4-mapped address into the IPv4 address it stands for.
    pub const fn new(address: IpAddr, port: u16) -> Self {
        Self { address: address.to_canonical(), port }
    }

    /// The endpoint of a socket that is bound to no address and no port.
    pub const UNSPECIFIED_V4: Self = Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), port: 0 };
    /// As [`Self::UNSPECIFIED_V4`], for IPv6.
    pub const UNSPECIFIED_V6: Self = Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), port: 0 };

    /// Whether the address is a wildcard.
    pub const fn is_wildcard(&self) -> bool {
        self.address.is_unspecified()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(address) => write!(f, "{address}:{}", self.port),
            IpAddr::V6(address) => write!(f, "[{address}]:{}", self.port),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A socket's own view of a flow: its end first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FiveTuple {
    /// The protocol.
    pub transport: Transport,
    /// The socket's own end (of a packet: the sender).
    pub local: Endpoint,
    /// The other end (of a packet: the receiver).
    pub remote: Endpoint,
}

impl FiveTuple {
    /// The same flow as the other end sees it.
    pub const fn mirrored(self) -> Self {
        Self { transport: self.transport, local: self.remote, remote: self.local }
    }

    /// The listening socket that a connection to `local` would go to.
    pub const fn listening(self) -> Self {
        let remote = match self.remote.address {
            IpAddr::V4(_) => Endpoint::UNSPECIFIED_V4,
            IpAddr::V6(_) => Endpoint::UNSPECIFIED_V6,
        };
        Self { remote, ..self }
    }
}
