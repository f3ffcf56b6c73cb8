//! What `/proc` and cgroupfs tell of one process: executable and container.
//!
//! A process that has ended already can still be placed by the cgroup its evidence named, as the
//! cgroup outlives it. Names of its container may follow later, when a runtime has told them. Left out: user names.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use netsnoop_core::proc_text::cgroup::{decode_cgroup_file, decode_cgroup_path};
use netsnoop_core::proc_text::process::decode_stat;
use netsnoop_core::process::{Container, Process, ProcessFacts, ProcessId};
use netsnoop_core::time::Timestamp;
use rustix::io::Errno;

use super::container_names::{ContainerNames, NAMES_FOLLOW_MAX, Naming};
use super::container_users::ContainerUsers;
use super::name_channel::NameAsker;
use super::proc_fs::{ProcRoot, ProcessDir, count_unreadable, read_directory};
use crate::clock;
use crate::counters::Counters;
use crate::scans::Scan;

/// The cgroup tree is walked at most this often.
const WALK_EVERY: Duration = Duration::from_secs(1);
/// Most cgroups met in one walk, and most remembered.
const CGROUPS_MAX: usize = 65_536;
/// Should the names come after all, for this long they are told of.
const REMEMBER_NAMELESS: Duration = Duration::from_secs(600);
/// Most processes of which that is remembered.
const NAMELESS_MAX: usize = 1024;
/// What the kernel appends to the path of a file that was removed (man 5 proc_pid_exe).
const DELETED: &[u8] = b" (deleted)";

/// Reads facts of processes, and remembers what many of them share.
#[derive(Debug)]
pub struct FactsReader {
    proc_root: ProcRoot,
    names: ContainerNames,
    cgroups: CgroupTree,
    container_users: Option<ContainerUsers>,
    text: Vec<u8>,
    nameless: Vec<Nameless>,
}

/// A process whose container had no names yet when it was told of.
#[derive(Debug)]
struct Nameless {
    process: ProcessId,
    container: Container,
    since: Timestamp,
    /// Whether it was told that there are none for now.
    given_up: bool,
}

impl FactsReader {
    /// Has read nothing yet.
    pub fn new(
        proc_root: &Path,
        cgroup_root: Option<PathBuf>,
        kubelet_logs: &Path,
        container_users: Option<ContainerUsers>,
        runtimes: Option<NameAsker>,
    ) -> anyhow::Result<Self> {
        let proc_root = ProcRoot::open(proc_root)?;
        let root = cgroup_root.or_else(|| find_cgroup2(&proc_root));
        Ok(Self {
            proc_root,
            names: ContainerNames::new(kubelet_logs, runtimes),
            cgroups: CgroupTree { root, containers: HashMap::new(), last_walk: None },
            container_users,
            text: Vec::new(),
            nameless: Vec::new(),
        })
    }

    /// What can still be told of `process`.
    pub fn read(&mut self, process: &Process, counters: &Counters) -> ProcessFacts {
        let _timing = counters.scans.begin(Scan::ProcessFacts);
        let now = clock::now();
        self.hear(counters);
        let mut facts = self.read_living(process, counters).unwrap_or_else(|error| {
            count_unreadable(counters, error);
            ProcessFacts::default()
        });
        if let Some(id) = process.cgroup_id {
            match &facts.container {
                Some(container) => self.cgroups.remember(id, container.clone()),
                None => facts.container = self.cgroups.container(id, now, counters),
            }
        }
        if let Some(container) = &mut facts.container {
            let naming = self.names.complete(container, now, counters);
            facts.names_follow = naming == Naming::Follows;
            if naming != Naming::Known {
                self.nameless.push(Nameless {
                    process: process.id,
                    container: container.clone(),
                    since: now,
                    given_up: naming == Naming::Unknown,
                });
            }
        }
        facts
    }

    /// Containers of processes told of before, now with the names that have come since; without, where they are not waited
    /// for any longer.
    pub fn read_names(&mut self, counters: &Counters) -> Vec<(ProcessId, Option<Container>)> {
        let now = clock::now();
        self.hear(counters);
        let Self { names, nameless, .. } = self;
        let mut told = Vec::new();
        nameless.retain_mut(|waiting| {
            if names.complete_known(&mut waiting.container) {
                told.push((waiting.process, Some(waiting.container.clone())));
                return false;
            }
            if !waiting.given_up && now.since(waiting.since) >= NAMES_FOLLOW_MAX {
                waiting.given_up = true;
                let naming = names.complete_by_files(&mut waiting.container, now, counters);
                let pod_is_named = waiting.container.pod.as_ref().is_some_and(|pod| pod.name.is_some());
                let is_named = naming == Naming::Known || pod_is_named;
                told.push((waiting.process, is_named.then(|| waiting.container.clone())));
                return naming != Naming::Known;
            }
            now.since(waiting.since) < REMEMBER_NAMELESS
        });
        // Those that wait the longest have the least hope.
        let beyond = nameless.len().saturating_sub(NAMELESS_MAX);
        told.extend(nameless.drain(..beyond).filter(|one| !one.given_up).map(|one| (one.process, None)));
        told
    }

    fn hear(&mut self, counters: &Counters) {
        for cgroups in self.names.hear(counters) {
            cgroups.iter().for_each(|(id, container)| self.cgroups.remember(*id, container.clone()));
        }
    }

    fn read_living(&mut self, process: &Process, counters: &Counters) -> Result<ProcessFacts, Errno> {
        let dir = self.proc_root.process(process.id.pid)?;
        dir.read("stat", &mut self.text)?;
        // The handle stays with the process it was opened on, so one comparison is enough.
        if decode_stat(&self.text).is_none_or(|stat| stat.start_ticks != process.id.start_ticks) {
            return Err(Errno::SRCH);
        }
        let executable = match executable(&dir) {
            Ok(path) => Some(path.into()),
            Err(error) => {
                count_unreadable(counters, error);
                None
            }
        };
        dir.read("cgroup", &mut self.text)?;
        let container = decode_cgroup_file(&self.text);
        let asked = self.container_users.as_mut().zip(container.as_ref());
        let container_user =
            asked.and_then(|(users, container)| users.user((dir, &container.id), process.uid, counters));
        Ok(ProcessFacts { executable, container, container_user, names_follow: false })
    }
}

fn executable(dir: &ProcessDir) -> Result<String, Errno> {
    let target = dir.link("exe")?;
    let path = target.strip_suffix(DELETED).unwrap_or(&target);
    Ok(String::from_utf8_lossy(path).into_owned())
}

/// The cgroup v2 tree. Its directories' inodes are the cgroup ids of kernel events, which are never
/// given out twice while the system runs: `kernfs_node` in
/// <https://github.com/torvalds/linux/blob/v5.5/include/linux/kernfs.h>.
#[derive(Debug)]
struct CgroupTree {
    root: Option<PathBuf>,
    containers: HashMap<u64, Container>,
    last_walk: Option<Timestamp>,
}

impl CgroupTree {
    fn remember(&mut self, id: u64, container: Container) {
        if self.containers.len() >= CGROUPS_MAX {
            self.containers.clear();
        }
        self.containers.insert(id, container);
    }

    fn container(&mut self, id: u64, now: Timestamp, counters: &Counters) -> Option<Container> {
        let due = self.last_walk.is_none_or(|last| now.since(last) >= WALK_EVERY);
        if !self.containers.contains_key(&id) && due {
            self.last_walk = Some(now);
            self.walk(counters);
        }
        self.containers.get(&id).cloned()
    }

    fn walk(&mut self, counters: &Counters) {
        let Some(root) = self.root.clone() else { return };
        let mut waiting = vec![root.clone()];
        let mut met = 0;
        while let Some(directory) = waiting.pop() {
            let entries = read_directory(&directory, counters);
            for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                met += 1;
                if met > CGROUPS_MAX {
                    return;
                }
                let path = entry.path();
                let below = path.strip_prefix(&root).unwrap_or(&path);
                if let Some(container) = decode_cgroup_path(below.as_os_str().as_bytes()) {
                    self.remember(entry.ino(), container);
                }
                waiting.push(path);
            }
        }
    }
}

/// Where this process sees the cgroup v2 tree, alone or beside v1 hierarchies.
pub fn cgroup2_root(proc_root: &Path) -> anyhow::Result<Option<PathBuf>> {
    Ok(find_cgroup2(&ProcRoot::open(proc_root)?))
}

fn find_cgroup2(proc_root: &ProcRoot) -> Option<PathBuf> {
    let mut text = Vec::new();
    if let Err(error) = proc_root.read("self/mountinfo", &mut text) {
        log::warn!("containers of ended processes stay unknown: the mount table cannot be read: {error}");
    }
    let line =
        text.split(|byte| *byte == b'\n').find(|line| line.windows(11).any(|part| part == b" - cgroup2 "))?;
    let point = line.split(|byte| *byte == b' ').nth(4)?;
    Some(Path::new(std::ffi::OsStr::from_bytes(point)).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    /// A directory of this test's own, gone when dropped.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("netsnoop-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn add(&self, path: &str) -> u64 {
            let path = self.0.join(path);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::metadata(path).unwrap().ino()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_cgroup_id_finds_its_container_at_most_one_walk_a_second_and_outlives_the_directory() {
        let tree = Tree::new("cgroups");
        let id = "0123456789abcdef".repeat(4);
        let inside = tree.add(&format!("docker/{id}/init"));
        let outside = tree.add("system.slice/ssh.service");
        let counters = Counters::default();
        let mut cgroups =
            CgroupTree { root: Some(tree.0.clone()), containers: HashMap::new(), last_walk: None };
        let start = Timestamp::from_nanos(0);
        let mut find =
            |id, at| cgroups.container(id, at, &counters).map(|container| container.id.to_string());
        assert_eq!(find(inside, start), Some(id.clone()));
        assert_eq!(find(outside, start), None);
        let later = tree.add(&format!("docker/{id}/late"));
        assert_eq!(find(later, start), None);
        assert_eq!(find(later, start + WALK_EVERY), Some(id.clone()));
        std::fs::remove_dir_all(tree.0.join("docker")).unwrap();
        assert_eq!(find(inside, start + WALK_EVERY * 2), Some(id));
    }
}
