//! Which container each process runs in, asked once for all that share their cgroups.
//!
//! Left out: names of containers outside Kubernetes, and processes that have ended meanwhile.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use netsnoop_core::proc_text::cgroup::decode_cgroup_file;
use netsnoop_core::process::Container;

use super::draft::Draft;
use crate::clock;
use crate::counters::Counters;
use crate::sources::pod_names::PodNames;
use crate::sources::proc_fs::{ProcRoot, count_unreadable};

/// Containers by what tells them.
#[derive(Debug)]
pub(super) struct Containers<'a> {
    pods: PodNames,
    counters: &'a Counters,
    /// By the text of `/proc/<pid>/cgroup`.
    by_text: HashMap<Vec<u8>, Option<Arc<Container>>>,
}

impl<'a> Containers<'a> {
    /// Knows none yet; `kubelet_logs` is where the kubelet keeps logs.
    pub(super) fn new(kubelet_logs: &Path, counters: &'a Counters) -> Self {
        Self { pods: PodNames::new(kubelet_logs), counters, by_text: HashMap::new() }
    }

    /// The container of a process with this text in its `/proc/<pid>/cgroup`.
    pub(super) fn of_text(&mut self, text: &[u8]) -> Option<Arc<Container>> {
        if let Some(known) = self.by_text.get(text) {
            return known.clone();
        }
        let container = decode_cgroup_file(text).map(|mut container| {
            self.pods.complete(&mut container, clock::now(), self.counters);
            Arc::new(container)
        });
        self.by_text.insert(text.to_vec(), container.clone());
        container
    }

    /// Tells every process its container. Processes with the same number in `cgroups`, where each has one, are in the same
    /// cgroups, and only one of them is asked.
    pub(super) fn complete(&mut self, draft: &mut Draft, proc_root: &ProcRoot, cgroups: &[u64]) {
        let mut text = Vec::new();
        let mut known: HashMap<u64, Option<Arc<Container>>> = HashMap::new();
        for (listed, key) in draft.processes.iter_mut().zip(cgroups) {
            if let Some(container) = known.get(key) {
                listed.container = container.clone();
                continue;
            }
            match proc_root.read(&format!("{}/cgroup", listed.process.id.pid), &mut text) {
                Ok(()) => {
                    listed.container = self.of_text(&text);
                    known.insert(*key, listed.container.clone());
                }
                // Another one of them may still live.
                Err(error) => {
                    count_unreadable(self.counters, error);
                }
            }
        }
    }
}
