//! When a process started, to the microsecond, by the taskstats interface of generic netlink.
//!
//! `/proc` tells it in ticks of 10 ms only: too coarse to say whether a process was there when a packet was sent.
//! Taskstats is in the kernels of all large distributions (CONFIG_TASKSTATS, since Linux 2.6.18) and wants
//! CAP_NET_ADMIN; without either the tick is all there is. Left out: everything else taskstats counts.

use netlink_packet_core::{DecodeError, ParseableParametrized};
use netlink_packet_generic::GenlHeader;
use netsnoop_core::process::ProcessId;
use netsnoop_core::time::Timestamp;
use rustix::io::Errno;

use super::taskstats::{Question, Stats, Taskstats};
use crate::clock;

/// Tells when processes started.
#[derive(Debug)]
pub(super) struct ProcessStarts {
    taskstats: Taskstats,
}

impl ProcessStarts {
    /// Opens it. `None` where the kernel has no taskstats or does not let us ask.
    pub(super) fn open() -> Option<Self> {
        let opened = Taskstats::open().map(|taskstats| Self { taskstats }).and_then(|mut this| {
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

    fn age_micros(&mut self, pid: u32) -> Result<u64, Errno> {
        let answer: Answer = self.taskstats.ask(Question::about(pid))?;
        answer.age_micros.ok_or(Errno::BADMSG)
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
        // The least of many, as this thread may be held up in each: what is told then is late, and never early.
        let started = (0..100).filter_map(|_| starts.of(identity.id)).min();
        drop(child.stdin.take());
        child.wait().expect("cat ends with its input");
        let started = started.expect("the child was there");
        let tolerance = std::time::Duration::from_millis(1);
        assert!(before <= started && started <= after + tolerance, "{before:?} {started:?} {after:?}");
        assert_eq!(starts.of(ProcessId { start_ticks: 1, ..identity.id }), None, "another process");
    }
}
