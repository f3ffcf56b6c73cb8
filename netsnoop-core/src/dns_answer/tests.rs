//! Messages as resolvers send them, whole, cut and forged.

use core::net::{IpAddr, Ipv4Addr};
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::five_tuple::{Endpoint, FiveTuple, Transport};
use crate::packet::TcpFlags;

const A: u16 = 1;
const CNAME: u16 = 5;
const TXT: u16 = 16;
const AAAA: u16 = 28;
/// A response that was asked for with recursion, without an error.
const FLAGS: u16 = 0x8180;
/// The name of the question, by a pointer.
const ASKED: &[u8] = &[0xc0, 12];

/// A name without compression.
fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> =
        labels.flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    [owner, &kind.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &length, data].concat()
}

fn message(flags: u16, (asked, kind): (&str, u16), records: &[Vec<u8>]) -> Vec<u8> {
    let count = u16::try_from(records.len()).unwrap().to_be_bytes();
    let header = [&[0x12, 0x34], &flags.to_be_bytes()[..], &[0, 1], &count, &[0; 4]].concat();
    [&header, name(asked).as_slice(), &kind.to_be_bytes(), &[0, 1], &records.concat()].concat()
}

/// The name and where it leads, with seconds.
fn told(resolution: &Resolution) -> String {
    let addresses = resolution
        .addresses
        .iter()
        .map(|resolved| std::format!(" {} {}", resolved.address, resolved.ttl.as_secs()));
    std::format!("{}{}", resolution.name, addresses.collect::<String>())
}

#[track_caller]
fn check(message: &[u8], expected: &str) {
    let found = decode(message).unwrap().as_ref().map_or_else(String::new, told);
    assert_eq!(found, expected, "{message:?}");
}

#[test]
fn an_answer_tells_where_a_name_leads() {
    let v4 = |owner: &[u8], ttl, last| record(owner, A, ttl, &[198, 18, 1, last]);
    let v6 = record(ASKED, AAAA, 60, &"2001:db8::13".parse::<core::net::Ipv6Addr>().unwrap().octets());
    let one = message(FLAGS, ("DB.Example.org", A), &[v4(ASKED, 300, 13)]);
    check(&one, "db.example.org 198.18.1.13 300");
    check(&message(FLAGS, ("db.example", AAAA), &[v6]), "db.example 2001:db8::13 60");
    let several = [v4(ASKED, 5, 13), v4(&name("dB.EXAMPLE"), 7, 14), v4(&name("other.example"), 9, 15)];
    check(&message(FLAGS, ("db.example", A), &several), "db.example 198.18.1.13 5 198.18.1.14 7");
    let mapped = record(ASKED, AAAA, 60, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 18, 1, 13]);
    check(&message(FLAGS, ("db.example", AAAA), &[mapped]), "db.example 198.18.1.13 60");
    check(
        &message(FLAGS, ("_x._tcp.a-b.example", A), &[v4(ASKED, 1 << 31, 1)]),
        "_x._tcp.a-b.example 198.18.1.1 0",
    );
    // What was captured of it.
    check(&[&one[..], &v4(ASKED, 300, 14)[..9]].concat(), "db.example.org 198.18.1.13 300");
}

#[test]
fn aliases_lead_back_to_the_name_that_was_asked_for() {
    let alias = |from: &[u8], to: &str, ttl| record(from, CNAME, ttl, &name(to));
    let v4 = record(&name("c.example"), A, 300, &[198, 18, 1, 13]);
    let chain = [alias(ASKED, "b.example", 600), alias(&name("B.example"), "c.example", 20), v4.clone()];
    check(&message(FLAGS, ("a.example", A), &chain), "a.example 198.18.1.13 20");
    let turned = [v4.clone(), alias(&name("b.example"), "c.example", 20), alias(ASKED, "b.example", 600)];
    check(&message(FLAGS, ("a.example", A), &turned), "a.example 198.18.1.13 20");
    // One that leads nowhere, and one in a circle.
    check(&message(FLAGS, ("a.example", A), &[alias(ASKED, "b.example", 600), v4.clone()]), "");
    let circle = [alias(ASKED, "b.example", 9), alias(&name("b.example"), "a.example", 9), v4];
    check(&message(FLAGS, ("a.example", A), &circle), "");
}

#[test]
fn what_says_nothing_of_addresses_is_sound() {
    let v4 = [record(ASKED, A, 300, &[198, 18, 1, 13])];
    check(&message(0x0100, ("a.example", A), &[]), "");
    check(&message(0x8183, ("a.example", A), &v4), "");
    check(&message(FLAGS | 0x2000, ("a.example", A), &v4), "");
    check(&message(FLAGS, ("a.example", A), &[]), "");
    check(&message(FLAGS, ("a.example", TXT), &v4), "");
    check(&message(FLAGS, ("", A), &v4), "");
    check(&message(FLAGS, ("a\x1b[2J.example", A), &v4), "");
    check(&message(FLAGS, ("a.example", A), &[record(ASKED, A, 300, &[0; 4])]), "");
    check(&message(FLAGS, ("a.example", A), &[record(ASKED, A, 300, &[198, 18, 1])]), "");
}

#[test]
fn pointers_that_do_not_lead_back_end_the_reading() {
    let v4 = |owner: &[u8]| record(owner, A, 300, &[198, 18, 1, 13]);
    let good = v4(ASKED);
    let end = u8::try_from(message(FLAGS, ("a.example", A), core::slice::from_ref(&good)).len()).unwrap();
    for owner in [[0xc0, end], [0xc0, end + 2], [0xff, 0xff]] {
        check(
            &message(FLAGS, ("a.example", A), &[good.clone(), v4(&owner), good.clone()]),
            "a.example 198.18.1.13 300",
        );
    }
    // A label that leads on by a pointer to itself.
    let own = [1, b'a', 0xc0, end];
    check(&message(FLAGS, ("a.example", A), &[good.clone(), v4(&own)]), "a.example 198.18.1.13 300");
}

#[test]
fn what_is_no_message_is_refused() {
    let check = |bytes: &[u8], expected| assert_eq!(decode(bytes), Err(expected), "{bytes:?}");
    check(&[], AnswerError::Short { had: 0 });
    check(&[0; 11], AnswerError::Short { had: 11 });
    let whole = message(FLAGS, ("a.example", A), &[]);
    check(&whole[..20], AnswerError::Question);
    let mut several = whole.clone();
    several[5] = 2;
    check(&several, AnswerError::Question);
}

fn header(transport: Transport, sequence: u32, length: usize) -> PacketHeader {
    let at = |last, port| Endpoint::new(Ipv4Addr::new(198, 18, 1, last).into(), port);
    let payload_length = u32::try_from(length).unwrap();
    let content = match transport {
        Transport::Tcp => {
            PacketContent::Tcp { flags: TcpFlags(0x18), sequence, acknowledgement: 1, payload_length }
        }
        Transport::Udp | Transport::UdpLite => PacketContent::Udp { payload_length },
    };
    PacketHeader { tuple: FiveTuple { transport, local: at(53, 53), remote: at(10, 40_000) }, content }
}

/// What comes of a stream in segments of these sizes, each seen on two interfaces.
fn read_segments(stream: &[u8], sizes: &[usize]) -> (Vec<String>, u64) {
    let mut reader = AnswerReader::new([1, 2, 3, 4]);
    let (mut sequence, mut rest, mut found) = (u32::MAX - 3, stream, Vec::new());
    for size in sizes {
        let (segment, after) = rest.split_at((*size).min(rest.len()));
        let header = header(Transport::Tcp, sequence, segment.len());
        for _each_interface in 0..2 {
            found.extend(reader.take(Timestamp::default(), &header, segment).iter().map(told));
        }
        sequence = sequence.wrapping_add(u32::try_from(segment.len()).unwrap());
        rest = after;
    }
    found.sort_unstable();
    found.dedup();
    (found, reader.rejected)
}

fn stream() -> Vec<u8> {
    let answers = [("a.example", 1), ("b.example", 2)].map(|(name, last)| {
        let records = vec![record(ASKED, A, 300, &[198, 18, 1, last]); 40];
        message(FLAGS, (name, A), &records)
    });
    answers
        .iter()
        .flat_map(|answer| [&(answer.len() as u16).to_be_bytes(), answer.as_slice()].concat())
        .collect()
}

#[test]
fn datagrams_and_streams_are_read() {
    let answer = message(FLAGS, ("a.example", A), &[record(ASKED, A, 300, &[198, 18, 1, 13])]);
    let mut reader = AnswerReader::new([1, 2, 3, 4]);
    let found = reader.take(Timestamp::default(), &header(Transport::Udp, 0, answer.len()), &answer);
    assert_eq!(found.iter().map(told).collect::<Vec<_>>(), ["a.example 198.18.1.13 300"]);
    assert!(reader.take(Timestamp::default(), &header(Transport::Udp, 0, 3), &[1, 2, 3]).is_empty());
    assert_eq!(reader.rejected, 1);
    let (found, rejected) = read_segments(&stream(), &[stream().len()]);
    assert_eq!((found.len(), rejected), (2, 0));
    // From the middle on: nothing is put together that does not belong together.
    assert_eq!(read_segments(&stream()[7..], &[100, 2000]).0.len(), 0);
}

#[test]
fn answers_come_from_resolvers_and_have_something_to_say() {
    let check = |port: u16, length: usize, expected: bool| {
        let mut header = header(Transport::Udp, 0, length);
        header.tuple.local.port = port;
        assert_eq!(may_answer(&header), expected, "{port} {length}");
    };
    check(53, 40, true);
    check(5353, 40, true);
    check(53, 0, false);
    check(54, 40, false);
}

proptest! {
    #[test]
    fn pieces_do_not_matter(sizes in proptest::collection::vec(1_usize..400, 30)) {
        let stream = stream();
        prop_assume!(sizes.iter().sum::<usize>() >= stream.len());
        let (found, rejected) = read_segments(&stream, &sizes);
        prop_assert_eq!(found.len(), 2, "{:?}", found);
        prop_assert!(found[0].starts_with("a.example 198.18.1.1 300") && found[1].starts_with("b.example"));
        prop_assert_eq!(rejected, 0);
    }

    #[test]
    fn any_truncation_gives_what_stands_before_it(length in 0_usize..700) {
        let records: Vec<Vec<u8>> = (0..40).map(|last| record(ASKED, A, 300, &[198, 18, 1, last])).collect();
        let whole = message(FLAGS, ("a.example", A), &records);
        let question = whole.len() - records.concat().len();
        let cut = &whole[..length.min(whole.len())];
        match decode(cut) {
            Err(AnswerError::Short { had }) => prop_assert_eq!(had, cut.len()),
            Err(AnswerError::Question) => prop_assert!(cut.len() < question),
            Ok(found) => {
                let there = cut.len().saturating_sub(question) / records[0].len();
                prop_assert_eq!(found.map_or(0, |found| found.addresses.len()), there);
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), questions in 0_u8..3) {
        let mut forged = [&[1, 2, 0x81, 0x80, 0, questions, 0, 40, 0, 0, 0, 0], name("a.example").as_slice(), &[0, 1, 0, 1]].concat();
        forged.extend(&bytes);
        for message in [&bytes, &forged] {
            if let Ok(Some(found)) = decode(message) {
                prop_assert!(found.name.len() <= 255 && !found.name.contains(char::is_control));
                prop_assert!(!found.addresses.is_empty() && found.addresses.len() <= 256);
                prop_assert!(found.addresses.iter().all(|resolved| resolved.address != IpAddr::from([0; 4])));
                prop_assert!(found.name.to_string() == found.name.to_lowercase());
            }
        }
        read_segments(&forged, &[forged.len()]);
    }
}
