//! netsnoop's own kernel filter: what attribution needs of the traffic, not the bulk of the bytes.
//!
//! Of TCP it lets through SYN, FIN and RST, and every segment with IP options; of UDP each datagram's first
//! fragment; of ICMP the unreachables; of IPv6 also whatever has extension headers, as a filter cannot walk
//! them. It says nothing of how libpcap is opened.
//!
//! The expression avoids three traps of libpcap's language: `tcp[...]` never looks into IPv6; the word
//! `vlan` (and `mpls`, `pppoes`) shifts what `ip[...]` means in everything after it, so frames are read from
//! their beginning, by `link[...]`; and on cooked captures an index computed at run time is off by the cooked
//! header once the program runs in the kernel, so all offsets are constants (pcap-filter(7); `fix_offset` in
//! <https://github.com/the-tcpdump-group/libpcap/blob/libpcap-1.10.3/pcap-linux.c>).
//! The kernel takes the outer VLAN tag out of the frame before the filter sees it; only inner tags (QinQ)
//! and tags set by software are still in the bytes.

use netsnoop_core::packet::LinkType;

/// The filter expression for captures of this link type.
pub(super) fn own_expression(link_type: LinkType) -> String {
    // Where the ethertype stands, and the length of the link header.
    let (ethertype, length) = match link_type {
        LinkType::Ethernet => (12, 14),
        LinkType::LinuxCooked => (14, 16),
        LinkType::LinuxCookedV2 => (0, 20),
        LinkType::Loopback | LinkType::RawIp => {
            return format!("(ip and {}) or (ip6 and {})", wanted_v4(&Header::Ip), wanted_v6(&Header::Ip6));
        }
    };
    let untagged = wanted_at(ethertype, length);
    let one_tag = format!("{} and ({})", is_tag(ethertype), wanted_at(length + 2, length + 4));
    if link_type != LinkType::Ethernet {
        // The kernel shows the filter the tag of a frame that comes in, but not that of one that software
        // tagged on its way out.
        let header = Header::Link(length);
        let (first, v4, v6) = (header.byte(0), wanted_v4(&header), wanted_v6(&header));
        let shown = format!("({first} & 0xf0 = 0x40 and {v4}) or ({first} & 0xf0 = 0x60 and {v6})");
        return format!("{untagged} or ({one_tag}) or ({} and ({shown}))", is_tag(ethertype));
    }
    let inner = wanted_at(length + 6, length + 8);
    let two_tags = format!("{} and {} and ({inner})", is_tag(ethertype), is_tag(length + 2));
    format!("{untagged} or ({one_tag}) or ({two_tags})")
}

/// `own` and, if there is one, the user's expression. The latter must have compiled alone before: else
/// parentheses in it could change what the former means. It comes first: a `vlan` behind other tests
/// finds no frame whose tag the kernel has taken out (seen with libpcap 1.10.3).
pub(super) fn combined_expression(own: &str, user: Option<&str>) -> String {
    match user {
        Some(user) => format!("({user}) and ({own})"),
        None => own.to_owned(),
    }
}

/// Where an IP header's bytes are found.
pub(super) enum Header {
    Ip,
    Ip6,
    /// This many bytes into the frame.
    Link(usize),
}

impl Header {
    /// The byte at `offset` of the header.
    pub(super) fn byte(&self, offset: usize) -> String {
        match self {
            Self::Ip => format!("ip[{offset}]"),
            Self::Ip6 => format!("ip6[{offset}]"),
            Self::Link(base) => format!("link[{}]", base + offset),
        }
    }

    /// The two bytes at `offset` of the header.
    pub(super) fn word(&self, offset: usize) -> String {
        match self {
            Self::Ip => format!("ip[{offset}:2]"),
            Self::Ip6 => format!("ip6[{offset}:2]"),
            Self::Link(base) => format!("link[{}:2]", base + offset),
        }
    }

    /// The four bytes at `offset` of the header.
    pub(super) fn long(&self, offset: usize) -> String {
        match self {
            Self::Ip => format!("ip[{offset}:4]"),
            Self::Ip6 => format!("ip6[{offset}:4]"),
            Self::Link(base) => format!("link[{}:4]", base + offset),
        }
    }
}

fn is_tag(at: usize) -> String {
    format!("(link[{at}:2] = 0x8100 or link[{at}:2] = 0x88a8 or link[{at}:2] = 0x9100)")
}

/// What is wanted of a packet that begins at `start` with its ethertype at `ethertype`.
fn wanted_at(ethertype: usize, start: usize) -> String {
    let header = Header::Link(start);
    let (v4, v6) = (wanted_v4(&header), wanted_v6(&header));
    format!("(link[{ethertype}:2] = 0x0800 and {v4}) or (link[{ethertype}:2] = 0x86dd and {v6})")
}

fn wanted_v4(header: &Header) -> String {
    let first_fragment = format!("{} & 0x1fff = 0", header.word(6));
    let options = format!("{} & 15 != 5", header.byte(0));
    let protocol = header.byte(9);
    let flags = format!("({protocol} = 6 and ({options} or {} & 7 != 0))", header.byte(33));
    let unreachable = format!("({protocol} = 1 and ({options} or {} = 3))", header.byte(20));
    let other = one_of(&protocol, &[17, 136, 51]);
    format!("({first_fragment} and ({flags} or {unreachable} or {other}))")
}

fn wanted_v6(header: &Header) -> String {
    let next = header.byte(6);
    let flags = format!("({next} = 6 and {} & 7 != 0)", header.byte(53));
    let unreachable = format!("({next} = 58 and {} = 1)", header.byte(40));
    let first_fragment = format!("({next} = 44 and {} & 0xfff8 = 0)", header.word(42));
    let other = one_of(&next, &[17, 136, 0, 43, 51, 60, 135, 139, 140]);
    format!("({flags} or {unreachable} or {first_fragment} or {other})")
}

fn one_of(field: &str, values: &[u8]) -> String {
    let tests: Vec<String> = values.iter().map(|value| format!("{field} = {value}")).collect();
    tests.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK_TYPES: [(LinkType, i32); 5] = [
        (LinkType::Ethernet, 1),
        (LinkType::LinuxCooked, 113),
        (LinkType::LinuxCookedV2, 276),
        (LinkType::Loopback, 0),
        (LinkType::RawIp, 12),
    ];

    fn v4(protocol: u8, fragment: u16, body: &[u8]) -> Vec<u8> {
        let [high, low] = fragment.to_be_bytes();
        let header = [0x45, 0, 0, 60, 0, 1, high, low, 64, protocol, 0, 0, 198, 18, 1, 10, 198, 18, 1, 13];
        [&header, body].concat()
    }

    fn v4_with_options(protocol: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = v4(protocol, 0, &[&[1; 4], body].concat());
        packet[0] = 0x46;
        packet
    }

    fn v6(next: u8, body: &[u8]) -> Vec<u8> {
        let address = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        [&[0x60, 0, 0, 0, 0, 20, next, 64], address.as_slice(), &address, body].concat()
    }

    fn tcp(flags: u8) -> Vec<u8> {
        let mut segment = vec![0x9c, 0x40, 0x18, 0xeb, 0, 0, 0, 7, 0, 0, 0, 9, 0x50, flags];
        segment.extend([0; 26]);
        segment
    }

    /// The packet as the payload of a frame, behind as many VLAN tags as asked for.
    fn frame(link_type: LinkType, tags: usize, packet: &[u8]) -> Vec<u8> {
        let ip = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
        let first = if tags > 0 { [0x81, 0] } else { ip };
        let mut frame = match link_type {
            LinkType::Ethernet => [[2; 12].as_slice(), &first].concat(),
            LinkType::LinuxCooked => [&[0, 0, 0, 1, 0, 6], [2; 8].as_slice(), &first].concat(),
            LinkType::LinuxCookedV2 => [&first, [0, 0, 0, 0, 0, 7, 0, 1, 0, 6].as_slice(), &[2; 8]].concat(),
            // pcap(3): a loopback family stands in the byte order of the machine.
            LinkType::Loopback => u32::to_ne_bytes(if packet[0] >> 4 == 4 { 2 } else { 10 }).to_vec(),
            LinkType::RawIp => Vec::new(),
        };
        for tag in 1..=tags {
            frame.extend([0, 42]);
            frame.extend(if tag == tags { ip } else { [0x81, 0] });
        }
        [&frame, packet].concat()
    }

    #[track_caller]
    fn passes(link_type: LinkType, number: i32, user: Option<&str>, frame: &[u8]) -> bool {
        let expression = combined_expression(&own_expression(link_type), user);
        let handle = pcap::Capture::dead(pcap::Linktype(number)).unwrap();
        handle.compile(&expression, true).unwrap().filter(frame)
    }

    /// Runs the filter over the packet on every link type, with as many tags as it may carry there.
    #[track_caller]
    fn check(packet: &[u8], wanted: bool) {
        for (link_type, number) in LINK_TYPES {
            let most_tags = match link_type {
                LinkType::Ethernet => 2,
                LinkType::LinuxCooked | LinkType::LinuxCookedV2 => 1,
                LinkType::Loopback | LinkType::RawIp => 0,
            };
            for tags in 0..=most_tags {
                let frame = frame(link_type, tags, packet);
                let passed = passes(link_type, number, None, &frame);
                assert_eq!(passed, wanted, "{link_type:?}, {tags} tags");
            }
        }
    }

    #[test]
    fn tcp_passes_with_syn_fin_or_rst_only() {
        for (flags, wanted) in [
            (0x02, true),
            (0x12, true),
            (0x01, true),
            (0x11, true),
            (0x04, true),
            (0x14, true),
            (0x10, false),
            (0x18, false),
            (0xc0, false),
        ] {
            check(&v4(6, 0, &tcp(flags)), wanted);
            check(&v4(6, 0x4000, &tcp(flags)), wanted);
            check(&v6(6, &tcp(flags)), wanted);
        }
        check(&v4_with_options(6, &tcp(0x02)), true);
        check(&v4_with_options(6, &tcp(0x10)), true);
    }

    #[test]
    fn datagrams_pass_and_later_fragments_do_not() {
        for protocol in [17, 136] {
            check(&v4(protocol, 0, &[0; 40]), true);
            check(&v4(protocol, 0x2000, &[0; 40]), true);
            check(&v4(protocol, 0x2005, &[0; 40]), false);
            check(&v6(protocol, &[0; 40]), true);
        }
        check(&v6(44, &[17, 0, 0, 1, 0, 0, 0, 9]), true);
        check(&v6(44, &[17, 0, 0, 8, 0, 0, 0, 9]), false);
    }

    #[test]
    fn only_unreachables_of_icmp_pass() {
        check(&v4(1, 0, &[3, 3, 0, 0, 0, 0, 0, 0]), true);
        check(&v4(1, 0, &[8, 0, 0, 0, 0, 0, 0, 0]), false);
        check(&v4(1, 0, &[11, 0, 0, 0, 0, 0, 0, 0]), false);
        check(&v6(58, &[1, 4, 0, 0, 0, 0, 0, 0]), true);
        check(&v6(58, &[135, 0, 0, 0, 0, 0, 0, 0]), false);
    }

    #[test]
    fn extension_headers_pass_and_other_protocols_do_not() {
        for next in [0, 43, 60, 51, 135, 139, 140] {
            check(&v6(next, &[6, 0, 0, 0, 0, 0, 0, 0]), true);
        }
        check(&v4(51, 0, &[6; 40]), true);
        for protocol in [2, 47, 50, 132] {
            check(&v4(protocol, 0, &[0; 40]), false);
            check(&v6(protocol, &[0; 40]), false);
        }
        let arp = [&[2; 12], [8, 6].as_slice(), &[0; 28]].concat();
        assert!(!passes(LinkType::Ethernet, 1, None, &arp));
    }

    #[test]
    fn a_tag_that_only_the_cooked_header_names_is_no_obstacle() {
        for (packet, wanted) in [
            (v4(6, 0, &tcp(0x02)), true),
            (v4(6, 0, &tcp(0x10)), false),
            (v6(6, &tcp(0x02)), true),
            (v6(6, &tcp(0x10)), false),
        ] {
            let mut frame = frame(LinkType::LinuxCookedV2, 0, &packet);
            frame[..2].copy_from_slice(&[0x81, 0]);
            assert_eq!(passes(LinkType::LinuxCookedV2, 276, None, &frame), wanted);
        }
    }

    #[test]
    fn the_users_expression_narrows_and_never_widens() {
        let syn = frame(LinkType::LinuxCookedV2, 0, &v4(6, 0, &tcp(0x02)));
        let ack = frame(LinkType::LinuxCookedV2, 0, &v4(6, 0, &tcp(0x10)));
        for (user, syn_passes) in [
            ("tcp port 6379", true),
            ("tcp port 6380", false),
            ("host 198.18.1.10 or udp", true),
            ("tcp or udp", true),
        ] {
            assert_eq!(passes(LinkType::LinuxCookedV2, 276, Some(user), &syn), syn_passes, "{user}");
            assert!(!passes(LinkType::LinuxCookedV2, 276, Some(user), &ack), "{user}");
        }
    }

    #[test]
    fn a_users_vlan_does_not_shift_our_offsets() {
        let tagged = |flags| frame(LinkType::Ethernet, 1, &v4(6, 0, &tcp(flags)));
        let user = Some("vlan 42 and tcp port 6379");
        assert!(passes(LinkType::Ethernet, 1, user, &tagged(0x02)));
        assert!(!passes(LinkType::Ethernet, 1, user, &tagged(0x10)));
        let untagged = frame(LinkType::Ethernet, 0, &v4(6, 0, &tcp(0x02)));
        assert!(!passes(LinkType::Ethernet, 1, user, &untagged));
    }
}
