//! What was measured, as a table in Markdown, and whether the figures hold.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::AgentArguments;
use super::round::{Contestant, Outcome};
use crate::bench::machine;
use crate::bench::table::median;

/// The page's time at the 99th percentile.
const SCRAPE_SECONDS_MAX: f64 = 0.1;
/// Memory under the first load, and with many peers.
const MEBIBYTES_MAX: f64 = 64.0;
const PEERS_MEBIBYTES_MAX: f64 = 112.0;

/// All that was measured.
#[derive(Default)]
pub(super) struct Results(Vec<(Contestant, Vec<Outcome>)>);

impl Results {
    pub(super) fn add(&mut self, contestant: Contestant, outcome: Outcome) {
        match self.0.iter_mut().find(|(known, _)| *known == contestant) {
            Some((_, outcomes)) => outcomes.push(outcome),
            None => self.0.push((contestant, vec![outcome])),
        }
    }
}

/// A finished report.
pub(super) struct Report {
    pub(super) text: String,
    /// Whether every figure holds.
    pub(super) held: bool,
}

pub(super) fn render(results: &Results, arguments: &AgentArguments) -> Result<Report> {
    let AgentArguments { runs, connections, peers, .. } = arguments;
    let mut text = format!(
        "{}; {runs} runs of {connections} connections, {peers} peers.\n\n\
         | | made a second | counted exactly | scrapes | ms at the median | at the 99th percentile (at most) | slowest \
         | most peak RSS MiB (at most) | CPU s per 100,000 | series | evicted |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
        machine()?
    );
    let mut held = true;
    for (contestant, outcomes) in &results.0 {
        let row = Row::of(*contestant, outcomes);
        held &= row.holds();
        writeln!(text, "{}", row.render()).context("rendering the table")?;
    }
    Ok(Report { text, held })
}

struct Row {
    contestant: Contestant,
    per_second: f64,
    is_exact: bool,
    /// Of all runs, the quickest first.
    scrapes: Vec<f64>,
    mebibytes: f64,
    cpu_seconds: f64,
    series: usize,
    evicted: u64,
}

impl Row {
    fn of(contestant: Contestant, outcomes: &[Outcome]) -> Self {
        let mut scrapes: Vec<f64> = outcomes.iter().flat_map(|outcome| &outcome.scrapes).copied().collect();
        scrapes.sort_by(f64::total_cmp);
        let per_100_000 = |outcome: &Outcome| outcome.cpu_seconds * 100_000.0 / outcome.made as f64;
        Self {
            contestant,
            per_second: median(outcomes.iter().map(|outcome| outcome.made as f64 / outcome.seconds)),
            is_exact: outcomes.iter().all(|outcome| outcome.faults.is_empty()),
            scrapes,
            mebibytes: outcomes.iter().map(|outcome| outcome.peak_mebibytes).fold(0.0, f64::max),
            cpu_seconds: median(outcomes.iter().map(per_100_000)),
            series: outcomes.iter().map(|outcome| outcome.series).max().unwrap_or_default(),
            evicted: outcomes.iter().map(|outcome| outcome.evicted).max().unwrap_or_default(),
        }
    }

    const fn mebibytes_max(&self) -> Option<f64> {
        match self.contestant {
            Contestant::Agent => Some(MEBIBYTES_MAX),
            Contestant::Peers => Some(PEERS_MEBIBYTES_MAX),
            Contestant::Tcpdump => None,
        }
    }

    fn holds(&self) -> bool {
        let is_small = self.mebibytes_max().is_none_or(|most| self.mebibytes <= most);
        self.is_exact && is_small && percentile(&self.scrapes, 99).is_none_or(|p99| p99 <= SCRAPE_SECONDS_MAX)
    }

    fn render(&self) -> String {
        let Self { per_second, mebibytes, cpu_seconds, series, evicted, .. } = self;
        let name = self.contestant.name();
        let Some(most) = self.mebibytes_max() else {
            return format!(
                "| {name} | {per_second:.0} | - | - | - | - | - | {mebibytes:.1} | {cpu_seconds:.2} | - | - |"
            );
        };
        let ms = |percent| percentile(&self.scrapes, percent).unwrap_or_default() * 1e3;
        format!(
            "| {name} | {per_second:.0} | {} | {} | {:.1} | {:.1} ({:.0}) | {:.1} | {mebibytes:.1} ({most:.0}) \
             | {cpu_seconds:.2} | {series} | {evicted} |",
            if self.is_exact { "yes" } else { "NO" },
            self.scrapes.len(),
            ms(50),
            ms(99),
            SCRAPE_SECONDS_MAX * 1e3,
            ms(100),
        )
    }
}

/// The value that `percent` of all do not exceed (nearest rank).
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let sorted: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 99), Some(198.0));
        assert_eq!(percentile(&sorted, 50), Some(100.0));
        assert_eq!(percentile(&sorted, 100), Some(200.0));
        assert_eq!((percentile(&[3.0], 1), percentile(&[], 99)), (Some(3.0), None));
    }
}
