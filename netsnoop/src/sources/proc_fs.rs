//! `/proc` as files: which processes there are, and what one process's directory holds.
//!
//! A [`ProcessDir`] holds the directory open. The kernel binds it to that one process: once the
//! process is gone every read through it fails with ESRCH, also after the pid was given to another
//! (`proc_pid_lookup` and `get_proc_task` in <https://github.com/torvalds/linux/blob/v6.12/fs/proc/base.c>).
//! So all that was read through one handle is of one process, without comparing start times.
//! Left out: what the texts mean, which is `netsnoop_core::proc_text`.

use std::ffi::CStr;
use std::fs::{self, DirEntry};
use std::io;
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use netsnoop_core::proc_text::fd_link::decode_socket_link;
use netsnoop_core::proc_text::process::{UserIds, decode_stat, decode_user_ids};
use netsnoop_core::process::{Process, ProcessId};
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, getxattr, openat, readlinkat_raw, stat, statat};
use rustix::io::Errno;

use crate::counters::Counters;

/// The initial pid namespace's inode (PROC_PID_INIT_INO, ABI since Linux 3.8,
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/proc_ns.h#L42-L49>).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Whether the pids of the `/proc` at `root` are those of the initial pid namespace, which kernel programs tell.
///
/// # Errors
///
/// If there is no process there whose namespace may be read.
pub(crate) fn shows_initial_pids(root: &Path) -> io::Result<bool> {
    let inode = |link: &str| fs::metadata(root.join(link)).map(|facts| facts.ino());
    // Process 1 belongs to the namespace that this /proc shows, but may be closed to us.
    let inode = inode("1/ns/pid").or_else(|_| inode("self/ns/pid"))?;
    Ok(inode == INITIAL_PID_NAMESPACE)
}

/// A `/proc` of some pid namespace, held open.
#[derive(Debug)]
pub(super) struct ProcRoot {
    dir: OwnedFd,
    path: PathBuf,
}

/// A process as a listing of `/proc` shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PidEntry {
    /// The number.
    pub(super) pid: u32,
    /// The inode of its directory: made anew for every process, so a reused pid has another.
    pub(super) dir_inode: u64,
}

/// An open file of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor {
    /// Its number.
    pub(super) number: u32,
    /// The inode of the socket it refers to; `None` if it is no socket.
    pub(super) socket: Option<NonZeroU64>,
}

/// Space for directory listings and texts, kept between reads.
#[derive(Debug)]
pub(super) struct Scratch {
    entries: Vec<u8>,
    /// The text last read.
    pub(super) text: Vec<u8>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self { entries: Vec::with_capacity(32 * 1024), text: Vec::with_capacity(64 * 1024) }
    }
}

impl ProcRoot {
    /// Opens it and sees that it is one.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let dir = openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("open {} to look for processes", path.display()))?;
        statat(&dir, c"self/stat", AtFlags::empty()).with_context(|| {
            format!("{} shows no processes to this one; is it a mounted /proc?", path.display())
        })?;
        Ok(Self { dir, path: path.to_owned() })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether every process of the node is in here and shown to us (`hidepid`, man 5 proc): only the
    /// initial pid namespace has the kernel's threads, whose parent has pid 2.
    pub(super) fn is_whole(&self) -> bool {
        let mut text = Vec::new();
        self.read("2/stat", &mut text).is_ok() && decode_stat(&text).is_some_and(|stat| stat.is_kernel_thread)
    }

    /// Calls `each` for every process, in the kernel's order: by rising pid, so that one that starts
    /// meanwhile is mostly still met.
    pub(super) fn for_each_pid(&self, mut each: impl FnMut(PidEntry)) -> Result<(), Errno> {
        // A descriptor of its own, as the position of a shared one would be shared too.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(&self.dir, c".", flags, Mode::empty())?;
        let mut space = Vec::with_capacity(32 * 1024);
        let mut listing = RawDir::new(dir, space.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = entry?;
            if let Some(pid) = number(entry.file_name()) {
                each(PidEntry { pid, dir_inode: entry.ino() });
            }
        }
        Ok(())
    }

    /// The inode of a process's network namespace, by stat rather than lstat: the link's own inode
    /// number says nothing.
    pub(super) fn namespace_inode(&self, pid: u32) -> Result<u32, Errno> {
        let stat = statat(&self.dir, format!("{pid}/ns/net"), AtFlags::empty())
            .map_err(|error| why_refused(&self.dir, &pid.to_string(), error))?;
        u32::try_from(stat.st_ino).or(Err(Errno::OVERFLOW))
    }

    /// The effective user of a process, or root's where it keeps others from looking (man 5 proc, "/proc/pid").
    pub(super) fn user(&self, pid: u32) -> Result<u32, Errno> {
        Ok(statat(&self.dir, pid.to_string(), AtFlags::empty())?.st_uid)
    }

    /// Holds a process.
    pub(super) fn process(&self, pid: u32) -> Result<ProcessDir, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(ProcessDir { dir: openat(&self.dir, pid.to_string(), flags, Mode::empty())?, pid })
    }

    /// What kind of socket a descriptor refers to, by the name the kernel has for it, and the uid that made it.
    /// `inode` says which socket is meant; another one gives `ENOENT`.
    ///
    /// The name is an extended attribute of every socket since Linux 2.6.39 (`sockfs_xattr_get` in
    /// <https://github.com/torvalds/linux/blob/v6.12/net/socket.c>).
    pub(super) fn socket_behind(
        &self,
        pid: u32,
        fd: u32,
        inode: NonZeroU64,
    ) -> Result<(Vec<u8>, u32), Errno> {
        let path = self.path.join(format!("{pid}/fd/{fd}"));
        let mut name = Vec::with_capacity(64);
        getxattr(&path, c"system.sockprotoname", spare_capacity(&mut name))?;
        // Asked last: if it is the socket that is meant now, it was before.
        let stat = stat(&path)?;
        if stat.st_ino != inode.get() {
            return Err(Errno::NOENT);
        }
        let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(length);
        Ok((name, stat.st_uid))
    }

    /// Reads a file below it whole.
    pub(super) fn read(&self, name: &str, text: &mut Vec<u8>) -> Result<(), Errno> {
        read_file_at(&self.dir, name, text)
    }
}

/// One process's directory, held open.
#[derive(Debug)]
pub(super) struct ProcessDir {
    dir: OwnedFd,
    pid: u32,
}

impl ProcessDir {
    /// The inode of its network namespace.
    pub(super) fn namespace_inode(&self) -> Result<u32, Errno> {
        let stat = statat(&self.dir, c"ns/net", AtFlags::empty()).map_err(|error| self.why(error))?;
        u32::try_from(stat.st_ino).or(Err(Errno::OVERFLOW))
    }

    /// Its network namespace, which lives while this is open.
    pub(super) fn open_namespace(&self) -> Result<OwnedFd, Errno> {
        openat(&self.dir, c"ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| self.why(error))
    }

    /// Its root directory, as a place to look from.
    pub(super) fn open_root(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&self.dir, c"root", flags, Mode::empty()).map_err(|error| self.why(error))
    }

    /// Reads a file of it whole.
    pub(super) fn read(&self, name: &str, text: &mut Vec<u8>) -> Result<(), Errno> {
        read_file_at(&self.dir, name, text)
    }

    /// The target of a link of it, cut at 4096 bytes (PATH_MAX).
    pub(super) fn link(&self, name: &str) -> Result<Vec<u8>, Errno> {
        let mut target = Vec::with_capacity(4096);
        readlinkat_raw(&self.dir, name, spare_capacity(&mut target)).map_err(|error| self.why(error))?;
        Ok(target)
    }

    /// Who it is, with all its users. `None` if its texts cannot be understood.
    pub(super) fn identity(&self, text: &mut Vec<u8>) -> Result<Option<(Process, UserIds)>, Errno> {
        self.read("stat", text)?;
        let Some(stat) = decode_stat(text) else { return Ok(None) };
        self.read("status", text)?;
        let identified = decode_user_ids(text).map(|users| {
            let id = ProcessId { pid: self.pid, start_ticks: stat.start_ticks };
            (Process { id, name: stat.comm, uid: users.real, cgroup_id: None }, users)
        });
        Ok(identified)
    }

    /// Its parent. `None` if its text cannot be understood.
    pub(super) fn parent(&self, text: &mut Vec<u8>) -> Result<Option<u32>, Errno> {
        self.read("stat", text)?;
        Ok(decode_stat(text).map(|stat| stat.parent))
    }

    /// Calls `each` with every file it holds.
    pub(super) fn for_each_descriptor(
        &self,
        scratch: &mut Scratch,
        mut each: impl FnMut(Descriptor),
    ) -> Result<(), Errno> {
        match for_each_descriptor_in(&self.dir, "fd", &mut scratch.entries, &mut each) {
            // A leader that has ended has no files any more, but its threads may live on and have them.
            Err(Errno::NOENT) => self.for_each_descriptor_of_threads(scratch, each),
            result => result.map_err(|error| self.why(error)),
        }
    }

    fn why(&self, error: Errno) -> Errno {
        why_refused(&self.dir, "stat", error)
    }

    /// Its threads, the first one among them.
    pub(super) fn threads(&self) -> Result<Vec<u32>, Errno> {
        let tasks =
            openat(&self.dir, c"task", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut space = Vec::with_capacity(4096);
        let mut listing = RawDir::new(tasks, space.spare_capacity_mut());
        let mut threads = Vec::new();
        while let Some(entry) = listing.next() {
            threads.extend(number(entry?.file_name()));
        }
        Ok(threads)
    }

    fn for_each_descriptor_of_threads(
        &self,
        scratch: &mut Scratch,
        mut each: impl FnMut(Descriptor),
    ) -> Result<(), Errno> {
        for thread in self.threads()? {
            let files = format!("task/{thread}/fd");
            match for_each_descriptor_in(&self.dir, &files, &mut scratch.entries, &mut each) {
                Err(Errno::NOENT | Errno::SRCH) => {}
                result => return result,
            }
        }
        Err(Errno::NOENT)
    }
}

/// The links of a process that has just ended are refused as if for lack of permission, instead of missing
/// (`proc_pid_readlink`, <https://github.com/torvalds/linux/blob/v6.12/fs/proc/base.c>). What is not a link tells:
/// the process's entry `name`.
fn why_refused(dir: &OwnedFd, name: &str, error: Errno) -> Errno {
    match error {
        Errno::ACCESS | Errno::PERM => match statat(dir, name, AtFlags::empty()) {
            Err(Errno::NOENT | Errno::SRCH) => Errno::SRCH,
            Ok(_) | Err(_) => error,
        },
        _ => error,
    }
}

fn for_each_descriptor_in(
    process: &OwnedFd,
    files: &str,
    entries: &mut Vec<u8>,
    each: &mut impl FnMut(Descriptor),
) -> Result<(), Errno> {
    let dir = openat(process, files, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut listing = RawDir::new(dir.as_fd(), entries.spare_capacity_mut());
    while let Some(entry) = listing.next() {
        let entry = entry?;
        // `.` and `..` are no descriptors.
        let Some(number) = number(entry.file_name()) else { continue };
        // Longer than any socket's link; a longer path is cut and is no socket's either way.
        let mut target = [MaybeUninit::<u8>::uninit(); 40];
        match readlinkat_raw(&dir, entry.file_name(), &mut target) {
            Ok((target, _)) => each(Descriptor { number, socket: decode_socket_link(target) }),
            // A descriptor closed meanwhile is nobody's loss.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a file whole into `text`.
pub(super) fn read_file_at(dir: impl AsFd, name: &str, text: &mut Vec<u8>) -> Result<(), Errno> {
    text.clear();
    let file = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    loop {
        // The kernel fills at most one of its own buffers a read, at least a page.
        text.reserve(32 * 1024);
        match rustix::io::read(&file, spare_capacity(text)) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn number(name: &CStr) -> Option<u32> {
    name.to_str().ok()?.parse().ok()
}

/// The entries of a directory outside `/proc`; what cannot be read is counted and left out.
pub(super) fn read_directory(path: &Path, counters: &Counters) -> impl Iterator<Item = DirEntry> {
    let count = |error: &std::io::Error| {
        count_unreadable(counters, Errno::from_io_error(error).unwrap_or(Errno::IO));
    };
    let entries = std::fs::read_dir(path).inspect_err(count).into_iter().flatten();
    entries.filter_map(move |entry| match entry {
        Ok(entry) => Some(entry),
        Err(error) => {
            count(&error);
            None
        }
    })
}

/// Counts an entry that could not be read; says whether that was for lack of permission.
pub(super) fn count_unreadable(counters: &Counters, error: Errno) -> bool {
    match error {
        Errno::NOENT | Errno::SRCH => counters.proc_vanished.add(1),
        Errno::ACCESS | Errno::PERM => {
            counters.proc_denied.add(1);
            return true;
        }
        _ => counters.proc_failed.add(1),
    }
    false
}
