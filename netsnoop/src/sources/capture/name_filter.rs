//! The segments that may name a server, for the kernel's filter: those that begin like a ClientHello or an HTTP/1
//! request, on ports where TLS is looked at, those that go on with a ClientHello that has begun, and those that come from
//! resolvers. Datagrams pass anyway.
//!
//! A filter has no memory. What goes on is told by what it is not: towards the server nothing else of TLS begins in the
//! middle of a record but large uploads. The tests stand last in the whole expression, because a load beyond the end of a
//! short frame refuses it (classic BPF). Frames with VLAN tags in their bytes and packets with IP options are left out.

use std::ops::RangeInclusive;

use netsnoop_core::dns_answer::RESOLVER_PORTS;
use netsnoop_core::packet::LinkType;
use netsnoop_core::service::NameWishes;

use super::filter::Header;

/// How HTTP/1 requests begin.
const METHODS: [&[u8; 4]; 9] =
    [b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN", b"PROP"];

/// The filter expression for captures of this link type; `None` if no names are wanted.
pub(super) fn names_expression(link_type: LinkType, wishes: &NameWishes) -> Option<String> {
    if *wishes == NameWishes::default() {
        return None;
    }
    let (ethertype, length) = match link_type {
        LinkType::Ethernet => (12, 14),
        LinkType::LinuxCooked => (14, 16),
        LinkType::LinuxCookedV2 => (0, 20),
        LinkType::Loopback | LinkType::RawIp => {
            let (v4, v6) = (named_v4(&Header::Ip, wishes), named_v6(&Header::Ip6, wishes));
            return Some(format!("(ip and {v4}) or (ip6 and {v6})"));
        }
    };
    let header = Header::Link(length);
    let (v4, v6) = (named_v4(&header, wishes), named_v6(&header, wishes));
    Some(format!("(link[{ethertype}:2] = 0x0800 and {v4}) or (link[{ethertype}:2] = 0x86dd and {v6})"))
}

fn named_v4(header: &Header, wishes: &NameWishes) -> String {
    let plain = format!("{} & 15 = 5 and {} & 0x1fff = 0", header.byte(0), header.word(6));
    let segments = segments(header, 20, wishes, |headers| format!("{} > {}", header.word(2), 20 + headers));
    format!("({plain} and {} = 6 and ({segments}))", header.byte(9))
}

fn named_v6(header: &Header, wishes: &NameWishes) -> String {
    let segments = segments(header, 40, wishes, |headers| format!("{} > {headers}", header.word(4)));
    format!("({} = 6 and ({segments}))", header.byte(6))
}

/// For each length that a TCP header may have, what its payload must be: offsets are constants. `has_payload` makes the
/// test whether there is any behind a header of that length.
fn segments(
    header: &Header,
    tcp: usize,
    wishes: &NameWishes,
    has_payload: impl Fn(usize) -> String,
) -> String {
    let by_length = (5..=15).map(|words| {
        let (length, payload) = (4 * words, tcp + 4 * words);
        let mut tests = Vec::new();
        // First, as it looks at nothing of the payload, which may be two bytes.
        if wishes.dns {
            tests.push(ports(&header.word(tcp), &RESOLVER_PORTS.map(|port| port..=port)));
        }
        if wishes.host {
            let is = |method: &&[u8; 4]| {
                format!("{} = 0x{:08x}", header.long(payload), u32::from_be_bytes(**method))
            };
            tests.push(METHODS.iter().map(is).collect::<Vec<_>>().join(" or "));
        }
        if wishes.sni {
            let (first, second) = (header.byte(payload), header.byte(payload + 1));
            tests.push(format!("({first} = 22 and {second} = 3 and {} = 1)", header.byte(payload + 5)));
            let begins_record = format!("({first} >= 20 and {first} <= 24 and {second} = 3)");
            let ports = ports(&header.word(tcp + 2), &wishes.sni_ports);
            tests.push(format!("(({ports}) and not {begins_record})"));
        }
        let length_is = format!("{} & 0xf0 = 0x{:x}", header.byte(tcp + 12), words << 4);
        format!("({length_is} and {} and ({}))", has_payload(length), tests.join(" or "))
    });
    by_length.collect::<Vec<_>>().join(" or ")
}

fn ports(field: &str, ranges: &[RangeInclusive<u16>]) -> String {
    let test = |range: &RangeInclusive<u16>| {
        if range.start() == range.end() {
            format!("{field} = {}", range.start())
        } else {
            format!("({field} >= {} and {field} <= {})", range.start(), range.end())
        }
    };
    ranges.iter().map(test).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(sni: bool, host: bool) -> NameWishes {
        NameWishes { sni, host, sni_ports: vec![443..=443, 8443..=8500], dns: false }
    }

    /// A segment from port to port with this payload behind a TCP header of `words` 32-bit words.
    fn packet(version: u8, words: u8, (from, to): (u16, u16), payload: &[u8]) -> Vec<u8> {
        let mut tcp =
            [&from.to_be_bytes(), to.to_be_bytes().as_slice(), &[0; 8], &[words << 4, 0x18]].concat();
        tcp.resize(usize::from(words) * 4, 1);
        tcp.extend(payload);
        if version == 4 {
            let length = u16::try_from(20 + tcp.len()).unwrap().to_be_bytes();
            let header = [
                &[0x45, 0],
                length.as_slice(),
                &[0, 1, 0x40, 0, 64, 6, 0, 0, 198, 18, 1, 10, 198, 18, 1, 13],
            ];
            return [header.concat(), tcp].concat();
        }
        let length = u16::try_from(tcp.len()).unwrap().to_be_bytes();
        [[&[0x60, 0, 0, 0], length.as_slice(), &[6, 64], &[0x20; 32]].concat(), tcp].concat()
    }

    fn frame(link_type: LinkType, packet: &[u8]) -> Vec<u8> {
        let ethertype: &[u8] = if packet[0] >> 4 == 4 { &[8, 0] } else { &[0x86, 0xdd] };
        match link_type {
            LinkType::Ethernet => [&[2; 12], ethertype, packet].concat(),
            LinkType::LinuxCooked => [&[0; 14], ethertype, packet].concat(),
            LinkType::LinuxCookedV2 => [ethertype, &[0; 18], packet].concat(),
            LinkType::Loopback | LinkType::RawIp => packet.to_vec(),
        }
    }

    #[track_caller]
    fn check(wishes: &NameWishes, port: u16, payload: &[u8], expected: bool) {
        check_between(wishes, (40_000, port), payload, expected);
    }

    #[track_caller]
    fn check_between(wishes: &NameWishes, ports: (u16, u16), payload: &[u8], expected: bool) {
        for (link_type, number) in [
            (LinkType::Ethernet, 1),
            (LinkType::LinuxCooked, 113),
            (LinkType::LinuxCookedV2, 276),
            (LinkType::RawIp, 12),
        ] {
            let expression = names_expression(link_type, wishes).unwrap();
            let handle = pcap::Capture::dead(pcap::Linktype(number)).unwrap();
            let program = handle.compile(&expression, true).unwrap();
            // The kernel takes no longer ones (BPF_MAXINSNS), and other tests come before these.
            assert!(program.get_instructions().len() < 2000, "{}", program.get_instructions().len());
            for (version, words) in [(4, 5), (4, 8), (4, 15), (6, 5), (6, 8)] {
                let frame = frame(link_type, &packet(version, words, ports, payload));
                assert_eq!(program.filter(&frame), expected, "{link_type:?} {version} {words} {payload:?}");
            }
        }
    }

    #[test]
    fn what_may_name_a_server_passes_and_the_bulk_does_not() {
        let hello = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc];
        let both = wishes(true, true);
        check(&both, 7000, &hello, true);
        check(&wishes(false, true), 7000, &hello, false);
        check(&both, 7000, b"GET / HTTP/1.1\r\n", true);
        check(&both, 7000, b"CONNECT a:443 HTTP/1.1\r\n", true);
        check(&wishes(true, false), 7000, b"GET / HTTP/1.1\r\n", false);
        check(&both, 7000, b"SSH-2.0-x\r\n", false);
        check(&both, 7000, &[], false);
        // A ServerHello; application data.
        check(&both, 7000, &[22, 3, 3, 0, 90, 2, 0, 0, 86], false);
        check(&both, 443, &[23, 3, 3, 0, 90, 2, 0, 0, 86], false);
        // What goes on with a record, where TLS is looked at.
        check(&both, 443, &[9, 9, 9, 9, 9, 9, 9, 9], true);
        check(&both, 8450, &[22, 9, 9, 9, 9, 9, 9, 9], true);
        check(&both, 444, &[9, 9, 9, 9, 9, 9, 9, 9], false);
        check(&wishes(false, true), 443, &[9, 9, 9, 9, 9, 9, 9, 9], false);
    }

    #[test]
    fn what_resolvers_send_passes() {
        let all = NameWishes { dns: true, ..wishes(true, true) };
        let dns = NameWishes { dns: true, ..NameWishes::default() };
        for wishes in [&all, &dns] {
            check_between(wishes, (53, 40_000), &[0, 40], true);
            check_between(wishes, (5353, 40_000), &[0; 400], true);
            check_between(wishes, (53, 40_000), &[], false);
            check_between(wishes, (40_000, 53), &[0, 40, 1, 1, 1, 1], false);
        }
        check_between(&wishes(true, true), (53, 40_000), &[0; 40], false);
    }

    #[test]
    fn without_a_wish_there_is_no_expression() {
        assert_eq!(names_expression(LinkType::Ethernet, &NameWishes::default()), None);
    }
}
