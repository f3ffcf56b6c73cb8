//! Beginnings of streams, whole and in pieces.

use core::net::Ipv4Addr;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::five_tuple::{Endpoint, FiveTuple, Transport};
use crate::packet::{PacketContent, TcpFlags};

/// A ClientHello for `name` as openssl 3 sends one, shortened: padding before the name as browsers shuffle it.
pub(crate) fn client_hello(name: &str, padding: usize, record_max: usize) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let host = [&[0], sized(name.as_bytes()).as_slice()].concat();
    let padding = [&21_u16.to_be_bytes(), sized(&vec![0; padding]).as_slice()].concat();
    let server_name = [&[0, 0], sized(&sized(&host)).as_slice()].concat();
    let extensions = sized(&[padding, server_name].concat());
    let hello =
        [&[3, 3], [7; 32].as_slice(), &[4, 1, 2, 3, 4], &sized(&[0x13, 1]), &[1, 0], &extensions].concat();
    let length = u32::try_from(hello.len()).unwrap().to_be_bytes();
    let handshake = [&[1], &length[1..], &hello].concat();
    handshake.chunks(record_max).flat_map(|chunk| [&[22, 3, 1], sized(chunk).as_slice()].concat()).collect()
}

fn tuple() -> FiveTuple {
    let at = |last, port| Endpoint::new(Ipv4Addr::new(198, 18, 1, last).into(), port);
    FiveTuple { transport: Transport::Tcp, local: at(10, 40_000), remote: at(13, 443) }
}

fn header(sequence: u32, payload_length: usize) -> PacketHeader {
    let payload_length = u32::try_from(payload_length).unwrap();
    let content = PacketContent::Tcp { flags: TcpFlags(0x18), sequence, acknowledgement: 1, payload_length };
    PacketHeader { tuple: tuple(), content }
}

fn second(number: u64) -> Timestamp {
    Timestamp::from_nanos(number * 1_000_000_000)
}

/// The names that come of a stream in segments of these sizes.
fn read(stream: &[u8], sizes: &[usize]) -> Vec<LearntName> {
    let mut reader = NameReader::new([1, 2, 3, 4]);
    let (mut sequence, mut rest, mut found) = (u32::MAX - 3, stream, Vec::new());
    for size in sizes {
        let (segment, after) = rest.split_at((*size).min(rest.len()));
        for _each_interface in 0..2 {
            found.extend(reader.take(second(1), &header(sequence, segment.len()), segment));
        }
        sequence = sequence.wrapping_add(u32::try_from(segment.len()).unwrap());
        rest = after;
    }
    found.dedup();
    found
}

fn check(stream: &[u8], expected: &[(NameKind, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(kind, name)| LearntName::new(*kind, name)).collect();
    assert_eq!(read(stream, &[stream.len()]), expected, "{stream:?}");
}

#[test]
fn a_client_hello_names_its_server() {
    check(&client_hello("API.Example.org", 0, 9000), &[(NameKind::Sni, "api.example.org")]);
    check(&client_hello("a.example", 1700, 400), &[(NameKind::Sni, "a.example")]);
    check(&client_hello("", 0, 9000), &[]);
    check(&client_hello("a b", 0, 9000), &[]);
    // A ServerHello, an alert, application data.
    check(&[22, 3, 3, 0, 4, 2, 0, 0, 0], &[]);
    check(&[21, 3, 3, 0, 2, 2, 40], &[]);
    check(&[23, 3, 3, 0, 1, 0], &[]);
}

#[test]
fn a_request_names_its_host() {
    let host = |name| [(NameKind::Host, name)];
    check(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", &host("a.example"));
    check(b"POST /x HTTP/1.0\nX: y\nhOsT:A.example:8080 \n\n", &host("a.example"));
    check(b"PROPFIND / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n", &host("[2001:db8::1]"));
    check(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", &host("a.example"));
    check(b"GET / HTTP/1.1\r\n\r\nHost: a.example\r\n", &[]);
    check(b"GET / HTTP/1.1\r\nHost: a\x1b[2J\r\n\r\n", &[]);
    check(b"EHLO mail.example\r\nHost: a.example\r\n", &[]);
    check(b"GETTING\r\n", &[]);
    check(b"\x00\x01", &[]);
}

#[test]
fn what_was_not_captured_whole_is_given_up() {
    let hello = client_hello("a.example", 1700, 9000);
    let mut reader = NameReader::new([1, 2, 3, 4]);
    assert_eq!(reader.take(second(1), &header(1, hello.len()), &hello[..200]), None);
    assert_eq!(reader.take(second(1), &header(201, hello.len() - 200), &hello[200..]), None);
    // As far as the name was captured it is known.
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\nCookie: x";
    let name = reader.take(second(1), &header(1, 9000), request);
    assert_eq!(name, Some(LearntName::new(NameKind::Host, "a.example")));
}

proptest! {
    #[test]
    fn pieces_do_not_matter(sizes in proptest::collection::vec(1_usize..700, 20), padding in 0_usize..1500, record in 1_usize..3000) {
        let hello = client_hello("a.example", padding, record);
        let whole = sizes.iter().sum::<usize>() >= hello.len();
        let found = read(&hello, &sizes);
        prop_assert_eq!(found.len(), usize::from(whole), "{} of {}", sizes.iter().sum::<usize>(), hello.len());
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), start in 0_usize..3) {
        let begun = [&[22, 3, 1, 0, 200, 1, 0, 0, 190][..], b"GET / HTTP/1.1\r\nHost:", &[]][start];
        let stream = [begun, &bytes].concat();
        for name in read(&stream, &[stream.len()]) {
            prop_assert!(name.text.len() <= 255 && !name.text.contains(char::is_control));
        }
    }
}
