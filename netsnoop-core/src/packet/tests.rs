use alloc::vec::Vec;
use core::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::five_tuple::{Endpoint, Transport};

const TO_US: u8 = 0;
const OUTGOING: u8 = 4;
/// Empty destination options.
const OPTIONS: (u8, &[u8]) = (60, &[0; 7]);

fn ethernet(tags: &[u16], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = [2; 12].to_vec();
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 42]);
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(packet);
    frame
}

fn cooked(packet_type: u8, ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let [high, low] = ethertype.to_be_bytes();
    [&[0, packet_type, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0, high, low], packet].concat()
}

fn cooked_v2(interface: u32, packet_type: u8, ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = ethertype.to_be_bytes().to_vec();
    frame.extend([0, 0]);
    frame.extend(interface.to_be_bytes());
    frame.extend([0, 1, packet_type, 6, 2, 2, 2, 2, 2, 2, 0, 0]);
    frame.extend(packet);
    frame
}

/// An IPv4 packet; `options` in whole 32-bit words, `fragment` as the field has it.
fn ipv4(protocol: u8, options: &[u8], fragment: u16, body: &[u8]) -> Vec<u8> {
    let header_words = 5 + u8::try_from(options.len() / 4).unwrap();
    let total = u16::try_from(20 + options.len() + body.len()).unwrap();
    let mut packet = [0x40 | header_words, 0].to_vec();
    packet.extend(total.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 198, 18, 1, 10, 198, 18, 1, 13]);
    packet.extend(options);
    packet.extend(body);
    packet
}

/// An IPv6 packet; each extension is (its number, its bytes from the second on).
fn ipv6(protocol: u8, extensions: &[(u8, &[u8])], body: &[u8]) -> Vec<u8> {
    let numbers: Vec<u8> = extensions.iter().map(|(number, _)| *number).chain([protocol]).collect();
    let mut rest = Vec::new();
    for ((_, bytes), next) in extensions.iter().zip(&numbers[1..]) {
        rest.push(*next);
        rest.extend(*bytes);
    }
    rest.extend(body);
    let mut packet = [0x60, 0, 0, 0].to_vec();
    packet.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    packet.extend([numbers[0], 64]);
    packet.extend("2001:db8::10".parse::<core::net::Ipv6Addr>().unwrap().octets());
    packet.extend("2001:db8::13".parse::<core::net::Ipv6Addr>().unwrap().octets());
    packet.extend(rest);
    packet
}

/// A TCP segment from port 40000 to 6379, sequence 7, acknowledgement 9, with four bytes of options.
fn tcp(flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = [0x9c, 0x40, 0x18, 0xeb, 0, 0, 0, 7, 0, 0, 0, 9, 0x60, flags].to_vec();
    segment.extend([0, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
    segment.extend(payload);
    segment
}

/// A UDP datagram from port 40000 to 6379.
fn udp(payload: &[u8]) -> Vec<u8> {
    let mut datagram = [0x9c, 0x40, 0x18, 0xeb].to_vec();
    datagram.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

fn icmp(kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
    [&[kind, code, 0, 0, 0, 0, 0, 0], quoted].concat()
}

fn flow(transport: Transport, version: u8) -> FiveTuple {
    let (local, remote) = match version {
        4 => ("198.18.1.10", "198.18.1.13"),
        _ => ("2001:db8::10", "2001:db8::13"),
    };
    let endpoint = |address: &str, port| Endpoint::new(address.parse::<IpAddr>().unwrap(), port);
    FiveTuple { transport, local: endpoint(local, 40000), remote: endpoint(remote, 6379) }
}

fn segment(version: u8, flags: u8, payload_length: u32) -> PacketHeader {
    PacketHeader {
        tuple: flow(Transport::Tcp, version),
        content: PacketContent::Tcp {
            flags: TcpFlags(flags),
            sequence: 7,
            acknowledgement: 9,
            payload_length,
        },
    }
}

fn datagram(transport: Transport, version: u8, payload_length: u32) -> PacketHeader {
    PacketHeader { tuple: flow(transport, version), content: PacketContent::Udp { payload_length } }
}

fn unreachable(transport: Transport, version: u8) -> PacketHeader {
    PacketHeader { tuple: flow(transport, version), content: PacketContent::Unreachable }
}

/// Decodes the packet as raw IP and as the payload of an Ethernet frame, which must agree.
#[track_caller]
fn check(packet: &[u8], expected: impl Into<Expected>) {
    let expected = match expected.into() {
        Expected::Header(header) => {
            Decoded::Header { interface: None, direction: Direction::Unknown, header }
        }
        Expected::Ignored(ignored) => Decoded::Ignored(ignored),
    };
    assert_eq!(decode(LinkType::RawIp, packet), Ok(expected));
    let ethertype = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    let padded = [packet, &[0xff; 26]].concat();
    assert_eq!(decode(LinkType::Ethernet, &ethernet(&[], ethertype, &padded)), Ok(expected));
}

enum Expected {
    Header(PacketHeader),
    Ignored(Ignored),
}

impl From<PacketHeader> for Expected {
    fn from(header: PacketHeader) -> Self {
        Self::Header(header)
    }
}

impl From<Ignored> for Expected {
    fn from(ignored: Ignored) -> Self {
        Self::Ignored(ignored)
    }
}

#[track_caller]
fn check_link(link_type: LinkType, frame: &[u8], interface: u32, direction: Direction) {
    let header = segment(4, TcpFlags::SYN, 0);
    let interface = NonZeroU32::new(interface);
    assert_eq!(decode(link_type, frame), Ok(Decoded::Header { interface, direction, header }));
}

#[track_caller]
fn check_malformed(packet: &[u8], layer: Layer, offset: usize, what: Malformed) {
    let expected = Err(PacketError::Malformed { layer, offset, what });
    assert_eq!(decode(LinkType::RawIp, packet), expected);
}

#[test]
fn link_layers() {
    let syn = ipv4(6, &[], 0, &tcp(TcpFlags::SYN, b""));
    let unknown = Direction::Unknown;
    check_link(LinkType::Ethernet, &ethernet(&[], 0x0800, &syn), 0, unknown);
    check_link(LinkType::Ethernet, &ethernet(&[0x8100], 0x0800, &syn), 0, unknown);
    check_link(LinkType::Ethernet, &ethernet(&[0x88a8, 0x8100], 0x0800, &syn), 0, unknown);
    check_link(LinkType::Ethernet, &ethernet(&[0x9100, 0x8100, 0x8100, 0x8100], 0x0800, &syn), 0, unknown);
    check_link(LinkType::LinuxCooked, &cooked(TO_US, 0x0800, &syn), 0, Direction::In);
    check_link(LinkType::LinuxCooked, &cooked(OUTGOING, 0x0800, &syn), 0, Direction::Out);
    check_link(LinkType::LinuxCooked, &cooked(7, 0x0800, &syn), 0, unknown);
    let tagged = [&[0, 42, 0x08, 0x00], syn.as_slice()].concat();
    check_link(LinkType::LinuxCooked, &cooked(TO_US, 0x8100, &tagged), 0, Direction::In);
    check_link(LinkType::LinuxCookedV2, &cooked_v2(7, TO_US, 0x0800, &syn), 7, Direction::In);
    check_link(LinkType::LinuxCookedV2, &cooked_v2(7, OUTGOING, 0x0800, &syn), 7, Direction::Out);
    check_link(LinkType::LinuxCookedV2, &cooked_v2(0, 3, 0x8100, &tagged), 0, Direction::In);
    // Linux 6.18: the type behind the tag, then the tag; the tag's type, then no tag.
    check_link(LinkType::LinuxCookedV2, &cooked_v2(5, TO_US, 0x0800, &tagged), 5, Direction::In);
    check_link(LinkType::LinuxCookedV2, &cooked_v2(5, OUTGOING, 0x8100, &syn), 5, Direction::Out);
    for family in [[0, 0, 0, 2], [2, 0, 0, 0]] {
        check_link(LinkType::Loopback, &[&family, syn.as_slice()].concat(), 0, unknown);
    }
    check_link(LinkType::RawIp, &syn, 0, unknown);
}

#[test]
fn loopback_families_of_other_systems_are_ipv6() {
    let syn = ipv6(6, &[], &tcp(TcpFlags::SYN, b""));
    for family in [10, 24, 28, 30] {
        let frame = [&[0, 0, 0, family], syn.as_slice()].concat();
        let header = segment(6, TcpFlags::SYN, 0);
        let expected = Decoded::Header { interface: None, direction: Direction::Unknown, header };
        assert_eq!(decode(LinkType::Loopback, &frame), Ok(expected));
    }
}

#[test]
fn frames_that_are_not_ip_are_ignored() {
    let ignored = Ok(Decoded::Ignored(Ignored::NotIp));
    assert_eq!(decode(LinkType::Ethernet, &ethernet(&[], 0x0806, &[0; 28])), ignored);
    assert_eq!(decode(LinkType::Ethernet, &ethernet(&[0x8100], 0x0026, &[0x42; 38])), ignored);
    assert_eq!(decode(LinkType::LinuxCooked, &cooked(TO_US, 0x0806, &[])), ignored);
    assert_eq!(decode(LinkType::LinuxCookedV2, &cooked_v2(1, TO_US, 0x0806, &[])), ignored);
    assert_eq!(decode(LinkType::Loopback, &[0, 0, 0, 7, 0x45]), ignored);
}

#[test]
fn five_vlan_tags_are_refused() {
    let frame = ethernet(&[0x8100; 5], 0x0800, &[]);
    let expected = PacketError::Malformed { layer: Layer::Vlan, offset: 30, what: Malformed::TooManyHeaders };
    assert_eq!(decode(LinkType::Ethernet, &frame), Err(expected));
}

#[test]
fn ipv4_packets() {
    let fin = TcpFlags::FIN | TcpFlags::ACK;
    check(&ipv4(6, &[], 0, &tcp(fin, b"hello")), segment(4, fin, 5));
    check(&ipv4(6, &[1; 40], 0, &tcp(fin, b"hello")), segment(4, fin, 5));
    check(&ipv4(17, &[], 0x4000, &udp(b"abc")), datagram(Transport::Udp, 4, 3));
    check(&ipv4(136, &[], 0, &udp(b"abc")), datagram(Transport::UdpLite, 4, 3));
    check(&ipv4(17, &[], 0x2000, &udp(b"first fragment")), datagram(Transport::Udp, 4, 14));
    check(&ipv4(17, &[], 0x2001, b"later fragment"), Ignored::LaterFragment);
    check(&ipv4(17, &[], 0x1fff, b"last fragment"), Ignored::LaterFragment);
    let authentication = [&[6, 4], [9; 22].as_slice(), &tcp(fin, b"")].concat();
    check(&ipv4(51, &[], 0, &authentication), segment(4, fin, 0));
    check(&ipv4(47, &[], 0, &[]), Ignored::Protocol(47));
    check(&ipv4(58, &[], 0, &icmp(1, 4, &[])), Ignored::Protocol(58));
    // Of a datagram in fragments the UDP header gives the whole length.
    let mut first = udp(b"abc");
    first[4..6].copy_from_slice(&4008u16.to_be_bytes());
    check(&ipv4(17, &[], 0x2000, &first), datagram(Transport::Udp, 4, 4000));
}

#[test]
fn ipv6_packets() {
    let syn = tcp(TcpFlags::SYN, b"data");
    let header = segment(6, TcpFlags::SYN, 4);
    check(&ipv6(6, &[], &syn), header);
    check(&ipv6(6, &[(0, &[0; 7])], &syn), header);
    check(&ipv6(6, &[(0, &[1; 15]), (60, &[0; 7]), (43, &[0; 7]), (44, &[0; 7])], &syn), header);
    check(&ipv6(6, &[(51, &[4; 23])], &syn), header);
    check(&ipv6(6, &[(135, &[0; 7]), (139, &[0; 7]), (140, &[0; 7])], &syn), header);
    check(&ipv6(6, &[OPTIONS; 8], &syn), header);
    check(&ipv6(6, &[(43, &[0, 0, 1, 0, 0, 0, 0])], &syn), Ignored::SourceRouted);
    check(&ipv6(17, &[(44, &[0, 0, 1, 0, 0, 0, 1])], &udp(b"abc")), datagram(Transport::Udp, 6, 3));
    check(&ipv6(17, &[(44, &[0, 0, 8, 0, 0, 0, 1])], b"later"), Ignored::LaterFragment);
    check(&ipv6(136, &[], &udp(b"")), datagram(Transport::UdpLite, 6, 0));
    check(&ipv6(59, &[], &[]), Ignored::Protocol(59));
    check(&ipv6(50, &[], &[0; 16]), Ignored::Protocol(50));
}

#[test]
fn icmp_errors_name_the_flow_they_end() {
    let udp_packet = ipv4(17, &[], 0, &udp(b"abc"));
    check(&ipv4(1, &[], 0, &icmp(3, 3, &udp_packet)), unreachable(Transport::Udp, 4));
    // RFC 792: the quote may end eight bytes after the IP header.
    let quote = &ipv4(6, &[1; 8], 0, &tcp(TcpFlags::SYN, b""))[..36];
    check(&ipv4(1, &[], 0, &icmp(3, 13, quote)), unreachable(Transport::Tcp, 4));
    let udp_packet = ipv6(136, &[(60, &[0; 7])], &udp(b"abc"));
    check(&ipv6(58, &[], &icmp(1, 4, &udp_packet)), unreachable(Transport::UdpLite, 6));

    check(&ipv4(1, &[], 0, &icmp(3, 4, quote)), Ignored::IcmpKind(3));
    check(&ipv4(1, &[], 0, &icmp(8, 0, &[])), Ignored::IcmpKind(8));
    check(&ipv6(58, &[], &icmp(2, 0, &udp_packet)), Ignored::IcmpKind(2));
    let ping = ipv4(1, &[], 0, &icmp(8, 0, &[]));
    check(&ipv4(1, &[], 0, &icmp(3, 1, &ping)), Ignored::Protocol(1));
    let fragment = ipv4(17, &[], 5, b"later");
    check(&ipv4(1, &[], 0, &icmp(3, 1, &fragment)), Ignored::LaterFragment);
}

#[test]
fn a_length_of_zero_is_an_uncut_packet_of_the_senders_offload() {
    let mut packet = ipv4(6, &[], 0, &tcp(TcpFlags::FIN, b"lower bound"));
    packet[2..4].fill(0);
    let expected = |version| {
        let header = segment(version, TcpFlags::FIN, 11);
        Ok(Decoded::Header { interface: None, direction: Direction::Unknown, header })
    };
    assert_eq!(decode(LinkType::RawIp, &packet), expected(4));
    let mut packet = ipv6(6, &[(0, &[0, 0xc2, 4, 0, 2, 0, 0])], &tcp(TcpFlags::FIN, b"lower bound"));
    packet[4..6].fill(0);
    assert_eq!(decode(LinkType::RawIp, &packet), expected(6));
    let mut packet = ipv6(17, &[], &udp(b"lower bound"));
    packet[4..6].fill(0);
    packet[44..46].fill(0);
    let header = datagram(Transport::Udp, 6, 11);
    let expected = Decoded::Header { interface: None, direction: Direction::Unknown, header };
    assert_eq!(decode(LinkType::RawIp, &packet), Ok(expected));
}

#[test]
fn contradictions_are_refused() {
    let syn = ipv4(6, &[], 0, &tcp(TcpFlags::SYN, b""));
    let with = |at: usize, value: u8| {
        let mut packet = syn.clone();
        packet[at] = value;
        packet
    };
    check_malformed(&with(0, 0x55), Layer::Ip, 0, Malformed::Version);
    check_malformed(&with(0, 0x44), Layer::Ipv4, 0, Malformed::HeaderLength);
    check_malformed(&with(3, 19), Layer::Ipv4, 0, Malformed::TotalLength);
    check_malformed(&with(32, 0x40), Layer::Tcp, 20, Malformed::HeaderLength);
    check_malformed(&with(32, 0xf0), Layer::Tcp, 20, Malformed::TotalLength);
    let mut short = ipv4(17, &[], 0, &udp(b"abc"));
    short[25] = 7;
    check_malformed(&short, Layer::Udp, 20, Malformed::TotalLength);
    let endless = ipv6(6, &[OPTIONS; 9], &tcp(TcpFlags::SYN, b""));
    check_malformed(&endless, Layer::IpExtension, 112, Malformed::TooManyHeaders);
    let too_long = ipv6(6, &[(60, &[9; 7])], &tcp(TcpFlags::SYN, b""));
    check_malformed(&too_long, Layer::IpExtension, 40, Malformed::HeaderLength);
    let mislabelled = PacketError::Malformed { layer: Layer::Ip, offset: 14, what: Malformed::Version };
    assert_eq!(decode(LinkType::Ethernet, &ethernet(&[], 0x86dd, &syn)), Err(mislabelled));
}

#[test]
fn the_ip_length_bounds_the_transport_header() {
    let mut packet = ipv4(6, &[], 0, &tcp(TcpFlags::SYN, b""));
    packet[3] = 30;
    let error = PacketError::Truncated { layer: Layer::Tcp, offset: 20, wanted: 14, had: 10 };
    assert_eq!(decode(LinkType::RawIp, &packet), Err(error));
    assert_eq!(std::format!("{error}"), "TCP header at byte 20 needs 14 bytes, there are 10");
}

/// A frame with every kind of header, and where what attribution needs ends.
fn any_frame() -> impl Strategy<Value = (LinkType, Vec<u8>, usize, PacketHeader)> {
    let link = prop_oneof![
        Just(LinkType::Ethernet),
        Just(LinkType::LinuxCooked),
        Just(LinkType::LinuxCookedV2),
        Just(LinkType::Loopback),
        Just(LinkType::RawIp),
    ];
    let payload = prop::collection::vec(any::<u8>(), 0..40);
    let transport = prop_oneof![Just(Transport::Tcp), Just(Transport::Udp), Just(Transport::UdpLite)];
    (link, any::<bool>(), 0..=4usize, transport, any::<bool>(), any::<u8>(), payload).prop_map(
        |(link_type, v6, extras, transport, quoted, flags, payload)| {
            let (body, needed) = match transport {
                Transport::Tcp => (tcp(flags, &payload), 14),
                Transport::Udp => (udp(&payload), 6),
                Transport::UdpLite => (udp(&payload), 4),
            };
            let protocol = transport.number();
            let inner = match v6 {
                false => ipv4(protocol, &[1; 40][..extras * 4], 0, &body),
                true => ipv6(protocol, &[OPTIONS; 4][..extras], &body),
            };
            let version = if v6 { 6 } else { 4 };
            let length = u32::try_from(payload.len()).unwrap();
            let sound = match transport {
                Transport::Tcp => segment(version, flags, length),
                _ => datagram(transport, version, length),
            };
            let inner_needed = inner.len() - body.len() + if quoted { 4 } else { needed };
            let (packet, header) = match (quoted, v6) {
                (false, _) => (inner, sound),
                (true, false) => (ipv4(1, &[], 0, &icmp(3, 3, &inner)), unreachable(transport, version)),
                (true, true) => (ipv6(58, &[], &icmp(1, 4, &inner)), unreachable(transport, version)),
            };
            let ethertype = if v6 { 0x86dd } else { 0x0800 };
            let frame = match link_type {
                LinkType::Ethernet => ethernet(&[0x8100; 4][..extras], ethertype, &packet),
                LinkType::LinuxCooked => cooked(TO_US, ethertype, &packet),
                LinkType::LinuxCookedV2 => cooked_v2(3, OUTGOING, ethertype, &packet),
                LinkType::Loopback => [&[0, 0, 0, if v6 { 10 } else { 2 }], packet.as_slice()].concat(),
                LinkType::RawIp => packet.clone(),
            };
            let before = match (quoted, v6) {
                (false, _) => 0,
                (true, false) => 28,
                (true, true) => 48,
            };
            let needed = frame.len() - packet.len() + before + inner_needed;
            (link_type, frame, needed, header)
        },
    )
}

proptest! {
    /// What is built is read back, whole or cut anywhere behind what is needed; a frame cut before that
    /// says so, and names a place inside the frame.
    #[test]
    fn every_cut_is_read_or_refused((link_type, frame, needed, expected) in any_frame()) {
        for length in 0..=frame.len() {
            match decode(link_type, &frame[..length]) {
                Ok(Decoded::Header { header, .. }) => {
                    prop_assert!(length >= needed);
                    prop_assert_eq!(header, expected);
                }
                Ok(Decoded::Ignored(ignored)) => prop_assert!(false, "ignored: {:?}", ignored),
                Err(PacketError::Truncated { offset, wanted, had, .. }) => {
                    prop_assert!(length < needed);
                    prop_assert!(wanted > had);
                    prop_assert_eq!(offset + had, length);
                    prop_assert!(offset + wanted <= needed);
                }
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }

    /// Any bytes at all, and a sound frame with any one byte changed, are answered without a panic, and an
    /// error points into the frame.
    #[test]
    fn hostile_bytes_are_answered(
        (link_type, mut frame, _, _) in any_frame(),
        at in any::<prop::sample::Index>(),
        value: u8,
        noise in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let at = at.index(frame.len());
        frame[at] = value;
        for bytes in [frame, noise] {
            if let Err(PacketError::Truncated { offset, .. } | PacketError::Malformed { offset, .. }) =
                decode(link_type, &bytes)
            {
                prop_assert!(offset <= bytes.len());
            }
        }
    }
}
