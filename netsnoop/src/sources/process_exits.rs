//! Which processes have ended lately, by taskstats: one that has left a listening socket to others may be the one that
//! accepted from it.
//!
//! The kernel tells of an exit before it closes the files (`do_exit`,
//! <https://github.com/torvalds/linux/blob/v6.12/kernel/exit.c>): who no longer holds a socket because it has ended has been
//! told of. Needs CAP_NET_ADMIN in the initial user and pid namespace, since Linux 2.6.18. Left out: who closes a
//! socket and lives on; and other network namespaces than the initial one, where the kernel takes the question and tells
//! nothing (`send_cpu_listeners`, <https://github.com/torvalds/linux/blob/v6.12/kernel/taskstats.c>), which is not noticed yet.

use std::collections::VecDeque;
use std::time::Duration;

use netlink_packet_core::{DecodeError, ParseableParametrized};
use netlink_packet_generic::{GenlHeader, GenlMessage};
use netsnoop_core::process::ProcessId;
use netsnoop_core::time::Timestamp;
use rustix::io::Errno;

use super::netlink::{Message, Netlink, messages};
use super::proc_fs::ProcRoot;
use super::taskstats::{Question, Stats, Taskstats};
use crate::clock;
use crate::counters::Counters;

/// Room for exits that wait to be read: some thousand.
const WAITING_BYTES: usize = 4 << 20;
/// How long exits are remembered: longer than the oldest look that still names an owner.
const REMEMBERED: Duration = Duration::from_secs(2);
/// Most exits remembered.
const EXITS_MAX: usize = 16_384;

/// Hears of exits.
#[derive(Debug)]
pub(super) struct ProcessExits {
    netlink: Netlink,
    /// All exits since then are known.
    since: Timestamp,
    /// Those of the last moments, in order.
    lately: VecDeque<Exit>,
}

#[derive(Clone, Copy, Debug)]
struct Exit {
    /// When it was read: it was a moment before.
    at: Timestamp,
    pid: u32,
    parent: u32,
}

impl ProcessExits {
    /// Subscribes. `None` where the kernel has no taskstats or does not tell us.
    pub(super) fn open() -> Option<Self> {
        Self::try_open().inspect_err(|error| log::debug!("exits are not heard of: {error}")).ok()
    }

    fn try_open() -> Result<Self, Errno> {
        let mut taskstats = Taskstats::open()?;
        taskstats.netlink.make_room(WAITING_BYTES)?;
        taskstats.subscribe::<Ended>(Question::for_exits_on(possible_cpus()?))?;
        Ok(Self { netlink: taskstats.netlink, since: clock::now(), lately: VecDeque::new() })
    }

    /// Reads what has ended until now.
    pub(super) fn read(&mut self, counters: &Counters) {
        loop {
            let at = clock::now();
            match self.netlink.receive() {
                Ok(told) => {
                    for message in messages::<GenlMessage<Ended>>(told) {
                        if let Message::Told(GenlMessage { payload: Ended(Some((pid, parent))), .. }) =
                            message
                        {
                            self.lately.push_back(Exit { at, pid, parent });
                        }
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(error) => {
                    // What is known begins anew.
                    self.since = clock::now();
                    self.lately.clear();
                    if error != Errno::NOBUFS {
                        log::debug!("exits cannot be read: {error}");
                        counters.proc_failed.add(1);
                        break;
                    }
                    counters.exit_event_overflows.add(1);
                }
            }
        }
        let now = clock::now();
        while self.lately.pop_front_if(|exit| exit.at + REMEMBERED < now).is_some() {}
        while self.lately.len() > EXITS_MAX {
            let lost = self.lately.pop_front();
            self.since = lost.map_or(self.since, |lost| lost.at);
        }
        self.since = self.since.max(now - REMEMBERED);
    }

    /// Since when all exits are known.
    pub(super) const fn known_since(&self) -> Timestamp {
        self.since
    }

    /// When the last child of `holder` ended.
    pub(super) fn last_child(&self, holder: ProcessId) -> Option<Timestamp> {
        self.lately.iter().rev().find(|exit| exit.parent == holder.pid).map(|exit| exit.at)
    }

    /// When the last process ended from which `holder` may have a socket, or which may have one from `holder`: its
    /// parent, child, or another child of its parent.
    pub(super) fn last_relative(
        &self,
        root: &ProcRoot,
        holder: ProcessId,
        text: &mut Vec<u8>,
    ) -> Option<Timestamp> {
        if self.lately.is_empty() {
            return None;
        }
        let parent = root.process(holder.pid).and_then(|process| process.parent(text)).ok().flatten();
        let is_relative = |exit: &&Exit| {
            exit.parent == holder.pid
                || parent.is_none_or(|parent| exit.pid == parent || exit.parent == parent)
        };
        self.lately.iter().rev().find(is_relative).map(|exit| exit.at)
    }
}

/// The processors there may be, as the kernel writes their list, which is how it wants it back.
fn possible_cpus() -> Result<Vec<u8>, Errno> {
    let listed = std::fs::read("/sys/devices/system/cpu/possible");
    let mut listed = listed.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    while listed.last().is_some_and(u8::is_ascii_whitespace) {
        listed.pop();
    }
    listed.push(0);
    Ok(listed)
}

/// Who ended, and its parent; `None` if it was a thread of a process that goes on.
#[derive(Debug)]
struct Ended(Option<(u32, u32)>);

impl ParseableParametrized<[u8], GenlHeader> for Ended {
    fn parse_with_param(buffer: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        let who = |stats: Stats<'_>| stats.pid().zip(stats.parent()).filter(|_| stats.is_last_thread());
        Stats::find(buffer, who).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_that_has_ended_is_a_relative_of_this_process() {
        let Some(mut exits) = ProcessExits::open() else {
            // Without CAP_NET_ADMIN, or on a kernel without taskstats, there is nothing to hear.
            return;
        };
        let root = ProcRoot::open(Path::new("/proc")).expect("/proc is mounted");
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat can be run");
        let other = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat can be run");
        let of = |pid| ProcessId { pid, start_ticks: 0 };
        let before = clock::now();
        drop(child.stdin.take());
        child.wait().expect("cat ends with its input");
        exits.read(&Counters::default());
        let ended = |pid| exits.last_relative(&root, of(pid), &mut Vec::new());
        let (parent, sibling) = (ended(std::process::id()), ended(other.id()));
        assert_eq!(exits.last_child(of(other.id())), None);
        assert!(exits.last_child(of(std::process::id())).is_some_and(|at| at >= before));
        assert!(parent.is_some_and(|at| at >= before), "{parent:?} {before:?}");
        assert!(sibling.is_some_and(|at| at >= before), "{sibling:?} {before:?}");
        assert!(exits.known_since() <= clock::now());
        let mut other = other;
        drop(other.stdin.take());
        other.wait().expect("cat ends with its input");
    }
}
