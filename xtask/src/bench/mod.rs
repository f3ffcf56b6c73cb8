//! `cargo xtask bench`: what watching costs, netsnoop's and others' in the same run, and whether the figures that
//! netsnoop promises hold. docs/performance.md says what the numbers mean.
//!
//! Everything is built by the caller; then this program starts itself as root in a network namespace of its own.

mod agent;
mod contestants;
mod list;
mod measure;
mod process;
mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use self::contestants::{CONTESTANTS, Contestant};
use self::measure::{Bench, Figures};
use self::table::{Row, median};
use crate::generated::Generated;
use crate::{prerequisites, shell};

/// Start to first attributed line, at most.
const FIRST_LINE_SECONDS_MAX: f64 = 0.5;
const TRACEFS: &str = "/sys/kernel/tracing";
/// Where the table is kept.
const PAGE: Generated = Generated {
    path: "docs/performance.md",
    begin: "<!-- cargo xtask bench watch --write -->",
    end: "<!-- end of what the command wrote -->",
};

/// What `bench` takes.
#[derive(clap::Args)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// CPU and memory of `netsnoop watch` and others under 15,000 short connections a second, and the time to its first line
    Watch(WatchArguments),
    /// Time and memory of `netsnoop list` by each way, and of `ss` and `lsof`, on thousands of processes and sockets
    List(list::ListArguments),
    /// Whether `netsnoop agent` counts exactly, answers in time and stays small while 50 users open 15,000 connections a
    /// second to 20 services, and while they talk to 100,000 peers
    Agent(agent::AgentArguments),
    /// One round of the above, as root
    #[command(hide = true)]
    InsideAgent(agent::InsideAgentArguments),
    /// One of the users above
    #[command(hide = true)]
    Tenant(agent::TenantArguments),
    /// Their services
    #[command(hide = true)]
    ServeAgent,
    /// The part of `list` that is root
    #[command(hide = true)]
    InsideList(list::InsideListArguments),
    /// One part of `watch`; needs root and a network namespace of its own
    #[command(hide = true)]
    Inside(InsideArguments),
}

#[derive(clap::Args)]
struct WatchArguments {
    /// How often each is measured; the table tells medians
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Connections in a run
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    connections: u64,
    #[command(flatten)]
    manner: Manner,
}

/// How a bench with rivals is run, whatever it measures.
#[derive(clap::Args)]
struct Manner {
    /// Measure netsnoop alone
    #[arg(long)]
    alone: bool,
    /// Write the table into docs/performance.md
    #[arg(long)]
    write: bool,
    /// Install what is missing without asking
    #[arg(long, short)]
    yes: bool,
}

#[derive(clap::Args)]
struct InsideArguments {
    /// The netsnoop to measure
    #[arg(long)]
    netsnoop: PathBuf,
    /// The program that makes the load
    #[arg(long)]
    traffic: PathBuf,
    /// As of `watch`
    #[arg(long)]
    connections: u64,
    /// A contestant's place in the list; without it the load is run unwatched
    #[arg(long)]
    contestant: Option<usize>,
    /// The time to netsnoop's first line instead of a load
    #[arg(long)]
    first_line: bool,
}

/// Does what was asked for.
pub(crate) fn bench(arguments: &BenchArguments) -> Result<ExitCode> {
    match &arguments.what {
        What::Watch(arguments) => watch(arguments),
        What::List(arguments) => list::bench(arguments),
        What::Agent(arguments) => agent::bench(arguments),
        What::InsideAgent(arguments) => agent::inside(arguments).map(|()| ExitCode::SUCCESS),
        What::Tenant(arguments) => agent::play(arguments).map(|()| ExitCode::SUCCESS),
        What::ServeAgent => agent::serve().map(|()| ExitCode::SUCCESS),
        What::InsideList(arguments) => list::inside(arguments).map(|()| ExitCode::SUCCESS),
        What::Inside(arguments) => inside(arguments).map(|()| ExitCode::SUCCESS),
    }
}

/// What one start of ourselves inside of a namespace told.
#[derive(Serialize, Deserialize)]
enum Told {
    Figures(Figures),
    FirstLineSeconds(f64),
}

fn inside(arguments: &InsideArguments) -> Result<()> {
    shell::read(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    // libbpf finds tracepoints there only. The mount is in a namespace of ours and goes with it.
    if !Path::new(TRACEFS).join("events").exists() {
        shell::read(Command::new("mount").args(["-t", "tracefs", "tracefs", TRACEFS]))?;
    }
    let bench = Bench {
        netsnoop: &arguments.netsnoop,
        traffic: &arguments.traffic,
        connections: arguments.connections,
    };
    let told = match arguments.contestant.and_then(|place| CONTESTANTS.get(place)) {
        _ if arguments.first_line => Told::FirstLineSeconds(bench.first_line_seconds()?),
        Some(contestant) => {
            let program = contestant.program(&arguments.netsnoop).map_err(anyhow::Error::msg)?;
            Told::Figures(bench.run(contestant, &program)?)
        }
        None => Told::Figures(bench.run_unwatched()?),
    };
    measure::tell(&mut io::stdout().lock(), &told)
}

/// Builds and starts ourselves inside.
struct Outside {
    netsnoop: PathBuf,
    traffic: PathBuf,
    connections: u64,
}

impl Outside {
    fn build(connections: u64) -> Result<Self> {
        let build = ["build", "--release", "--locked", "--package", "netsnoop", "--bin", "netsnoop"];
        shell::run(shell::cargo().args(build).args(["--example", "traffic"]))?;
        let folder = shell::target_folder()?.join("release");
        Ok(Self { netsnoop: folder.join("netsnoop"), traffic: folder.join("examples/traffic"), connections })
    }

    fn ask(&self, words: &[&str]) -> Result<Told> {
        let unshare = shell::find("unshare").context("looking for unshare (util-linux)")?;
        let mut command = shell::as_root(&unshare)?;
        command
            .args(["--net", "--mount"])
            .arg(std::env::current_exe().context("looking for this program's file")?);
        command.args(["bench", "inside", "--connections", &self.connections.to_string()]);
        command.arg("--netsnoop").arg(&self.netsnoop).arg("--traffic").arg(&self.traffic).args(words);
        let told = shell::read(&mut command)?;
        serde_json::from_str(&told).with_context(|| format!("reading {told}"))
    }

    fn figures(&self, contestant: Option<usize>) -> Result<Figures> {
        let place = contestant.map(|place| place.to_string());
        let words: Vec<&str> = place.iter().flat_map(|place| ["--contestant", place]).collect();
        match self.ask(&words)? {
            Told::Figures(figures) => Ok(figures),
            Told::FirstLineSeconds(_) => bail!("figures were asked for"),
        }
    }

    fn first_line_seconds(&self) -> Result<f64> {
        match self.ask(&["--first-line"])? {
            Told::FirstLineSeconds(seconds) => Ok(seconds),
            Told::Figures(_) => bail!("a time was asked for"),
        }
    }
}

fn watch(arguments: &WatchArguments) -> Result<ExitCode> {
    prerequisites::ensure(arguments.manner.yes)?;
    let outside = Outside::build(arguments.connections)?;
    let present = present(&outside.netsnoop, arguments.manner.alone)?;
    let mut unwatched = Row { name: "", runs: Vec::new() };
    let mut rows: Vec<Row> =
        present.iter().map(|(_, contestant)| Row { name: contestant.name, runs: Vec::new() }).collect();
    let mut first_lines = Vec::new();
    // In turns, so that whatever else the machine does is spread over all.
    for run in 1..=arguments.runs {
        shell::say(&format!("run {run} of {}", arguments.runs))?;
        first_lines.push(outside.first_line_seconds()?);
        unwatched.runs.push(outside.figures(None)?);
        for (row, (place, contestant)) in rows.iter_mut().zip(&present) {
            match outside.figures(Some(*place)) {
                Ok(figures) => row.runs.push(figures),
                Err(error) if contestant.is_netsnoop() => return Err(error),
                Err(error) => shell::say(&format!("  without {}: {error:#}", contestant.name))?,
            }
        }
    }
    rows.retain(|row| !row.runs.is_empty());
    let first_line = median(first_lines);
    let lost: u64 = rows.iter().flat_map(|row| &row.runs).filter_map(|run| run.lost).sum();
    let report = [
        setting(&present, &outside, (&unwatched, arguments.runs))?,
        table::render(&rows, &unwatched, arguments.connections)?,
        format!(
            "\nStart to first attributed line: {:.0} ms (at most 500). Lost: {lost} (0).\n",
            first_line * 1e3
        ),
    ]
    .concat();
    shell::say(&report)?;
    if arguments.manner.write {
        PAGE.write(&report)?;
    }
    let held = first_line < FIRST_LINE_SECONDS_MAX && lost == 0;
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Those that are installed, with their places; the others are named with what installs them.
fn present(netsnoop: &Path, alone: bool) -> Result<Vec<(usize, Contestant)>> {
    let mut present = Vec::new();
    for (place, contestant) in CONTESTANTS.into_iter().enumerate() {
        match contestant.program(netsnoop) {
            Ok(program) if !alone || program == netsnoop => present.push((place, contestant)),
            Ok(_) => {}
            Err(why) if !alone => shell::say(&format!("skipped: {}: {why}", contestant.name))?,
            Err(_) => {}
        }
    }
    Ok(present)
}

/// When, and on what.
fn machine() -> Result<String> {
    let date = shell::read(Command::new("date").args(["--utc", "+%F"]))?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel's version")?;
    // What follows the version is the distributor's and says nothing here.
    let kernel = kernel.trim().split('-').next().unwrap_or_default().to_owned();
    // What else the machine does shows in all that follows.
    let load = fs::read_to_string("/proc/loadavg").context("reading how busy the machine is")?;
    let load = load.split(' ').nth(1).unwrap_or_default().to_owned();
    let processors = std::thread::available_parallelism().context("counting processors")?;
    Ok(format!("{}, Linux {kernel}, {processors} processors, load average {load}", date.trim()))
}

/// When, where, with what, how fast.
fn setting(
    present: &[(usize, Contestant)],
    outside: &Outside,
    (unwatched, runs): (&Row, u32),
) -> Result<String> {
    let mut versions: Vec<String> = Vec::new();
    for (_, contestant) in present {
        let version = contestant
            .program(&outside.netsnoop)
            .map(|program| contestant.version(&program))
            .unwrap_or_default();
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    let rate = median(unwatched.runs.iter().map(|run| outside.connections as f64 / run.load_seconds));
    Ok(format!(
        "{}; medians of {runs} runs of {} connections, {rate:.0} a second when nobody watches.\nVersions: {}.\n\n",
        machine()?,
        outside.connections,
        versions.join("; "),
    ))
}
