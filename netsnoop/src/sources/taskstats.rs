//! The taskstats interface of generic netlink, as far as netsnoop asks it.
//!
//! It is in the kernels of all large distributions (CONFIG_TASKSTATS, since Linux 2.6.18) and wants CAP_NET_ADMIN.
//! Left out: what the answers prove (`process_start`, `process_exits`), and everything else that it counts.

use std::fmt::Debug;

use netlink_packet_core::{
    DecodeError, Emitable, NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NlaBuffer, NlasIterator,
    ParseableParametrized,
};
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use netlink_sys::protocols::NETLINK_GENERIC;
use rustix::io::Errno;

use super::netlink::{Message, Netlink, messages};

// The numbers of https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/taskstats.h, which are ABI.
const TASKSTATS_CMD_GET: u8 = 1;
const TASKSTATS_CMD_ATTR_PID: u16 = 1;
const TASKSTATS_CMD_ATTR_REGISTER_CPUMASK: u16 = 3;
const TASKSTATS_TYPE_STATS: u16 = 3;
const TASKSTATS_TYPE_AGGR_PID: u16 = 4;
// Where the fields are in `struct taskstats`, which only ever grows at its end.
const VERSION: usize = 0;
const AC_FLAG: usize = 8;
const AC_PID: usize = 128;
const AC_PPID: usize = 132;
/// The age in microseconds.
const AC_ETIME: usize = 144;
/// The last thread of a process has this in `ac_flag` (include/uapi/linux/acct.h) since version 12, Linux 5.19.
const AGROUP: u8 = 0x20;
const KNOWS_AGROUP: u16 = 12;

/// A socket to ask taskstats with.
#[derive(Debug)]
pub(super) struct Taskstats {
    pub(super) netlink: Netlink,
    family: u16,
}

impl Taskstats {
    /// Opens it. Whether it answers shows only when asking.
    pub(super) fn open() -> Result<Self, Errno> {
        let mut netlink = Netlink::open(NETLINK_GENERIC)?;
        let name = GenlCtrlAttrs::FamilyName(Question::family_name().to_owned());
        let question = GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![name] };
        netlink.ask(GenlMessage::from_payload(question), NLM_F_REQUEST)?;
        let answer: GenlCtrl = answer(&mut netlink)?.ok_or(Errno::BADMSG)?;
        let family = answer.nlas.iter().find_map(|attribute| match attribute {
            GenlCtrlAttrs::FamilyId(id) => Some(*id),
            _ => None,
        });
        Ok(Self { netlink, family: family.ok_or(Errno::NOENT)? })
    }

    /// Asks, and reads the answer.
    pub(super) fn ask<A>(&mut self, question: Question) -> Result<A, Errno>
    where
        A: ParseableParametrized<[u8], GenlHeader> + Debug,
        GenlMessage<A>: NetlinkDeserializable,
    {
        self.send(question, NLM_F_REQUEST)?;
        answer(&mut self.netlink)?.ok_or(Errno::BADMSG)
    }

    /// Asks for what is then told again and again as messages `A`.
    pub(super) fn subscribe<A>(&mut self, question: Question) -> Result<(), Errno>
    where
        A: ParseableParametrized<[u8], GenlHeader> + Debug,
        GenlMessage<A>: NetlinkDeserializable,
    {
        self.send(question, NLM_F_REQUEST | NLM_F_ACK)?;
        // An acknowledgement is an error message without an error, which is no message here.
        let told: Option<A> = answer(&mut self.netlink)?;
        if told.is_none() { Ok(()) } else { Err(Errno::BADMSG) }
    }

    fn send(&mut self, question: Question, flags: u16) -> Result<(), Errno> {
        let mut message = GenlMessage::from_payload(question);
        message.set_resolved_family_id(self.family);
        self.netlink.ask(message, flags)
    }
}

fn answer<A>(netlink: &mut Netlink) -> Result<Option<A>, Errno>
where
    A: ParseableParametrized<[u8], GenlHeader> + Debug,
    GenlMessage<A>: NetlinkDeserializable,
{
    match messages::<GenlMessage<A>>(netlink.receive()?).next() {
        Some(Message::Told(answer)) => Ok(Some(answer.payload)),
        Some(Message::Refused(error)) => Err(error),
        Some(_) => Err(Errno::BADMSG),
        None => Ok(None),
    }
}

/// A question of one attribute.
#[derive(Debug)]
pub(super) struct Question {
    attribute: u16,
    value: Vec<u8>,
}

impl Question {
    /// What is known of this process?
    pub(super) fn about(pid: u32) -> Self {
        Self { attribute: TASKSTATS_CMD_ATTR_PID, value: pid.to_ne_bytes().to_vec() }
    }

    /// Tell me of every thread that ends on these processors, as text that ends in 0.
    pub(super) const fn for_exits_on(processors: Vec<u8>) -> Self {
        Self { attribute: TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, value: processors }
    }
}

impl GenlFamily for Question {
    fn family_name() -> &'static str {
        "TASKSTATS"
    }

    fn command(&self) -> u8 {
        TASKSTATS_CMD_GET
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Question {
    fn buffer_len(&self) -> usize {
        (4 + self.value.len()).next_multiple_of(4)
    }

    fn emit(&self, buffer: &mut [u8]) {
        let mut attribute = NlaBuffer::new(buffer);
        attribute.set_length(u16::try_from(4 + self.value.len()).unwrap_or(u16::MAX));
        attribute.set_kind(self.attribute);
        attribute.value_mut().copy_from_slice(&self.value);
    }
}

/// `struct taskstats` of a thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stats<'a>(&'a [u8]);

impl Stats<'_> {
    /// What `read` finds in the one among the attributes of a message.
    pub(super) fn find<T>(
        message: &[u8],
        read: impl FnOnce(Stats<'_>) -> Option<T>,
    ) -> Result<Option<T>, DecodeError> {
        for aggregate in NlasIterator::new(message) {
            let aggregate = aggregate?;
            if aggregate.kind() != TASKSTATS_TYPE_AGGR_PID {
                continue;
            }
            for attribute in NlasIterator::new(aggregate.value()) {
                let attribute = attribute?;
                if attribute.kind() == TASKSTATS_TYPE_STATS {
                    return Ok(read(Stats(attribute.value())));
                }
            }
        }
        Ok(None)
    }

    fn bytes<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    /// The thread's id, which for the last one of most processes is that of the process.
    pub(super) fn pid(self) -> Option<u32> {
        self.bytes(AC_PID).map(u32::from_ne_bytes)
    }

    /// The process that is its parent.
    pub(super) fn parent(self) -> Option<u32> {
        self.bytes(AC_PPID).map(u32::from_ne_bytes)
    }

    /// Whether the process ends with it, as far as this kernel tells.
    pub(super) fn is_last_thread(self) -> bool {
        let knows = self.bytes(VERSION).map(u16::from_ne_bytes) >= Some(KNOWS_AGROUP);
        !knows || self.0.get(AC_FLAG).is_some_and(|flag| flag & AGROUP != 0)
    }

    /// How long ago the thread started, in microseconds.
    pub(super) fn age_micros(self) -> Option<u64> {
        self.bytes(AC_ETIME).map(u64::from_ne_bytes)
    }
}
