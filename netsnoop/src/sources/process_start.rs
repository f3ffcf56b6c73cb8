//! When a process started, to the microsecond, by the taskstats interface of generic netlink.
//!
//! `/proc` tells it in ticks of 10 ms only: too coarse to say whether a process was there when a packet was sent.
//! Taskstats is in the kernels of all large distributions (CONFIG_TASKSTATS, since Linux 2.6.18) and wants
//! CAP_NET_ADMIN; without either the tick is all there is. Left out: everything else taskstats counts.

use netlink_packet_core::{
    DecodeError, Emitable, NLM_F_REQUEST, NetlinkDeserializable, NetlinkSerializable, NlaBuffer,
    NlasIterator, ParseableParametrized,
};
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use netlink_sys::protocols::NETLINK_GENERIC;
use netsnoop_core::process::ProcessId;
use netsnoop_core::time::Timestamp;
use rustix::io::Errno;

use super::netlink::{Message, Netlink, messages};
use crate::clock;

// The numbers of https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/taskstats.h, which are ABI.
const TASKSTATS_CMD_GET: u8 = 1;
const TASKSTATS_CMD_ATTR_PID: u16 = 1;
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

/// Tells when processes started.
#[derive(Debug)]
pub(super) struct ProcessStarts {
    netlink: Netlink,
    family: u16,
}

impl ProcessStarts {
    /// Opens it. `None` where the kernel has no taskstats or does not let us ask.
    pub(super) fn open() -> Option<Self> {
        let opened = Self::try_open().and_then(|mut this| {
            // Whether we may ask shows only when asking.
            this.age_micros(std::process::id())?;
            Ok(this)
        });
        opened.inspect_err(|error| log::debug!("process starts are known to the tick only: {error}")).ok()
    }

    /// The moment `process` had surely started by, a few microseconds after it did. `None` if it has ended, or
    /// `/proc` and taskstats do not speak of the same process.
    pub(super) fn of(&mut self, process: ProcessId) -> Option<Timestamp> {
        // Twice, as this thread may be held up between the kernel's look at the clock and its own.
        let mut started = self.now_less_age(process.pid)?;
        started = started.min(self.now_less_age(process.pid)?);
        let (earliest, latest) = process.started_between();
        (earliest <= started).then(|| started.min(latest)).filter(|_| started.since(latest).as_millis() < 1)
    }

    fn now_less_age(&mut self, pid: u32) -> Option<Timestamp> {
        let age = self.age_micros(pid).ok()?.checked_mul(1_000)?;
        clock::now().as_nanos().checked_sub(age).map(Timestamp::from_nanos)
    }

    fn try_open() -> Result<Self, Errno> {
        let (netlink, family) = open_taskstats()?;
        Ok(Self { netlink, family })
    }

    fn age_micros(&mut self, pid: u32) -> Result<u64, Errno> {
        let mut question = GenlMessage::from_payload(Question { pid });
        question.set_resolved_family_id(self.family);
        let answer: Answer = ask(&mut self.netlink, question)?;
        answer.age_micros.ok_or(Errno::BADMSG)
    }
}

/// A socket to ask taskstats with, and the number of its family.
pub(super) fn open_taskstats() -> Result<(Netlink, u16), Errno> {
    let mut netlink = Netlink::open(NETLINK_GENERIC)?;
    let name = GenlCtrlAttrs::FamilyName("TASKSTATS".to_owned());
    let question = GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![name] };
    let answer: GenlCtrl = ask(&mut netlink, GenlMessage::from_payload(question))?;
    let family = answer.nlas.iter().find_map(|attribute| match attribute {
        GenlCtrlAttrs::FamilyId(id) => Some(*id),
        _ => None,
    });
    Ok((netlink, family.ok_or(Errno::NOENT)?))
}

fn ask<Q, A>(netlink: &mut Netlink, question: GenlMessage<Q>) -> Result<A, Errno>
where
    Q: GenlFamily + Emitable + std::fmt::Debug,
    A: ParseableParametrized<[u8], GenlHeader> + std::fmt::Debug,
    GenlMessage<Q>: NetlinkSerializable,
    GenlMessage<A>: NetlinkDeserializable,
{
    netlink.ask(question, NLM_F_REQUEST)?;
    match messages::<GenlMessage<A>>(netlink.receive()?).next() {
        Some(Message::Told(answer)) => Ok(answer.payload),
        Some(Message::Refused(error)) => Err(error),
        _ => Err(Errno::BADMSG),
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

    fn age_micros(self) -> Option<u64> {
        self.bytes(AC_ETIME).map(u64::from_ne_bytes)
    }
}

/// How old is this process?
#[derive(Debug)]
struct Question {
    pid: u32,
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
        8
    }

    fn emit(&self, buffer: &mut [u8]) {
        let mut attribute = NlaBuffer::new(buffer);
        attribute.set_length(8);
        attribute.set_kind(TASKSTATS_CMD_ATTR_PID);
        attribute.value_mut().copy_from_slice(&self.pid.to_ne_bytes());
    }
}

#[derive(Debug)]
struct Answer {
    age_micros: Option<u64>,
}

impl ParseableParametrized<[u8], GenlHeader> for Answer {
    fn parse_with_param(buffer: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        Stats::find(buffer, |stats| stats.age_micros()).map(|age_micros| Self { age_micros })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::sources::proc_fs::ProcRoot;

    #[test]
    fn a_child_started_between_its_fork_and_now() {
        let Some(mut starts) = ProcessStarts::open() else {
            // Without CAP_NET_ADMIN, or on a kernel without taskstats, there is nothing to see.
            return;
        };
        let before = clock::now();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat can be run");
        let after = clock::now();
        let root = ProcRoot::open(std::path::Path::new("/proc")).expect("/proc is mounted");
        let process = root.process(child.id()).expect("the child waits for its input");
        let (identity, _) =
            process.identity(&mut Vec::new()).expect("it can be read").expect("it is understood");
        let started = starts.of(identity.id);
        drop(child.stdin.take());
        child.wait().expect("cat ends with its input");
        let started = started.expect("the child was there");
        let tolerance = std::time::Duration::from_millis(1);
        assert!(before <= started && started <= after + tolerance, "{before:?} {started:?} {after:?}");
        assert_eq!(starts.of(ProcessId { start_ticks: 1, ..identity.id }), None, "another process");
    }
}
