//! What containers and their pods are called, as runtimes and the kubelet's files tell, remembered for a while.
//!
//! Left out: who asks the runtimes, and when; and which container a process is in.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use netsnoop_core::process::Container;
use netsnoop_core::time::Timestamp;

use super::name_channel::{NameAsker, Told};
use super::pod_names::PodNames;
use crate::counters::Counters;

/// Containers whose names are remembered after they have ended: half of it is what was told of last, so days of a usual
/// node, and minutes of one that starts a hundred a second.
const KNOWN_MAX: usize = 32_768;
/// After this long a runtime's answer is not waited for any longer.
pub(super) const NAMES_FOLLOW_MAX: Duration = Duration::from_secs(1);
/// A container that no runtime knows is not asked for again sooner.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Containers that were asked for, and when.
const ASKED_MAX: usize = 4096;

/// What is known of a container's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Naming {
    /// All there is to know.
    Known,
    /// A runtime is asked.
    Follows,
    /// Nobody tells them now. Perhaps a runtime will, once it is there.
    Unknown,
}

/// The names known so far.
#[derive(Debug)]
pub(super) struct ContainerNames {
    kubelet: PodNames,
    runtimes: Option<NameAsker>,
    known: Known,
    asked: HashMap<Arc<str>, Timestamp>,
}

impl ContainerNames {
    /// Knows none yet. Without `runtimes` only the kubelet's files tell any.
    pub(super) fn new(kubelet_logs: &Path, runtimes: Option<NameAsker>) -> Self {
        Self {
            kubelet: PodNames::new(kubelet_logs),
            runtimes,
            known: Known::default(),
            asked: HashMap::new(),
        }
    }

    /// Adds the names to a container, or asks for them.
    pub(super) fn complete(
        &mut self,
        container: &mut Container,
        now: Timestamp,
        counters: &Counters,
    ) -> Naming {
        if self.complete_known(container) {
            return Naming::Known;
        }
        if self.ask(&container.id, now) {
            return Naming::Follows;
        }
        self.complete_by_files(container, now, counters)
    }

    /// Adds the names that runtimes have told; `false` if they told none.
    pub(super) fn complete_known(&mut self, container: &mut Container) -> bool {
        let Some(known) = self.known.find(&container.id) else { return false };
        container.learn_names(known);
        true
    }

    /// Adds what the kubelet's files tell, as no runtime does.
    pub(super) fn complete_by_files(
        &mut self,
        container: &mut Container,
        now: Timestamp,
        counters: &Counters,
    ) -> Naming {
        self.kubelet.complete(container, now, counters);
        if container.name.is_some() { Naming::Known } else { Naming::Unknown }
    }

    /// Takes what was told meanwhile. Returns the cgroups that have come.
    pub(super) fn hear(&mut self, counters: &Counters) -> Vec<Arc<[(u64, Container)]>> {
        let mut cgroups = Vec::new();
        for told in self.runtimes.iter().flat_map(NameAsker::take) {
            match told {
                Told::Names(containers) => {
                    for container in &*containers {
                        self.asked.remove(&container.id);
                        counters.container_names_evicted.add(self.known.learn(container));
                    }
                }
                Told::Cgroups(came) => cgroups.push(came),
            }
        }
        cgroups
    }

    /// Whether an answer is on its way.
    fn ask(&mut self, id: &Arc<str>, now: Timestamp) -> bool {
        let Some(runtimes) = &self.runtimes else { return false };
        let before = self.asked.get(id).map(|asked| now.since(*asked));
        if let Some(before) = before.filter(|before| *before < ASK_EVERY) {
            return before < NAMES_FOLLOW_MAX;
        }
        if self.asked.len() >= ASKED_MAX {
            self.asked.clear();
        }
        let asks = runtimes.ask(id);
        if asks {
            self.asked.insert(id.clone(), now);
        }
        asks
    }
}

/// Containers by their ids, in two halves: when the younger is full, the older is forgotten, so what was not told of for the
/// longest time goes first.
#[derive(Debug, Default)]
struct Known {
    young: HashMap<Arc<str>, Container>,
    old: HashMap<Arc<str>, Container>,
}

impl Known {
    fn find(&self, id: &str) -> Option<&Container> {
        self.young.get(id).or_else(|| self.old.get(id))
    }

    /// Returns how many were forgotten for it.
    fn learn(&mut self, container: &Container) -> u64 {
        let mut forgotten = 0;
        if self.young.len() >= KNOWN_MAX / 2 && !self.young.contains_key(&container.id) {
            let young = std::mem::take(&mut self.young);
            forgotten = std::mem::replace(&mut self.old, young).len() as u64;
        }
        self.old.remove(&container.id);
        self.young.insert(container.id.clone(), container.clone());
        forgotten
    }
}
