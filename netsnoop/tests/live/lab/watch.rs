//! A running `netsnoop watch -o jsonl` in the node's namespace, and all it said.

use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::ledger::Ledger;
use super::records::{Record, Schema};
use super::streams::Lines;
use super::{Lab, netsnoop, patience, settle};

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

impl Ended {
    /// All of standard error.
    pub(crate) fn complaint(&self) -> String {
        self.stderr.join("\n")
    }

    /// The closing counts, which must add up.
    #[track_caller]
    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::parse(&self.complaint())
    }

    /// Every record; each is held to the schema.
    pub(crate) fn records(&self) -> Vec<Record> {
        let schema = Schema::read();
        self.stdout.iter().map(|line| schema.parse(line)).collect()
    }
}

/// A run.
pub(crate) struct Watch {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Watch {
    /// Starts `netsnoop watch -o jsonl` with more arguments in the node's namespace, and waits until it watches.
    pub(crate) fn start(lab: &Lab, arguments: &str) -> Self {
        let watch = Self::spawn(
            lab.node
                .command(netsnoop())
                .args(["watch", "-o", "jsonl", &settle()])
                .args(arguments.split_whitespace()),
        );
        assert!(watch.is_ready(), "netsnoop does not start: {:?}", watch.stderr.so_far());
        watch
    }

    /// Starts any command line.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = Lines::read(child.stdout.take().unwrap());
        let stderr = Lines::read(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Waits until it has said that it watches; `false` if it ended before.
    pub(crate) fn is_ready(&self) -> bool {
        let says_so = |line: &str| line.contains(" network namespace") && line.ends_with(" known");
        self.stderr.wait(patience(), |line| says_so(line).then_some(())).is_some()
    }

    /// Whether a line on standard error begins so.
    pub(crate) fn has_said(&self, beginning: &str) -> bool {
        self.stderr.so_far().iter().any(|line| line.starts_with(beginning))
    }

    /// Waits for a record that fits.
    pub(crate) fn wait_for(&self, what: &str, fits: impl Fn(&Record) -> bool) -> Record {
        let schema = Schema::read();
        let found =
            self.stdout.wait(patience(), |line| Some(schema.parse(line)).filter(|record| fits(record)));
        found.unwrap_or_else(|| panic!("no record of {what} in\n{}", self.stdout.so_far().join("\n")))
    }

    /// Waits for a line on standard output that fits.
    pub(crate) fn wait_for_line(&self, what: &str, fits: impl Fn(&str) -> bool) {
        let found = self.stdout.wait(patience(), |line| fits(line).then_some(()));
        found.unwrap_or_else(|| panic!("no line of {what} in\n{}", self.stdout.so_far().join("\n")));
    }

    /// Asks it to end as Ctrl-C does, and waits; the books must balance.
    pub(crate) fn stop(self) -> Ended {
        let ended = self.interrupt();
        ended.ledger().must_balance();
        ended
    }

    /// Asks it to end as Ctrl-C does, and waits.
    pub(crate) fn interrupt(self) -> Ended {
        self.signal(Signal::INT);
        self.wait()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its process, whatever it was started by: each of those becomes the next.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All it said on standard error.
    pub(crate) fn so_far(&self) -> String {
        self.stderr.so_far().join("\n")
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Ended {
        let stdout = self.stdout.wait_for_end(patience()).expect("netsnoop does not end");
        let stderr = self.stderr.wait_for_end(patience()).expect("netsnoop does not end");
        Ended { status: self.child.wait().unwrap(), stdout, stderr }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Kill fails only if it has ended, and then wait takes its exit code.
        if self.child.kill().is_ok() {
            self.child.wait().unwrap();
        }
    }
}
