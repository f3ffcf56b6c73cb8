//! The server's name in TLS's ClientHello (RFC 8446, section 4.1.2; RFC 6066, section 3).

use alloc::vec::Vec;

use super::{Finding, name};
use crate::service::NameKind;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// Finds it in the records that a stream begins with.
pub(super) fn find(stream: &[u8]) -> Finding {
    let Some(handshake) = handshake(stream) else { return Finding::Nothing };
    let Some((header, body)) = handshake.split_first_chunk::<4>() else { return Finding::Unfinished };
    let [kind, length @ ..] = *header;
    if kind != CLIENT_HELLO {
        return Finding::Nothing;
    }
    let [high, middle, low] = length.map(usize::from);
    match body.get(..(high << 16) | (middle << 8) | low) {
        Some(hello) => server_name(hello).map_or(Finding::Nothing, |found| name(NameKind::Sni, found)),
        None => Finding::Unfinished,
    }
}

/// The handshake's bytes without the records' headers, as far as they have come; `None` if something else is among them.
fn handshake(stream: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = stream;
    while let Some((header, after)) = rest.split_first_chunk::<5>() {
        let [kind, _, _, high, low] = *header;
        // Whatever follows a whole ClientHello is not of it.
        if kind != HANDSHAKE {
            return (bytes.len() > 4).then_some(bytes);
        }
        let length = (usize::from(high) << 8) | usize::from(low);
        let fragment = after.get(..length).unwrap_or(after);
        bytes.extend_from_slice(fragment);
        rest = after.get(fragment.len()..).unwrap_or_default();
    }
    Some(bytes)
}

fn server_name(hello: &[u8]) -> Option<&[u8]> {
    // Version and random.
    let rest = hello.get(34..)?;
    let (_session, rest) = vector8(rest)?;
    let (_cipher_suites, rest) = vector16(rest)?;
    let (_compression, rest) = vector8(rest)?;
    let (mut extensions, _) = vector16(rest)?;
    while let Some((kind, after)) = extensions.split_first_chunk::<2>() {
        let (body, rest) = vector16(after)?;
        if u16::from_be_bytes(*kind) == SERVER_NAME {
            let (list, _) = vector16(body)?;
            let (kind, after) = list.split_first()?;
            return (*kind == HOST_NAME).then(|| vector16(after)).flatten().map(|(name, _)| name);
        }
        extensions = rest;
    }
    None
}

/// What follows a length of one byte, and the rest.
fn vector8(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// What follows a length of two bytes, and the rest.
fn vector16(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
