//! A crowd that lives while it is measured, and one run of one contestant on it.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::Contestant;
use crate::bench::process::peak_mebibytes;

/// Lists with so many lines do not fit into a pipe.
const LINES_SEEN: usize = 10_000;

/// How big a crowd is.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Size {
    pub(super) namespaces: usize,
    /// In each namespace.
    pub(super) processes: usize,
    /// Of each process.
    pub(super) sockets: usize,
}

/// What one run showed.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Sample {
    /// From its start to its end.
    pub(super) seconds: f64,
    /// Of netsnoop's long lists alone.
    pub(super) peak_mebibytes: Option<f64>,
    /// Lines it printed.
    pub(super) lines: usize,
}

/// Processes with sockets, gone when it ends.
pub(super) struct Crowd {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// One process in each namespace.
    pids: Vec<String>,
}

impl Crowd {
    pub(super) fn start(program: &Path, size: Size) -> Result<Self> {
        let numbers = [size.namespaces, size.processes, size.sockets].map(|number| number.to_string());
        let mut child = Command::new(program)
            .args(numbers)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a crowd")?;
        let input = child.stdin.take().context("the crowd has no input")?;
        let mut output = BufReader::new(child.stdout.take().context("the crowd has no output")?);
        let mut line = String::new();
        output.read_line(&mut line).context("waiting for the crowd")?;
        let Some(pids) = line.strip_prefix("ready ") else { bail!("the crowd did not start: {line}") };
        let pids: Vec<String> = pids.split_whitespace().map(str::to_owned).collect();
        ensure!(pids.len() == size.namespaces, "the crowd has {} namespaces", pids.len());
        Ok(Self { child, input, output, pids })
    }

    pub(super) fn end(self) -> Result<()> {
        let Self { mut child, input, mut output, .. } = self;
        drop(input);
        io::copy(&mut output, &mut io::sink()).context("waiting for the end of the crowd")?;
        ensure!(child.wait().context("waiting for the crowd")?.success(), "the crowd ended badly");
        Ok(())
    }

    pub(super) fn measure(&self, contestant: Contestant, netsnoop: &Path) -> Result<Sample> {
        let way = match contestant {
            Contestant::Iterator => "iterator",
            Contestant::SockDiag => "sock_diag",
            Contestant::Proc => "proc",
            Contestant::SsEverywhere => return self.run_ss(&self.pids),
            Contestant::SsOnce => return self.run_ss(self.pids.get(..1).unwrap_or_default()),
            Contestant::Lsof => {
                let (seconds, lines) = timed(Command::new("lsof").args(["-nP", "-i"]))?;
                return Ok(Sample { seconds, peak_mebibytes: None, lines });
            }
        };
        let list = || {
            let mut command = Command::new(netsnoop);
            command.args(["list", "-tuna", "--via", way]);
            command
        };
        let (seconds, lines) = timed(&mut list())?;
        // A short list is written at once, and whoever wrote it is gone before it can be looked at.
        let peak_mebibytes = if lines >= LINES_SEEN { Some(peak_of(&mut list())?) } else { None };
        Ok(Sample { seconds, peak_mebibytes, lines })
    }

    fn run_ss(&self, pids: &[String]) -> Result<Sample> {
        let mut all = Sample { seconds: 0.0, peak_mebibytes: None, lines: 0 };
        for pid in pids {
            let (seconds, lines) =
                timed(Command::new("nsenter").args(["--target", pid, "--net", "ss", "-tunap"]))?;
            all.seconds += seconds;
            all.lines += lines;
        }
        Ok(all)
    }
}

/// Runs it to its end; its lines are read as fast as it writes them.
fn timed(command: &mut Command) -> Result<(f64, usize)> {
    let started = Instant::now();
    let (mut child, mut output) = start(command)?;
    let mut text = Vec::new();
    output.read_to_end(&mut text).context("reading a list")?;
    let status = child.wait().context("waiting for a list")?;
    let seconds = started.elapsed().as_secs_f64();
    // lsof fails if there is anything that it cannot see.
    ensure!(
        status.success() || command.get_program() == "lsof",
        "{} failed",
        command.get_program().display()
    );
    Ok((seconds, text.iter().filter(|byte| **byte == b'\n').count()))
}

/// MiB it had at most, as far as can be seen from outside: it is looked at whenever it has written some of its list.
fn peak_of(command: &mut Command) -> Result<f64> {
    let (mut child, mut output) = start(command)?;
    let mut peak = 0.0_f64;
    let mut piece = vec![0; 1 << 16];
    while output.read(&mut piece).context("reading a list")? > 0 {
        // Its last piece may be all that is left of it.
        if let Ok(now) = peak_mebibytes(child.id()) {
            peak = peak.max(now);
        }
    }
    child.wait().context("waiting for a list")?;
    ensure!(peak > 0.0, "nothing was seen of the memory it used");
    Ok(peak)
}

fn start(command: &mut Command) -> Result<(Child, ChildStdout)> {
    let program = command.get_program().to_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let output = child.stdout.take().context("a list has no output")?;
    Ok((child, output))
}
