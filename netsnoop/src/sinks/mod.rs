//! Where records go. Wall time, names and text exist only from here on.
//!
//! [`watch`] and [`compare`] turn a configuration into one [`Output`], [`agent`] into several; the pipeline hands each
//! every record and stops when told.

mod community_id;
mod comparison;
mod container_name;
mod escape;
pub mod exposition;
mod expression;
mod getent;
pub mod http;
mod journal;
mod jsonl;
mod kubernetes_keys;
pub mod ledger_text;
mod line;
mod lines;
pub mod listing;
mod metrics;
mod owner_filter;
pub mod replaced_file;
#[cfg(test)]
mod samples;
mod schema;
mod scope;
mod selection;
pub mod state_file;
mod steady_clock;
mod text;
pub mod user_names;

use std::fs;
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use netsnoop_core::attribution::{RungSet, Way};
use netsnoop_core::connection::ConnectionRecord;
use netsnoop_core::ledger::Ledger;

use crate::cli::{OutputFormat, UserSelector};
use crate::clock::{self, WallClock};
use crate::config::{AgentConfig, CompareConfig, OwnerSelectors, SourceConfig, WatchConfig};
use crate::counters::{Counter, Counters};
use crate::failure::Failure;
use crate::outlet::Told;
use comparison::ComparisonReport;
use journal::Journal;
use lines::Lines;
use metrics::Metrics;
use selection::Selection;
use state_file::StateFile;
use user_names::UserNames;

/// Something that writes records.
pub trait Sink {
    /// Writes one record; it may stay in a buffer.
    fn write(&mut self, record: &ConnectionRecord, clock: WallClock) -> io::Result<()>;

    /// Empties the buffer.
    fn flush(&mut self) -> io::Result<()>;
}

/// Whether more is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Flow {
    /// Go on.
    Continue,
    /// All that was asked for has been written, or nobody reads any more: end in order.
    Done,
}

/// What was asked for.
pub enum Output {
    /// Lines as records come.
    Lines(Box<Lines>),
    /// A report of how two ways compare, at the end.
    Comparison(Box<ComparisonReport>),
    /// Metrics, for whoever asks.
    Metrics(Box<Metrics>),
    /// Records for machines, for as long as the agent runs.
    Journal(Box<Journal>),
}

/// The books at the end.
#[derive(Clone, Debug)]
pub struct Books {
    /// Each way's ledger.
    pub ledgers: Vec<(Way, Ledger)>,
    /// The rungs each way worked with.
    pub rungs: Vec<(Way, RungSet)>,
    /// What was lost before.
    pub counters: Arc<Counters>,
    /// How long sources were listened to.
    pub lasted: Duration,
}

impl Output {
    /// What it is, for the name of its thread.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Lines(_) | Self::Comparison(_) => "sink",
            Self::Metrics(_) => "metrics",
            Self::Journal(_) => "jsonl",
        }
    }

    /// Whether it wants to know how far connections that live have got.
    pub const fn wants_progress(&self) -> bool {
        matches!(self, Self::Metrics(_))
    }

    /// Where it is counted what finds no room before it.
    pub const fn lost(&self) -> fn(&Counters) -> &Counter {
        match self {
            Self::Lines(_) | Self::Comparison(_) | Self::Journal(_) => {
                |counters| &counters.rows_lost_in_channel
            }
            Self::Metrics(_) => |counters| &counters.metrics_records_lost,
        }
    }

    /// Takes what it is told. An error names the act; a reader that went away is none.
    pub fn handle(&mut self, told: &Told) -> anyhow::Result<Flow> {
        match (self, told) {
            (Self::Lines(lines), Told::Record(_, record)) => return lines.handle(record),
            (Self::Comparison(report), Told::Record(way, record)) => report.take(*way, record),
            (Self::Metrics(metrics), Told::Record(_, record)) => metrics.take(record),
            (Self::Metrics(metrics), Told::Progress(record)) => metrics.take_progress(record),
            (Self::Metrics(metrics), Told::Query(query)) => metrics.answer(query),
            (Self::Metrics(metrics), Told::Counts(query)) => metrics.hand_out(query),
            (Self::Metrics(metrics), Told::Settings(settings)) => metrics.set(settings.clone()),
            (Self::Journal(journal), Told::Record(_, record)) => journal.take(record),
            (Self::Journal(journal), Told::Settings(settings)) => journal.set(settings.clone()),
            (
                Self::Lines(_) | Self::Comparison(_) | Self::Journal(_),
                Told::Progress(_) | Told::Query(_) | Told::Counts(_),
            )
            | (Self::Lines(_) | Self::Comparison(_), Told::Settings(_))
            | (_, Told::End) => {}
        }
        Ok(Flow::Continue)
    }

    /// Writes out what is buffered: to be called whenever no record is waiting, and at the end.
    pub fn flush(&mut self) -> anyhow::Result<Flow> {
        match self {
            Self::Lines(lines) => return lines.flush(),
            Self::Comparison(_) => {}
            Self::Metrics(metrics) => metrics.let_pass(),
            Self::Journal(journal) => journal.flush(),
        }
        Ok(Flow::Continue)
    }

    /// Writes what can be said only at the end.
    pub fn conclude(self, books: &Books) -> anyhow::Result<()> {
        match self {
            Self::Lines(_) | Self::Metrics(_) | Self::Journal(_) => Ok(()),
            Self::Comparison(report) => report.write(&mut io::stdout().lock(), books),
        }
    }
}

/// Opens what `watch` writes. A user that nobody knows is a usage failure.
pub fn watch(config: &WatchConfig, counters: Arc<Counters>) -> Result<Output, Failure> {
    let (selection, names) = open(&config.sources, (&config.owners, config.output.numeric), &counters)?;
    let out = BufWriter::new(io::stdout());
    let sink: Box<dyn Sink + Send> = match config.output.format {
        OutputFormat::Jsonl => Box::new(jsonl::JsonlSink::new(out, names)),
        OutputFormat::Text => {
            let style =
                text::Style { color: config.output.color, time_zone: config.output.time_zone.clone() };
            Box::new(text::TextSink::new(out, names, style))
        }
    };
    Ok(Output::Lines(Box::new(Lines::new(config, selection, sink, counters))))
}

/// Opens what `compare` writes. A user that nobody knows is a usage failure.
pub fn compare(config: &CompareConfig, counters: Arc<Counters>) -> Result<Output, Failure> {
    let (selection, names) = open(&config.sources, (&config.owners, config.numeric), &counters)?;
    Ok(Output::Comparison(Box::new(ComparisonReport::new(config, selection, names, counters)?)))
}

/// Opens what `agent` writes: always metrics, which `serve` and the textfile ask for, and records if they are wanted.
/// With them comes the file where counts survive, if there is to be one: metrics go on from what is in it.
pub fn agent(
    config: &AgentConfig,
    counters: &Arc<Counters>,
) -> anyhow::Result<(Vec<Output>, Option<StateFile>)> {
    let settings = Arc::new(config.settings.clone());
    let names = || UserNames::open(&config.sources.proc_root, counters.clone(), clock::now());
    let boot_id = boot_id(&config.sources.proc_root);
    let mut metrics = Metrics::new(settings.clone(), names(), counters.clone(), boot_id);
    let state = config.state.as_ref().map(|state| StateFile::open(&state.path)).transpose()?;
    if let Some(state) = &state {
        restore(&mut metrics, state, counters)?;
    }
    let mut outputs = vec![Output::Metrics(Box::new(metrics))];
    if let Some(jsonl) = &config.outputs.jsonl {
        let journal = Journal::open(jsonl, settings.clone(), [names(), names()], counters.clone())?;
        outputs.push(Output::Journal(Box::new(journal)));
    }
    Ok((outputs, state))
}

/// A file that cannot be understood is put aside, and counting begins anew: a node is not to stay unwatched for it.
fn restore(metrics: &mut Metrics, state: &StateFile, counters: &Counters) -> anyhow::Result<()> {
    let Some(counts) = state.read()? else { return Ok(()) };
    if let Err(error) = metrics.restore(&counts) {
        let aside = state.put_aside()?;
        counters.state_put_aside.add(1);
        log::error!(
            "{}: {error:#}; it is kept as {}, and counting begins anew",
            state.path().display(),
            aside.display()
        );
    }
    Ok(())
}

/// Which boot of the kernel this is (man 5 proc_sys_kernel, random/boot_id).
fn boot_id(proc_root: &Path) -> Option<String> {
    let path = proc_root.join("sys/kernel/random/boot_id");
    match fs::read_to_string(&path) {
        Ok(id) => Some(id.trim().to_owned()),
        Err(error) => {
            log::debug!("reading {}: {error}", path.display());
            None
        }
    }
}

fn open(
    sources: &SourceConfig,
    (owners, numeric): (&OwnerSelectors, bool),
    counters: &Arc<Counters>,
) -> Result<(Selection, UserNames), Failure> {
    let mut names = UserNames::open(&sources.proc_root, counters.clone(), clock::now());
    let uids = uids_of(&owners.users, &mut names)?;
    let names = if numeric { UserNames::none() } else { names };
    Ok((Selection::new(sources, owners, uids), names))
}

fn uids_of(users: &[UserSelector], names: &mut UserNames) -> Result<Vec<u32>, Failure> {
    let uid_of = |user: &UserSelector| match user {
        UserSelector::Uid(uid) => Ok(*uid),
        UserSelector::Name(name) => {
            let uid =
                names.uid_of(name, clock::now()).with_context(|| format!("asking for the user '{name}'"))?;
            uid.ok_or_else(|| {
                Failure::usage(anyhow!("--user {name}: this node knows no such user; give the uid"))
            })
        }
    };
    users.iter().map(uid_of).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::failure::FailureKind;

    #[test]
    fn a_user_nobody_knows_is_a_usage_failure() {
        let cli = Cli::try_parse_from(["netsnoop", "watch", "--user", "no-such-user"]).unwrap();
        let Some(Command::Watch(args)) = cli.command else { panic!("watch was asked for") };
        let mut config = WatchConfig::decide(*args, &cli.global).unwrap();
        config.sources.proc_root = "/nonexistent/proc".into();
        let failure = watch(&config, Arc::default()).err().unwrap();
        assert_eq!(failure.kind, FailureKind::Usage);
        assert!(failure.to_string().contains("--user no-such-user"), "{failure}");
    }
}
