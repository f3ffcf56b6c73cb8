//! ctnetlink messages as the netlink crates frame them: one question, and answers that core decodes.

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkPayload, NetlinkSerializable};
use netsnoop_core::conntrack::{ConntrackError, decode};
use netsnoop_core::translation::TranslationChange;

/// NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET
/// (<https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netfilter/nfnetlink_conntrack.h>).
const GET: u16 = (1 << 8) | 1;
/// `struct nfgenmsg` that asks for every address family.
const EVERY_FAMILY: [u8; 4] = [0; 4];

/// Asks for everything that is tracked.
#[derive(Debug)]
pub(super) struct ListAll;

impl NetlinkSerializable for ListAll {
    fn message_type(&self) -> u16 {
        GET
    }

    fn buffer_len(&self) -> usize {
        EVERY_FAMILY.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&EVERY_FAMILY);
    }
}

impl From<ListAll> for NetlinkPayload<ListAll> {
    fn from(question: ListAll) -> Self {
        Self::InnerMessage(question)
    }
}

/// What a message says, if it is of a connection that is translated.
#[derive(Debug)]
pub(super) struct Told(pub(super) Option<TranslationChange>);

impl NetlinkDeserializable for Told {
    type Error = ConntrackError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, ConntrackError> {
        decode(header.message_type, payload).map(Self)
    }
}
