//! Any bytes as a resolver's message, and as pieces of its stream: what is told is a name and where it leads, and how
//! segments are cut does not matter.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use netsnoop_core::dns_answer::{AnswerReader, decode};
use netsnoop_core::five_tuple::{Endpoint, FiveTuple, Transport};
use netsnoop_core::packet::{PacketContent, PacketHeader, TcpFlags};
use netsnoop_core::resolution::Resolution;
use netsnoop_core::time::Timestamp;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(resolution)) = decode(bytes) {
        check(&resolution);
    }
    let Some((size, stream)) = bytes.split_first() else { return };
    let mut reader = AnswerReader::new([1, 2, 3, 4]);
    let mut sequence = 0_u32;
    for segment in stream.chunks(usize::from(*size).max(1)) {
        reader.take(Timestamp::default(), &header(sequence, segment), segment).iter().for_each(check);
        sequence += u32::try_from(segment.len()).unwrap();
    }
});

fn check(resolution: &Resolution) {
    let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    assert!(!resolution.name.is_empty() && resolution.name.len() <= 255);
    assert!(resolution.name.bytes().all(|byte| is_of_names(byte) && !byte.is_ascii_uppercase()));
    assert!(!resolution.addresses.is_empty());
    assert!(resolution.addresses.iter().all(|resolved| !resolved.address.is_unspecified()));
}

fn header(sequence: u32, segment: &[u8]) -> PacketHeader {
    let at = |last, port| Endpoint::new(IpAddr::from([198, 18, 1, last]), port);
    let payload_length = u32::try_from(segment.len()).unwrap();
    let content = PacketContent::Tcp { flags: TcpFlags(0x18), sequence, acknowledgement: 1, payload_length };
    let tuple = FiveTuple { transport: Transport::Tcp, local: at(53, 53), remote: at(10, 40_000) };
    PacketHeader { tuple, content }
}
