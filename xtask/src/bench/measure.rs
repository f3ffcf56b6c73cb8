//! One run: start a contestant, give it the load, see what it used. Runs as root in a network namespace of its
//! own, so that nothing but the load is to be seen there.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde::{Deserialize, Serialize};

use super::contestants::{Contestant, SERVER_PORT};
use super::process::{cpu_seconds, peak_mebibytes, wait_until_quiet};
use crate::shell;

/// Connections at once.
const LOAD_THREADS: &str = "4";
/// Between two connections while the first line is waited for.
const FIRST_LINE_STEP: Duration = Duration::from_millis(1);

/// What one run showed.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Of the contestant, from the load's start to its own end.
    pub(crate) cpu_seconds: f64,
    /// Of the contestant.
    pub(crate) peak_mebibytes: f64,
    /// Of client and server, kernel programs that run on their time included.
    pub(crate) load_cpu_seconds: f64,
    /// How long the load took.
    pub(crate) load_seconds: f64,
    /// Lines with the client's process.
    pub(crate) owners_named: Option<u64>,
    /// Packets and kernel events it says it lost.
    pub(crate) lost: Option<u64>,
}

/// Where programs and files are, and how big the load is.
pub(crate) struct Bench<'a> {
    pub(crate) netsnoop: &'a Path,
    pub(crate) traffic: &'a Path,
    pub(crate) connections: u64,
}

/// A child that is ended by us: by the end of its input, or by SIGINT.
pub(super) struct Part {
    pub(super) child: Child,
    input: Option<ChildStdin>,
}

impl Part {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let input = child.stdin.take();
        Ok(Self { child, input })
    }

    /// Its CPU time, all of it: it has ended and is not yet waited for.
    fn end(mut self) -> Result<f64> {
        drop(self.input.take());
        let pid = Pid::from_child(&self.child);
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            .context("waiting for a child")?;
        let used = cpu_seconds(self.child.id())?;
        self.child.wait().context("waiting for a child")?;
        Ok(used)
    }

    /// Has it end, and tells its CPU time.
    pub(super) fn interrupt(self) -> Result<f64> {
        kill_process(Pid::from_child(&self.child), Signal::INT).context("ending a contestant")?;
        self.end()
    }
}

/// Nothing is left behind by a run that fails.
impl Drop for Part {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait()
            && let Err(error) = self.child.kill().and_then(|()| self.child.wait())
        {
            shell::warn(&format!("ending a child of the bench: {error}"));
        }
    }
}

impl Bench<'_> {
    /// The load alone: what client and server use when nobody watches.
    pub(crate) fn run_unwatched(&self) -> Result<Figures> {
        let load = self.give_load()?;
        Ok(Figures {
            cpu_seconds: 0.0,
            peak_mebibytes: 0.0,
            load_cpu_seconds: load.cpu_seconds,
            load_seconds: load.seconds,
            owners_named: None,
            lost: None,
        })
    }

    /// The load with `contestant` watching.
    pub(crate) fn run(&self, contestant: &Contestant, program: &Path) -> Result<Figures> {
        let page = std::env::temp_dir().join(format!("netsnoop-bench-{}", std::process::id()));
        let output = File::create(&page).with_context(|| format!("creating {}", page.display()))?;
        let watching = Watching::start(contestant, program, output)?;
        let pid = watching.part.child.id();
        let used_before = cpu_seconds(pid)?;
        let load = self.give_load()?;
        wait_until_quiet(pid)?;
        let peak_mebibytes = peak_mebibytes(pid)?;
        let used = watching.part.interrupt()? - used_before;
        let said = watching.said.join().unwrap_or_else(|panic| resume_unwind(panic));
        let said = said.with_context(|| format!("reading what {} says", contestant.name))?;
        let owners_named = contestant
            .names_client
            .map(|names| count_lines(&page, |line| names(line, load.client)))
            .transpose()?;
        fs::remove_file(&page).with_context(|| format!("removing {}", page.display()))?;
        Ok(Figures {
            cpu_seconds: used,
            peak_mebibytes,
            load_cpu_seconds: load.cpu_seconds,
            load_seconds: load.seconds,
            owners_named,
            lost: lost(&said),
        })
    }

    fn give_load(&self) -> Result<Load> {
        let address = format!("127.0.0.1:{SERVER_PORT}");
        let (sink, line) = self.traffic(&["sink", &address])?;
        if !line.contains("listen") {
            bail!("the server did not start: {line}");
        }
        let (burst, line) =
            self.traffic(&["burst", &address, &self.connections.to_string(), LOAD_THREADS])?;
        let client = burst.child.id();
        let made: Burst =
            serde_json::from_str(&line).with_context(|| format!("reading what the load told: {line}"))?;
        if made.connections != self.connections {
            bail!("{} of {} connections were made", made.connections, self.connections);
        }
        let cpu_seconds = burst.end()? + sink.end()?;
        Ok(Load { client, cpu_seconds, seconds: made.seconds })
    }

    /// Starts a part of the traffic program, and returns with its first line.
    fn traffic(&self, words: &[&str]) -> Result<(Part, String)> {
        let mut part = Part::start(Command::new(self.traffic).args(words).stdout(Stdio::piped()))?;
        let output = part.child.stdout.take().context("the load has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("reading what the load tells")?;
        Ok((part, line))
    }

    /// Seconds from netsnoop's start to its first line that names an owner, with connections being made all the time.
    pub(crate) fn first_line_seconds(&self) -> Result<f64> {
        let stop = AtomicBool::new(false);
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
        let address = server.local_addr().context("asking for the listener's address")?;
        thread::scope(|scope| {
            scope.spawn(|| {
                // An error here shows as connections without an answer, and no line.
                while !stop.load(Ordering::Relaxed) && TcpStream::connect(address).is_ok() {
                    thread::sleep(FIRST_LINE_STEP);
                }
            });
            scope.spawn(|| {
                let wanted = || !stop.load(Ordering::Relaxed);
                server.incoming().take_while(|_| wanted()).for_each(drop);
            });
            let seconds = self.await_first_line();
            stop.store(true, Ordering::Relaxed);
            TcpStream::connect(address).context("ending the thread that accepts")?;
            seconds
        })
    }

    fn await_first_line(&self) -> Result<f64> {
        let owner = format!("[{}]", std::process::id());
        let started = Instant::now();
        let mut part = Part::start(
            Command::new(self.netsnoop).arg("watch").stdout(Stdio::piped()).stderr(Stdio::null()),
        )?;
        let output = part.child.stdout.take().context("netsnoop has no output")?;
        let mut first = None;
        for line in BufReader::new(output).lines() {
            if line.context("reading netsnoop's lines")?.contains(&owner) {
                first = Some(started.elapsed());
                break;
            }
        }
        part.interrupt()?;
        first.map(|after| after.as_secs_f64()).context("netsnoop ended without a line")
    }
}

/// What the load told of itself.
struct Load {
    client: u32,
    cpu_seconds: f64,
    seconds: f64,
}

#[derive(Deserialize)]
struct Burst {
    connections: u64,
    seconds: f64,
}

/// A contestant that is ready.
struct Watching {
    part: Part,
    said: JoinHandle<io::Result<Vec<String>>>,
}

impl Watching {
    fn start(contestant: &Contestant, program: &Path, output: File) -> Result<Self> {
        let mut command = contestant.command(program);
        let mut part = Part::start(command.stdout(output).stderr(Stdio::piped()))?;
        let pid = part.child.id();
        let mut errors = BufReader::new(part.child.stderr.take().context("no standard error")?);
        let mut said = Vec::new();
        while let Some(ready) = contestant.ready {
            let mut line = String::new();
            if errors.read_line(&mut line).context("reading what a contestant says")? == 0 {
                bail!("{} ended early: {}", contestant.name, said.concat());
            }
            let is_ready = line.contains(ready);
            said.push(line);
            if is_ready {
                break;
            }
        }
        wait_until_quiet(pid)?;
        // Its errors are read on, so that it never waits for us.
        let said = thread::spawn(move || errors.lines().collect());
        Ok(Self { part, said })
    }
}

fn count_lines(page: &PathBuf, names: impl Fn(&str) -> bool) -> Result<u64> {
    let mut count = 0;
    for line in
        BufReader::new(File::open(page).with_context(|| format!("reading {}", page.display()))?).lines()
    {
        count += u64::from(names(&line.with_context(|| format!("reading {}", page.display()))?));
    }
    Ok(count)
}

/// What netsnoop's closing words say was lost: `N dropped` of the packets and `N lost` of the kernel events.
fn lost(said: &[String]) -> Option<u64> {
    let number = |word: &str| said.iter().find_map(|line| number_before(line, word));
    Some(number(" dropped")? + number(" lost,")?)
}

fn number_before(line: &str, word: &str) -> Option<u64> {
    let (before, _) = line.split_once(word)?;
    before.rsplit(' ').next()?.parse().ok()
}

/// Says one line that the caller, outside of the namespace, reads.
pub(crate) fn tell(out: &mut impl Write, what: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(what).context("rendering figures")?;
    writeln!(out, "{line}").context("telling figures")
}
