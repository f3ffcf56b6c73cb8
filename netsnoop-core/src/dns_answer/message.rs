//! One DNS message -> the name that was asked for and where it leads.
//!
//! Names, records and compression are read by `domain`, which follows pointers backwards only and a bounded number of times.

use core::net::IpAddr;
use core::time::Duration;

use alloc::string::String;
use alloc::vec::Vec;

use domain::base::iana::{Class, Opcode, Rcode};
use domain::base::name::{ParsedName, ToLabelIter, ToName};
use domain::base::{Message, ParsedRecord, Rtype};
use domain::rdata::{A, Aaaa, Cname};

use crate::resolution::{Resolution, ResolvedAddress};

/// Records looked at; an answer with more leads almost anywhere.
const RECORDS_MAX: usize = 256;
/// Aliases followed from the name that was asked for. Resolvers follow a dozen.
const ALIASES_MAX: usize = 16;

/// Why a message could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnswerError {
    /// It ends within its header.
    #[error("a DNS message has a header of 12 bytes, there are {had}")]
    Short {
        /// How many bytes there are.
        had: usize,
    },
    /// It does not repeat the one question that it answers.
    #[error("the question at byte 12 makes no sense")]
    Question,
}

/// What leads from one name to another, or to an address.
struct Link<'a, T> {
    from: ParsedName<&'a [u8]>,
    to: T,
    ttl: u32,
}

/// Reads a message; `None` if it is sound and says nothing of addresses. One that was not captured whole is read as far
/// as it goes.
///
/// # Errors
///
/// If it is no message, or has no question.
pub fn decode(bytes: &[u8]) -> Result<Option<Resolution>, AnswerError> {
    let Ok(message) = Message::from_slice(bytes) else {
        return Err(AnswerError::Short { had: bytes.len() });
    };
    let header = message.header();
    if !header.qr() || header.opcode() != Opcode::QUERY || header.rcode() != Rcode::NOERROR {
        return Ok(None);
    }
    let Ok(question) = message.sole_question() else { return Err(AnswerError::Question) };
    if question.qclass() != Class::IN || !matches!(question.qtype(), Rtype::A | Rtype::AAAA) {
        return Ok(None);
    }
    let Some(name) = text(question.qname()) else { return Ok(None) };
    let Ok(records) = message.answer() else { return Ok(None) };
    let (mut aliases, mut addresses) = (Vec::new(), Vec::new());
    for record in records.take(RECORDS_MAX).map_while(Result::ok) {
        match record.rtype() {
            Rtype::CNAME => aliases.extend(alias(record)),
            Rtype::A | Rtype::AAAA => addresses.extend(address(record)),
            _ => {}
        }
    }
    let called = names_on_the_way(question.qname(), &aliases);
    let led_to = |address: &Link<'_, IpAddr>| {
        let (_, ttl) = called.iter().find(|(name, _)| name.name_eq(&address.from))?;
        let ttl = Duration::from_secs(address.ttl.min(*ttl).into());
        Some(ResolvedAddress { address: address.to, ttl })
    };
    let addresses: Vec<ResolvedAddress> = addresses.iter().filter_map(led_to).collect();
    Ok((!addresses.is_empty()).then(|| Resolution { name: name.into(), addresses }))
}

/// Whether these may be the first bytes of an answer, as far as they go: a response to one question.
pub(super) fn may_begin(bytes: &[u8]) -> bool {
    let is_response = bytes.get(2).is_none_or(|flags| flags & 0xf8 == 0x80);
    is_response && bytes.get(4..6).is_none_or(|count| count == [0, 1])
}

fn alias<'a>(record: ParsedRecord<'a, [u8]>) -> Option<Link<'a, ParsedName<&'a [u8]>>> {
    let ttl = seconds(&record);
    let found = record.into_record::<Cname<ParsedName<&'a [u8]>>>().ok()??;
    let from = *found.owner();
    Some(Link { from, to: found.into_data().into_cname(), ttl })
}

fn address<'a>(record: ParsedRecord<'a, [u8]>) -> Option<Link<'a, IpAddr>> {
    let (from, ttl) = (record.owner(), seconds(&record));
    let to = if record.rtype() == Rtype::A {
        IpAddr::V4(record.into_record::<A>().ok()??.data().addr())
    } else {
        IpAddr::V6(record.into_record::<Aaaa>().ok()??.data().addr()).to_canonical()
    };
    // Filters of advertisements answer so; nobody connects there for the name.
    (!to.is_unspecified()).then_some(Link { from, to, ttl })
}

/// One with the highest bit set means none (RFC 2181, section 8).
fn seconds(record: &ParsedRecord<'_, [u8]>) -> u32 {
    let ttl = record.ttl().as_secs();
    if i32::try_from(ttl).is_ok() { ttl } else { 0 }
}

/// The name that was asked for and those it is an alias of, with how long the way to each holds. Records may stand in any
/// order.
fn names_on_the_way<'a>(
    asked: &ParsedName<&'a [u8]>,
    aliases: &[Link<'a, ParsedName<&'a [u8]>>],
) -> Vec<(ParsedName<&'a [u8]>, u32)> {
    let mut called = Vec::from([(*asked, u32::MAX)]);
    while let Some((last, ttl)) = called.last()
        && called.len() <= ALIASES_MAX
        && let Some(alias) = aliases.iter().find(|alias| alias.from.name_eq(last))
        && !called.iter().any(|(known, _)| known.name_eq(&alias.to))
    {
        let ttl = alias.ttl.min(*ttl);
        called.push((alias.to, ttl));
    }
    called
}

/// As it is written, in lower case; `None` for the root and for names that no host has.
fn text(name: &ParsedName<&[u8]>) -> Option<String> {
    let mut text = String::new();
    for label in name.iter_labels().filter(|label| !label.is_root()) {
        if !text.is_empty() {
            text.push('.');
        }
        for byte in label.as_slice() {
            // Underscores are in names that are looked up, though not in those of hosts (RFC 8552).
            if !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'_') {
                return None;
            }
            text.push(char::from(byte.to_ascii_lowercase()));
        }
    }
    (!text.is_empty()).then_some(text)
}
