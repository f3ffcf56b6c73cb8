//! Answers to lookups of names, from the packets of resolvers: DNS over UDP, and over TCP where it is plain.
//!
//! Read are answers to questions for addresses (A and AAAA). Left out are the hints of HTTPS records, beside which clients
//! ask for addresses too (RFC 9460, section 3), multicast DNS, and all that is encrypted.

mod message;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

pub use message::{AnswerError, decode};

use crate::packet::{PacketContent, PacketHeader};
use crate::resolution::Resolution;
use crate::segments::Segments;
use crate::time::Timestamp;

/// Where resolvers answer: that of DNS, and that of the pods behind it in OpenShift, which is multicast DNS's elsewhere.
pub const RESOLVER_PORTS: [u16; 2] = [53, 5353];
/// Streams whose answers wait for more.
const STREAMS_MAX: usize = 256;

/// Whether a packet may hold an answer.
pub fn may_answer(header: &PacketHeader) -> bool {
    let has_payload = match header.content {
        PacketContent::Tcp { payload_length, .. } | PacketContent::Udp { payload_length } => {
            payload_length > 0
        }
        PacketContent::Unreachable => false,
    };
    has_payload && RESOLVER_PORTS.contains(&header.tuple.local.port)
}

/// Reads answers from the packets of resolvers.
#[derive(Debug)]
pub struct AnswerReader {
    streams: Segments,
    /// Messages that make no sense.
    pub rejected: u64,
}

impl AnswerReader {
    /// An empty one, its table seeded by `seed`.
    pub fn new(seed: [u64; 4]) -> Self {
        Self { streams: Segments::new(seed, STREAMS_MAX), rejected: 0 }
    }

    /// Takes a packet that may answer, with what was captured of its payload. The same may come again, by another interface.
    pub fn take(&mut self, at: Timestamp, header: &PacketHeader, payload: &[u8]) -> Vec<Resolution> {
        let mut found = Vec::new();
        match header.content {
            PacketContent::Udp { .. } => self.rejected += read(payload, &mut found),
            PacketContent::Tcp { .. } => {
                let read = |bytes: &[u8]| read_stream(bytes, &mut found);
                self.rejected += self.streams.take(at, header, payload, read).unwrap_or_default();
            }
            PacketContent::Unreachable => {}
        }
        found
    }

    /// Streams given up because there were too many.
    pub const fn evicted(&self) -> u64 {
        self.streams.evicted
    }
}

/// Reads a message; returns how many make no sense.
fn read(message: &[u8], found: &mut Vec<Resolution>) -> u64 {
    let resolution = decode(message);
    let rejected = resolution.is_err();
    found.extend(resolution.ok().flatten());
    u64::from(rejected)
}

/// Reads the messages of a stream, each behind its length (RFC 1035, section 4.2.2). Returns how many make no sense, and
/// where one begins that has not come whole.
fn read_stream(bytes: &[u8], found: &mut Vec<Resolution>) -> (u64, Option<usize>) {
    let mut rejected = 0;
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        // What is seen of a stream may begin anywhere: the last segment of a message comes again by another interface.
        if !message::may_begin(after) {
            return (rejected, None);
        }
        let Some((message, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
            break;
        };
        rejected += read(message, found);
        rest = after;
    }
    (rejected, (!rest.is_empty()).then_some(bytes.len() - rest.len()))
}
