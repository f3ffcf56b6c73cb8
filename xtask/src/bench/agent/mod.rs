//! `cargo xtask bench agent`: whether `netsnoop agent` counts exactly, answers in time and keeps its memory within bounds
//! while 50 users open 15,000 connections a second to 20 services, and while they talk to 100,000 peers.
//!
//! Everything is built by the caller; then this program starts itself as root in a network namespace of its own, once
//! for each round.

mod page;
mod report;
mod round;
mod scene;
mod scrape;
mod tenant;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use self::report::Results;
use self::round::{Contestant, Outcome};
pub(super) use self::tenant::{TenantArguments, play, serve};
use super::Manner;
use crate::generated::Generated;
use crate::{prerequisites, shell};

/// Where the table is kept.
const PAGE: Generated = Generated {
    path: "docs/performance.md",
    begin: "<!-- cargo xtask bench agent --write -->",
    end: "<!-- end of what `bench agent` wrote -->",
};

/// What `bench agent` takes.
#[derive(clap::Args)]
pub(crate) struct AgentArguments {
    /// How often each is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Connections in a run
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1000..))]
    connections: u64,
    /// Peers in a run
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1000..=130_000))]
    peers: u64,
    #[command(flatten)]
    manner: Manner,
}

/// What the part that is root takes.
#[derive(clap::Args)]
pub(crate) struct InsideAgentArguments {
    /// The netsnoop to measure
    #[arg(long)]
    netsnoop: PathBuf,
    /// Who is measured, under which load
    #[arg(long)]
    contestant: Contestant,
    /// How many connections, or peers
    #[arg(long)]
    count: u64,
}

/// Builds, measures, reports.
pub(crate) fn bench(arguments: &AgentArguments) -> Result<ExitCode> {
    prerequisites::ensure(arguments.manner.yes)?;
    let build = ["build", "--release", "--locked", "--package", "netsnoop", "--bin", "netsnoop"];
    shell::run(shell::cargo().args(build))?;
    let netsnoop = shell::target_folder()?.join("release/netsnoop");
    let mut contestants = vec![Contestant::Agent, Contestant::Peers];
    match shell::find("tcpdump") {
        _ if arguments.manner.alone => {}
        Some(_) => contestants.push(Contestant::Tcpdump),
        None => shell::say("skipped: tcpdump: it is not here; `apt-get install tcpdump` installs it")?,
    }
    let mut results = Results::default();
    // In turns, so that whatever else the machine does is spread over all.
    for run in 1..=arguments.runs {
        shell::say(&format!("run {run} of {}", arguments.runs))?;
        for contestant in &contestants {
            let count =
                if *contestant == Contestant::Peers { arguments.peers } else { arguments.connections };
            let outcome = ask(&netsnoop, *contestant, count)?;
            for fault in &outcome.faults {
                shell::say(&format!("  {}: {fault}", contestant.name()))?;
            }
            results.add(*contestant, outcome);
        }
    }
    let report = report::render(&results, arguments)?;
    shell::say(&report.text)?;
    if arguments.manner.write {
        PAGE.write(&report.text)?;
    }
    Ok(if report.held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Has one round played in a network namespace of its own.
fn ask(netsnoop: &Path, contestant: Contestant, count: u64) -> Result<Outcome> {
    let unshare = shell::find("unshare").context("looking for unshare (util-linux)")?;
    let mut command = shell::as_root(&unshare)?;
    command
        .args(["--net", "--mount"])
        .arg(std::env::current_exe().context("looking for this program's file")?)
        .args(["bench", "inside-agent", "--contestant", contestant.word(), "--count", &count.to_string()])
        .arg("--netsnoop")
        .arg(netsnoop);
    let told = shell::read(&mut command)?;
    serde_json::from_str(&told).with_context(|| format!("reading {told}"))
}

/// Plays one round, as root.
pub(crate) fn inside(arguments: &InsideAgentArguments) -> Result<()> {
    shell::read(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    let outcome = round::play(&arguments.netsnoop, arguments.contestant, arguments.count)?;
    super::measure::tell(&mut io::stdout().lock(), &outcome)
}
