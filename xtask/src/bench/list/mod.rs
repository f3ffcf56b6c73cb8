//! `cargo xtask bench list`: how long a list of all sockets of a node takes, by each way of `netsnoop list` and by others,
//! on crowds of processes made for it; and whether the figures that netsnoop promises hold.
//!
//! Everything is built by the caller; then this program starts itself as root, as namespaces need that.

mod measure;
mod report;

use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use self::measure::{Crowd, Sample, Size};
use crate::generated::Generated;
use crate::{prerequisites, shell};

/// Where the table is kept.
const PAGE: Generated = Generated {
    path: "docs/performance.md",
    begin: "<!-- cargo xtask bench list --write -->",
    end: "<!-- end of what `bench list` wrote -->",
};

/// The crowds that figures are promised for.
const CROWDS: [Size; 2] = [
    Size { namespaces: 100, processes: 20, sockets: 10 },
    Size { namespaces: 10, processes: 10, sockets: 1000 },
];
/// Crowds that grow by sockets, then crowds that grow by processes.
const CURVE: [Size; 6] = [
    Size { namespaces: 10, processes: 10, sockets: 50 },
    Size { namespaces: 10, processes: 10, sockets: 200 },
    Size { namespaces: 10, processes: 10, sockets: 800 },
    Size { namespaces: 10, processes: 10, sockets: 10 },
    Size { namespaces: 10, processes: 40, sockets: 10 },
    Size { namespaces: 10, processes: 160, sockets: 10 },
];

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Contestant {
    Iterator,
    SockDiag,
    Proc,
    /// `ss` in every namespace.
    SsEverywhere,
    /// `ss` in one namespace.
    SsOnce,
    Lsof,
}

impl Contestant {
    const WAYS: [Self; 3] = [Self::Iterator, Self::SockDiag, Self::Proc];
    const ALL: [Self; 6] =
        [Self::Iterator, Self::SockDiag, Self::Proc, Self::SsEverywhere, Self::SsOnce, Self::Lsof];

    /// Its name in the table.
    const fn name(self) -> &'static str {
        match self {
            Self::Iterator => "netsnoop list --via iterator",
            Self::SockDiag => "netsnoop list --via sock_diag",
            Self::Proc => "netsnoop list --via proc",
            Self::SsEverywhere => "nsenter + ss -tunap, in every namespace",
            Self::SsOnce => "ss -tunap, in one namespace",
            Self::Lsof => "lsof -nP -i (one namespace's sockets have addresses)",
        }
    }
}

/// What `bench list` takes.
#[derive(clap::Args)]
pub(crate) struct ListArguments {
    /// How often each is measured; the table tells medians
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Write the table into docs/performance.md
    #[arg(long)]
    write: bool,
    /// Leave the curve out
    #[arg(long)]
    no_curve: bool,
    /// Install what is missing without asking
    #[arg(long, short)]
    yes: bool,
}

/// What the part that is root takes.
#[derive(clap::Args)]
pub(crate) struct InsideListArguments {
    /// The netsnoop to measure
    #[arg(long)]
    netsnoop: PathBuf,
    /// The program that makes the crowd
    #[arg(long)]
    crowd: PathBuf,
    /// As of `list`
    #[arg(long)]
    runs: u32,
    /// As of `list`
    #[arg(long)]
    no_curve: bool,
}

/// What was measured on one crowd.
#[derive(Serialize, Deserialize)]
pub(super) struct Measured {
    size: Size,
    samples: Vec<(Contestant, Vec<Sample>)>,
}

/// All that was measured.
#[derive(Serialize, Deserialize)]
pub(super) struct Results {
    crowds: Vec<Measured>,
    curve: Vec<Measured>,
}

/// Builds, measures, reports.
pub(crate) fn bench(arguments: &ListArguments) -> Result<ExitCode> {
    prerequisites::ensure(arguments.yes)?;
    let build = ["build", "--release", "--locked", "--package", "netsnoop", "--bin", "netsnoop"];
    shell::run(shell::cargo().args(build).args(["--example", "crowd"]))?;
    let folder = shell::target_folder()?.join("release");
    let itself = std::env::current_exe().context("looking for this program's file")?;
    let mut command = shell::as_root(&itself)?;
    command.args(["bench", "inside-list", "--runs", &arguments.runs.to_string()]);
    command.arg("--netsnoop").arg(folder.join("netsnoop")).arg("--crowd").arg(folder.join("examples/crowd"));
    if arguments.no_curve {
        command.arg("--no-curve");
    }
    let told = shell::read(&mut command)?;
    let results: Results = serde_json::from_str(&told).with_context(|| format!("reading {told}"))?;
    let report = report::render(&results, arguments.runs)?;
    shell::say(&report.text)?;
    if arguments.write {
        PAGE.write(&report.text)?;
    }
    Ok(if report.held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Measures, as root.
pub(crate) fn inside(arguments: &InsideListArguments) -> Result<()> {
    let rivals = Contestant::ALL.into_iter().filter(|contestant| match contestant {
        Contestant::Lsof => shell::find("lsof").is_some(),
        _ => true,
    });
    let rivals: Vec<Contestant> = rivals.collect();
    let mut results = Results { crowds: Vec::new(), curve: Vec::new() };
    for size in CROWDS {
        results.crowds.push(measure_crowd(arguments, size, &rivals)?);
    }
    for size in CURVE.into_iter().filter(|_| !arguments.no_curve) {
        results.curve.push(measure_crowd(arguments, size, &Contestant::WAYS)?);
    }
    super::measure::tell(&mut io::stdout().lock(), &results)
}

fn measure_crowd(
    arguments: &InsideListArguments,
    size: Size,
    contestants: &[Contestant],
) -> Result<Measured> {
    let crowd = Crowd::start(&arguments.crowd, size)?;
    let mut samples: Vec<(Contestant, Vec<Sample>)> =
        contestants.iter().map(|contestant| (*contestant, Vec::new())).collect();
    // In turns, so that whatever else the machine does is spread over all.
    for _ in 0..arguments.runs {
        for (contestant, runs) in &mut samples {
            runs.push(crowd.measure(*contestant, &arguments.netsnoop)?);
        }
    }
    crowd.end()?;
    Ok(Measured { size, samples })
}

/// The version of ss and lsof.
fn versions() -> Result<String> {
    let ss = shell::read(Command::new("ss").arg("-V"))?;
    let lsof = shell::find("lsof").map(|lsof| Command::new(lsof).arg("-v").output());
    let lsof = lsof.transpose().context("asking lsof for its version")?;
    let lsof = lsof.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
    let revision =
        lsof.as_deref().and_then(|text| text.lines().find_map(|line| line.trim().strip_prefix("revision:")));
    Ok(match revision {
        Some(revision) => format!("{}, lsof {}", ss.trim(), revision.trim()),
        None => ss.trim().to_owned(),
    })
}
