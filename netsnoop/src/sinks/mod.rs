//! Where records go. Wall time, names and text exist only from here on.
//!
//! [`open`] turns the configuration into one [`Output`]; the pipeline hands it every record and stops when told.

mod community_id;
mod escape;
mod getent;
mod jsonl;
pub mod ledger_text;
mod owner_filter;
#[cfg(test)]
mod samples;
mod schema;
mod text;
pub mod user_names;

use std::collections::HashSet;
use std::io::{self, BufWriter, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use netsnoop_core::connection::{ConnectionId, ConnectionRecord, RecordEvent};
use netsnoop_core::time::Timestamp;

use crate::cli::{OutputFormat, UserSelector};
use crate::clock::{self, WallClock};
use crate::config::{RecordEvents, WatchConfig};
use crate::counters::Counters;
use crate::failure::Failure;
use owner_filter::OwnerFilter;
use user_names::UserNames;

/// How often boot time and wall time are compared anew: the wall clock may be set meanwhile.
const CLOCK_HOLDS: Duration = Duration::from_secs(1);
/// Connections followed because they were shown; only kept while an owner filter is set.
const FOLLOWED_MAX: usize = 1 << 18;

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
pub struct Output {
    sink: Box<dyn Sink + Send>,
    events: RecordEvents,
    filter: OwnerFilter,
    followed: HashSet<ConnectionId>,
    left: Option<u64>,
    flush_each: bool,
    clock: WallClock,
    clock_read: Timestamp,
    counters: Arc<Counters>,
}

/// Opens what the configuration asks for. A user that nobody knows is a usage failure.
pub fn open(config: &WatchConfig, counters: Arc<Counters>) -> Result<Output, Failure> {
    let mut names = UserNames::open(&config.proc_root, counters.clone());
    let uids = uids_of(&config.owners.users, &mut names)?;
    if config.output.numeric {
        names = UserNames::none();
    }
    let out = BufWriter::new(io::stdout());
    let sink: Box<dyn Sink + Send> = match config.output.format {
        OutputFormat::Jsonl => Box::new(jsonl::JsonlSink::new(out, names)),
        OutputFormat::Text => {
            let style =
                text::Style { color: config.output.color, time_zone: config.output.time_zone.clone() };
            Box::new(text::TextSink::new(out, names, style))
        }
    };
    Ok(Output::new(config, OwnerFilter::new(&config.owners, uids), sink, counters))
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

impl Output {
    fn new(
        config: &WatchConfig,
        filter: OwnerFilter,
        sink: Box<dyn Sink + Send>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            sink,
            events: config.output.events,
            filter,
            followed: HashSet::new(),
            left: config.count,
            flush_each: config.output.line_buffered,
            clock: WallClock::read(),
            clock_read: clock::now(),
            counters,
        }
    }

    /// Writes the record if it was asked for. An error names the act; a reader that went away is none.
    pub fn handle(&mut self, record: &ConnectionRecord) -> anyhow::Result<Flow> {
        let Some(sighting) = self.select(record) else { return Ok(Flow::Continue) };
        // The first line of a connection that fits the filter late is its opening to the reader.
        let opens = sighting == Sighting::First && self.events.contains(RecordEvent::Open);
        if !opens && !self.events.contains(record.event) {
            return Ok(Flow::Continue);
        }
        self.refresh_clock(record.at);
        let written = self.sink.write(record, self.clock);
        if write_outcome(written)? == Flow::Done {
            return Ok(Flow::Done);
        }
        let counted = if opens || self.stands_for_connection(record.event) {
            self.count_down()
        } else {
            Flow::Continue
        };
        if counted == Flow::Done || self.flush_each { Ok(join(counted, self.flush()?)) } else { Ok(counted) }
    }

    /// Writes out what is buffered: to be called whenever no record is waiting, and at the end.
    pub fn flush(&mut self) -> anyhow::Result<Flow> {
        write_outcome(self.sink.flush())
    }

    /// Whether the record belongs to what was asked for. With a filter, a connection that was shown is followed to
    /// its end: a correction of its owner is for those who read the wrong one.
    fn select(&mut self, record: &ConnectionRecord) -> Option<Sighting> {
        if self.filter.is_open() {
            let first = record.event == RecordEvent::Open;
            return Some(if first { Sighting::First } else { Sighting::Again });
        }
        let ends = record.event == RecordEvent::Close;
        let shown = if ends { self.followed.remove(&record.id) } else { self.followed.contains(&record.id) };
        if shown {
            return Some(Sighting::Again);
        }
        if !self.filter.matches(record) {
            return None;
        }
        if !ends {
            self.follow(record.id);
        }
        Some(Sighting::First)
    }

    fn follow(&mut self, id: ConnectionId) {
        if self.followed.len() >= FOLLOWED_MAX {
            self.counters.followed_evicted.add(self.followed.len() as u64);
            self.followed.clear();
        }
        self.followed.insert(id);
    }

    /// Which line counts for `-c` where openings are not shown: the close, else each line.
    const fn stands_for_connection(&self, event: RecordEvent) -> bool {
        !self.events.contains(RecordEvent::Open)
            && (matches!(event, RecordEvent::Close) || !self.events.contains(RecordEvent::Close))
    }

    fn count_down(&mut self) -> Flow {
        let Some(left) = self.left.as_mut() else { return Flow::Continue };
        *left = left.saturating_sub(1);
        if *left == 0 { Flow::Done } else { Flow::Continue }
    }

    fn refresh_clock(&mut self, at: Timestamp) {
        if at.since(self.clock_read) >= CLOCK_HOLDS {
            self.clock = WallClock::read();
            self.clock_read = at;
        }
    }
}

/// Whether a connection has been shown before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sighting {
    First,
    Again,
}

const fn join(one: Flow, other: Flow) -> Flow {
    if matches!((one, other), (Flow::Continue, Flow::Continue)) { Flow::Continue } else { Flow::Done }
}

fn write_outcome(result: io::Result<()>) -> anyhow::Result<Flow> {
    match result {
        Ok(()) => Ok(Flow::Continue),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Flow::Done),
        Err(error) => Err(error).context("writing records to standard output"),
    }
}
