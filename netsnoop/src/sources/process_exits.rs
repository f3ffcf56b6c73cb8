//! Which processes have ended lately, by taskstats: one that has left a listening socket to others may be the one that
//! accepted from it.
//!
//! The kernel tells of an exit before it closes the files (`do_exit`,
//! <https://github.com/torvalds/linux/blob/v6.12/kernel/exit.c>): who no longer holds a socket because it has ended has been
//! told of. Needs CAP_NET_ADMIN in the initial user and pid namespace, since Linux 2.6.18. In another network namespace
//! than the initial one the kernel takes the question and tells nothing (`send_cpu_listeners`,
//! <https://github.com/torvalds/linux/blob/v6.12/kernel/taskstats.c>), so whether it tells is tried, and there it is asked
//! from the initial one, which takes CAP_SYS_ADMIN. Left out: who closes a socket and lives on.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use netlink_packet_core::{DecodeError, ParseableParametrized};
use netlink_packet_generic::{GenlHeader, GenlMessage};
use netsnoop_core::process::ProcessId;
use netsnoop_core::time::Timestamp;
use rustix::io::Errno;

use super::netlink::{Message, Netlink, messages};
use super::netns::on_own_thread;
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
/// The parent of the kernel's threads, which is in the initial network namespace as they all are.
const KTHREADD: u32 = 2;

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
    /// Subscribes. `None` where the kernel has no taskstats or does not tell us. `root` is where the kernel's threads are
    /// found, if they are needed.
    pub(super) fn open(root: &ProcRoot) -> Option<Self> {
        let netlink = subscribed_here().or_else(|error| {
            log::debug!("exits are not heard of by this network namespace: {error:#}");
            subscribed_in_the_initial_namespace(root)
        });
        let netlink = netlink.inspect_err(|error| log::debug!("exits are not heard of: {error:#}")).ok()?;
        Some(Self { netlink, since: clock::now(), lately: VecDeque::new() })
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

/// In this thread's network namespace, where it may turn out that nothing is told.
fn subscribed_here() -> anyhow::Result<Netlink> {
    let mut taskstats = Taskstats::open()?;
    taskstats.netlink.make_room(WAITING_BYTES)?;
    taskstats.subscribe::<Ended>(Question::for_exits_on(possible_cpus()?))?;
    // The end of a thread is told before anybody can wait for it: exit_mm, which wakes who waits, comes after
    // taskstats_exit in do_exit (kernel/exit.c, as above).
    let ends =
        thread::Builder::new().name("ends-at-once".into()).spawn(|| ()).context("starting a thread")?;
    ensure!(ends.join().is_ok(), "the thread panicked");
    taskstats.netlink.receive().context("the end of a thread was not told")?;
    Ok(taskstats.netlink)
}

/// A socket stays in the namespace that it was made in.
fn subscribed_in_the_initial_namespace(root: &ProcRoot) -> anyhow::Result<Netlink> {
    let namespace = root.process(KTHREADD).and_then(|process| process.open_namespace());
    let namespace = namespace.context("finding the initial network namespace by the kernel's threads")?;
    on_own_thread(|mut visitor| {
        let subscribed = visitor.visit(namespace.as_fd(), |_| subscribed_here());
        subscribed.map_err(Errno::from).context("entering the initial one")?
    })
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

    use rustix::thread::{UnshareFlags, unshare_unsafe};

    use super::*;

    /// `false` if nothing is to be heard: without CAP_NET_ADMIN, or on a kernel without taskstats.
    fn check() -> bool {
        let root = ProcRoot::open(Path::new("/proc")).expect("/proc is mounted");
        let Some(mut exits) = ProcessExits::open(&root) else { return false };
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat can be run");
        let mut other = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat can be run");
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
        drop(other.stdin.take());
        other.wait().expect("cat ends with its input");
        true
    }

    #[test]
    fn a_child_that_has_ended_is_a_relative_of_this_process() {
        check();
    }

    #[test]
    fn exits_are_heard_of_in_another_network_namespace_too() {
        let elsewhere = || {
            // SAFETY: only a network is left, and nothing of what this thread shares with others.
            let left = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
            left.is_ok().then(check)
        };
        let (here, elsewhere) = (check(), thread::spawn(elsewhere).join().expect("the checks above hold"));
        // Nobody leaves without CAP_SYS_ADMIN. In a pid namespace of one's own there are no threads of the kernel.
        if let (Some(heard), true) = (elsewhere, here) {
            assert!(heard, "exits are heard of here, and not from another network namespace");
        }
    }
}
