//! Which connections are translated (NAT), from the kernel's connection tracking by ctnetlink: a listing at the start,
//! then events, from one socket.
//!
//! Heard are the agent's own namespace, which on a node is where services are translated, and every other one that it has
//! given an id to, as it has to all that a veth leads to. What was translated elsewhere before the start is listed too.
//! Left out: what nobody translates, which the kernel keeps back, and what becomes of an entry in between.
//!
//! Asking turns nothing on: connections are tracked in a namespace once one of its rules wants that (`nf_ct_netns_get`,
//! <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_conntrack_proto.c>), and nothing here is such a rule. Where
//! the module is not loaded nobody is asked, as a question would load it. Where it is, the kernel may load
//! nf_conntrack_netlink, the interface asked by, which tracks nothing.

mod message;
mod socket;

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use netsnoop_core::observation::{Observation, Tracker, TranslationReport};
use netsnoop_core::time::Timestamp;
use netsnoop_core::translation::TranslationChange;
use rustix::io::Errno;

use super::namespace_index::{NamespaceIndex, NetFiles};
use super::netns::on_own_thread;
use super::proc_fs::count_unreadable;
use crate::clock;
use crate::counters::Counters;
use crate::intake::{Bell, Input, Intake};

use socket::{Events, Listing};

/// Most events handed over at once.
const BATCH_MAX: usize = 256;
/// How long a listing may take; what is left out then is learnt of as it begins anew, or not.
const LISTING_MAX: Duration = Duration::from_secs(2);
/// How often to look whether connections are tracked by now.
const LOADED_CHECK: Duration = Duration::from_secs(10);

/// Why translations are not told.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The kernel tracks no connection, so it translates none.
    #[error("the kernel tracks no connections (nf_conntrack is not loaded), so it translates none")]
    NotLoaded,
    /// It would not let us ask.
    #[error("reading the kernel's connection tracking: {0}")]
    Refused(#[source] io::Error),
}

/// How connections are tracked in the own namespace, as its settings say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tracking {
    /// How many there are (`nf_conntrack_count`).
    pub tracked: u64,
    /// Whether changes are told (`nf_conntrack_events` is not 0).
    pub events: bool,
    /// Whether their bytes are counted (`nf_conntrack_acct`), which netsnoop does not need.
    pub accounting: bool,
}

/// Reads the settings of this thread's namespace, whose they are whichever `/proc` they are read from
/// (<https://docs.kernel.org/networking/nf_conntrack-sysctl.html>).
pub fn tracking(proc_root: &Path) -> Result<Tracking, Unavailable> {
    let setting = |name: &str| {
        let text = fs::read_to_string(proc_root.join("sys/net/netfilter").join(name))?;
        text.trim().parse::<u64>().map_err(io::Error::other)
    };
    let tracked = setting("nf_conntrack_count").map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unavailable::NotLoaded,
        _ => Unavailable::Refused(error),
    })?;
    // A kernel built without one of them has no such setting.
    let is_on = |name| setting(name).is_ok_and(|value| value != 0);
    Ok(Tracking { tracked, events: is_on("nf_conntrack_events"), accounting: is_on("nf_conntrack_acct") })
}

/// An open subscription: the kernel keeps events for it from now on.
pub struct Conntrack {
    events: Events,
}

impl Conntrack {
    /// Subscribes, in this thread's namespace.
    pub fn open(proc_root: &Path) -> Result<Self, Unavailable> {
        tracking(proc_root)?;
        Events::subscribe().map(|events| Self { events }).map_err(Unavailable::Refused)
    }

    /// Whether the events of other namespaces are told, too.
    pub const fn hears_others(&self) -> bool {
        self.events.hears_others
    }

    /// Hands over what begins and ends, and when `bell` asks up to when that is all, until nobody listens any more.
    /// Call it on a thread of its own, at home.
    pub fn run(mut self, intake: &Intake, bell: &Bell) -> anyhow::Result<()> {
        let ended = self.hear(intake, bell);
        if ended.is_err() {
            // Nobody need wait for what will not come.
            intake
                .insist(Input::Observation(Observation::TranslationsUntil(Timestamp::from_nanos(u64::MAX))));
        }
        ended
    }

    fn hear(&mut self, intake: &Intake, bell: &Bell) -> anyhow::Result<()> {
        let mut is_asked = false;
        loop {
            self.events.wait(bell).context("wait for the events of connection tracking")?;
            is_asked |= bell.take();
            let read_from = clock::now();
            let (reports, is_all) = self.gather(intake.counters())?;
            let told = reports.into_iter().map(Observation::Translations);
            let until = (is_asked && is_all).then_some(Observation::TranslationsUntil(read_from));
            is_asked &= !is_all;
            for observation in told.chain(until) {
                // Waiting here fills the kernel's buffer, and that it overflowed is told; a loss here would not be.
                if !intake.insist(Input::Observation(observation)) {
                    return Ok(());
                }
            }
        }
    }

    /// Takes the events that wait, and says whether those were all. After a loss everything is listed anew, once what
    /// the kernel still held is read: it is older than the listing.
    fn gather(&mut self, counters: &Counters) -> anyhow::Result<(Vec<TranslationReport>, bool)> {
        let mut reports: Vec<TranslationReport> = Vec::new();
        let (mut lost, mut is_all) = (false, false);
        for _ in 0..BATCH_MAX {
            match self.events.read(counters) {
                Ok((tracker, datagram)) => {
                    counters.conntrack_events.add(1);
                    match reports.last_mut() {
                        Some(last) if last.tracker == tracker => last.changes.extend(datagram.changes),
                        _ => reports.push(report(tracker, datagram.changes, false)),
                    }
                }
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::AGAIN) => {
                        is_all = true;
                        break;
                    }
                    Some(Errno::INTR) => {}
                    Some(Errno::NOBUFS) => lost = true,
                    _ => return Err(error).context("read the events of connection tracking"),
                },
            }
        }
        if lost {
            counters.conntrack_overflows.add(1);
            reports.push(list_here(counters)?);
        }
        Ok((reports, is_all))
    }
}

/// Waits until connections are tracked, then does as [`Conntrack::run`].
pub fn run_once_loaded(proc_root: &Path, intake: &Intake, bell: &Bell) -> anyhow::Result<()> {
    loop {
        thread::sleep(LOADED_CHECK);
        match Conntrack::open(proc_root) {
            Ok(conntrack) => {
                let listed = Observation::Translations(list_here(intake.counters())?);
                return if intake.insist(Input::Observation(listed)) {
                    conntrack.run(intake, bell)
                } else {
                    Ok(())
                };
            }
            Err(Unavailable::NotLoaded) => {}
            Err(refused) => return Err(refused.into()),
        }
    }
}

fn report(tracker: Tracker, changes: Vec<TranslationChange>, whole: bool) -> TranslationReport {
    TranslationReport { tracker, at: clock::now(), whole, changes }
}

/// What is translated in this thread's namespace now.
pub fn list_here(counters: &Counters) -> anyhow::Result<TranslationReport> {
    list(Tracker::Own, counters)
}

fn list(tracker: Tracker, counters: &Counters) -> anyhow::Result<TranslationReport> {
    let deadline = Instant::now() + LISTING_MAX;
    let mut listing = Listing::begin()?;
    let mut changes = Vec::new();
    loop {
        let part = listing.next(counters)?;
        changes.extend(part.changes);
        if part.is_end {
            return Ok(report(tracker, changes, true));
        }
        if Instant::now() >= deadline {
            counters.lookups_cut_short.add(1);
            return Ok(report(tracker, changes, false));
        }
    }
}

/// What is translated now in the other namespaces that track anything.
pub fn list_elsewhere(proc_root: &Path, counters: &Counters) -> anyhow::Result<Vec<TranslationReport>> {
    on_own_thread(|visitor| {
        let mut index = NamespaceIndex::new(proc_root, visitor)?;
        index.refresh(counters, clock::now())?;
        let home = index.home_inode();
        let mut reports = Vec::new();
        for inode in index.namespaces().into_keys().filter(|inode| *inode != home) {
            let listed = index.enter(inode, |key, files| match files {
                NetFiles::Inside if tracking(proc_root).is_ok_and(|tracking| tracking.tracked > 0) => {
                    list(Tracker::Known(key), counters).map(Some)
                }
                // Without entering it nobody can ask there.
                NetFiles::Inside | NetFiles::Through(_) => Ok(None),
            });
            match listed {
                Ok(listed) => reports.extend(listed?),
                Err(error) => {
                    count_unreadable(counters, Errno::from(error));
                }
            }
        }
        Ok(reports)
    })
}
