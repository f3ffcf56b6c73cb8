//! What was measured, as tables in Markdown, and whether the figures hold.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::measure::{Sample, Size};
use super::{Contestant, Measured, Results, versions};
use crate::bench::machine;
use crate::bench::table::median;

/// Memory that a list from `/proc` may take, in MiB.
const PROC_MEBIBYTES_MAX: f64 = 64.0;

/// How many times faster than `ss` in every namespace a way must be, on each crowd.
const FACTORS: [(Contestant, [f64; 2]); 3] = [
    (Contestant::Iterator, [200.0, 40.0]),
    (Contestant::SockDiag, [30.0, 15.0]),
    (Contestant::Proc, [15.0, 8.0]),
];

/// A finished report.
pub(super) struct Report {
    pub(super) text: String,
    /// Whether every figure holds.
    pub(super) held: bool,
}

pub(super) fn render(results: &Results, runs: u32) -> Result<Report> {
    let mut report = Report { text: setting(runs)?, held: true };
    for (place, crowd) in results.crowds.iter().enumerate() {
        report.add_crowd(crowd, place)?;
    }
    if !results.curve.is_empty() {
        report.add_curve(&results.curve)?;
    }
    Ok(report)
}

impl Measured {
    fn samples(&self, contestant: Contestant) -> &[Sample] {
        let found = self.samples.iter().find(|(other, _)| *other == contestant);
        found.map_or(&[], |(_, samples)| samples)
    }

    fn seconds(&self, contestant: Contestant) -> f64 {
        median(self.samples(contestant).iter().map(|sample| sample.seconds))
    }

    fn mebibytes(&self, contestant: Contestant) -> Option<f64> {
        let peaks: Option<Vec<f64>> =
            self.samples(contestant).iter().map(|sample| sample.peak_mebibytes).collect();
        peaks.map(median)
    }
}

impl Size {
    fn words(self) -> String {
        let Self { namespaces, processes, sockets } = self;
        format!("{namespaces} namespaces x {processes} processes x {sockets} sockets")
    }

    const fn all_sockets(self) -> usize {
        self.namespaces * self.processes * self.sockets
    }
}

impl Report {
    fn add_crowd(&mut self, crowd: &Measured, place: usize) -> Result<()> {
        writeln!(self.text, "\n**{}**\n", crowd.size.words()).context("rendering")?;
        writeln!(
            self.text,
            "| | ms (least to most) | than ss everywhere | promised | peak RSS MiB | lines |"
        )
        .context("rendering")?;
        writeln!(self.text, "|---|---|---|---|---|---|").context("rendering")?;
        let loop_seconds = crowd.seconds(Contestant::SsEverywhere);
        for (contestant, samples) in &crowd.samples {
            let seconds = crowd.seconds(*contestant);
            let least = samples.iter().map(|sample| sample.seconds).fold(f64::INFINITY, f64::min);
            let most = samples.iter().map(|sample| sample.seconds).fold(0.0, f64::max);
            let lines = median(samples.iter().map(|sample| sample.lines as f64));
            let memory = crowd.mebibytes(*contestant);
            let faster = loop_seconds / seconds;
            let promised = FACTORS.iter().find(|(way, _)| way == contestant);
            let promised = promised.and_then(|(_, factors)| factors.get(place));
            self.held &= promised.is_none_or(|least| faster >= *least);
            writeln!(
                self.text,
                "| {} | {:.0} ({:.0} to {:.0}) | {faster:.1}x | {} | {} | {lines:.0} |",
                contestant.name(),
                seconds * 1e3,
                least * 1e3,
                most * 1e3,
                promised.map_or_else(|| "-".to_owned(), |least| format!("{least:.0}x")),
                memory.map_or_else(|| "-".to_owned(), |memory| format!("{memory:.0}")),
            )
            .context("rendering")?;
        }
        self.held &= crowd.seconds(Contestant::Iterator) < crowd.seconds(Contestant::SsOnce);
        self.held &= crowd.mebibytes(Contestant::Proc).is_some_and(|memory| memory < PROC_MEBIBYTES_MAX);
        Ok(())
    }

    fn add_curve(&mut self, curve: &[Measured]) -> Result<()> {
        writeln!(self.text, "\n**How the cost grows**\n").context("rendering")?;
        writeln!(
            self.text,
            "| crowd | sockets | iterator ms | sock_diag ms | proc ms |\n|---|---|---|---|---|"
        )
        .context("rendering")?;
        for crowd in curve {
            let ms = Contestant::WAYS.map(|way| format!("{:.0}", crowd.seconds(way) * 1e3));
            writeln!(
                self.text,
                "| {} | {} | {} |",
                crowd.size.words(),
                crowd.size.all_sockets(),
                ms.join(" | ")
            )
            .context("rendering")?;
        }
        Ok(())
    }
}

/// When, where, with what.
fn setting(runs: u32) -> Result<String> {
    Ok(format!("{}; medians of {runs} runs of whole processes. Versions: {}.\n", machine()?, versions()?,))
}
