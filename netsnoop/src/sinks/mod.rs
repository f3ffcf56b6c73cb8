//! Where records go. Wall time, names and text exist only from here on.
//!
//! [`watch`] and [`compare`] turn a configuration into one [`Output`]; the pipeline hands it every record and stops when
//! told.

mod community_id;
mod comparison;
mod container_name;
mod escape;
mod expression;
mod getent;
mod jsonl;
pub mod ledger_text;
mod line;
mod lines;
pub mod listing;
mod owner_filter;
#[cfg(test)]
mod samples;
mod schema;
mod selection;
mod text;
pub mod user_names;

use std::io::{self, BufWriter};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use netsnoop_core::attribution::{RungSet, Way};
use netsnoop_core::connection::ConnectionRecord;
use netsnoop_core::ledger::Ledger;

use crate::cli::{OutputFormat, UserSelector};
use crate::clock::{self, WallClock};
use crate::config::{CompareConfig, OwnerSelectors, SourceConfig, WatchConfig};
use crate::counters::Counters;
use crate::failure::Failure;
use comparison::ComparisonReport;
use lines::Lines;
use selection::Selection;
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

/// What was asked for, written to standard output.
pub enum Output {
    /// Lines as records come.
    Lines(Box<Lines>),
    /// A report of how two ways compare, at the end.
    Comparison(Box<ComparisonReport>),
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
    /// Takes a record of `way`. An error names the act; a reader that went away is none.
    pub fn handle(&mut self, way: Way, record: &ConnectionRecord) -> anyhow::Result<Flow> {
        match self {
            Self::Lines(lines) => lines.handle(record),
            Self::Comparison(report) => {
                report.take(way, record);
                Ok(Flow::Continue)
            }
        }
    }

    /// Writes out what is buffered: to be called whenever no record is waiting, and at the end.
    pub fn flush(&mut self) -> anyhow::Result<Flow> {
        match self {
            Self::Lines(lines) => lines.flush(),
            Self::Comparison(_) => Ok(Flow::Continue),
        }
    }

    /// Writes what can be said only at the end.
    pub fn conclude(self, books: &Books) -> anyhow::Result<()> {
        match self {
            Self::Lines(_) => Ok(()),
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
