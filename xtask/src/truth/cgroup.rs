//! A cgroup for each place, named as a container's of a pod is, so that netsnoop resolves what it would on a node.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::patience;
use super::scene::Place;
use crate::shell;

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
        if let Some(root) = &self.root
            && let Err(error) = remove(root)
        {
            shell::warn(&format!("a cgroup stays: {error:#}"));
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
    own_folder()?.map_or(Ok(()), |root| remove(&root))
}

/// A cgroup is busy until the kernel has buried its last process.
fn remove(root: &Path) -> Result<()> {
    let deadline = Instant::now() + patience();
    loop {
        match remove_once(root) {
            Ok(()) => return Ok(()),
            Err(_) if !root.exists() => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("removing {}", root.display()));
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn remove_once(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_once(&path)?;
        }
    }
    for line in fs::read_to_string(folder.join("cgroup.procs"))?.lines() {
        // 0: a process of a pid namespace that this one does not see (man 7 cgroups).
        let Some(pid) = line.parse().map(Pid::from_raw).map_err(io::Error::other)? else { continue };
        match kill_process(pid, Signal::KILL) {
            // It has ended meanwhile.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    fs::remove_dir(folder)
}
