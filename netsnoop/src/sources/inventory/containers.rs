//! Which container each process runs in, asked once for all that share their cgroups.
//!
//! Left out: names of containers outside Kubernetes, and processes that have ended meanwhile.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use netsnoop_core::proc_text::cgroup::decode_cgroup_file;
use netsnoop_core::process::Container;
use rustix::io::Errno;

use super::draft::Draft;
use crate::clock;
use crate::counters::Counters;
use crate::sources::pod_names::PodNames;
use crate::sources::proc_fs::{ProcRoot, count_unreadable};

/// Containers by what tells them.
#[derive(Debug)]
pub(super) struct Containers {
    pods: PodNames,
    /// By the text of `/proc/<pid>/cgroup`.
    by_text: HashMap<Vec<u8>, Option<Arc<Container>>>,
    text: Vec<u8>,
}

impl Containers {
    /// Knows none yet; `container_logs` is where the kubelet keeps its links.
    pub(super) fn new(container_logs: &Path) -> Self {
        Self { pods: PodNames::new(container_logs), by_text: HashMap::new(), text: Vec::new() }
    }

    /// Tells every process its container. Processes with the same number in `cgroups`, if there is one for each, are in the
    /// same cgroups, and only one of them is asked.
    pub(super) fn complete(
        &mut self,
        draft: &mut Draft,
        (proc_root, cgroups): (&ProcRoot, &[u64]),
        counters: &Counters,
    ) {
        let mut by_cgroups: HashMap<u64, Option<Arc<Container>>> = HashMap::new();
        for (place, listed) in draft.processes.iter_mut().enumerate() {
            let key = cgroups.get(place);
            if let Some(known) = key.and_then(|key| by_cgroups.get(key)) {
                listed.container = known.clone();
                continue;
            }
            match self.read(listed.process.id.pid, proc_root, counters) {
                Ok(container) => {
                    listed.container = container.clone();
                    by_cgroups.extend(key.map(|key| (*key, container)));
                }
                // Another one may still live.
                Err(error) => {
                    count_unreadable(counters, error);
                }
            }
        }
    }

    fn read(
        &mut self,
        pid: u32,
        proc_root: &ProcRoot,
        counters: &Counters,
    ) -> Result<Option<Arc<Container>>, Errno> {
        proc_root.read(&format!("{pid}/cgroup"), &mut self.text)?;
        if let Some(known) = self.by_text.get(&self.text) {
            return Ok(known.clone());
        }
        let container = decode_cgroup_file(&self.text).map(|mut container| {
            self.pods.complete(&mut container, clock::now(), counters);
            Arc::new(container)
        });
        self.by_text.insert(self.text.clone(), container.clone());
        Ok(container)
    }
}
