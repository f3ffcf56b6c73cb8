//! A cgroup for each place, named as a container's of a pod is, so that netsnoop resolves what it would on a node.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::patience;
use super::scene::Place;

/// The bench's cgroups; taken away when dropped. Without cgroup v2 there are none, and players stay where they are.
pub(crate) struct Cgroups {
    root: Option<PathBuf>,
}

impl Cgroups {
    /// Makes one for each place below a folder of this process's own.
    pub(crate) fn new() -> Result<Self> {
        let Some(root) = own_folder()? else { return Ok(Self { root: None }) };
        for place in Place::ALL {
            let folder = folder(&root, place);
            fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        }
        Ok(Self { root: Some(root) })
    }

    /// The file that takes the pids to move in; a node's own process is in no pod's.
    pub(crate) fn procs_file(&self, place: Place) -> Option<PathBuf> {
        Some(folder(self.root.as_ref()?, place).join("cgroup.procs"))
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        if let Some(root) = &self.root {
            remove(root);
        }
    }
}

fn folder(root: &Path, place: Place) -> PathBuf {
    match place {
        Place::Node => root.join("system"),
        _ => root.join("kubepods").join(place.container()),
    }
}

/// The folder of this process's cgroups; none without cgroup v2 (man 5 proc_pid_mountinfo: the type follows " - ").
fn own_folder() -> Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let root = mount.and_then(|line| line.split(' ').nth(4));
    Ok(root.map(|root| Path::new(root).join(format!("netsnoop-truth-{}", std::process::id()))))
}

/// Ends whatever runs in this process's cgroups and removes them: for when the bench is interrupted.
pub(crate) fn remove_own() -> Result<()> {
    if let Some(root) = own_folder()? {
        remove(&root);
    }
    Ok(())
}

/// A cgroup is busy until the kernel has buried its last process.
fn remove(root: &Path) {
    let deadline = Instant::now() + patience();
    while root.exists() && Instant::now() < deadline {
        if !remove_once(root) {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn remove_once(folder: &Path) -> bool {
    let below = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in below.filter(|entry| entry.path().is_dir()) {
        remove_once(&entry.path());
    }
    let pids = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in pids.lines().filter_map(|line| line.parse().ok().and_then(Pid::from_raw)) {
        // One that has ended meanwhile cannot be ended again.
        if kill_process(pid, Signal::KILL).is_err() {
            continue;
        }
    }
    fs::remove_dir(folder).is_ok()
}
