//! netsnoop while the bench plays: started in the node's namespace, ended as by Ctrl-C, its records and closing words
//! kept in files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::node::Node;
use super::scene::Place;
use super::ways::Way;
use super::{patience, slowness};
use crate::shell;

/// How often its files are looked at while something is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What netsnoop ends with where a way is not to be had.
const UNAVAILABLE: i32 = 77;

/// A running netsnoop; killed when dropped.
pub(crate) struct Watching {
    child: Child,
    records: PathBuf,
    words: PathBuf,
}

/// How its start went.
pub(crate) enum Started {
    Watching(Watching),
    /// The way is not to be had here; why, in netsnoop's words.
    Unavailable(String),
}

/// What it left.
pub(crate) struct Watched {
    /// Its records, a JSON object a line.
    pub(crate) records: String,
    /// Its standard error.
    pub(crate) words: String,
}

impl Watching {
    /// Starts it and waits until it watches.
    pub(crate) fn start(node: &Node, netsnoop: &Path, way: Way, folder: &Path) -> Result<Started> {
        let records = folder.join(format!("{way}.jsonl"));
        let words = folder.join(format!("{way}.stderr"));
        // Whatever becomes of the bench, netsnoop ends with it.
        let mut command = Command::new("setpriv");
        let inside = node.command(Place::Node, netsnoop);
        command.args(["--pdeathsig", "kill"]).arg(inside.get_program()).args(inside.get_args());
        command.args(["watch", "-n", "-o", "jsonl", &format!("--settle={}ms", 100 * slowness())]);
        let create = |path: &Path| File::create(path).with_context(|| format!("making {}", path.display()));
        let child = command
            .args(way.arguments)
            .stdin(Stdio::null())
            .stdout(create(&records)?)
            .stderr(create(&words)?)
            .spawn()
            .context("starting netsnoop")?;
        let mut watching = Self { child, records, words };
        let deadline = Instant::now() + patience();
        loop {
            let said = read(&watching.words)?;
            if said.lines().any(|line| line.contains(" network namespace") && line.ends_with(" known")) {
                return Ok(Started::Watching(watching));
            }
            if let Some(status) = watching.child.try_wait().context("waiting for netsnoop")? {
                ensure!(status.code() == Some(UNAVAILABLE), "netsnoop ended with {status}: {said}");
                let said = read(&watching.words)?;
                let why = said.lines().last().unwrap_or_default();
                return Ok(Started::Unavailable(why.trim_start_matches("netsnoop: ").to_owned()));
            }
            ensure!(Instant::now() < deadline, "netsnoop does not begin to watch: {said}");
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until a record has all of these words in it; what comes later than that is waited for no longer.
    pub(crate) fn wait_for_record(&self, words: &[String]) -> Result<()> {
        let deadline = Instant::now() + patience();
        let has_all = |line: &str| words.iter().all(|word| line.contains(word.as_str()));
        while !read(&self.records)?.lines().any(has_all) {
            ensure!(Instant::now() < deadline, "netsnoop never told of the last connection");
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn end(mut self) -> Result<Watched> {
        kill_process(Pid::from_child(&self.child), Signal::INT).context("interrupting netsnoop")?;
        let deadline = Instant::now() + patience();
        let status = loop {
            match self.child.try_wait().context("waiting for netsnoop")? {
                Some(status) => break status,
                None if Instant::now() > deadline => bail!("netsnoop does not end"),
                None => thread::sleep(LOOK_EVERY),
            }
        };
        let words = read(&self.words)?;
        ensure!(ExitStatus::success(&status), "netsnoop ended with {status}: {words}");
        Ok(Watched { records: read(&self.records)?, words })
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // Both do nothing to a process that has ended and been waited for.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            shell::warn(&format!("netsnoop could not be ended: {error}"));
        }
    }
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
