//! What `watch` writes: the lines of each connection's life that were asked for, until enough were shown.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use anyhow::Context;
use netsnoop_core::connection::{ConnectionId, ConnectionRecord, RecordEvent};

use crate::config::{RecordEvents, WatchConfig};
use crate::counters::Counters;
use crate::sinks::selection::Selection;
use crate::sinks::steady_clock::SteadyClock;
use crate::sinks::{Flow, Sink};

/// Connections followed because they were shown; only kept while a filter is set.
const FOLLOWED_MAX: usize = 1 << 18;

/// What was asked for, written to standard output.
pub struct Lines {
    sink: Box<dyn Sink + Send>,
    events: RecordEvents,
    selection: Selection,
    followed: HashSet<ConnectionId>,
    left: Option<u64>,
    flush_each: bool,
    clock: SteadyClock,
    counters: Arc<Counters>,
}

impl Lines {
    /// Writes to `sink`.
    pub(super) fn new(
        config: &WatchConfig,
        selection: Selection,
        sink: Box<dyn Sink + Send>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            sink,
            events: config.output.events,
            selection,
            followed: HashSet::new(),
            left: config.count,
            flush_each: config.output.line_buffered,
            clock: SteadyClock::read(),
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
        let written = self.sink.write(record, self.clock.now());
        self.counters.rows_written.add(1);
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
        if self.selection.is_open() {
            let first = record.event == RecordEvent::Open;
            return Some(if first { Sighting::First } else { Sighting::Again });
        }
        let ends = record.event == RecordEvent::Close;
        let shown = if ends { self.followed.remove(&record.id) } else { self.followed.contains(&record.id) };
        if shown {
            return Some(Sighting::Again);
        }
        if !self.selection.matches(record) {
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use clap::Parser;
    use netsnoop_core::attribution::{Attribution, Evidence};

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::clock::WallClock;
    use crate::sinks::samples;

    /// What a sink was given, or how it fails.
    #[derive(Clone, Default)]
    struct Page {
        lines: Arc<Mutex<Vec<(u64, RecordEvent)>>>,
        fails_with: Option<ErrorKind>,
    }

    impl Sink for Page {
        fn write(&mut self, record: &ConnectionRecord, _clock: WallClock) -> io::Result<()> {
            if let Some(kind) = self.fails_with {
                return Err(kind.into());
            }
            self.lines.lock().unwrap().push((record.id.0, record.event));
            Ok(())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn config(line: &str) -> WatchConfig {
        let cli =
            Cli::try_parse_from(["netsnoop", "watch"].into_iter().chain(line.split_whitespace())).unwrap();
        match cli.command {
            Some(Command::Watch(args)) => WatchConfig::decide(*args, &cli.global).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn output(line: &str, page: &Page) -> Lines {
        let config = config(line);
        let selection = Selection::new(&config.sources, &config.owners, Vec::new());
        Lines::new(&config, selection, Box::new(page.clone()), Arc::default())
    }

    fn record(id: u64, event: RecordEvent, pid: u32) -> ConnectionRecord {
        let process = samples::process(pid, "curl", 10001);
        let mut record = samples::to_a_remote_server();
        record.id = ConnectionId(id);
        record.event = event;
        record.client.attribution = Attribution::process(process, Evidence::Proc);
        record
    }

    use RecordEvent::{Close, Open, Update};

    /// Feeds (id, event, pid of the client) and expects the lines that come out, and whether that is the end.
    fn check(line: &str, fed: &[(u64, RecordEvent, u32)], expected: &[(u64, RecordEvent)], end: Flow) {
        let page = Page::default();
        let mut output = output(line, &page);
        let mut last = Flow::Continue;
        for (id, event, pid) in fed {
            assert_eq!(last, Flow::Continue, "{line}: nothing is fed after the end");
            last = output.handle(&record(*id, *event, *pid)).unwrap();
        }
        assert_eq!(*page.lines.lock().unwrap(), expected, "{line}");
        assert_eq!(last, end, "{line}");
    }

    #[test]
    fn lines_are_those_asked_for() {
        let life = [(1, Open, 7), (1, Update, 7), (2, Open, 8), (1, Close, 7)];
        check("", &life, &[(1, Open), (2, Open)], Flow::Continue);
        check("-o jsonl", &life, &[(1, Open), (1, Update), (2, Open), (1, Close)], Flow::Continue);
        check("--events close", &life, &[(1, Close)], Flow::Continue);
        check("--pid 8", &life, &[(2, Open)], Flow::Continue);
        check("tcp port 443", &life, &[(1, Open), (2, Open)], Flow::Continue);
        check("tcp port 80", &life, &[], Flow::Continue);
    }

    #[test]
    fn an_owner_learnt_late_opens_the_connection_to_the_reader_and_one_shown_is_followed() {
        let late = [(1, Open, 7), (1, Update, 8), (1, Update, 8), (1, Close, 8)];
        check("--pid 8", &late, &[(1, Update)], Flow::Continue);
        check("--pid 8 --events close", &late, &[(1, Close)], Flow::Continue);
        let corrected = [(1, Open, 8), (1, Update, 7), (1, Close, 7)];
        check("--pid 8 -o jsonl", &corrected, &[(1, Open), (1, Update), (1, Close)], Flow::Continue);
        check("--pid 8", &[(1, Close, 8)], &[(1, Close)], Flow::Continue);
    }

    #[test]
    fn count_counts_connections() {
        let lives = [(1, Open, 7), (1, Update, 7), (1, Close, 7), (2, Open, 7)];
        check("-c 2", &lives, &[(1, Open), (2, Open)], Flow::Done);
        check("-c 2 -o jsonl", &lives, &[(1, Open), (1, Update), (1, Close), (2, Open)], Flow::Done);
        check("-c 1 --events close", &lives[..3], &[(1, Close)], Flow::Done);
        check("-c 1 --pid 7", &[(1, Open, 6), (1, Update, 7)], &[(1, Update)], Flow::Done);
        check("-c 3", &lives, &[(1, Open), (2, Open)], Flow::Continue);
    }

    #[test]
    fn a_reader_that_went_away_ends_the_run_and_a_full_disk_fails_it() {
        let fails_with = |kind| {
            let page = Page { fails_with: Some(kind), ..Page::default() };
            output("", &page).handle(&record(1, Open, 7))
        };
        assert_eq!(fails_with(ErrorKind::BrokenPipe).unwrap(), Flow::Done);
        let failure = format!("{:#}", fails_with(ErrorKind::StorageFull).unwrap_err());
        assert!(failure.starts_with("writing records to standard output: "), "{failure}");
    }

    #[test]
    fn what_is_followed_is_bounded_and_counted() {
        let mut output = output("--pid 7", &Page::default());
        for id in 0..=FOLLOWED_MAX as u64 {
            output.follow(ConnectionId(id));
        }
        assert_eq!(output.followed.len(), 1);
        assert_eq!(output.counters.followed_evicted.get(), FOLLOWED_MAX as u64);
    }
}
