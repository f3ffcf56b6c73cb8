//! Frame bytes -> [`PacketHeader`]: what a packet says about the flow it belongs to.
//!
//! One pass, no copy, no state: fragments and streams are not put together. A frame cut by the snaplen is
//! normal; as long as what attribution needs is there it decodes.

mod link;
mod network;
mod reader;
#[cfg(test)]
mod tests;
mod transport;

use core::fmt;
use core::num::NonZeroU32;

use self::reader::Reader;
use crate::five_tuple::FiveTuple;

/// Reads one frame.
///
/// # Errors
///
/// If the frame ends before what attribution needs, or contradicts itself.
pub fn decode(link_type: LinkType, frame: &[u8]) -> Result<Decoded, PacketError> {
    let mut reader = Reader::new(frame);
    let link = match link::read(link_type, &mut reader)? {
        Verdict::Go(link) => link,
        Verdict::Stop(ignored) => return Ok(Decoded::Ignored(ignored)),
    };
    let network = match network::read(link.announced, &mut reader)? {
        Verdict::Go(network) => network,
        Verdict::Stop(ignored) => return Ok(Decoded::Ignored(ignored)),
    };
    Ok(match transport::read(network, &mut reader)? {
        Verdict::Go(header) => {
            Decoded::Header { interface: link.interface, direction: link.direction, header }
        }
        Verdict::Stop(ignored) => Decoded::Ignored(ignored),
    })
}

/// The payload of the TCP segment or UDP datagram in a frame, as far as it was captured; empty for anything else.
pub fn payload(link_type: LinkType, frame: &[u8]) -> &[u8] {
    let mut reader = Reader::new(frame);
    let Ok(Verdict::Go(link)) = link::read(link_type, &mut reader) else { return &[] };
    let Ok(Verdict::Go(network)) = network::read(link.announced, &mut reader) else { return &[] };
    transport::payload(network, reader)
}

/// What a frame was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoded {
    /// A packet of a flow.
    Header {
        /// The interface the frame itself names (Linux cooked v2).
        interface: Option<NonZeroU32>,
        /// The way the frame itself names (Linux cooked).
        direction: Direction,
        /// What the packet says.
        header: PacketHeader,
    },
    /// A sound frame that says nothing about a flow.
    Ignored(Ignored),
}

/// Why a sound frame says nothing about a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ignored {
    /// Not IPv4 or IPv6.
    NotIp,
    /// A fragment that is not the first: it has no ports.
    LaterFragment,
    /// A routing header that is not used up: the destination is not the flow's.
    SourceRouted,
    /// Another transport protocol, by its number.
    Protocol(u8),
    /// An ICMP message that ends no flow, by its type.
    IcmpKind(u8),
}

/// Why a frame could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PacketError {
    /// The frame, or the length its IP header gives, ends too soon.
    #[error("{layer} at byte {offset} needs {wanted} bytes, there are {had}")]
    Truncated {
        /// What was being read.
        layer: Layer,
        /// Where in the frame.
        offset: usize,
        /// How many bytes it needs.
        wanted: usize,
        /// How many there are.
        had: usize,
    },
    /// A field contradicts the rest.
    #[error("{layer} at byte {offset}: {what}")]
    Malformed {
        /// What was being read.
        layer: Layer,
        /// Where in the frame.
        offset: usize,
        /// What is wrong with it.
        what: Malformed,
    },
}

/// What is wrong with a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// The version is not the one announced, or neither 4 nor 6.
    Version,
    /// The header's own length is too small, or larger than the packet.
    HeaderLength,
    /// The packet's length is smaller than its headers.
    TotalLength,
    /// More tags or extension headers than any sound packet has.
    TooManyHeaders,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "wrong IP version",
            Self::HeaderLength => "impossible header length",
            Self::TotalLength => "packet length smaller than the headers",
            Self::TooManyHeaders => "too many headers",
        })
    }
}

/// A layer of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layer {
    /// The Ethernet header.
    Ethernet,
    /// A VLAN tag.
    Vlan,
    /// The Linux cooked header, either version.
    Cooked,
    /// The address family of a loopback frame.
    Loopback,
    /// The first byte of an IP header.
    Ip,
    /// The IPv4 header.
    Ipv4,
    /// The IPv6 header.
    Ipv6,
    /// An extension header.
    IpExtension,
    /// The TCP header.
    Tcp,
    /// The UDP header.
    Udp,
    /// The UDP-Lite header.
    UdpLite,
    /// The ICMP or ICMPv6 header.
    Icmp,
    /// The ports of the packet an ICMP error quotes.
    Quoted,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ethernet => "Ethernet header",
            Self::Vlan => "VLAN tag",
            Self::Cooked => "Linux cooked header",
            Self::Loopback => "loopback header",
            Self::Ip => "IP header",
            Self::Ipv4 => "IPv4 header",
            Self::Ipv6 => "IPv6 header",
            Self::IpExtension => "IP extension header",
            Self::Tcp => "TCP header",
            Self::Udp => "UDP header",
            Self::UdpLite => "UDP-Lite header",
            Self::Icmp => "ICMP header",
            Self::Quoted => "quoted ports",
        })
    }
}

/// Whether reading goes on to the next layer.
enum Verdict<T> {
    Go(T),
    Stop(Ignored),
}

impl<T> Verdict<T> {
    fn map<U>(self, then: impl FnOnce(T) -> U) -> Verdict<U> {
        match self {
            Self::Go(value) => Verdict::Go(then(value)),
            Self::Stop(ignored) => Verdict::Stop(ignored),
        }
    }
}

/// The way of a packet, seen from the interface it was captured on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// It came in.
    In,
    /// It went out.
    Out,
    /// The capture does not say.
    Unknown,
}

/// How a frame begins (libpcap's DLT_ values, <https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkType {
    /// LINKTYPE_ETHERNET, 1.
    Ethernet,
    /// LINKTYPE_LINUX_SLL, 113.
    LinuxCooked,
    /// LINKTYPE_LINUX_SLL2, 276: carries the interface index.
    LinuxCookedV2,
    /// LINKTYPE_NULL, 0, and LINKTYPE_LOOP, 108: a four-byte address family.
    Loopback,
    /// LINKTYPE_RAW, 101, and IPV4/IPV6, 228/229: the IP header itself.
    RawIp,
}

/// What a packet says about its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketHeader {
    /// Sender (`local`) and receiver (`remote`). Of an ICMP error: of the packet it complains about.
    pub tuple: FiveTuple,
    /// The rest.
    pub content: PacketContent,
}

/// What the transport layer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PacketContent {
    /// A TCP segment.
    Tcp {
        /// SYN, ACK, FIN, RST...
        flags: TcpFlags,
        /// The sequence number.
        sequence: u32,
        /// The acknowledgement number.
        acknowledgement: u32,
        /// Payload length, from the IP header, not from what was captured.
        payload_length: u32,
    },
    /// A UDP datagram (or the first fragment of one).
    Udp {
        /// Payload length, from the UDP header.
        payload_length: u32,
    },
    /// An ICMP error that ends the flow: destination unreachable (port, protocol, host, prohibited).
    Unreachable,
}

/// The flags of a TCP header (RFC 9293 section 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;

    /// Whether all bits of `mask` are set.
    pub const fn contains(self, mask: u8) -> bool {
        self.0 & mask == mask
    }
}
