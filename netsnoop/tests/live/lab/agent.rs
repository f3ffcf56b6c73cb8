//! A running `netsnoop agent` in the node's namespace, its files, and what it answers over HTTP.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::records::Record;
use super::watch::{Ended, Watch};
use super::{Namespace, netsnoop, patience, settle};

/// Where it serves metrics unless its file says otherwise.
pub(crate) const LISTENS: &str = "127.0.0.1:9774";
/// Between two looks at what is counted by somebody else's clock.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A run.
pub(crate) struct Agent<'a> {
    node: &'a Namespace,
    watch: Watch,
    folder: tempfile::TempDir,
}

impl<'a> Agent<'a> {
    /// Starts it with these settings and more arguments, and waits until it counts. `{folder}` is a folder for files.
    pub(crate) fn start(node: &'a Namespace, settings: &str, arguments: &[&str]) -> Self {
        Self::start_in(node, tempfile::tempdir().unwrap(), settings, arguments)
    }

    /// Starts it by `command`, which runs netsnoop with some privileges.
    pub(crate) fn start_by(node: &'a Namespace, command: Command, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let agent = Self { node, watch: run_by(command, &folder, "", arguments), folder };
        agent.wait_until_ready();
        agent
    }

    fn start_in(node: &'a Namespace, folder: tempfile::TempDir, settings: &str, arguments: &[&str]) -> Self {
        let agent = Self { node, watch: run(node, &folder, settings, arguments), folder };
        agent.wait_until_ready();
        agent
    }

    fn wait_until_ready(&self) {
        assert!(self.watch.is_ready(), "netsnoop does not start: {}", self.watch.so_far());
        self.wait_for("ready", |agent| (agent.ask("/readyz")?.0 == 200).then_some(()));
    }

    /// Runs it to its end.
    pub(crate) fn run(node: &Namespace, settings: &str, arguments: &[&str]) -> Ended {
        let folder = tempfile::tempdir().unwrap();
        run(node, &folder, settings, arguments).wait()
    }

    /// Status and body of what it answers; `None` if nobody does.
    pub(crate) fn ask(&self, path: &str) -> Option<(u16, String)> {
        ask(self.node, LISTENS, path)
    }

    /// The page of metrics.
    #[track_caller]
    pub(crate) fn page(&self) -> String {
        self.wait_for("page of metrics", Self::page_now)
    }

    fn page_now(&self) -> Option<String> {
        self.ask("/metrics").filter(|(status, _)| *status == 200).map(|(_, page)| page)
    }

    /// Waits until the page has this line.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, line: &str) {
        let has_line = |agent: &Self| agent.page_now()?.lines().any(|known| known == line).then_some(());
        self.wait_for(line, has_line);
    }

    /// Waits until `find` has an answer.
    #[track_caller]
    pub(crate) fn wait_for<T>(&self, what: &str, find: impl Fn(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + patience();
        loop {
            if let Some(found) = find(self) {
                return found;
            }
            let page = || self.ask("/metrics").map_or_else(String::new, |(_, page)| page);
            assert!(Instant::now() < deadline, "no {what}; {}\n{}", self.watch.so_far(), page());
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits for a record that fits, where it writes them to its standard output.
    pub(crate) fn wait_for_record(&self, what: &str, fits: impl Fn(&Record) -> bool) -> Record {
        self.watch.wait_for(what, fits)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.watch.pid()
    }

    /// A file in its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces its settings and has them read anew.
    pub(crate) fn reload(&self, settings: &str) {
        fs::write(self.file("n.yaml"), settings).unwrap();
        self.watch.signal(Signal::HUP);
    }

    /// Ends it as a crash does, and starts it again with the same settings, files and more arguments.
    pub(crate) fn crash_and_restart(self, arguments: &[&str]) -> Self {
        let Self { node, watch, folder } = self;
        // It is killed where it stands.
        drop(watch);
        let settings = fs::read_to_string(folder.path().join("n.yaml")).unwrap();
        Self::start_in(node, folder, &settings, arguments)
    }

    /// Ends it in order, and starts it again likewise.
    pub(crate) fn restart(self, arguments: &[&str]) -> Self {
        let Self { node, watch, folder } = self;
        assert!(watch.stop().status.success());
        let settings = fs::read_to_string(folder.path().join("n.yaml")).unwrap();
        Self::start_in(node, folder, &settings, arguments)
    }

    /// All it said on standard error.
    pub(crate) fn said(&self) -> String {
        self.watch.so_far()
    }

    /// Ends it; the books must balance.
    pub(crate) fn stop(self) -> Ended {
        self.watch.stop()
    }
}

/// Status and body of what somebody in the node's namespace answers over HTTP; `None` if nobody does.
pub(crate) fn ask(node: &Namespace, address: &str, path: &str) -> Option<(u16, String)> {
    node.inside(|| {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(patience())).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    })
}

fn run(node: &Namespace, folder: &tempfile::TempDir, settings: &str, arguments: &[&str]) -> Watch {
    run_by(node.command(netsnoop()), folder, settings, arguments)
}

fn run_by(mut command: Command, folder: &tempfile::TempDir, settings: &str, arguments: &[&str]) -> Watch {
    let file = folder.path().join("n.yaml");
    let place = |text: &str| text.replace("{folder}", folder.path().to_str().unwrap());
    fs::write(&file, place(settings)).unwrap();
    command.arg("agent").arg("--config").arg(file).arg(settle());
    Watch::spawn(command.args(arguments.iter().map(|argument| place(argument))))
}
