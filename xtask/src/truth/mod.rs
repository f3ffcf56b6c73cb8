//! `cargo xtask truth`: how often netsnoop names the right owner. A node made of namespaces plays traffic of many classes,
//! each end of it told by the program that made it, and netsnoop's records are held against that, for each way of knowing.
//! docs/accuracy.md says what the numbers mean.
//!
//! Everything is built by the caller; then this program starts itself as root, and its players as whom they play.

mod actor;
mod cgroup;
mod classes;
mod document;
mod evaluation;
mod figures;
mod ledger;
mod matching;
mod node;
mod player;
mod records;
mod run;
#[cfg(test)]
mod samples;
mod scene;
mod score;
mod show;
pub(crate) mod summary;
mod table;
mod told;
mod verdict;
mod watching;
mod ways;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::run::{Programme, Scratch};
use self::show::Kind;
use self::table::Column;
use self::ways::{WAYS, Way};
use crate::test::Tally;
use crate::{prerequisites, shell, test};

pub(crate) use self::score::Score;

pub(crate) use self::player::{HoldArguments, PlayArguments, become_user, end_with_parent, hold, play};

/// What `truth` takes.
#[derive(clap::Args)]
pub(crate) struct TruthArguments {
    /// Score this way of knowing only (repeatable): auto, off, or a rung alone
    #[arg(long, value_name = "WAY", value_delimiter = ',', value_parser = ways::parse)]
    way: Vec<Way>,
    /// Play this class only (repeatable)
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    class: Vec<String>,
    /// Play little, and judge only that no answer is wrong, no record doubled, the ledger balanced
    #[arg(long)]
    small: bool,
    /// Name the classes and what they are, and end
    #[arg(long)]
    list: bool,
    /// Show these disagreements: what was told, and netsnoop's lines
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    show: Vec<Kind>,
    /// Write the scores to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables into docs/accuracy.md; only of a full run
    #[arg(long, conflicts_with_all = ["way", "class", "small"])]
    write: bool,
    /// The netsnoop to score, instead of building one
    #[arg(long, value_name = "FILE", env = "NETSNOOP_UNDER_TEST")]
    netsnoop: Option<PathBuf>,
    /// Keep files in a folder of this one while they are needed
    #[arg(long, value_name = "DIR")]
    temp: Option<PathBuf>,
    /// Leave those files there
    #[arg(long)]
    keep: bool,
    /// Install what is missing without asking
    #[arg(long, short)]
    yes: bool,
}

/// How many times slower than a real machine this one is: emulated guests are.
fn slowness() -> u32 {
    std::env::var("NETSNOOP_TEST_SLOWNESS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// How long something that must happen may take: generous, since it is only waited out in failure.
fn patience() -> Duration {
    Duration::from_secs(120) * slowness()
}

/// Does what was asked for.
pub(crate) fn truth(arguments: &TruthArguments) -> Result<ExitCode> {
    if arguments.list {
        for class in classes::judged() {
            shell::say(&format!("{:24} {}", class.name, class.about))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let netsnoop = match &arguments.netsnoop {
        Some(netsnoop) => netsnoop.clone(),
        None => {
            prerequisites::ensure(arguments.yes)?;
            test::build_release()?
        }
    };
    if !shell::is_root() {
        return become_root(&netsnoop);
    }
    check_programs()?;
    let scratch = Scratch::new(&arguments.temp.clone().unwrap_or_else(std::env::temp_dir), arguments.keep)?;
    clean_up_when_interrupted(scratch.folder.clone())?;
    let classes = match &*arguments.class {
        [] => classes::judged().collect(),
        names => names.iter().map(|name| Ok(classes::find(name)?.1)).collect::<Result<_>>()?,
    };
    let programme =
        Programme { netsnoop: &netsnoop, classes, small: arguments.small, folder: &scratch.folder };
    let ways = if arguments.way.is_empty() { &WAYS } else { &*arguments.way };
    let mut columns = Vec::new();
    let mut unavailable = Vec::new();
    for way in ways {
        match evaluation::score(&programme, *way, &arguments.show)? {
            Ok(score) => columns.push(Column { way: *way, score }),
            Err(why) => unavailable.push((*way, why)),
        }
    }
    scratch.tell()?;
    if let Some(path) = &arguments.json {
        let scores: Vec<&Score> = columns.iter().map(|column| &column.score).collect();
        let text = serde_json::to_string_pretty(&scores).context("rendering the scores")?;
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if arguments.write {
        document::write(&columns, &unavailable, &netsnoop)?;
    }
    report(&columns, arguments.small)
}

/// As a part of all tests: all ways together at small scale, in a run of this program as root.
pub(crate) fn test_small(netsnoop: &Path, tally: &mut Tally) -> Result<()> {
    let program = std::env::current_exe().context("looking for this program's file")?;
    let mut command = match shell::as_root(&program) {
        Ok(command) => command,
        Err(error) => {
            tally.skip("truth", &format!("{error:#}"));
            return Ok(());
        }
    };
    command
        .args(["truth", "--small", "--way", "auto", "--show", "wrong,doubled", "--netsnoop"])
        .arg(netsnoop);
    shell::say(&format!("$ {}", shell::show(&command)))?;
    let status = command.status().context("starting the truth bench")?;
    tally.count("truth --small", status.success());
    Ok(())
}

/// What the node is made with, and the Debian package of each. Without nft the classes that need it are left out.
const PROGRAMS: [(&str, &str); 3] =
    [("ip", "iproute2"), ("nsenter", "util-linux"), ("setpriv", "util-linux")];

fn check_programs() -> Result<()> {
    let missing: Vec<String> = PROGRAMS
        .iter()
        .filter(|(program, _)| shell::find(program).is_none())
        .map(|(program, package)| format!("{program} (apt-get install {package})"))
        .collect();
    ensure!(missing.is_empty(), "the node is made with {}", missing.join(", "));
    Ok(())
}

/// Starts this program anew as root with what it was given.
fn become_root(netsnoop: &Path) -> Result<ExitCode> {
    let mut command = shell::as_root(&std::env::current_exe().context("looking for this program's file")?)?;
    command.args(std::env::args_os().skip(1));
    // The environment does not get through.
    if !std::env::args().any(|word| word.starts_with("--netsnoop")) {
        command.arg("--netsnoop").arg(netsnoop);
    }
    let status = command.status().with_context(|| format!("starting `{}`", shell::show(&command)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Players, netsnoop and with them the namespaces end with this process; cgroups and files do not.
fn clean_up_when_interrupted(scratch: PathBuf) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("listening to signals")?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let files = fs::remove_dir_all(&scratch).context("removing the files");
            let faults = [cgroup::remove_own(), files].into_iter().filter_map(Result::err);
            let left: Vec<String> = faults.map(|error| format!("; what may be left: {error:#}")).collect();
            let said = shell::say(&format!("interrupted{}", left.concat()));
            // Whether or not it could be said, this is the end.
            process::exit(said.map_or(1, |()| 128 + signal));
        }
    });
    Ok(())
}

/// Says the tables and what is not good enough.
fn report(columns: &[Column], is_small: bool) -> Result<ExitCode> {
    if columns.is_empty() {
        bail!("no way could be scored");
    }
    let text = [
        table::render_figures(columns)?,
        table::render_reasons(columns)?,
        table::render_classes(columns)?,
        table::render_limits(columns)?,
        table::render_shortfalls(columns)?,
    ];
    shell::say(&text.join("\n"))?;
    let mut is_good = true;
    for column in columns {
        for (class, why) in &column.score.skipped {
            shell::say(&format!("skipped: {class} ({}): {why}", column.way))?;
        }
        for fault in figures::faults(&column.score, column.way.standard, is_small) {
            shell::say(&format!("not good enough: {}: {fault}", column.way))?;
            is_good = false;
        }
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
