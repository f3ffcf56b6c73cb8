//! The name that a client calls its server by, from the first bytes it sends: TLS's ClientHello, HTTP/1's Host.
//!
//! A ClientHello may span several segments and is put together here; what comes out of order, or was not captured whole,
//! is given up, and only the name is missing then. Nothing is decrypted.

mod client_hello;
mod request_head;
#[cfg(test)]
mod tests;

use core::time::Duration;

use ahash::RandomState;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use hashbrown::HashMap;

use crate::five_tuple::FiveTuple;
use crate::packet::{PacketContent, PacketHeader};
use crate::service::{LearntName, NameKind};
use crate::time::Timestamp;

/// Beginnings that wait for more.
const BEGINNINGS_MAX: usize = 1024;
/// A beginning beyond this is not looked at any further.
const BYTES_MAX: usize = 16 * 1024;
/// How long the rest of a beginning may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the first bytes of a stream tell.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Finding {
    /// Its server's name.
    Name(NameKind, String),
    /// More bytes are needed.
    Unfinished,
    /// It names nobody.
    Nothing,
}

/// Reads the names of servers from segments.
#[derive(Debug)]
pub struct NameReader {
    beginnings: HashMap<FiveTuple, Beginning, RandomState>,
    oldest_first: VecDeque<(Timestamp, FiveTuple)>,
    /// Beginnings given up because there were too many.
    pub evicted: u64,
}

#[derive(Debug)]
struct Beginning {
    at: Timestamp,
    next_sequence: u32,
    bytes: Vec<u8>,
}

impl NameReader {
    /// An empty one, its table seeded by `seed`.
    pub fn new(seed: [u64; 4]) -> Self {
        let [first, second, third, fourth] = seed;
        let hasher = RandomState::with_seeds(first, second, third, fourth);
        Self { beginnings: HashMap::with_hasher(hasher), oldest_first: VecDeque::new(), evicted: 0 }
    }

    /// Takes a segment with what was captured of its payload. The same segment may come again, by another interface.
    pub fn take(&mut self, at: Timestamp, header: &PacketHeader, payload: &[u8]) -> Option<LearntName> {
        let PacketContent::Tcp { sequence, payload_length, .. } = header.content else { return None };
        if payload.is_empty() {
            return None;
        }
        let is_whole = payload.len() as u64 >= u64::from(payload_length);
        let next_sequence = sequence.wrapping_add(payload_length);
        let finding = match self.beginnings.get_mut(&header.tuple) {
            Some(beginning) if beginning.next_sequence == sequence => {
                beginning.bytes.extend_from_slice(payload);
                beginning.next_sequence = next_sequence;
                find(&beginning.bytes)
            }
            // One that was seen already, or one that comes too early.
            Some(beginning) if at.since(beginning.at) < PATIENCE => return None,
            _ => find(payload),
        };
        match finding {
            Finding::Name(kind, name) => {
                self.beginnings.remove(&header.tuple);
                Some(LearntName::new(kind, &name))
            }
            Finding::Nothing => {
                self.beginnings.remove(&header.tuple);
                None
            }
            Finding::Unfinished => {
                if is_whole {
                    self.keep(at, header.tuple, (next_sequence, payload));
                } else {
                    self.beginnings.remove(&header.tuple);
                }
                None
            }
        }
    }

    fn keep(&mut self, at: Timestamp, tuple: FiveTuple, (next_sequence, payload): (u32, &[u8])) {
        if let Some(beginning) = self.beginnings.get(&tuple)
            && beginning.next_sequence == next_sequence
        {
            if beginning.bytes.len() > BYTES_MAX {
                self.beginnings.remove(&tuple);
            }
            return;
        }
        while let Some((since, oldest)) = self.oldest_first.front().copied() {
            let is_over = at.since(since) >= PATIENCE;
            if !is_over && self.oldest_first.len() < BEGINNINGS_MAX {
                break;
            }
            self.oldest_first.pop_front();
            let is_same = self.beginnings.get(&oldest).is_some_and(|beginning| beginning.at == since);
            if is_same {
                self.beginnings.remove(&oldest);
                self.evicted += u64::from(!is_over);
            }
        }
        self.beginnings.insert(tuple, Beginning { at, next_sequence, bytes: payload.to_vec() });
        self.oldest_first.push_back((at, tuple));
    }
}

fn find(bytes: &[u8]) -> Finding {
    match bytes {
        // A TLS record of the handshake (RFC 8446, section 5.1).
        [22] | [22, 3, ..] => client_hello::find(bytes),
        [first, ..] if first.is_ascii_uppercase() => request_head::find(bytes),
        _ => Finding::Nothing,
    }
}

/// A host's name as a finding, if it is one.
fn name(kind: NameKind, bytes: &[u8]) -> Finding {
    let is_name =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    match core::str::from_utf8(bytes) {
        // No name is longer (RFC 1035, section 2.3.4).
        Ok(text) if !text.is_empty() && text.len() <= 255 && bytes.iter().all(is_name) => {
            Finding::Name(kind, text.into())
        }
        _ => Finding::Nothing,
    }
}
