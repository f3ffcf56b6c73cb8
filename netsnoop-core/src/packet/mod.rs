//! Frame bytes -> [`PacketHeader`]: what a packet says about the flow it belongs to.

use crate::five_tuple::FiveTuple;

/// How a frame begins (libpcap's DLT_ values, https://www.tcpdump.org/linktypes.html).
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
