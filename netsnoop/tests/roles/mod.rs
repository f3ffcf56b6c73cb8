//! This test binary again, in another role: it is started with the role in its environment, tells what it has on a line
//! that begins with `ready`, and ends when its standard input does. So nothing is left behind, whatever happens to the
//! test.
//!
//! Left out: what the roles do. Each binary that has some names them in a test called `role`.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

const ROLE: &str = "NETSNOOP_TEST_ROLE";
/// By this link, as another user may have no way through the directories above the file.
pub(crate) const SELF: &str = "/proc/self/exe";

/// The role that this process was started with; none in a test run.
pub(crate) fn own_role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Tells whoever started this role what it has.
pub(crate) fn be_ready(words: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {words}").unwrap();
    out.flush().unwrap();
}

/// Waits until the role is over.
pub(crate) fn wait_for_end() {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// This binary in another role.
pub(crate) struct Role {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Role {
    /// Starts `role` by a command that runs this binary, last with `SELF` or its path.
    pub(crate) fn start(role: &str, command: &mut Command) -> Self {
        let mut child = command
            .args(["--exact", "role", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Its process; of a command that starts another one that command's.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has, once it is ready. libtest begins the line.
    pub(crate) fn ready(&mut self) -> String {
        let mut lines = self.lines.by_ref().lines().map(Result::unwrap);
        let line = lines.find(|line| line.contains("ready ")).expect("the role ended early");
        line.split_once("ready ").unwrap().1.to_owned()
    }

    /// Ends it, which must go well.
    pub(crate) fn end(mut self) {
        drop(self.child.stdin.take());
        self.lines.read_to_end(&mut Vec::new()).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}
