//! Messages of the kernel's connection tracking (ctnetlink), from bytes to [`TranslationChange`]s.
//!
//! Only entries that translate are handed on, and of those only tuples and id. Left out: marks, helpers,
//! counters, expected connections; and zones, so that of two entries that differ in nothing else the later
//! one is believed. The numbers of messages and attributes are ABI, older than any kernel netsnoop runs on:
//! <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netfilter/nfnetlink_conntrack.h>.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::five_tuple::{Endpoint, FiveTuple, Transport};
use crate::translation::{Translation, TranslationChange};

/// NFNL_SUBSYS_CTNETLINK, the upper byte of a message's type.
const SUBSYSTEM: u16 = 1 << 8;
/// IPCTNL_MSG_CT_NEW: also what a listing consists of.
const NEW: u16 = SUBSYSTEM;
/// IPCTNL_MSG_CT_DELETE.
const DELETE: u16 = SUBSYSTEM | 2;
/// Bytes of `struct nfgenmsg` before the first attribute.
const FAMILY_HEADER_BYTES: usize = 4;
/// An attribute's own length and type (`struct nlattr`).
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// NLA_TYPE_MASK: the upper two bits are flags.
const TYPE_MASK: u16 = 0x3fff;

/// `enum ctattr_type`, `ctattr_tuple`, `ctattr_ip` and `ctattr_l4proto`, as far as they are read.
mod attribute {
    pub(super) const TUPLE_ORIG: u16 = 1;
    pub(super) const TUPLE_REPLY: u16 = 2;
    pub(super) const ID: u16 = 12;
    pub(super) const TUPLE_IP: u16 = 1;
    pub(super) const TUPLE_PROTO: u16 = 2;
    pub(super) const IP_V4_SRC: u16 = 1;
    pub(super) const IP_V4_DST: u16 = 2;
    pub(super) const IP_V6_SRC: u16 = 3;
    pub(super) const IP_V6_DST: u16 = 4;
    pub(super) const PROTO_NUM: u16 = 1;
    pub(super) const PROTO_SRC_PORT: u16 = 2;
    pub(super) const PROTO_DST_PORT: u16 = 3;
}

/// Why a message could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConntrackError {
    /// It, or something in it, ends early.
    #[error("conntrack message: {wanted} bytes wanted at the end, {had} there")]
    CutShort {
        /// Bytes that were to follow.
        wanted: usize,
        /// Bytes that do.
        had: usize,
    },
    /// Something that every entry has is missing.
    #[error("conntrack message has no {0}")]
    Missing(&'static str),
    /// Its two directions are of different protocols.
    #[error("conntrack message has two protocols")]
    TwoProtocols,
}

/// What a message of this type says; `None` if it is of another kind or protocol, or nothing is translated.
pub fn decode(message_type: u16, body: &[u8]) -> Result<Option<TranslationChange>, ConntrackError> {
    if message_type != NEW && message_type != DELETE {
        return Ok(None);
    }
    let attributes = body
        .get(FAMILY_HEADER_BYTES..)
        .ok_or(ConntrackError::CutShort { wanted: FAMILY_HEADER_BYTES, had: body.len() })?;
    let (mut original, mut reply, mut id) = (None, None, None);
    for attribute in Attributes(attributes) {
        let (kind, value) = attribute?;
        match kind {
            attribute::TUPLE_ORIG => original = Some(tuple(value)?),
            attribute::TUPLE_REPLY => reply = Some(tuple(value)?),
            attribute::ID => id = Some(u32::from_be_bytes(number(value)?)),
            _ => {}
        }
    }
    let original = original.ok_or(ConntrackError::Missing("original tuple"))?;
    let reply = reply.ok_or(ConntrackError::Missing("reply tuple"))?;
    let id = id.ok_or(ConntrackError::Missing("id"))?;
    let (Some(original), Some(reply)) = (original, reply) else { return Ok(None) };
    if original.transport != reply.transport {
        return Err(ConntrackError::TwoProtocols);
    }
    let translation = Translation { original, reply, id };
    Ok(translation.translates().then_some(match message_type {
        NEW => TranslationChange::Began(translation),
        _ => TranslationChange::Ended(translation),
    }))
}

/// One direction, its sender first; `None` if its protocol has no connections that netsnoop tells of.
fn tuple(nested: &[u8]) -> Result<Option<FiveTuple>, ConntrackError> {
    let (mut source, mut destination) = (None, None);
    let (mut protocol, mut ports) = (None, (None, None));
    for attribute in Attributes(nested) {
        match attribute? {
            (attribute::TUPLE_IP, addresses) => {
                for attribute in Attributes(addresses) {
                    let (kind, value) = attribute?;
                    match kind {
                        attribute::IP_V4_SRC | attribute::IP_V6_SRC => source = Some(address(kind, value)?),
                        attribute::IP_V4_DST | attribute::IP_V6_DST => {
                            destination = Some(address(kind, value)?);
                        }
                        _ => {}
                    }
                }
            }
            (attribute::TUPLE_PROTO, parts) => {
                for attribute in Attributes(parts) {
                    match attribute? {
                        (attribute::PROTO_NUM, value) => protocol = Some(u8::from_be_bytes(number(value)?)),
                        (attribute::PROTO_SRC_PORT, value) => {
                            ports.0 = Some(u16::from_be_bytes(number(value)?));
                        }
                        (attribute::PROTO_DST_PORT, value) => {
                            ports.1 = Some(u16::from_be_bytes(number(value)?));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let protocol = protocol.ok_or(ConntrackError::Missing("protocol"))?;
    let Some(transport) = Transport::ALL.into_iter().find(|known| known.number() == protocol) else {
        return Ok(None);
    };
    let source = source.ok_or(ConntrackError::Missing("source address"))?;
    let destination = destination.ok_or(ConntrackError::Missing("destination address"))?;
    let source_port = ports.0.ok_or(ConntrackError::Missing("source port"))?;
    let destination_port = ports.1.ok_or(ConntrackError::Missing("destination port"))?;
    Ok(Some(FiveTuple {
        transport,
        local: Endpoint::new(source, source_port),
        remote: Endpoint::new(destination, destination_port),
    }))
}

fn address(kind: u16, value: &[u8]) -> Result<IpAddr, ConntrackError> {
    Ok(match kind {
        attribute::IP_V4_SRC | attribute::IP_V4_DST => IpAddr::V4(Ipv4Addr::from(number::<4>(value)?)),
        _ => IpAddr::V6(Ipv6Addr::from(number::<16>(value)?)),
    })
}

/// The bytes of a number or address, in network order.
fn number<const BYTES: usize>(value: &[u8]) -> Result<[u8; BYTES], ConntrackError> {
    value.first_chunk().copied().ok_or(ConntrackError::CutShort { wanted: BYTES, had: value.len() })
}

/// Attributes one after another, each padded to four bytes (man 7 netlink). After an error there is nothing.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), ConntrackError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = core::mem::take(&mut self.0);
        if rest.is_empty() {
            return None;
        }
        let Some(&[a, b, c, d]) = rest.first_chunk::<ATTRIBUTE_HEADER_BYTES>() else {
            return Some(Err(ConntrackError::CutShort { wanted: ATTRIBUTE_HEADER_BYTES, had: rest.len() }));
        };
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let kind = u16::from_ne_bytes([c, d]) & TYPE_MASK;
        let Some(value) = rest.get(ATTRIBUTE_HEADER_BYTES..length) else {
            return Some(Err(ConntrackError::CutShort { wanted: length, had: rest.len() }));
        };
        self.0 = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok((kind, value)))
    }
}

#[cfg(test)]
mod tests;
