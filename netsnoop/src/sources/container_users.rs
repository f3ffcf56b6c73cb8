//! What a container calls its users: names in the passwd file of its own root, which whoever made the container wrote.
//!
//! A tenant may have put anything there: a link that leads out, a device that acts when it is opened, a pipe, a file system
//! that never answers. So only a regular file below the container's root is opened, and a thread that does nothing else
//! reads it: one that hangs costs container users' names, once a moment of a lookup, and nothing else.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use netsnoop_core::passwd;
use netsnoop_core::proc_text::uid_map::decode_inside;
use netsnoop_core::process::ContainerUser;
use netsnoop_core::time::Timestamp;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

use super::proc_fs::{ProcessDir, count_unreadable};
use crate::clock;
use crate::counters::Counters;

/// How long an answer is waited for. Reading a file takes a thousandth of it.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long nothing is asked after an answer that did not come.
const REST: Duration = Duration::from_secs(60);
/// How long an answer holds, "no such user" too.
const ANSWER_HOLDS: Duration = Duration::from_secs(60);
/// Answers kept; beyond it all are forgotten and asked for again.
const ANSWERS_MAX: usize = 4096;
/// A passwd file beyond this is none.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// A name beyond this is none (LOGIN_NAME_MAX, limits.h).
const NAME_MAX_BYTES: usize = 256;

/// Where names are asked for.
#[derive(Debug)]
pub struct ContainerUsers {
    questions: SyncSender<Question>,
    names: Receiver<Result<Option<Arc<str>>, Errno>>,
    answers: HashMap<(Arc<str>, u32), Answer>,
    patience: Duration,
    /// Since when an answer is overdue.
    overdue: Option<Timestamp>,
}

/// Where they are read. Its thread needs to see other users' roots.
#[derive(Debug)]
pub struct ContainerUserReader {
    questions: Receiver<Question>,
    names: SyncSender<Result<Option<Arc<str>>, Errno>>,
}

/// What was told of a user of a container.
#[derive(Debug)]
struct Answer {
    at: Timestamp,
    name: Option<Arc<str>>,
}

/// Asks for the name of user `id` in the root of a process.
#[derive(Debug)]
struct Question {
    process: ProcessDir,
    id: u32,
}

/// Both ends.
pub fn channel() -> (ContainerUsers, ContainerUserReader) {
    // One question at a time.
    let (questions_in, questions) = sync_channel(1);
    let (names_in, names) = sync_channel(1);
    let users = ContainerUsers {
        questions: questions_in,
        names,
        answers: HashMap::new(),
        patience: PATIENCE,
        overdue: None,
    };
    (users, ContainerUserReader { questions, names: names_in })
}

impl ContainerUserReader {
    /// Reads until nobody asks any more. Call it on a thread of its own.
    pub fn run(&self) {
        for Question { process, id } in &self.questions {
            let name = process.open_root().and_then(|root| read_name(&root, id));
            if self.names.send(name).is_err() {
                return;
            }
        }
    }
}

impl ContainerUsers {
    /// Who the node's user `uid` is to a process of `container`; `None` if it is nobody there.
    pub(super) fn user(
        &mut self,
        (process, container): (ProcessDir, &Arc<str>),
        uid: u32,
        counters: &Counters,
    ) -> Option<ContainerUser> {
        let mut text = Vec::new();
        if let Err(error) = process.read("uid_map", &mut text) {
            count_unreadable(counters, error);
            return None;
        }
        let id = decode_inside(&text, uid)?;
        let now = clock::now();
        let key = (container.clone(), id);
        let known = self.answers.get(&key).filter(|answer| now.since(answer.at) < ANSWER_HOLDS);
        let name = match known {
            Some(answer) => answer.name.clone(),
            None => self.ask(Question { process, id }, (now, key), counters),
        };
        Some(ContainerUser { uid, id, name })
    }

    fn ask(
        &mut self,
        question: Question,
        (now, key): (Timestamp, (Arc<str>, u32)),
        counters: &Counters,
    ) -> Option<Arc<str>> {
        if !self.is_free(now) || self.questions.try_send(question).is_err() {
            counters.container_users_unasked.add(1);
            return None;
        }
        let name = match self.names.recv_timeout(self.patience) {
            Ok(Ok(name)) => name,
            Ok(Err(error)) => {
                log::debug!("the passwd file of container {}: {error}", key.0);
                counters.container_users_failed.add(1);
                None
            }
            Err(_) => {
                log::warn!(
                    "reading the passwd file of container {} takes long: names that containers have for their users \
                     are left out for a while",
                    key.0
                );
                counters.container_users_failed.add(1);
                self.overdue = Some(now);
                None
            }
        };
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.clear();
        }
        self.answers.insert(key, Answer { at: now, name: name.clone() });
        name
    }

    /// Whether the reader waits for a question. What it still had to say is nobody's answer any more.
    fn is_free(&mut self, now: Timestamp) -> bool {
        let Some(since) = self.overdue else { return true };
        let is_free = now.since(since) >= REST
            && match self.names.try_recv() {
                Ok(_late) => true,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => false,
            };
        if is_free {
            self.overdue = None;
        }
        is_free
    }
}

/// The name of a user in `etc/passwd` below `root`; of several names the first is it, as in getpwuid(3).
fn read_name(root: &OwnedFd, id: u32) -> Result<Option<Arc<str>>, Errno> {
    // IN_ROOT: a link means what it means to the container (man 2 openat2, since Linux 5.6). PATH: nothing is opened yet.
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(root, c"etc/passwd", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    // The very file that was looked at (man 5 proc_pid_fd).
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    let file = File::from(openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    let mut text = Vec::new();
    if file.take(FILE_MAX_BYTES + 1).read_to_end(&mut text).is_err() {
        return Err(Errno::IO);
    }
    if text.len() as u64 > FILE_MAX_BYTES {
        return Err(Errno::FBIG);
    }
    let mut lines = text.split(|byte| *byte == b'\n').filter_map(passwd::decode_line);
    let name = lines.find(|(_, uid)| *uid == id).map(|(name, _)| name);
    Ok(name.filter(|name| name.len() <= NAME_MAX_BYTES && !name.contains(char::is_control)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use rustix::fs::{FileType as Kind, mknodat};

    use super::*;

    fn open(path: &Path) -> OwnedFd {
        openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    /// Makes a container's root and asks it for user 33.
    #[track_caller]
    fn check(make: impl FnOnce(&Path), expected: Result<Option<&str>, Errno>) {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("root/etc")).unwrap();
        fs::write(place.path().join("outside"), "outside:x:33:33\n").unwrap();
        make(&place.path().join("root"));
        let name = read_name(&open(&place.path().join("root")), 33);
        assert_eq!(name.as_ref().map(Option::as_deref), expected.as_ref().map(|name| *name));
    }

    fn with_text(text: &str) -> impl FnOnce(&Path) {
        move |root| fs::write(root.join("etc/passwd"), text).unwrap()
    }

    #[test]
    fn a_name_is_that_of_the_containers_own_file() {
        check(with_text("root:x:0:0\nweb:x:33:33::/:\nother:x:33:33\n"), Ok(Some("web")));
        check(with_text("root:x:0:0\n"), Ok(None));
        check(with_text(&format!("{}:x:33:33\n", "x".repeat(257))), Ok(None));
        check(with_text("\x1b[31mred:x:33:33\n"), Ok(None));
        check(|_| {}, Err(Errno::NOENT));
        let linked = |root: &Path| {
            fs::write(root.join("users"), "linked:x:33:33\n").unwrap();
            symlink("/users", root.join("etc/passwd")).unwrap();
        };
        check(linked, Ok(Some("linked")));
    }

    #[test]
    fn nothing_outside_of_the_container_and_nothing_but_a_file_is_read() {
        check(|root| symlink("../../outside", root.join("etc/passwd")).unwrap(), Err(Errno::NOENT));
        check(
            |root| symlink("/proc/self/root/etc/passwd", root.join("etc/passwd")).unwrap(),
            Err(Errno::NOENT),
        );
        check(|root| symlink("passwd", root.join("etc/passwd")).unwrap(), Err(Errno::LOOP));
        check(|root| fs::create_dir(root.join("etc/passwd")).unwrap(), Err(Errno::INVAL));
        let pipe = |root: &Path| {
            mknodat(CWD, root.join("etc/passwd"), Kind::Fifo, Mode::RUSR, 0).unwrap();
        };
        check(pipe, Err(Errno::INVAL));
        let endless = |root: &Path| {
            File::create(root.join("etc/passwd")).unwrap().set_len(1 << 40).unwrap();
        };
        check(endless, Err(Errno::FBIG));
    }

    /// Who asks what nobody answers is told nothing, waits once, and asks again only after a rest and an answer.
    #[test]
    fn a_reader_that_hangs_is_left_alone() {
        let (mut users, reader) = channel();
        let counters = Counters::default();
        let at = |seconds: u64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let mut ask = |second: u64, patience: u64| {
            users.patience = Duration::from_secs(patience);
            let process = super::super::proc_fs::ProcRoot::open(Path::new("/proc")).unwrap();
            let process = process.process(std::process::id()).unwrap();
            let key = (Arc::from("c"), u32::try_from(second).unwrap());
            let name = users.ask(Question { process, id: 33 }, (at(second), key), &counters);
            (name, counters.container_users_failed.get(), counters.container_users_unasked.get())
        };
        assert_eq!(ask(0, 0), (None, 1, 0));
        assert_eq!(ask(100, 0), (None, 1, 1), "it still reads");
        reader.questions.recv().unwrap();
        reader.names.send(Ok(Some("late".into()))).unwrap();
        assert_eq!(ask(59, 0), (None, 1, 2), "its rest is not over");
        reader.names.try_send(Ok(None)).unwrap_err();
        // The late answer goes, and the next one is that of the next question.
        let answers = std::thread::spawn(move || {
            reader.questions.recv().unwrap();
            reader.names.send(Ok(Some("now".into()))).unwrap();
            reader
        });
        assert_eq!(ask(60, 60), (Some("now".into()), 1, 2));
        answers.join().unwrap();
    }
}
