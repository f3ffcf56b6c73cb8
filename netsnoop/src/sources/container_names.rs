//! What containers and their pods are called, as runtimes and the kubelet's files tell, remembered for a while.
//!
//! Left out: who asks the runtimes, and when; and which container a process is in.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use netsnoop_core::process::{Container, Pod};
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
    known: Remembered<Container>,
    /// By uid: a new container of a pod that is known is named before its runtime tells of it.
    pods: Remembered<Arc<Pod>>,
    asked: HashMap<Arc<str>, Timestamp>,
    /// Since when nobody could be asked for names that no file told either, and whether that was complained of.
    unheard: Option<(Timestamp, bool)>,
}

impl ContainerNames {
    /// Knows none yet. Without `runtimes` only the kubelet's files tell any.
    pub(super) fn new(kubelet_logs: &Path, runtimes: Option<NameAsker>) -> Self {
        Self {
            kubelet: PodNames::new(kubelet_logs),
            runtimes,
            known: Remembered::default(),
            pods: Remembered::default(),
            asked: HashMap::new(),
            unheard: None,
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
            self.unheard = None;
            self.complete_pod(container);
            return Naming::Follows;
        }
        let naming = self.complete_by_files(container, now, counters);
        if naming == Naming::Unknown && self.runtimes.as_ref().is_some_and(|runtimes| !runtimes.is_heard()) {
            self.complain(now);
        }
        naming
    }

    /// Once, and not before a runtime that is there has had the time to answer.
    fn complain(&mut self, now: Timestamp) {
        let (since, complained) = self.unheard.get_or_insert((now, false));
        if !*complained && now.since(*since) >= ASK_EVERY {
            *complained = true;
            log::warn!(
                "containers keep their ids: no container runtime answers (`netsnoop doctor` tells which were tried, \
                 --runtime-socket names another)"
            );
        }
    }

    /// Adds the names that runtimes have told; `false` if they told none.
    pub(super) fn complete_known(&mut self, container: &mut Container) -> bool {
        let Some(known) = self.known.find(&container.id) else { return false };
        container.learn_names(known);
        true
    }

    /// Adds what runtimes have told of its pod, of which it is not the first container.
    fn complete_pod(&self, container: &mut Container) {
        if let Some(pod) = &mut container.pod
            && let Some(known) = self.pods.find(&pod.uid)
        {
            pod.clone_from(known);
        }
    }

    /// Adds what the kubelet's files tell, as no runtime does.
    pub(super) fn complete_by_files(
        &mut self,
        container: &mut Container,
        now: Timestamp,
        counters: &Counters,
    ) -> Naming {
        self.kubelet.complete(container, now, counters);
        self.complete_pod(container);
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
                        if let Some(pod) = container.pod.as_ref().filter(|pod| pod.name.is_some()) {
                            self.pods.learn(&pod.uid, pod.clone());
                        }
                        let forgotten = self.known.learn(&container.id, container.clone());
                        counters.container_names_evicted.add(forgotten);
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

/// What was told, by id, in two halves: when the younger is full, the older is forgotten, so what was not told of for the
/// longest time goes first.
#[derive(Debug)]
struct Remembered<V> {
    young: HashMap<Arc<str>, V>,
    old: HashMap<Arc<str>, V>,
}

impl<V> Default for Remembered<V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<V> Remembered<V> {
    fn find(&self, id: &str) -> Option<&V> {
        self.young.get(id).or_else(|| self.old.get(id))
    }

    /// Returns how many were forgotten for it.
    fn learn(&mut self, id: &Arc<str>, told: V) -> u64 {
        let mut forgotten = 0;
        if self.young.len() >= KNOWN_MAX / 2 && !self.young.contains_key(id) {
            let young = std::mem::take(&mut self.young);
            forgotten = std::mem::replace(&mut self.old, young).len() as u64;
        }
        self.old.remove(id);
        self.young.insert(id.clone(), told);
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::Bell;
    use crate::sources::name_channel::Wishes;

    #[test]
    fn a_new_container_of_a_known_pod_has_the_pods_names_before_its_own() {
        let container = |id: &str, name: Option<&str>| Container {
            id: id.into(),
            runtime: None,
            name: name.map(Into::into),
            pod: Some(Arc::new(Pod {
                uid: "uid-1".into(),
                name: name.map(|_| "web-1".into()),
                namespace: name.map(|_| "tools".into()),
                ..Pod::default()
            })),
        };
        let nowhere = tempfile::tempdir().unwrap();
        let (asker, teller) = Wishes::default().asker(Bell::new().unwrap());
        let counters = Counters::default();
        let mut names = ContainerNames::new(nowhere.path(), Some(asker));
        teller.tell(&[container("first", Some("app"))].into(), &counters);
        names.hear(&counters);
        let mut second = container("second", None);
        assert_eq!(names.complete(&mut second, Timestamp::from_nanos(0), &counters), Naming::Unknown);
        assert_eq!(second.pod, container("first", Some("app")).pod);
        assert_eq!(second.name, None, "it is not the first one");
    }
}
