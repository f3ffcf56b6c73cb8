//! Which process is in which network namespace, which namespaces only a mount keeps alive, and the
//! way into each of them.
//!
//! Left out: what is found inside. Listing `/proc` is cheap, asking each process for its namespace is
//! not, so answers are kept for as long as the process lives and is not likely to move.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use netsnoop_core::namespace::NamespaceKey;
use netsnoop_core::time::Timestamp;
use procfs::process::MountInfo;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities};

use super::netns::{NamespaceVisitor, VisitError, inode_of};
use super::proc_fs::{ProcRoot, ProcessDir, count_unreadable, read_file_at};
use crate::clock;
use crate::counters::Counters;
use crate::scans::Scan;

/// A runtime moves a process to its namespace right after fork and before exec. Until then its
/// namespace is asked for at every refresh.
const UNSETTLED: Duration = Duration::from_secs(2);
/// The user that may become any other.
const ROOT: u32 = 0;
/// For this long a namespace's users count after their last process was met.
const LATELY: Duration = Duration::from_secs(60);
/// Every process is asked anew this often, as nothing forbids a later move.
const FULL_REFRESH: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Member {
    dir_inode: u64,
    /// `None` if it may not be asked, or has ended: the threads of a zombie may live on, anywhere.
    namespace: Option<u32>,
    first_seen: Timestamp,
    refresh: u64,
}

/// A mount that keeps a namespace alive (`ip netns`, container runtimes).
#[derive(Clone, Debug)]
pub(super) struct NamespaceMount {
    inode: u32,
    path: PathBuf,
}

/// All namespaces of the node, and the thread that visits them.
#[derive(Debug)]
pub(super) struct NamespaceIndex {
    pub(super) proc_root: ProcRoot,
    visitor: NamespaceVisitor,
    members: HashMap<u32, Member>,
    mounts: Vec<NamespaceMount>,
    refreshes: u64,
    last_full: Option<Timestamp>,
    /// The users of a namespace's processes, and when one of theirs was last met.
    users: HashMap<u32, HashMap<u32, Timestamp>>,
}

/// How the `net` files of the namespace at hand are read.
pub(super) enum NetFiles<'a> {
    /// This thread is inside.
    Inside,
    /// Through a process that is inside.
    Through(&'a ProcessDir),
}

impl NetFiles<'_> {
    /// Reads `/proc/<pid>/net/<name>`.
    pub(super) fn read(&self, name: &str, text: &mut Vec<u8>) -> Result<(), Errno> {
        match self {
            Self::Inside => read_file_at(CWD, &format!("/proc/thread-self/net/{name}"), text),
            Self::Through(process) => process.read(&format!("net/{name}"), text),
        }
    }
}

impl NamespaceIndex {
    /// Knows nothing yet; `visitor` must be of the thread that uses the index.
    pub(super) fn new(proc_root: &Path, visitor: NamespaceVisitor) -> anyhow::Result<Self> {
        Ok(Self {
            proc_root: ProcRoot::open(proc_root)?,
            visitor,
            members: HashMap::new(),
            mounts: Vec::new(),
            refreshes: 0,
            last_full: None,
            users: HashMap::new(),
        })
    }

    /// Lists the processes, and asks those that are new or may have moved where they are.
    pub(super) fn refresh(&mut self, counters: &Counters, now: Timestamp) -> anyhow::Result<()> {
        let _timing = counters.scans.begin(Scan::NamespaceIndex);
        self.refreshes += 1;
        let full = self.last_full.is_none_or(|last| now.since(last) >= FULL_REFRESH);
        // Whoever was there before the first look has had its time to move.
        let newcomer_since = if self.last_full.is_none() { now - UNSETTLED } else { now };
        if full {
            self.last_full = Some(now);
            self.mounts = read_mounts(&self.proc_root, counters);
        }
        if full {
            self.users.retain(|_, users| {
                users.retain(|_, met| now.since(*met) < LATELY);
                !users.is_empty()
            });
        }
        let (proc_root, members, refresh) = (&self.proc_root, &mut self.members, self.refreshes);
        let users = &mut self.users;
        proc_root
            .for_each_pid(|entry| {
                let known = members.get(&entry.pid).filter(|member| member.dir_inode == entry.dir_inode);
                let first_seen = known.map_or(newcomer_since, |member| member.first_seen);
                let settled = now.since(first_seen) >= UNSETTLED;
                let namespace = match known {
                    Some(member) if settled && !full => member.namespace,
                    _ => {
                        let namespace = ask(proc_root, entry.pid, counters);
                        if let (Some(inode), Ok(user)) = (namespace, proc_root.user(entry.pid)) {
                            users.entry(inode).or_default().insert(user, now);
                        }
                        namespace
                    }
                };
                members
                    .insert(entry.pid, Member { dir_inode: entry.dir_inode, namespace, first_seen, refresh });
            })
            .with_context(|| format!("list the processes in {}", proc_root.path().display()))?;
        members.retain(|_, member| member.refresh == refresh);
        Ok(())
    }

    /// The user of all processes that were met in the namespace lately, if they had but one. Not root: its processes
    /// become other users' in no time.
    pub(super) fn only_user_lately(&self, inode: u32) -> Option<u32> {
        let users = self.users.get(&inode)?;
        let user = users.keys().next()?;
        (users.len() == 1 && *user != ROOT && Self::may_ask_all()).then_some(*user)
    }

    /// Finds the mounts anew.
    pub(super) fn refresh_mounts(&mut self, counters: &Counters) {
        self.mounts = read_mounts(&self.proc_root, counters);
    }

    /// The namespace has ended; the next one with its inode has other users.
    pub(super) fn forget_users(&mut self, inode: u32) {
        self.users.remove(&inode);
    }

    /// Takes over which processes are in which namespace, instead of asking each of them, and finds the mounts.
    pub(super) fn adopt(&mut self, members: impl Iterator<Item = (u32, u32)>, counters: &Counters) {
        self.mounts = read_mounts(&self.proc_root, counters);
        let first_seen = clock::now();
        for (pid, inode) in members {
            // No directory has this inode number, so the next refresh asks.
            let member = Member { dir_inode: 0, namespace: Some(inode), first_seen, refresh: self.refreshes };
            self.members.insert(pid, member);
        }
    }

    /// Takes over those threads of a process that are in namespaces which are not `known` yet. A thread has a directory like
    /// a process, which only listings leave out (man 5 proc, "/proc/tid").
    pub(super) fn adopt_threads(&mut self, pid: u32, known: &mut BTreeSet<u32>) -> Result<(), Errno> {
        for thread in self.proc_root.process(pid)?.threads()? {
            match self.proc_root.namespace_inode(thread) {
                Ok(inode) if known.insert(inode) => {
                    let (namespace, first_seen) = (Some(inode), clock::now());
                    let member = Member { dir_inode: 0, namespace, first_seen, refresh: self.refreshes };
                    self.members.insert(thread, member);
                }
                Ok(_) | Err(Errno::NOENT | Errno::SRCH) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Which process is in which namespace, as far as is known.
    pub(super) fn members(&self) -> Vec<(u32, u32)> {
        self.members.iter().filter_map(|(pid, member)| Some((*pid, member.namespace?))).collect()
    }

    /// Whether this thread may ask processes of others for their namespace (man 2 ptrace, "Ptrace
    /// access mode checking"). Without that a namespace that is not found may still be there.
    pub(super) fn may_ask_all() -> bool {
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_PTRACE))
    }

    /// Every namespace with its processes, newest first; those that only a mount keeps have none.
    pub(super) fn namespaces(&self) -> BTreeMap<u32, Vec<u32>> {
        let mut found: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (pid, member) in &self.members {
            if let Some(inode) = member.namespace {
                found.entry(inode).or_default().push(*pid);
            }
        }
        for mount in &self.mounts {
            found.entry(mount.inode).or_default();
        }
        found.entry(self.visitor.home_inode()).or_default();
        for pids in found.values_mut() {
            pids.sort_unstable_by(|a, b| b.cmp(a));
        }
        found
    }

    /// The processes in and not in the namespace, newest first. One whose namespace is not known may
    /// be in it.
    pub(super) fn processes_by(&self, inode: u32) -> (Vec<u32>, Vec<u32>) {
        let mut pids: Vec<(u32, bool)> = self
            .members
            .iter()
            .map(|(pid, member)| (*pid, member.namespace.is_some_and(|other| other != inode)))
            .collect();
        pids.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        let (outside, inside): (Vec<_>, Vec<_>) = pids.into_iter().partition(|(_, outside)| *outside);
        (inside.into_iter().map(|(pid, _)| pid).collect(), outside.into_iter().map(|(pid, _)| pid).collect())
    }

    /// The processes that are known to be in the namespace, newest first.
    pub(super) fn known_inside(&self, inode: u32) -> Vec<u32> {
        let inside = self.members.iter().filter(|(_, member)| member.namespace == Some(inode));
        let mut pids: Vec<u32> = inside.map(|(pid, _)| *pid).collect();
        pids.sort_unstable_by(|a, b| b.cmp(a));
        pids
    }

    /// The name a namespace has below `/run/netns`.
    pub(super) fn name_of(&self, inode: u32) -> Option<Arc<str>> {
        self.mounts.iter().filter(|mount| mount.inode == inode).find_map(|mount| {
            let directory = mount.path.parent()?;
            let named = directory.ends_with("run/netns");
            named.then(|| mount.path.file_name().map(|name| name.to_string_lossy().into()))?
        })
    }

    /// The namespace of the thread this index is used on.
    pub(super) const fn home_inode(&self) -> u32 {
        self.visitor.home_inode()
    }

    /// A file that stands for the namespace and keeps it alive.
    pub(super) fn open(&self, inode: u32) -> Result<OwnedFd, VisitError> {
        let mut outcome = VisitError::Gone;
        if inode == self.visitor.home_inode() {
            return self
                .visitor
                .home()
                .try_clone_to_owned()
                .map_err(|error| VisitError::Failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)));
        }
        let through_processes = self
            .known_inside(inode)
            .into_iter()
            .map(|pid| self.proc_root.process(pid).and_then(|process| process.open_namespace()));
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let mounts = self.mounts.iter().filter(|mount| mount.inode == inode);
        let through_mounts = mounts.map(|mount| openat(CWD, &mount.path, flags, Mode::empty()));
        for candidate in through_processes.chain(through_mounts) {
            match candidate {
                Ok(file) if inode_of(file.as_fd()).is_ok_and(|found| found == inode) => return Ok(file),
                Ok(_) => {}
                Err(error) => match VisitError::from(error) {
                    VisitError::Gone => {}
                    other => outcome = other,
                },
            }
        }
        Err(outcome)
    }

    /// Does `work` inside the namespace or, where this thread may not enter, through a process that is
    /// inside. Then the namespace has no cookie, as only a socket in it could tell.
    pub(super) fn enter<T>(
        &mut self,
        inode: u32,
        mut work: impl FnMut(NamespaceKey, NetFiles<'_>) -> T,
    ) -> Result<T, VisitError> {
        let visited = match self.open(inode) {
            Ok(file) => self.visitor.visit(file.as_fd(), |key| work(key, NetFiles::Inside)),
            Err(error) => Err(error),
        };
        match visited {
            Err(VisitError::Denied) => self.through_a_process(inode, work),
            outcome => outcome,
        }
    }

    fn through_a_process<T>(
        &self,
        inode: u32,
        mut work: impl FnMut(NamespaceKey, NetFiles<'_>) -> T,
    ) -> Result<T, VisitError> {
        let is_there = |process: &ProcessDir| process.namespace_inode().is_ok_and(|found| found == inode);
        for pid in self.known_inside(inode) {
            let Ok(process) = self.proc_root.process(pid) else { continue };
            if !is_there(&process) {
                continue;
            }
            let result = work(NamespaceKey { inode, cookie: None }, NetFiles::Through(&process));
            // Whoever ended or moved away meanwhile may have shown another namespace's tables.
            if is_there(&process) {
                return Ok(result);
            }
        }
        Err(VisitError::Denied)
    }
}

fn ask(proc_root: &ProcRoot, pid: u32, counters: &Counters) -> Option<u32> {
    match proc_root.namespace_inode(pid) {
        Ok(inode) => Some(inode),
        Err(error) => {
            count_unreadable(counters, error);
            None
        }
    }
}

/// The mounts of namespaces that this process and the node's first one see.
fn read_mounts(proc_root: &ProcRoot, counters: &Counters) -> Vec<NamespaceMount> {
    let mut text = Vec::new();
    let mut found: Vec<NamespaceMount> = Vec::new();
    let below_first = proc_root.path().join("1/root");
    for (file, root) in [("self/mountinfo", Path::new("/")), ("1/mountinfo", &below_first)] {
        if let Err(error) = proc_root.read(file, &mut text) {
            count_unreadable(counters, error);
            continue;
        }
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match namespace_mount(line) {
                Ok(Some(mount)) if found.iter().all(|known| known.inode != mount.inode) => {
                    let below = mount.path.strip_prefix("/").unwrap_or(&mount.path);
                    found.push(NamespaceMount { inode: mount.inode, path: root.join(below) });
                }
                Ok(_) => {}
                Err(Unreadable) => counters.proc_lines_rejected.add(1),
            }
        }
    }
    found
}

struct Unreadable;

/// A line of mountinfo, if it mounts a network namespace: its root then is `net:[<inode>]`.
fn namespace_mount(line: &[u8]) -> Result<Option<NamespaceMount>, Unreadable> {
    // Most lines are others'; a mount point that is not UTF-8 is none of a namespace's.
    if !line.windows(6).any(|part| part == b" net:[") {
        return Ok(None);
    }
    let text = std::str::from_utf8(line).or(Err(Unreadable))?;
    let mount = MountInfo::from_line(text).or(Err(Unreadable))?;
    let digits = mount.root.strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']'));
    let Some(digits) = digits.filter(|_| mount.fs_type == "nsfs") else { return Ok(None) };
    let inode = digits.parse().or(Err(Unreadable))?;
    Ok(Some(NamespaceMount { inode, path: unescaped(&mount.mount_point) }))
}

/// Mountinfo writes space, tab, newline and backslash in octal (man 5 proc_pid_mountinfo).
fn unescaped(path: &Path) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = path.as_os_str().as_bytes();
    while let [first, after @ ..] = rest {
        let octal = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    PathBuf::from(std::ffi::OsString::from(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(u32, &str)>) {
        let found = namespace_mount(line.as_bytes()).unwrap_or_else(|Unreadable| panic!("{line}"));
        let found = found.map(|mount| (mount.inode, mount.path));
        assert_eq!(found, expected.map(|(inode, path)| (inode, PathBuf::from(path))));
    }

    #[test]
    fn mounts_of_network_namespaces_and_no_others() {
        // iproute2 6.1 on Linux 6.18; the escaped one made by hand.
        check(
            "61 40 0:4 net:[4026532178] /run/netns/blue rw shared:31 - nsfs nsfs rw",
            Some((4_026_532_178, "/run/netns/blue")),
        );
        check(
            "61 40 0:4 net:[4026532178] /run/netns/a\\040b\\134c rw - nsfs nsfs rw",
            Some((4_026_532_178, "/run/netns/a b\\c")),
        );
        check("62 40 0:4 mnt:[4026532180] /run/snapd/ns/lxd.mnt rw - nsfs nsfs rw", None);
        check("22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw", None);
        check("63 40 0:9 /net:[4026532178] /x rw - tmpfs tmpfs rw", None);
        assert!(namespace_mount(b"61 40 net:[4").is_err());
    }
}
