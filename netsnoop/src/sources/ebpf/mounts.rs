//! The two file systems that attaching needs: the root of the cgroup v2 hierarchy, and tracefs, which
//! names system call tracepoints.
//!
//! Nothing is mounted where anybody else could see it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use procfs::process::Process;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The inode of the root directory of every kernfs hierarchy, cgroup v2 among them
/// (<https://github.com/torvalds/linux/blob/v5.10/fs/kernfs/dir.c#L960>: numbering starts at 1).
const HIERARCHY_ROOT_INODE: u64 = 1;

/// The places aya looks for tracefs in.
const TRACEFS: &str = "/sys/kernel/tracing";
const TRACEFS_IN_DEBUGFS: &str = "/sys/kernel/debug/tracing";

/// The cgroup v2 mount whose root is the root of the hierarchy: in the own mount namespace, or in that
/// of pid 1, which a pod that shares the host's pid namespace reaches through `/proc/1/root`.
///
/// A mount of a subtree is refused: programs attached there would miss all other workloads in silence.
pub fn cgroup_root() -> Result<PathBuf> {
    let own = cgroup2_mounts(Process::myself(), Path::new("/"))
        .context("reading /proc/self/mountinfo for a cgroup v2 mount")?;
    if let Some(root) = own.iter().find(|path| is_hierarchy_root(path)) {
        return Ok(root.clone());
    }
    let of_init = cgroup2_mounts(Process::new(1), Path::new("/proc/1/root"));
    if let Some(root) = of_init.iter().flatten().find(|path| is_hierarchy_root(path)) {
        return Ok(root.clone());
    }
    Err(match own.first() {
        Some(subtree) => anyhow!(
            "{} shows only a subtree of the cgroup v2 hierarchy, as this is a cgroup namespace of its own",
            subtree.display()
        ),
        None => anyhow!("no cgroup v2 hierarchy is mounted"),
    })
}

fn cgroup2_mounts(process: procfs::ProcResult<Process>, prefix: &Path) -> Result<Vec<PathBuf>> {
    let mounts = process?.mountinfo()?;
    let of_cgroup2 = mounts.into_iter().filter(|mount| mount.fs_type == "cgroup2");
    Ok(of_cgroup2
        .map(|mount| prefix.join(mount.mount_point.strip_prefix("/").unwrap_or(&mount.mount_point)))
        .collect())
}

fn is_hierarchy_root(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|facts| facts.ino() == HIERARCHY_ROOT_INODE)
}

/// Opens the root cgroup, for programs to attach to.
pub fn open_cgroup_root() -> Result<File> {
    let path = cgroup_root()?;
    File::open(&path).with_context(|| format!("opening the root cgroup {}", path.display()))
}

/// Whether tracefs is mounted where aya looks for it, and readable.
pub fn tracefs_is_mounted() -> bool {
    [TRACEFS, TRACEFS_IN_DEBUGFS].iter().any(|path| fs::read_dir(Path::new(path).join("events")).is_ok())
}

/// Runs `act` where tracefs is mounted: here if it is, else in a thread whose mount namespace is its
/// own, with a tracefs that vanishes with the thread. What `act` attached stays: links are files.
pub fn with_tracefs<T: Send>(act: impl FnOnce() -> T + Send) -> Result<T> {
    if tracefs_is_mounted() {
        return Ok(act());
    }
    let in_thread = || -> Result<T> {
        mount_private_tracefs()?;
        Ok(act())
    };
    std::thread::scope(|scope| {
        scope.spawn(in_thread).join().map_err(|_panic| anyhow!("attaching in a mount namespace panicked"))
    })?
}

fn mount_private_tracefs() -> Result<()> {
    ensure!(Path::new(TRACEFS).is_dir(), "{TRACEFS} is missing: the kernel was built without tracing");
    // SAFETY: the file descriptor table stays shared (no FILES flag), which is all that could break
    // descriptors held by other threads. A mount namespace needs a root and working directory of its
    // own (FS), and both belong to this thread alone from here to its end.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
        .context("making a mount namespace for tracefs")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("keeping the mount of tracefs to this thread")?;
    mount("tracefs", TRACEFS, "tracefs", MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC, None)
        .with_context(|| format!("mounting tracefs at {TRACEFS}"))
}

#[cfg(test)]
mod tests {
    use super::is_hierarchy_root;
    use std::path::Path;

    #[test]
    fn only_the_root_of_a_hierarchy_counts() {
        assert!(!is_hierarchy_root(Path::new("/proc/self")));
        assert!(!is_hierarchy_root(Path::new("/absent")));
    }
}
