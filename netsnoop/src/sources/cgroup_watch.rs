//! Which cgroups come: a container that lived for a moment is gone when somebody asks about the cgroup of its process.
//!
//! The kernel tells of new directories of cgroupfs by inotify. Left out: what each process is in, and names.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use netsnoop_core::proc_text::cgroup::decode_cgroup_path;
use netsnoop_core::process::Container;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::name_channel::NameTeller;
use super::proc_fs::read_directory;
use crate::counters::Counters;

/// Most directories that are watched: beyond what any node has, and about 64 MiB of the kernel's memory.
const WATCHED_MAX: usize = 65_536;
/// Room for dozens of events at once.
const EVENT_BYTES: usize = 4096;

/// Tells of the cgroups of containers that there are below `root`, and of each that comes, for life. Call it on a thread of
/// its own.
pub fn run(root: &Path, tellers: &[NameTeller], counters: &Counters) -> Result<()> {
    let mut watch = Watch::open(root)?;
    tell(tellers, watch.look(PathBuf::new(), counters), counters);
    loop {
        for came in watch.wait(counters)? {
            tell(tellers, watch.look(came, counters), counters);
        }
    }
}

fn tell(tellers: &[NameTeller], found: Vec<(u64, Container)>, counters: &Counters) {
    if !found.is_empty() {
        let found = found.into();
        tellers.iter().for_each(|teller| teller.tell_cgroups(&found, counters));
    }
}

struct Watch {
    root: PathBuf,
    inotify: OwnedFd,
    /// What each number that the kernel gave stands for, from the root.
    directories: HashMap<i32, PathBuf>,
}

impl Watch {
    fn open(root: &Path) -> Result<Self> {
        let inotify =
            inotify::init(CreateFlags::CLOEXEC).context("asking for events of cgroups (inotify)")?;
        Ok(Self { root: root.to_owned(), inotify, directories: HashMap::new() })
    }

    /// Watches `directory` and all below it; returns which of them are containers'. A cgroup's id is the inode of its
    /// directory.
    fn look(&mut self, directory: PathBuf, counters: &Counters) -> Vec<(u64, Container)> {
        let mut found = Vec::new();
        let mut waiting = vec![directory];
        while let Some(directory) = waiting.pop() {
            let path = self.root.join(&directory);
            // First of all: it may be gone in a moment.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if let Some(container) = decode_cgroup_path(directory.as_os_str().as_bytes()) {
                found.push((metadata.ino(), container));
            }
            // Watched before it is read, so that nothing comes between; what is met twice is told twice.
            if !self.watch(&path, &directory) {
                counters.cgroups_unwatched.add(1);
            }
            let entries = read_directory(&path, counters);
            let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            waiting.extend(below.map(|entry| directory.join(entry.file_name())));
        }
        found
    }

    /// `false` if it cannot be; one that is gone need not be.
    fn watch(&mut self, path: &Path, directory: &Path) -> bool {
        if self.directories.len() >= WATCHED_MAX {
            return false;
        }
        match inotify::add_watch(&self.inotify, path, WatchFlags::CREATE | WatchFlags::ONLYDIR) {
            Ok(number) => {
                self.directories.insert(number, directory.to_owned());
                true
            }
            Err(error) => error == Errno::NOENT,
        }
    }

    /// Waits for directories that come, and returns them from the root.
    fn wait(&mut self, counters: &Counters) -> Result<Vec<PathBuf>> {
        let mut came = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error).context("reading events of cgroups (inotify)"),
            };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                counters.cgroup_event_overflows.add(1);
                came.push(PathBuf::new());
            } else if event.events().contains(ReadFlags::IGNORED) {
                self.directories.remove(&event.wd());
            } else if event.events().contains(ReadFlags::CREATE | ReadFlags::ISDIR)
                && let (Some(above), Some(name)) = (self.directories.get(&event.wd()), event.file_name())
            {
                came.push(above.join(OsStr::from_bytes(name.to_bytes())));
            }
            if events.is_buffer_empty() {
                return Ok(came);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::Arc;
    use std::thread;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;
    use crate::intake::Bell;
    use crate::sources::name_channel::{NameAsker, Told, Wishes};

    fn hear(asker: &NameAsker, bell: &Bell) -> Vec<(u64, String)> {
        let mut heard = Vec::new();
        while heard.is_empty() {
            poll(&mut [PollFd::new(&bell.as_fd(), PollFlags::IN)], None).unwrap();
            bell.take();
            for told in asker.take() {
                let Told::Cgroups(cgroups) = told else { panic!("names of cgroups: {told:?}") };
                heard.extend(cgroups.iter().map(|(id, container)| (*id, container.id.to_string())));
            }
        }
        heard
    }

    #[test]
    fn containers_cgroups_are_told_of_as_they_come_and_those_that_were_there() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(&path).unwrap();
            fs::metadata(path).unwrap().ino()
        };
        let ids = ["1", "2", "3"].map(|digit| digit.repeat(64));
        let there = make(&format!("docker/{}", ids[0]));
        make("system.slice/ssh.service");
        let bell = Bell::new().unwrap();
        let (asker, teller) = Wishes::default().asker(bell.clone());
        let (place, counters) = (root.path().to_owned(), Arc::new(Counters::default()));
        thread::spawn(move || run(&place, &[teller], &counters));
        assert_eq!(hear(&asker, &bell), [(there, ids[0].clone())]);
        let came = make(&format!("docker/{}", ids[1]));
        assert_eq!(hear(&asker, &bell), [(came, ids[1].clone())]);
        // In a directory that came itself, below which it may have come before that was watched: told of twice, then.
        let deep = make(&format!("kubepods/besteffort/pod{}/{}", "a".repeat(32), ids[2]));
        assert!(hear(&asker, &bell).contains(&(deep, ids[2].clone())));
    }
}
