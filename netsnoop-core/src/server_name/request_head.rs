//! The Host field of an HTTP/1 request (RFC 9112, section 3.2).

use super::{Finding, name};
use crate::service::NameKind;

/// The longest method that is told apart from other protocols' words.
const METHOD_MAX: usize = 20;

/// Finds it in what a stream begins with.
pub(super) fn find(stream: &[u8]) -> Finding {
    let mut lines = stream.split_inclusive(|byte| *byte == b'\n');
    let Some(first) = lines.next() else { return Finding::Unfinished };
    if !is_method(first) {
        return Finding::Nothing;
    }
    if !first.ends_with(b"\n") {
        return Finding::Unfinished;
    }
    if !trimmed(first).ends_with(b"HTTP/1.1") && !trimmed(first).ends_with(b"HTTP/1.0") {
        return Finding::Nothing;
    }
    for line in lines {
        if !line.ends_with(b"\n") {
            return Finding::Unfinished;
        }
        let line = trimmed(line);
        if line.is_empty() {
            return Finding::Nothing;
        }
        let Some((field, value)) = line.split_at_checked(5) else { continue };
        if field.eq_ignore_ascii_case(b"host:") {
            return name(NameKind::Host, without_port(trimmed(value)));
        }
    }
    Finding::Unfinished
}

/// Whether it begins with a word in capitals and a space, as far as it has come.
fn is_method(line: &[u8]) -> bool {
    let end = line.iter().position(|byte| !byte.is_ascii_uppercase()).unwrap_or(line.len());
    end > 0 && end <= METHOD_MAX && line.get(end).is_none_or(|byte| *byte == b' ')
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.trim_ascii()
}

/// An IPv6 address has its colons in brackets.
fn without_port(host: &[u8]) -> &[u8] {
    let from = host.iter().rposition(|byte| *byte == b']').unwrap_or(0);
    let colon = host.iter().skip(from).position(|byte| *byte == b':').map(|place| from + place);
    colon.and_then(|colon| host.get(..colon)).unwrap_or(host)
}
