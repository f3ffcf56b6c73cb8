//! Names of pods and containers, from what the kubelet keeps below /var/log: links for log collectors,
//! `containers/<pod>_<namespace>_<container>-<container id>.log`, and the logs themselves, `pods/<namespace>_<pod>_<uid>/<container>`
//! (<https://github.com/kubernetes/kubernetes/blob/v1.32.0/pkg/kubelet/kuberuntime/helpers.go>).
//!
//! Left out: labels and everything else that only the runtime or the API server knows.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use netsnoop_core::process::{Container, Pod};
use netsnoop_core::time::Timestamp;

use super::proc_fs::read_directory;
use crate::counters::Counters;

/// The directories are read at most this often, however many containers are not in them.
const READ_EVERY: Duration = Duration::from_secs(1);
/// Beyond what any node runs (the kubelet's default is 110 pods), those that have ended included.
const NAMES_MAX: usize = 65_536;

/// The names known so far. They are kept when the logs are gone: no id is ever another container's.
#[derive(Debug)]
pub(super) struct PodNames {
    links: PathBuf,
    logs: PathBuf,
    by_container: HashMap<Box<str>, Names>,
    by_pod: HashMap<Box<str>, PodLogs>,
    last_read: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Names {
    pod: Arc<str>,
    namespace: Arc<str>,
    container: Option<Arc<str>>,
}

/// A pod by the directory of its logs.
#[derive(Debug)]
struct PodLogs {
    names: Names,
    directory: PathBuf,
}

impl PodNames {
    /// Has read nothing yet. `root` is `/var/log`.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            links: root.join("containers"),
            logs: root.join("pods"),
            by_container: HashMap::new(),
            by_pod: HashMap::new(),
            last_read: None,
        }
    }

    /// Adds the names to a container of a pod.
    pub(super) fn complete(&mut self, container: &mut Container, now: Timestamp, counters: &Counters) {
        let Some(pod) = &container.pod else { return };
        let due = self.last_read.is_none_or(|last| now.since(last) >= READ_EVERY);
        if !self.by_container.contains_key(&*container.id) && due {
            self.last_read = Some(now);
            self.read(counters);
        }
        if let Some(names) = self.find(&container.id, &pod.uid, counters) {
            container.name = names.container;
            container.pod = Some(Arc::new(Pod {
                uid: pod.uid.clone(),
                name: Some(names.pod),
                namespace: Some(names.namespace),
                labels: Box::default(),
            }));
        }
    }

    fn find(&mut self, container: &str, pod: &str, counters: &Counters) -> Option<Names> {
        if let Some(names) = self.by_container.get(container) {
            return Some(names.clone());
        }
        let logs = self.by_pod.get(pod)?;
        let container_name = only_container(&logs.directory, counters);
        let names = Names { container: container_name, ..logs.names.clone() };
        if names.container.is_some() {
            self.by_container.insert(container.into(), names.clone());
        }
        Some(names)
    }

    /// Where there is no kubelet there are no such directories, and nothing to know.
    fn read(&mut self, counters: &Counters) {
        if self.by_container.len() + self.by_pod.len() > NAMES_MAX {
            self.by_container.clear();
            self.by_pod.clear();
        }
        for file in read_directory(&self.links, counters).take(NAMES_MAX).map(|entry| entry.file_name()) {
            if let Some((id, names)) = file.to_str().and_then(decode_link) {
                self.by_container.insert(id.into(), names);
            }
        }
        for entry in read_directory(&self.logs, counters).take(NAMES_MAX) {
            if let Some((uid, names)) = entry.file_name().to_str().and_then(decode_directory) {
                self.by_pod.insert(uid.into(), PodLogs { names, directory: entry.path() });
            }
        }
    }
}

/// A container's directory is there before the container is, so one of two is not taken for the only one. The sandbox, which
/// has none, has no sockets that anybody would ask about.
fn only_container(directory: &Path, counters: &Counters) -> Option<Arc<str>> {
    let containers = read_directory(directory, counters);
    let mut containers = containers.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let only = containers.next().filter(|_| containers.next().is_none())?;
    only.file_name().to_str().map(Arc::from)
}

/// No part but the last may hold an underscore or a dot-less hyphened id: all are DNS labels.
fn decode_link(file: &str) -> Option<(&str, Names)> {
    let (names, id) = file.strip_suffix(".log")?.rsplit_once('-')?;
    let [pod, namespace, container] = three_parts(names)?;
    let names = Names { pod: pod.into(), namespace: namespace.into(), container: Some(container.into()) };
    (!id.is_empty()).then_some((id, names))
}

fn decode_directory(directory: &str) -> Option<(&str, Names)> {
    let [namespace, pod, uid] = three_parts(directory)?;
    Some((uid, Names { pod: pod.into(), namespace: namespace.into(), container: None }))
}

fn three_parts(text: &str) -> Option<[&str; 3]> {
    let mut parts = text.split('_');
    let three = [parts.next()?, parts.next()?, parts.next()?];
    (parts.next().is_none() && !three.contains(&"")).then_some(three)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn check(file: &str, expected: Option<(&str, &str, &str, &str)>) {
        let found = decode_link(file);
        let found = found.as_ref().map(|(id, names)| {
            (*id, &*names.pod, &*names.namespace, names.container.as_deref().unwrap_or_default())
        });
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
        check("a__c-1.log", None);
        check("", None);
    }

    /// What is told of a container with this id in a pod with this uid.
    fn told(names: &mut PodNames, id: &str, uid: &str, at: Duration) -> [Option<String>; 3] {
        let pod = Pod { uid: uid.into(), ..Pod::default() };
        let mut container = Container { id: id.into(), runtime: None, pod: Some(Arc::new(pod)), name: None };
        names.complete(&mut container, Timestamp::from_nanos(0) + at, &Counters::default());
        let pod = container.pod.unwrap();
        assert_eq!(&*pod.uid, uid);
        [&pod.namespace, &pod.name, &container.name].map(|name| name.as_deref().map(str::to_owned))
    }

    /// As a kubelet lays it out (see above); static pods have a hash for a uid.
    #[test]
    fn logs_tell_pods_and_the_name_of_an_only_container() {
        let root = tempfile::tempdir().unwrap();
        let (web, etcd) = ("0f5a1c2e-7d3b-4e6f-9a8b-1c2d3e4f5a6b", "d2a4ba4ee2d0b4d8c7b1bb4b1f1a4c5e");
        for log in [
            &format!("pods/tools_web-1_{web}/app/0.log"),
            &format!("pods/tools_web-1_{web}/app/1.log"),
            &format!("pods/kube-system_etcd-node1_{etcd}/etcd/0.log"),
            &format!("pods/kube-system_etcd-node1_{etcd}/defrag/0.log"),
            "pods/leftover",
            "containers/etcd-node1_kube-system_etcd-77aa.log",
        ] {
            let log = root.path().join(log);
            fs::create_dir_all(log.parent().unwrap()).unwrap();
            fs::write(log, "").unwrap();
        }
        let mut names = PodNames::new(root.path());
        let mut check = |id, uid, second, expected: [Option<&str>; 3]| {
            let told = told(&mut names, id, uid, Duration::from_secs(second));
            assert_eq!(told.each_ref().map(Option::as_deref), expected, "{id} {uid}");
        };
        check("11", web, 0, [Some("tools"), Some("web-1"), Some("app")]);
        // Two containers: which one it is only the link says.
        check("22", etcd, 0, [Some("kube-system"), Some("etcd-node1"), None]);
        check("77aa", etcd, 0, [Some("kube-system"), Some("etcd-node1"), Some("etcd")]);
        check("33", "another", 0, [None; 3]);
        // A second container beside the first, which keeps its name; both do when the logs are gone.
        fs::create_dir(root.path().join(format!("pods/tools_web-1_{web}/debug"))).unwrap();
        check("12", web, 1, [Some("tools"), Some("web-1"), None]);
        check("11", web, 1, [Some("tools"), Some("web-1"), Some("app")]);
        fs::remove_dir_all(root.path()).unwrap();
        check("11", web, 2, [Some("tools"), Some("web-1"), Some("app")]);
        check("12", web, 2, [Some("tools"), Some("web-1"), None]);
    }
}
