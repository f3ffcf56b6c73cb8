//! The lookup thread: answers the reconciler's [`Rescan`]s one after another, and tells what changes in the topology.
//!
//! It has a thread of its own because it enters namespaces, and because every answer blocks on
//! `/proc`. Left out: how each answer is found.

use std::path::PathBuf;
use std::time::Duration;

use netsnoop_core::attribution::{RungSet, Way};
use netsnoop_core::observation::{Observation, Rescan};

use super::container_users::ContainerUsers;
use super::ebpf::iterator::SocketIterator;
use super::link_events::LinkEvents;
use super::name_channel::NameAsker;
use super::namespace_index::NamespaceIndex;
use super::netns::NamespaceVisitor;
use super::process_facts::FactsReader;
use super::socket_lookup::SocketLookup;
use super::topology;
use super::topology_changes::{Gathered, TopologyChanges};
use crate::clock;
use crate::intake::{Input, Intake};
use crate::rescans::RescanReceiver;

/// Where and how to look.
#[derive(Clone, Debug)]
pub struct LookupSettings {
    /// Whose questions are answered.
    pub way: Way,
    /// The `/proc` to look in.
    pub proc_root: PathBuf,
    /// Which ways may be used; only `sock_diag` and `proc` matter here.
    pub rungs: RungSet,
    /// Whether to hear of processes that end, as no kernel hook tells of them.
    pub hears_exits: bool,
    /// Whether what containers call their users is told.
    pub container_users: bool,
    /// Where the cgroup v2 tree is mounted; `None` to find it in the mount table.
    pub cgroup_root: Option<PathBuf>,
    /// Where the kubelet keeps logs of pods and links to them, whose names tell pods (`/var/log`).
    pub kubelet_logs: PathBuf,
}

/// How long what the kernel tells unasked may wait while nothing is asked: all that is known of when a process ended is
/// that it was before this was read.
const KEEP_UP: Duration = Duration::from_millis(100);

/// What a lookup thread works with, besides the settings.
#[derive(Default)]
pub struct LookupTools {
    /// With one sockets are looked up by that, else in their own namespace.
    pub iterator: Option<SocketIterator>,
    /// With these, what changes in the topology is told as it happens, and always before an answer about sockets: so
    /// an answer is never taken for that of a namespace that is known to be another one by then.
    pub link_events: Option<LinkEvents>,
    /// With these, what containers call their users is told.
    pub container_users: Option<ContainerUsers>,
    /// With one, container runtimes are asked for names.
    pub names: Option<NameAsker>,
}

/// Answers until nobody asks or nobody listens any more. Call it on a thread of its own.
pub fn run(
    questions: &RescanReceiver,
    intake: Intake,
    settings: LookupSettings,
    tools: LookupTools,
) -> anyhow::Result<()> {
    let index = NamespaceIndex::new(&settings.proc_root, NamespaceVisitor::new()?)?;
    let LookupSettings { proc_root, cgroup_root, kubelet_logs, .. } = settings;
    let LookupTools { container_users, names, .. } = tools;
    let facts = FactsReader::new(&proc_root, cgroup_root, &kubelet_logs, container_users, names)?;
    let mut lookups = Lookups {
        sockets: SocketLookup::new(index, settings.rungs, settings.hears_exits),
        facts,
        iterator: tools.iterator,
        changes: tools.link_events.map(TopologyChanges::new).transpose()?,
        outlet: Outlet { way: settings.way, intake },
    };
    loop {
        let told = lookups.tell_changes(false)? && lookups.tell_names();
        let question = match questions.try_next() {
            Ok(question) => question,
            Err(_ended) => return Ok(()),
        };
        let heard = match question {
            Some(question) => lookups.answer(question)?,
            None => {
                let changes = lookups.changes.as_ref();
                let patience = changes.and_then(|changes| changes.patience(clock::now()));
                let patience = patience.map_or(KEEP_UP, |patience| patience.min(KEEP_UP));
                questions.wait(changes.map(TopologyChanges::as_fd), patience)?;
                lookups.sockets.keep_up(lookups.outlet.intake.counters());
                true
            }
        };
        if !(told && heard) {
            return Ok(());
        }
    }
}

struct Lookups {
    sockets: SocketLookup,
    facts: FactsReader,
    iterator: Option<SocketIterator>,
    changes: Option<TopologyChanges>,
    outlet: Outlet,
}

/// Where answers go.
struct Outlet {
    way: Way,
    intake: Intake,
}

impl Outlet {
    /// Waits for room if need be: what was not told of the topology would be wrong until all of it is looked at.
    fn insist(&self, answer: Observation) -> bool {
        self.intake.insist(Input::Answer(self.way, answer))
    }
}

impl Lookups {
    /// Answers; `false` once nobody listens.
    fn answer(&mut self, question: Rescan) -> anyhow::Result<bool> {
        let counters = self.outlet.intake.counters();
        let answer = match question {
            Rescan::Sockets { namespace, wanted } => Observation::Sockets(match &mut self.iterator {
                Some(iterator) => iterator.answer(namespace, &wanted, counters)?,
                None => self.sockets.answer(namespace, &wanted, counters),
            }),
            Rescan::Process(process) => Observation::Process(process.id, self.facts.read(&process, counters)),
            Rescan::Topology => return Ok(self.tell_topology()),
            Rescan::TopologyChanges => return self.tell_changes(true),
        };
        Ok(self.outlet.intake.offer(Input::Answer(self.outlet.way, answer)))
    }

    /// Tells the names of containers that have come; `false` once nobody listens.
    fn tell_names(&mut self) -> bool {
        let intake = &self.outlet.intake;
        let told = self.facts.read_names(intake.counters());
        told.into_iter().all(|(process, container)| {
            intake.offer(Input::Answer(self.outlet.way, Observation::ContainerNames(process, container)))
        })
    }

    fn tell_topology(&mut self) -> bool {
        match topology::read_with(&mut self.sockets.index, self.outlet.intake.counters()) {
            Ok(topology) => {
                self.changes.iter_mut().for_each(|changes| changes.learn(&topology));
                self.outlet.insist(Observation::Topology(topology))
            }
            Err(error) => {
                log::warn!("namespaces and interfaces stay as they were known: {error:#}");
                true
            }
        }
    }

    /// Tells what has changed in the topology, if anything has or it was asked for; `false` once nobody listens.
    fn tell_changes(&mut self, asked: bool) -> anyhow::Result<bool> {
        let Some(changes) = &mut self.changes else { return Ok(true) };
        match changes.gather(&mut self.sockets.index, self.outlet.intake.counters())? {
            Gathered::Report(report) if asked || !report.changes.is_empty() => {
                Ok(self.outlet.insist(Observation::TopologyChanges(report)))
            }
            Gathered::Report(_) => Ok(true),
            Gathered::Lost => Ok(self.tell_topology()),
        }
    }
}
