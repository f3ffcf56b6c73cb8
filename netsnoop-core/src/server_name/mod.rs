//! The name that a client calls its server by, from the first bytes it sends: TLS's ClientHello, HTTP/1's Host.
//!
//! A ClientHello may span several segments and is put together here; what comes out of order, or was not captured whole,
//! is given up, and only the name is missing then. Nothing is decrypted.

mod client_hello;
mod request_head;
#[cfg(test)]
mod tests;

use alloc::string::String;

use crate::packet::PacketHeader;
use crate::segments::Segments;
use crate::service::{LearntName, NameKind};
use crate::time::Timestamp;

/// Beginnings that wait for more.
const BEGINNINGS_MAX: usize = 1024;

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
    beginnings: Segments,
}

impl NameReader {
    /// An empty one, its table seeded by `seed`.
    pub fn new(seed: [u64; 4]) -> Self {
        Self { beginnings: Segments::new(seed, BEGINNINGS_MAX) }
    }

    /// Takes a segment with what was captured of its payload. The same segment may come again, by another interface.
    pub fn take(&mut self, at: Timestamp, header: &PacketHeader, payload: &[u8]) -> Option<LearntName> {
        let read = |bytes: &[u8]| match find(bytes) {
            Finding::Name(kind, name) => (Some(LearntName::new(kind, &name)), None),
            Finding::Nothing => (None, None),
            Finding::Unfinished => (None, Some(0)),
        };
        self.beginnings.take(at, header, payload, read).flatten()
    }

    /// Beginnings given up because there were too many.
    pub const fn evicted(&self) -> u64 {
        self.beginnings.evicted
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
