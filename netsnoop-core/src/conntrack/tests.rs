//! Recorded messages (Linux 6.18, nft masquerade and dnat between namespaces), and broken ones.

use super::{ConntrackError, DELETE, NEW, decode};
use crate::five_tuple::{Endpoint, FiveTuple, Transport};
use crate::translation::{Translation, TranslationChange};

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{prop_assert, proptest};

/// 198.18.1.2:40002 asked 198.19.0.1:53 for a datagram and was given 198.18.2.2:5353, as 198.18.2.1.
const UDP_BOTH: &str = "02000000340001801400018008000100c612010208000200c61300011c0002800500010011000000\
     060002009c4200000600030000350000340002801400018008000100c612020208000200c61202011c0002800500010011000000\
     0600020014e90000060003009c42000008000c000332686c08000300000001b8080007000000001e";
/// 2001:db8:1::2 behind 2001:db8:2::1, TCP.
const TCP6_SOURCE: &str = "0a0000004c0001802c0001801400030020010db80001000000000000000000021400040020010db80002\
     000000000000000000021c0002800500010006000000060002009c43000006000300005000004c0002802c000180140003002001\
     0db80002000000000000000000021400040020010db80002000000000000000000011c0002800500010006000000060002000050\
     0000060003009c43000008000c000bc3066008000300000001980800070000000078300004802c00018005000100010000000500\
     02000a000000050003000000000006000400030000000600050000000000";
/// 198.18.1.2:40004 to 198.18.1.1:53, as it is.
const UDP_PLAIN: &str = "02000000340001801400018008000100c612010208000200c61201011c0002800500010011000000\
     060002009c4400000600030000350000340002801400018008000100c612010108000200c61201021c0002800500010011000000\
     0600020000350000060003009c44000008000c000332686c08000300000001b8080007000000001e";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn named(tuple: FiveTuple) -> String {
    format!("{} {} {}", tuple.transport.name(), tuple.local, tuple.remote)
}

fn check(message_type: u16, hex: &str, expected: Option<[&str; 2]>) {
    let change = decode(message_type, &bytes(hex)).expect("recorded messages can be read");
    let translation = change.map(|change| match change {
        TranslationChange::Began(translation) if message_type == NEW => translation,
        TranslationChange::Ended(translation) if message_type == DELETE => translation,
        other => panic!("{other:?}"),
    });
    let found = translation.map(|found| [named(found.original), named(found.reply)]);
    assert_eq!(found, expected.map(|expected| expected.map(str::to_string)));
}

#[test]
fn entries_that_translate_and_no_others() {
    let both = ["udp 198.18.1.2:40002 198.19.0.1:53", "udp 198.18.2.2:5353 198.18.2.1:40002"];
    check(NEW, UDP_BOTH, Some(both));
    check(DELETE, UDP_BOTH, Some(both));
    let source =
        ["tcp [2001:db8:1::2]:40003 [2001:db8:2::2]:80", "tcp [2001:db8:2::2]:80 [2001:db8:2::1]:40003"];
    check(NEW, TCP6_SOURCE, Some(source));
    check(NEW, UDP_PLAIN, None);
    // ICMP has no ports; an unknown kind of message is not looked into.
    check(NEW, &UDP_BOTH.replace("0500010011", "0500010001"), None);
    check(NEW + 1, "ff", None);
}

#[test]
fn what_is_missing_is_named() {
    let error = |hex: &str| decode(NEW, &bytes(hex)).expect_err("something is missing");
    assert_eq!(error("0200"), ConntrackError::CutShort { wanted: 4, had: 2 });
    assert_eq!(error("02000000"), ConntrackError::Missing("original tuple"));
    assert_eq!(error(&UDP_BOTH.replacen("0500010011", "0500010006", 1)), ConntrackError::TwoProtocols);
    assert_eq!(error(&UDP_BOTH.replace("08000c00", "08000d00")), ConntrackError::Missing("id"));
    assert_eq!(error(&UDP_BOTH.replace("06000300", "06000500")), ConntrackError::Missing("destination port"));
    assert_eq!(
        error(&UDP_BOTH.replace("08000200c6130001", "08000900c6130001")),
        ConntrackError::Missing("destination address")
    );
    assert_eq!(error("0200000034000180140001"), ConntrackError::CutShort { wanted: 0x34, had: 7 });
}

fn endpoint(v6: bool) -> impl Strategy<Value = Endpoint> {
    (any::<u128>(), any::<u16>()).prop_map(move |(bits, port)| {
        let address = if v6 {
            core::net::Ipv6Addr::from_bits(bits).into()
        } else {
            core::net::Ipv4Addr::from_bits(bits as u32).into()
        };
        Endpoint { address, port }
    })
}

fn translation() -> impl Strategy<Value = Translation> {
    let transport = prop_oneof![Just(Transport::Tcp), Just(Transport::Udp), Just(Transport::UdpLite)];
    (any::<bool>(), transport, any::<u32>()).prop_flat_map(|(v6, transport, id)| {
        [endpoint(v6), endpoint(v6), endpoint(v6), endpoint(v6)].prop_map(move |[a, b, c, d]| Translation {
            original: FiveTuple { transport, local: a, remote: b },
            reply: FiveTuple { transport, local: c, remote: d },
            id,
        })
    })
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn encode_tuple(kind: u16, tuple: FiveTuple) -> Vec<u8> {
    let address = |v4: u16, v6: u16, endpoint: Endpoint| match endpoint.address {
        core::net::IpAddr::V4(address) => attribute(v4, &address.octets()),
        core::net::IpAddr::V6(address) => attribute(v6, &address.octets()),
    };
    let addresses = [address(1, 3, tuple.local), address(2, 4, tuple.remote)].concat();
    let number = attribute(1, &[tuple.transport.number()]);
    let [source, destination] =
        [(2, tuple.local), (3, tuple.remote)].map(|(kind, end)| attribute(kind, &end.port.to_be_bytes()));
    let nested = 1 << 15;
    let parts =
        [attribute(1 | nested, &addresses), attribute(2 | nested, &[number, source, destination].concat())];
    attribute(kind | nested, &parts.concat())
}

fn encode(translation: &Translation) -> Vec<u8> {
    let head = Vec::from([2, 0, 0, 0]);
    let tuples = [encode_tuple(1, translation.original), encode_tuple(2, translation.reply)].concat();
    [head, tuples, attribute(12, &translation.id.to_be_bytes())].concat()
}

proptest! {
    #[test]
    fn what_was_written_is_read_and_every_cut_is_an_error(translation in translation(), cut in any::<usize>()) {
        let message = encode(&translation);
        // Mapped addresses are read as what they stand for.
        let canonical = |tuple: FiveTuple| FiveTuple {
            local: Endpoint::new(tuple.local.address, tuple.local.port),
            remote: Endpoint::new(tuple.remote.address, tuple.remote.port),
            ..tuple
        };
        let read = Translation {
            original: canonical(translation.original),
            reply: canonical(translation.reply),
            ..translation
        };
        let expected = read.translates().then_some(TranslationChange::Began(read));
        prop_assert!(decode(NEW, &message) == Ok(expected));
        prop_assert!(decode(NEW, &message[..cut % message.len()]).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        for kind in [NEW, DELETE] {
            // Random bytes never hold both tuples.
            prop_assert!(!matches!(decode(kind, &body), Ok(Some(_))));
        }
    }
}
