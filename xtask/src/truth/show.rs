//! Disagreements side by side: what a player told, and netsnoop's lines.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::matching::Matched;
use super::records::Connection;
use super::told::End;
use super::verdict::{Finding, Verdict};

/// Which ends to show.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Another owner, user or namespace than the true one.
    Wrong,
    /// No record.
    Missed,
    /// No process named.
    Unattributed,
    /// More than one record.
    Doubled,
    /// Records of which nobody told.
    Untold,
}

/// More than this of one kind shows nothing new.
const SHOWN_MAX: usize = 40;

/// Everything there is to show.
pub(crate) struct Exhibits<'a> {
    pub(crate) truth: &'a [End],
    pub(crate) connections: &'a [Connection],
    pub(crate) matched: &'a Matched,
    pub(crate) verdicts: &'a [Verdict],
}

impl Exhibits<'_> {
    /// The disagreements of these kinds.
    pub(crate) fn render(&self, kinds: &[Kind]) -> Result<String> {
        let mut text = String::new();
        for kind in kinds {
            let shown = match kind {
                Kind::Doubled => self.doubled()?,
                Kind::Untold => self.untold(),
                Kind::Wrong => self.ends("wrong", |finding| *finding == Finding::Wrong)?,
                Kind::Missed => self.ends("missed", |finding| *finding == Finding::Missed)?,
                Kind::Unattributed => {
                    self.ends("unattributed", |finding| matches!(finding, Finding::Unattributed(_)))?
                }
            };
            let hidden = shown.len().saturating_sub(SHOWN_MAX);
            for exhibit in shown.into_iter().take(SHOWN_MAX) {
                text.push_str(&exhibit);
            }
            if hidden > 0 {
                writeln!(text, "and {hidden} more")?;
            }
        }
        Ok(text)
    }

    fn ends(&self, kind: &str, fits: impl Fn(&Finding) -> bool) -> Result<Vec<String>> {
        let mut shown = Vec::new();
        for ((end, verdict), sighting) in self.truth.iter().zip(self.verdicts).zip(&self.matched.sightings) {
            let questions =
                [("process", &verdict.process), ("user", &verdict.user), ("namespace", &verdict.namespace)];
            let fitting: Vec<String> = questions
                .into_iter()
                .filter(|(_, finding)| fits(finding))
                .map(|(question, finding)| format!("{question} {finding:?}"))
                .collect();
            if !fitting.is_empty() {
                let lines = sighting.map(|(place, _)| self.lines(place)).unwrap_or_default();
                shown.push(format!("{kind}: {}\n{}{lines}", fitting.join(", "), told(end)?));
            }
        }
        Ok(shown)
    }

    fn doubled(&self) -> Result<Vec<String>> {
        let mut shown = Vec::new();
        for (index, places) in &self.matched.doubled {
            let end = self.truth.get(*index).context("a doubled connection was not told of")?;
            let first = self.matched.sightings.get(*index).copied().flatten().map(|(place, _)| place);
            let lines: String =
                first.into_iter().chain(places.iter().copied()).map(|place| self.lines(place)).collect();
            shown.push(format!("doubled:\n{}{lines}", told(end)?));
        }
        Ok(shown)
    }

    fn untold(&self) -> Vec<String> {
        self.matched.untold.iter().map(|place| format!("untold:\n{}", self.lines(*place))).collect()
    }

    fn lines(&self, place: usize) -> String {
        let lines = self.connections.get(place).map(|connection| &connection.lines);
        lines.into_iter().flatten().map(|line| format!("  netsnoop {line}\n")).collect()
    }
}

fn told(end: &End) -> Result<String> {
    Ok(format!("  truth    {}\n", serde_json::to_string(end).context("rendering a line of truth")?))
}
