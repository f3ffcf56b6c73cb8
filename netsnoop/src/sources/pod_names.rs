//! Names of pods and containers, from the links the kubelet makes for log collectors:
//! `/var/log/containers/<pod>_<namespace>_<container>-<container id>.log`.
//!
//! Left out: labels and everything else that only the API server knows.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use netsnoop_core::process::{Container, Pod};
use netsnoop_core::time::Timestamp;

use super::proc_fs::read_directory;
use crate::counters::Counters;

/// The directory is read at most this often, however many containers are not in it.
const READ_EVERY: Duration = Duration::from_secs(1);
/// Beyond what any node runs (the kubelet's default is 110 pods).
const NAMES_MAX: usize = 65_536;

/// The names known so far.
#[derive(Debug)]
pub(super) struct PodNames {
    directory: PathBuf,
    by_container: HashMap<Box<str>, Names>,
    last_read: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Names {
    pod: Arc<str>,
    namespace: Arc<str>,
    container: Arc<str>,
}

impl PodNames {
    /// Has read nothing yet.
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), by_container: HashMap::new(), last_read: None }
    }

    /// Adds the names to a container of a pod.
    pub(super) fn complete(&mut self, container: &mut Container, now: Timestamp, counters: &Counters) {
        let Some(pod) = &container.pod else { return };
        let due = self.last_read.is_none_or(|last| now.since(last) >= READ_EVERY);
        if !self.by_container.contains_key(&*container.id) && due {
            self.last_read = Some(now);
            self.read(counters);
        }
        if let Some(names) = self.by_container.get(&*container.id) {
            container.name = Some(names.container.clone());
            container.pod = Some(Arc::new(Pod {
                uid: pod.uid.clone(),
                name: Some(names.pod.clone()),
                namespace: Some(names.namespace.clone()),
            }));
        }
    }

    /// Where there is no kubelet there is no such directory, and nothing to know.
    fn read(&mut self, counters: &Counters) {
        self.by_container.clear();
        for file in read_directory(&self.directory, counters).take(NAMES_MAX).map(|entry| entry.file_name()) {
            if let Some((id, names)) = file.to_str().and_then(decode_file_name) {
                self.by_container.insert(id.into(), names);
            }
        }
    }
}

/// No part but the last may hold an underscore or a dot-less hyphened id: all are DNS labels.
fn decode_file_name(file: &str) -> Option<(&str, Names)> {
    let (names, id) = file.strip_suffix(".log")?.rsplit_once('-')?;
    let mut parts = names.split('_');
    let names =
        Names { pod: parts.next()?.into(), namespace: parts.next()?.into(), container: parts.next()?.into() };
    (parts.next().is_none() && !id.is_empty()).then_some((id, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, expected: Option<(&str, &str, &str, &str)>) {
        let found = decode_file_name(file);
        let found =
            found.as_ref().map(|(id, names)| (*id, &*names.pod, &*names.namespace, &*names.container));
        assert_eq!(found, expected, "{file}");
    }

    #[test]
    fn names_of_log_links() {
        check("web-1_tools_app-0123abc.log", Some(("0123abc", "web-1", "tools", "app")));
        check(
            "kube-proxy-x7_kube-system_kube-proxy-9f.log",
            Some(("9f", "kube-proxy-x7", "kube-system", "kube-proxy")),
        );
        check("web-1_tools_app-0123abc", None);
        check("web-1_tools-0123abc.log", None);
        check("a_b_c_d-1.log", None);
        check("a_b_c-.log", None);
        check("", None);
    }
}
