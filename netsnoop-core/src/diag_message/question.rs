//! What sock_diag is asked: for all sockets of a protocol, for those at one port, or for one.

use core::net::IpAddr;

use alloc::vec::Vec;

use super::tcp_info::INET_DIAG_INFO;
use super::{AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, AF_UNSPEC, AF_VSOCK, HEADER_BYTES};
use crate::five_tuple::{Endpoint, FiveTuple, Transport};
use crate::inventory::ProtocolGroup;

/// `SOCK_DIAG_BY_FAMILY`, the type of questions and answers.
pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `TCPDIAG_GETSOCK`, the older type, which takes both families at once.
const TCPDIAG_GETSOCK: u16 = 18;
/// `NLM_F_REQUEST`, and `NLM_F_DUMP` for a list.
const REQUEST: u16 = 0x1;
const DUMP: u16 = 0x300;

/// All states.
pub const ALL_STATES: u32 = u32::MAX;

/// What to ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    pub(super) group: ProtocolGroup,
    family: u8,
    protocol: u8,
    /// The port of its own that a socket must have; 0 is any.
    port: u16,
    /// What else is to be told of an Internet socket, a bit each.
    extensions: u8,
}

impl Question {
    const fn new(group: ProtocolGroup, family: u8, protocol: u8) -> Self {
        Self { group, family, protocol, port: 0, extensions: 0 }
    }

    /// The questions that list all sockets of a group; none if sock_diag knows no such sockets.
    pub fn all_of(group: ProtocolGroup) -> &'static [Self] {
        const fn both(group: ProtocolGroup, protocol: u8) -> [Question; 2] {
            [Question::new(group, AF_INET, protocol), Question::new(group, AF_INET6, protocol)]
        }
        const fn one(group: ProtocolGroup, family: u8, protocol: u8) -> [Question; 1] {
            [Question::new(group, family, protocol)]
        }
        const TCP: [Question; 2] = both(ProtocolGroup::Tcp, 6);
        const UDP: [Question; 2] = both(ProtocolGroup::Udp, 17);
        const UDP_LITE: [Question; 2] = both(ProtocolGroup::UdpLite, 136);
        const DCCP: [Question; 2] = both(ProtocolGroup::Dccp, 33);
        const SCTP: [Question; 2] = both(ProtocolGroup::Sctp, 132);
        const RAW: [Question; 2] = both(ProtocolGroup::Raw, 255);
        const UNIX: [Question; 1] = one(ProtocolGroup::Unix, AF_UNIX, 0);
        // `NDIAG_PROTO_ALL`.
        const NETLINK: [Question; 1] = one(ProtocolGroup::Netlink, AF_NETLINK, 255);
        const PACKET: [Question; 1] = one(ProtocolGroup::Packet, AF_PACKET, 0);
        const VSOCK: [Question; 1] = one(ProtocolGroup::Vsock, AF_VSOCK, 0);
        match group {
            ProtocolGroup::Tcp => &TCP,
            ProtocolGroup::Udp => &UDP,
            ProtocolGroup::UdpLite => &UDP_LITE,
            ProtocolGroup::Dccp => &DCCP,
            ProtocolGroup::Sctp => &SCTP,
            ProtocolGroup::Raw => &RAW,
            ProtocolGroup::Unix => &UNIX,
            ProtocolGroup::Netlink => &NETLINK,
            ProtocolGroup::Packet => &PACKET,
            ProtocolGroup::Vsock => &VSOCK,
            ProtocolGroup::Icmp | ProtocolGroup::Other => &[],
        }
    }

    /// The TCP sockets of both families in one walk over the kernel's table of connections, which has hundreds of thousands
    /// of places: `inet_diag_rcv_msg_compat` in <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/inet_diag.c>.
    pub const TCP_OF_BOTH_FAMILIES: Self = Self::new(ProtocolGroup::Tcp, AF_UNSPEC, 6);

    /// The question about the sockets of a transport that are IPv6's (dual-stack ones too) or IPv4's.
    pub const fn of(transport: Transport, is_ipv6: bool) -> Self {
        let group = match transport {
            Transport::Tcp => ProtocolGroup::Tcp,
            Transport::Udp => ProtocolGroup::Udp,
            Transport::UdpLite => ProtocolGroup::UdpLite,
        };
        Self::new(group, if is_ipv6 { AF_INET6 } else { AF_INET }, transport.number())
    }

    /// The same about the sockets of an Internet protocol that have this port.
    pub const fn at_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// The same with what TCP sockets have sent and received.
    pub const fn with_payload(self) -> Self {
        Self { extensions: 1 << (INET_DIAG_INFO - 1), ..self }
    }

    /// Whether it asks for that.
    pub(super) const fn asks_for_payload(self) -> bool {
        self.extensions != 0
    }

    /// Whether it asks for IPv6 sockets alone.
    pub const fn is_ipv6(self) -> bool {
        self.family == AF_INET6
    }

    /// The message that lists the sockets in these states, a bit each.
    pub fn list(self, states: u32) -> Vec<u8> {
        // Name, peer, queue lengths and uid of Unix sockets; what is known of packet sockets; memory.
        const UNIX_SHOW: u32 = 0x1 | 0x4 | 0x10 | 0x40;
        const PACKET_SHOW: u32 = 0x1 | 0x20;
        const NETLINK_SHOW: u32 = 0x1;
        // The cookie that stands for any socket is all ones, everywhere.
        let body = match self.family {
            AF_UNIX => words(&[states, 0, UNIX_SHOW, u32::MAX, u32::MAX]),
            AF_NETLINK => words(&[0, NETLINK_SHOW, u32::MAX, u32::MAX]),
            AF_PACKET => words(&[0, PACKET_SHOW, u32::MAX, u32::MAX]),
            AF_VSOCK => words(&[states, 0, 0, u32::MAX, u32::MAX]),
            AF_UNSPEC => words(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, u32::MAX, u32::MAX, states, 0]),
            _ => {
                let local = Endpoint { port: self.port, ..Endpoint::UNSPECIFIED_V4 };
                internet_question(states, [local, Endpoint::UNSPECIFIED_V4])
            }
        };
        self.message(REQUEST | DUMP, &body)
    }

    /// The message that asks for the one socket the kernel would give a packet of `wanted` to, `wanted.local` being the
    /// socket's own end. The UDP handler looks a packet up, whose destination is the socket's own end:
    /// `udp_dump_one` in <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/udp_diag.c>.
    pub fn find(self, wanted: &FiveTuple) -> Vec<u8> {
        let (own, other) = (wanted.local, wanted.remote);
        let ends = if wanted.transport == Transport::Tcp { [own, other] } else { [other, own] };
        self.message(REQUEST, &internet_question(ALL_STATES, ends))
    }

    fn message(self, flags: u16, body: &[u8]) -> Vec<u8> {
        // The older question has lengths of addresses in place of the protocol, which its type tells.
        let is_older = self.family == AF_UNSPEC;
        let kind = if is_older { TCPDIAG_GETSOCK } else { SOCK_DIAG_BY_FAMILY };
        let asked = match is_older {
            true => [self.family, 0, 0, self.extensions],
            false => [self.family, self.protocol, self.extensions, 0],
        };
        let length = HEADER_BYTES + asked.len() + body.len();
        let mut message = Vec::with_capacity(length);
        // It is below a hundred.
        message.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(asked);
        message.extend(body);
        message
    }
}

/// As the kernel reads them.
pub(super) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `struct inet_diag_req_v2` from its states on: ports, addresses of up to 16 bytes, any interface, any cookie.
fn internet_question(states: u32, ends: [Endpoint; 2]) -> Vec<u8> {
    let mut body = words(&[states]);
    body.extend(ends.iter().flat_map(|end| end.port.to_be_bytes()));
    for end in ends {
        match end.address {
            IpAddr::V4(address) => body.extend([address.octets(), [0; 4], [0; 4], [0; 4]].as_flattened()),
            IpAddr::V6(address) => body.extend(address.octets()),
        }
    }
    body.extend(words(&[0, u32::MAX, u32::MAX]));
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    #[test]
    fn questions_tell_their_length_and_what_they_ask_for() {
        for group in ProtocolGroup::ALL {
            for question in Question::all_of(group).iter().chain([&Question::TCP_OF_BOTH_FAMILIES]) {
                let message = question.list(ALL_STATES);
                assert_eq!(message[..4], u32::try_from(message.len()).unwrap().to_ne_bytes());
                assert_eq!(message.get(HEADER_BYTES), Some(&question.family));
            }
        }
    }

    #[test]
    fn a_question_for_one_socket_is_of_its_packets() {
        let local = Endpoint::new(Ipv4Addr::new(127, 0, 0, 1).into(), 0x1f90);
        let remote = Endpoint::new(Ipv4Addr::new(127, 0, 0, 2).into(), 0xd356);
        let ends = |source: [u8; 6], destination: [u8; 6]| {
            let ([a, b, source @ ..], [c, d, destination @ ..]) = (source, destination);
            [&[a, b, c, d][..], &source, &[0; 12], &destination, &[0; 12]].concat()
        };
        let (own, other) = ([0x1f, 0x90, 127, 0, 0, 1], [0xd3, 0x56, 127, 0, 0, 2]);
        for (transport, number, expected) in
            [(Transport::Tcp, 6, ends(own, other)), (Transport::Udp, 17, ends(other, own))]
        {
            let message = Question::of(transport, false).find(&FiveTuple { transport, local, remote });
            let body =
                [&[AF_INET, number, 0, 0, 0xff, 0xff, 0xff, 0xff][..], &expected, &words(&[0])].concat();
            assert_eq!(message[6..8], REQUEST.to_ne_bytes());
            assert_eq!(message[HEADER_BYTES..], [&body[..], &[0xff; 8]].concat());
        }
        let at_port = Question::of(Transport::Tcp, true).at_port(0x1f90).list(1 << 10);
        assert_eq!(
            at_port[HEADER_BYTES..][..12],
            [&[AF_INET6, 6, 0, 0][..], &words(&[1 << 10]), &own[..2], &[0; 2]].concat()
        );
        assert_eq!(at_port.len(), Question::of(Transport::Tcp, true).list(ALL_STATES).len());
    }
}
