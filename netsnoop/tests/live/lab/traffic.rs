//! A running traffic program, and what it says it did.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use super::patience;
use super::streams::Lines;

/// One line of a traffic program: what was done, and by whom.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Truth {
    pub(crate) act: String,
    pub(crate) pid: u32,
    pub(crate) start_ticks: u64,
    pub(crate) uid: u32,
    pub(crate) netns: u64,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) local_port: Option<u16>,
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) connections: Option<u64>,
    pub(crate) seconds: Option<f64>,
}

/// A running traffic program; it is ended when dropped.
pub(crate) struct Traffic {
    child: Child,
    said: Lines,
}

impl Traffic {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = Lines::read(child.stdout.take().unwrap());
        Self { child, said }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the first line that tells of `act`.
    pub(crate) fn wait_for(&self, act: &str) -> Truth {
        self.wait_for_where(act, |_| true)
    }

    /// Waits for the first line that tells of `act` and fits.
    pub(crate) fn wait_for_where(&self, act: &str, fits: impl Fn(&Truth) -> bool) -> Truth {
        let found = self
            .said
            .wait(patience(), |line| Some(parse(line)).filter(|truth| truth.act == act && fits(truth)));
        found.unwrap_or_else(|| panic!("no line of {act}; said were {:?}", self.said.so_far()))
    }

    /// Ends its input and waits until it has ended by itself; returns what it told last.
    pub(crate) fn finish(mut self) -> Truth {
        drop(self.child.stdin.take());
        let lines = self.said.wait_for_end(patience()).expect("the traffic program does not end");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the traffic program ended with {status} and said {lines:?}");
        parse(lines.last().expect("the traffic program said nothing"))
    }
}

fn parse(line: &str) -> Truth {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

impl Drop for Traffic {
    fn drop(&mut self) {
        // At the end of its input it ends its worker and itself; killed, it would leave the worker to init.
        drop(self.child.stdin.take());
        if self.said.wait_for_end(Duration::from_secs(2)).is_none() {
            self.child.kill().unwrap();
        }
        self.child.wait().unwrap();
    }
}
