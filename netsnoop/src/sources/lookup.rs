//! The lookup thread: answers the reconciler's [`Rescan`]s one after another.
//!
//! It has a thread of its own because it enters namespaces, and because every answer blocks on
//! `/proc`. Left out: how each answer is found.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use netsnoop_core::attribution::{RungSet, Way};
use netsnoop_core::observation::{Observation, Rescan};

use super::ebpf::iterator::SocketIterator;
use super::namespace_index::NamespaceIndex;
use super::netns::NamespaceVisitor;
use super::process_facts::FactsReader;
use super::socket_lookup::SocketLookup;
use super::topology;
use crate::intake::{Input, Intake};

/// Where and how to look.
#[derive(Clone, Debug)]
pub struct LookupSettings {
    /// Whose questions are answered.
    pub way: Way,
    /// The `/proc` to look in.
    pub proc_root: PathBuf,
    /// Which ways may be used; only `sock_diag` and `proc` matter here.
    pub rungs: RungSet,
    /// Where the cgroup v2 tree is mounted; `None` to find it in the mount table.
    pub cgroup_root: Option<PathBuf>,
    /// The kubelet's directory of log links, whose names tell pods (`/var/log/containers`).
    pub container_logs: PathBuf,
}

/// How long what the kernel tells unasked may wait while nothing is asked.
const KEEP_UP: Duration = Duration::from_secs(1);

/// Answers until nobody asks or nobody listens any more. Call it on a thread of its own. With an `iterator`
/// sockets are looked up by that, else in their own namespace.
pub fn run(
    requests: Receiver<Rescan>,
    intake: Intake,
    settings: LookupSettings,
    mut iterator: Option<SocketIterator>,
) -> anyhow::Result<()> {
    let index = NamespaceIndex::new(&settings.proc_root, NamespaceVisitor::new()?)?;
    let mut sockets = SocketLookup::new(index, settings.rungs);
    let mut facts = FactsReader::new(&settings.proc_root, settings.cgroup_root, &settings.container_logs)?;
    loop {
        let request = match requests.recv_timeout(KEEP_UP) {
            Ok(request) => request,
            Err(RecvTimeoutError::Timeout) => {
                sockets.keep_up();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        let answer = match request {
            Rescan::Sockets { namespace, wanted } => Observation::Sockets(match &mut iterator {
                Some(iterator) => iterator.answer(namespace, &wanted, intake.counters())?,
                None => sockets.answer(namespace, &wanted, intake.counters()),
            }),
            Rescan::Process(process) => {
                Observation::Process(process.id, facts.read(&process, intake.counters()))
            }
            Rescan::Topology => match topology::read_with(&mut sockets.index, intake.counters()) {
                Ok(topology) => Observation::Topology(topology),
                Err(error) => {
                    log::warn!("namespaces and interfaces stay as they were known: {error:#}");
                    continue;
                }
            },
        };
        if !intake.offer(Input::Answer(settings.way, answer)) {
            return Ok(());
        }
    }
}
