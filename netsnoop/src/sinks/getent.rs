//! Names from the node's name service (LDAP, SSSD, systemd's dynamic users) by way of `getent`, one process at a
//! time. A process of its own, because a name service may hang, and because its modules are not ours to load.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use netsnoop_core::passwd;
use netsnoop_core::time::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock;
use crate::counters::Counters;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a page that is about to be shown may wait for names.
const MOMENT: Duration = Duration::from_millis(500);
/// Uids that one process is asked for: their text fits any limit on arguments.
const ASKED_AT_ONCE: usize = 1000;
/// How long an answer holds, "no such user" too.
const ANSWER_HOLDS: Duration = Duration::from_secs(600);
/// Answers kept; beyond it, all are forgotten and asked for again.
const ANSWERS_MAX: usize = 4096;
/// Questions that may wait; one more is asked again when its uid is next seen.
const WAITING_MAX: usize = 64;
/// A passwd line beyond this is none.
const ANSWER_MAX_BYTES: u64 = 4096;

/// The name service.
#[derive(Debug)]
pub(super) struct Getent {
    program: String,
    running: Option<Question>,
    waiting: VecDeque<u32>,
    answers: HashMap<u32, Answer>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Answer {
    name: Option<Arc<str>>,
    at: Timestamp,
}

/// A process that was asked. Dropping it ends the process.
#[derive(Debug)]
struct Question {
    uid: u32,
    asked: Timestamp,
    child: Child,
}

impl Getent {
    /// Asks by running `program`.
    pub(super) fn new(program: impl Into<String>, counters: Arc<Counters>) -> Self {
        Self {
            program: program.into(),
            running: None,
            waiting: VecDeque::new(),
            answers: HashMap::new(),
            counters,
        }
    }

    /// The name of `uid` if it has been told; else sees to it that it will be.
    pub(super) fn name(&mut self, uid: u32, now: Timestamp) -> Option<Arc<str>> {
        self.collect(now);
        if let Some(answer) = self.answers.get(&uid).filter(|answer| now.since(answer.at) < ANSWER_HOLDS) {
            return answer.name.clone();
        }
        self.want(uid);
        self.ask_next(now);
        None
    }

    /// The names of these uids, asked for at once and waited for a moment. Those that have none, or whose answer comes
    /// too late, are not asked for again until answers are due anew.
    pub(super) fn names_of(&mut self, uids: &[u32], now: Timestamp) -> Vec<(u32, Arc<str>)> {
        let holds = |answer: &Answer| now.since(answer.at) < ANSWER_HOLDS;
        let is_new = |uid: &u32| !self.answers.get(uid).is_some_and(holds);
        let new: Vec<u32> = uids.iter().copied().filter(is_new).take(ASKED_AT_ONCE).collect();
        if !new.is_empty() {
            match self.ask_at_once(&new) {
                Ok(mut names) => {
                    new.iter().for_each(|uid| self.keep(*uid, Answer { name: names.remove(uid), at: now }));
                }
                Err(error) => new.iter().for_each(|uid| self.fail(*uid, now, &error)),
            }
        }
        let known = uids.iter().filter_map(|uid| Some((*uid, self.answers.get(uid)?.name.clone()?)));
        known.collect()
    }

    fn ask_at_once(&self, uids: &[u32]) -> io::Result<HashMap<u32, Arc<str>>> {
        let keys: Vec<String> = uids.iter().map(u32::to_string).collect();
        let child = spawn(&self.program, &keys)?;
        let mut question = Question { uid: 0, asked: clock::now(), child };
        let text = match question.child.stdout.take() {
            Some(stdout) => {
                read_until(stdout, question.asked + MOMENT, ANSWER_MAX_BYTES * keys.len() as u64)?
            }
            None => Vec::new(),
        };
        Ok(text
            .split(|byte| *byte == b'\n')
            .filter_map(passwd::decode_line)
            .map(|(name, uid)| (uid, name))
            .collect())
    }

    /// The uid of `name`, waited for.
    pub(super) fn uid_of(&self, name: &str) -> io::Result<Option<u32>> {
        if name.starts_with('-') {
            return Ok(None);
        }
        let now = clock::now();
        let mut question = Question { uid: 0, asked: now, child: spawn(&self.program, &[name])? };
        let text = match question.child.stdout.take() {
            Some(stdout) => read_until(stdout, now + PATIENCE, ANSWER_MAX_BYTES)?,
            None => Vec::new(),
        };
        Ok(first_entry(&text).filter(|(found, _)| &**found == name).map(|(_, uid)| uid))
    }

    fn want(&mut self, uid: u32) {
        let is_asked =
            self.running.as_ref().is_some_and(|question| question.uid == uid) || self.waiting.contains(&uid);
        if !is_asked && self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(uid);
        }
    }

    fn ask_next(&mut self, now: Timestamp) {
        if self.running.is_some() {
            return;
        }
        let Some(uid) = self.waiting.pop_front() else { return };
        match spawn(&self.program, &[uid.to_string()]) {
            Ok(child) => self.running = Some(Question { uid, asked: now, child }),
            Err(error) => self.fail(uid, now, &error),
        }
    }

    /// Takes the answer of the running process, if it has ended or waited too long.
    fn collect(&mut self, now: Timestamp) {
        let Some(mut question) = self.running.take() else { return };
        match question.child.try_wait() {
            Ok(Some(status)) => match answer_of(&mut question.child, status) {
                Ok(name) => self.keep(question.uid, Answer { name, at: now }),
                Err(error) => self.fail(question.uid, now, &error),
            },
            Ok(None) if now.since(question.asked) < PATIENCE => {
                self.running = Some(question);
                return;
            }
            Ok(None) => self.fail(question.uid, now, &io::Error::from(io::ErrorKind::TimedOut)),
            Err(error) => self.fail(question.uid, now, &error),
        }
        self.ask_next(now);
    }

    /// A failure holds as an answer does: a broken name service is not asked again for every line.
    fn fail(&mut self, uid: u32, now: Timestamp, error: &io::Error) {
        log::debug!("no name for uid {uid} from {}: {error}", self.program);
        self.counters.user_names_failed.add(1);
        self.keep(uid, Answer { name: None, at: now });
    }

    fn keep(&mut self, uid: u32, answer: Answer) {
        if self.answers.len() >= ANSWERS_MAX {
            self.counters.user_names_evicted.add(self.answers.len() as u64);
            self.answers.clear();
        }
        self.answers.insert(uid, answer);
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        // Both do nothing to a process that has ended and been waited for.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            log::debug!("getent could not be ended: {error}");
        }
    }
}

fn spawn(program: &str, keys: &[impl AsRef<OsStr>]) -> io::Result<Child> {
    Command::new(program)
        .arg("passwd")
        .args(keys)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

/// What an ended process said. Exit code 2 is "no such key" (man 1 getent, "EXIT STATUS").
fn answer_of(child: &mut Child, status: ExitStatus) -> io::Result<Option<Arc<str>>> {
    match status.code() {
        Some(0) => {}
        Some(2) => return Ok(None),
        _ => return Err(io::Error::other(format!("it ended with {status}"))),
    }
    let mut text = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(ANSWER_MAX_BYTES).read_to_end(&mut text)?;
    }
    Ok(first_entry(&text).map(|(name, _)| name))
}

fn first_entry(text: &[u8]) -> Option<(Arc<str>, u32)> {
    text.split(|byte| *byte == b'\n').find_map(passwd::decode_line)
}

/// Reads up to the end, the limit or the deadline.
fn read_until(mut from: ChildStdout, deadline: Timestamp, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut chunk = [0; 1024];
    while (text.len() as u64) < bytes_max {
        let left = deadline.since(clock::now());
        let wait = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        if poll(&mut [PollFd::new(&from, PollFlags::IN)], Some(&wait))? == 0 {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        match from.read(&mut chunk)? {
            0 => break,
            length => text.extend(chunk.iter().take(length)),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name service of testdata/getent. It is no file of the test's own: a program just written may still be
    /// open for writing in a child that another test is starting (execve's ETXTBSY).
    fn service() -> Getent {
        Getent::new(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/getent"), Arc::default())
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    /// Lets the process that was asked end by itself, without taking its answer.
    fn let_it_end(getent: &mut Getent) {
        getent.running.as_mut().unwrap().child.wait().unwrap();
    }

    #[test]
    fn a_name_is_there_once_the_service_has_answered() {
        let mut getent = service();
        assert_eq!(getent.name(70001, at(1)), None);
        let_it_end(&mut getent);
        assert_eq!(getent.name(70001, at(1)).as_deref(), Some("ldap.user"));
        assert!(getent.running.is_none() && getent.waiting.is_empty());
        assert_eq!(getent.name(70001, at(700)), None, "the answer is too old");
        assert_eq!(getent.uid_of("ldap.user").unwrap(), Some(70001));
        assert_eq!(getent.uid_of("nobody.else").unwrap(), None);
    }

    #[test]
    fn unknown_broken_and_hanging_are_answers_too_and_the_next_is_asked() {
        let mut getent = service();
        for (uid, failures) in [(70004, 0), (70003, 1)] {
            assert_eq!(getent.name(uid, at(1)), None);
            let_it_end(&mut getent);
            assert_eq!(getent.name(uid, at(1)), None);
            assert!(getent.running.is_none(), "{uid} has its answer");
            assert_eq!(getent.counters.user_names_failed.get(), failures);
        }
        assert_eq!(getent.name(70002, at(1)), None);
        assert_eq!(getent.name(70002, at(2)), None);
        assert!(getent.running.is_some() && getent.waiting.is_empty(), "not asked twice meanwhile");
        assert_eq!(getent.name(70001, at(4)), None);
        assert_eq!(getent.running.as_ref().map(|question| question.uid), Some(70001), "70002 was given up");
        assert_eq!(getent.counters.user_names_failed.get(), 2);
    }

    #[test]
    fn many_are_asked_for_at_once_and_what_hangs_is_given_up() {
        let mut getent = service();
        let named = |getent: &mut Getent, uids: &[u32]| {
            let names = getent.names_of(uids, at(1));
            names.into_iter().map(|(uid, name)| (uid, name.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(named(&mut getent, &[70004, 70001]), [(70001, "ldap.user".to_owned())]);
        assert_eq!(named(&mut getent, &[70001, 70002]), [(70001, "ldap.user".to_owned())]);
        assert_eq!(getent.counters.user_names_failed.get(), 1);
        // What was given up is not waited for again.
        getent.program = "/nonexistent/getent".to_owned();
        assert_eq!(named(&mut getent, &[70001, 70002, 70004]).len(), 1);
        assert_eq!(getent.counters.user_names_failed.get(), 1);
    }

    #[test]
    fn no_service_is_asked_once() {
        let mut getent = Getent::new("/nonexistent/getent", Arc::default());
        for _ in 0..3 {
            assert_eq!(getent.name(70001, at(1)), None);
        }
        assert_eq!(getent.counters.user_names_failed.get(), 1);
    }

    #[test]
    fn questions_and_answers_are_bounded() {
        let mut getent = service();
        assert_eq!(getent.name(70002, at(1)), None);
        for uid in 0..1000 {
            assert_eq!(getent.name(uid, at(1)), None);
        }
        assert_eq!(getent.waiting.len(), WAITING_MAX);
        for uid in 0..10_000 {
            getent.keep(uid, Answer { name: None, at: at(1) });
        }
        assert!(getent.answers.len() <= ANSWERS_MAX);
        assert_eq!(getent.counters.user_names_evicted.get(), 2 * ANSWERS_MAX as u64);
    }
}
