//! What `compare` writes: how the owners that two ways name compare, once, at the end.

mod json;
#[cfg(test)]
mod samples;
mod tally;
mod text;

use std::io::{ErrorKind, Write};
use std::sync::Arc;

use anyhow::Context;
use netsnoop_core::attribution::Way;
use netsnoop_core::comparison::Comparison;
use netsnoop_core::connection::ConnectionRecord;

use crate::cli::ReportFormat;
use crate::clock::WallClock;
use crate::config::CompareConfig;
use crate::counters::Counters;
use crate::hash_seed::hash_seed;
use crate::sinks::Books;
use crate::sinks::selection::Selection;
use crate::sinks::user_names::UserNames;
use tally::Tally;

/// Connections of both ways that are held until their counterpart is there: twice what the reconcilers hold.
const HELD_MAX: usize = 1 << 18;

/// Compares records as they come, and tells the result.
pub struct ComparisonReport {
    comparison: Comparison,
    tally: Tally,
    selection: Selection,
    names: UserNames,
    format: ReportFormat,
    color: bool,
    counters: Arc<Counters>,
}

/// What is known at the end.
struct Outcome<'a> {
    tally: &'a Tally,
    connections: u64,
    overflowed: u64,
    books: &'a Books,
}

impl ComparisonReport {
    /// Nothing compared yet.
    pub(super) fn new(
        config: &CompareConfig,
        selection: Selection,
        names: UserNames,
        counters: Arc<Counters>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            comparison: Comparison::new(hash_seed()?, HELD_MAX),
            tally: Tally::default(),
            selection,
            names,
            format: config.format,
            color: config.color,
            counters,
        })
    }

    /// Takes a record of `way`.
    pub(super) fn take(&mut self, way: Way, record: &ConnectionRecord) {
        let wanted = self.selection.matches(record);
        self.counters.rows_written.add(u64::from(wanted));
        self.comparison.take(way, record, wanted);
        self.count_compared();
    }

    /// Writes the result. A reader that went away is no failure.
    pub(super) fn write(mut self, out: &mut dyn Write, books: &Books) -> anyhow::Result<()> {
        self.comparison.finish();
        self.count_compared();
        let outcome = Outcome {
            tally: &self.tally,
            connections: self.comparison.connections(),
            overflowed: self.comparison.overflowed(),
            books,
        };
        let mut text = Vec::new();
        match self.format {
            ReportFormat::Text => text::write(&mut text, &outcome, self.color, &mut self.names),
            ReportFormat::Json => json::write(&mut text, &outcome, WallClock::read(), &mut self.names),
        }
        .context("rendering the comparison")?;
        match out.write_all(&text).and_then(|()| out.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(error).context("writing the comparison to standard output")
            }
            _ => Ok(()),
        }
    }

    fn count_compared(&mut self) {
        while let Some(end) = self.comparison.poll_end() {
            self.tally.add(end);
        }
    }
}
