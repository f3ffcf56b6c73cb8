//! `cargo xtask truth`: how often netsnoop names the right owner. A node made of namespaces plays traffic of many classes,
//! each end of it told by the program that made it, and netsnoop's records are held against that, for each way of knowing.
//! docs/accuracy.md says what the numbers mean.
//!
//! Everything is built by the caller; then this program starts itself as root, and its players as whom they play.

mod actor;
mod cgroup;
mod classes;
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

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::matching::Matched;
use self::records::{Clock, Connection};
use self::run::{Outcome, Played, Programme, Scratch};
use self::score::{Answers, Group, Row};
use self::show::{Exhibits, Kind};
use self::table::Column;
use self::verdict::{Case, Verdict};
use self::ways::{WAYS, Way};
use crate::{prerequisites, shell, test};

pub(crate) use self::score::Score;

pub(crate) use self::player::{HoldArguments, PlayArguments, hold, play};

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
    Duration::from_secs(20) * slowness()
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
    clean_up_when_interrupted()?;
    let scratch = Scratch::new(&arguments.temp.clone().unwrap_or_else(std::env::temp_dir), arguments.keep)?;
    let classes = match &*arguments.class {
        [] => classes::judged().collect(),
        names => names.iter().map(|name| Ok(classes::find(name)?.1)).collect::<Result<_>>()?,
    };
    let programme =
        Programme { netsnoop: &netsnoop, classes, small: arguments.small, folder: &scratch.folder };
    let ways = if arguments.way.is_empty() { &WAYS } else { &*arguments.way };
    let mut columns = Vec::new();
    for way in ways {
        columns.extend(score_way(&programme, *way, &arguments.show)?.and_then(Column::new));
    }
    scratch.tell()?;
    if let Some(path) = &arguments.json {
        let scores: Vec<&Score> = columns.iter().map(|column| &column.score).collect();
        let text = serde_json::to_string_pretty(&scores).context("rendering the scores")?;
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    report(&columns, arguments.small)
}

/// Starts this program anew as root with what it was given.
fn become_root(netsnoop: &std::path::Path) -> Result<ExitCode> {
    let mut command = shell::as_root(&std::env::current_exe().context("looking for this program's file")?)?;
    command.args(std::env::args_os().skip(1)).arg("--netsnoop").arg(netsnoop);
    let status = command.status().with_context(|| format!("starting `{}`", shell::show(&command)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Players, netsnoop and with them the namespaces end with this process; cgroups and files do not.
fn clean_up_when_interrupted() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("listening to signals")?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let cleaned = cgroup::remove_own();
            let said = match cleaned {
                Ok(()) => shell::say("interrupted"),
                Err(error) => shell::say(&format!("interrupted, and cgroups may be left: {error:#}")),
            };
            // Whether or not it could be said, this is the end.
            process::exit(said.map_or(1, |()| 128 + signal));
        }
    });
    Ok(())
}

/// Plays and scores one way; nothing if it is not to be had here.
fn score_way(programme: &Programme<'_>, way: Way, show: &[Kind]) -> Result<Option<Score>> {
    let started = std::time::Instant::now();
    let played = match run::play(programme, way).with_context(|| format!("playing {way}"))? {
        Outcome::Played(played) => played,
        Outcome::Unavailable(why) => {
            shell::say(&format!("skipped: {way}: {}", why.lines().last().unwrap_or_default()))?;
            return Ok(None);
        }
    };
    let clock = Clock::read()?;
    let connections = records::fold(&played.watched.records, clock)?;
    let is_translated = |name: &str| classes::find(name).is_ok_and(|(_, class)| class.needs_translation);
    let matched = matching::find(&played.truth, &connections, is_translated);
    let (truth, node_netns) = (&*played.truth, played.node_netns);
    let holders = &*played.holders;
    let case = Case { truth, connections: &connections, matched: &matched, clock, node_netns, holders };
    let verdicts = case.judge();
    let exhibits = Exhibits { truth, connections: &connections, matched: &matched, verdicts: &verdicts };
    shell::say(exhibits.render(show)?.trim_end())?;
    let mut score = count(way, &played, (&connections, &matched), &verdicts)?;
    let is_silent = |name: &str| !score.rows.iter().any(|row| row.group.class == name);
    let silent = programme.classes.iter().map(|class| class.name.to_owned());
    score.silent = silent.filter(|name| is_silent(name) && !score.skipped.contains_key(name)).collect();
    shell::say(&format!(
        "{way}: {} connections, {} wrong, {} doubled, {:.0} s",
        score.connections,
        score.wrong(),
        score.doubled(),
        started.elapsed().as_secs_f64()
    ))?;
    Ok(Some(score))
}

fn count(
    way: Way,
    played: &Played,
    (connections, matched): (&[Connection], &Matched),
    verdicts: &[Verdict],
) -> Result<Score> {
    let mut groups: BTreeMap<Group, Answers> = BTreeMap::new();
    for (end, verdict) in played.truth.iter().zip(verdicts) {
        let group = Group {
            class: end.opened.class.clone(),
            transport: end.opened.transport,
            role: end.opened.role,
            is_short: verdict.is_short,
            crosses: verdict.crosses,
            has_one_user: verdict.has_one_user,
        };
        let answers = groups.entry(group).or_default();
        answers.process.add(&verdict.process);
        answers.user.add(&verdict.user);
        answers.namespace.add(&verdict.namespace);
    }
    let mut doubled: BTreeMap<String, u64> = BTreeMap::new();
    for (index, places) in &matched.doubled {
        let end = played.truth.get(*index).context("a doubled connection was not told of")?;
        *doubled.entry(end.opened.class.clone()).or_default() += places.len() as u64;
    }
    let swapped = played.truth.iter().zip(&matched.sightings).filter(|(end, sighting)| {
        sighting.is_some_and(|(place, role)| {
            role != end.opened.role
                && connections.get(place).is_some_and(|connection| connection.role != "unknown")
        })
    });
    let paired = matched.partners.iter().flatten().count() / 2;
    Ok(Score {
        way: way.name.to_owned(),
        rows: groups.into_iter().map(|(group, answers)| Row { group, answers }).collect(),
        connections: (played.truth.len() - paired) as u64,
        doubled,
        swapped: swapped.count() as u64,
        untold: matched.untold.len() as u64,
        silent: Vec::new(),
        imbalance: ledger::imbalance(&played.watched.words)?,
        skipped: played.skipped.0.iter().map(|(name, why)| ((*name).to_owned(), why.clone())).collect(),
    })
}

/// Says the tables and what is not good enough.
fn report(columns: &[Column], is_small: bool) -> Result<ExitCode> {
    if columns.is_empty() {
        bail!("no way could be scored");
    }
    let text = [
        table::render_figures(columns)?,
        table::render_classes(columns)?,
        table::render_limits(columns)?,
        table::render_reasons(columns)?,
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
