//! A cgroup v2 of a test's own, gone with the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use super::patience;

/// A path of folders below the cgroup v2 root, removed when dropped.
pub(crate) struct Cgroup {
    /// The deepest folder first.
    folders: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes `path` below a folder of this process's own; `None` if cgroup v2 is not mounted.
    pub(crate) fn new(path: &str) -> Option<Self> {
        let root = root()?;
        let mut folder = root.join(format!("netsnoop-test-{}", process::id()));
        let mut folders = vec![folder.clone()];
        for name in path.split('/') {
            folder = folder.join(name);
            folders.push(folder.clone());
        }
        fs::create_dir_all(&folder).unwrap();
        folders.reverse();
        Some(Self { folders })
    }

    /// The file that takes the pids to move in.
    pub(crate) fn procs_file(&self) -> PathBuf {
        self.folders[0].join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A cgroup is busy until the kernel has buried its last process, shortly after its parent waited for it.
        let deadline = Instant::now() + patience();
        for folder in &self.folders {
            while fs::remove_dir(folder).is_err() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Where cgroup v2 is mounted, also beside v1 (man 5 proc_pid_mountinfo: the type follows " - ").
pub(crate) fn root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    line.split(' ').nth(4).map(|path| Path::new(path).to_owned())
}
