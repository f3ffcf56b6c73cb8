//! Counts of connections as they survive netsnoop: JSON with a version. Left out: netsnoop's own books, which balance
//! only within one run, and whatever was still waiting to be counted.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use netsnoop_core::attribution::{Evidence, Level, Reason};
use netsnoop_core::five_tuple::Transport;
use serde::{Deserialize, Serialize};

use super::budget::BudgetCounts;
use super::durations::Durations;
use super::tally::{Counts, Dependency, OTHER, Outcome, SeriesKey, Tally};

/// Of what is written. Another one is not understood: what cannot be told apart any more cannot be counted on.
const VERSION: u32 = 1;

/// What says that a file holds counts, and which kind.
#[derive(Deserialize)]
struct Head {
    netsnoop_state: u32,
}

/// The counts.
#[derive(Serialize, Deserialize)]
pub(super) struct Saved<'a> {
    netsnoop_state: u32,
    /// When counting began, in seconds since the epoch.
    counting_since: u64,
    /// The kernel's boot that they were counted in; connections do not outlive it.
    boot_id: Option<Cow<'a, str>>,
    node: Counts,
    left_out: u64,
    resumed: u64,
    series: Vec<Series<'a>>,
    series_bound: BudgetCounts,
    dependencies: Vec<SavedDependency<'a>>,
    attributions: Vec<Attributions<'a>>,
    durations: BTreeMap<Cow<'a, str>, Cow<'a, Durations>>,
}

#[derive(Serialize, Deserialize)]
struct Series<'a> {
    role: Cow<'a, str>,
    transport: Cow<'a, str>,
    user: Cow<'a, str>,
    namespace: Cow<'a, str>,
    pod: Cow<'a, str>,
    service: Cow<'a, str>,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize, Deserialize)]
struct SavedDependency<'a> {
    tool: Cow<'a, str>,
    dependency: Cow<'a, str>,
    connections: u64,
}

#[derive(Serialize, Deserialize)]
struct Attributions<'a> {
    end: Cow<'a, str>,
    level: Cow<'a, str>,
    evidence: Cow<'a, str>,
    reason: Cow<'a, str>,
    ends: u64,
}

/// Where and since when counts are made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Epoch {
    /// When counting began, in seconds since the epoch.
    pub(super) counting_since: u64,
    /// The kernel's boot, if it can be told.
    pub(super) boot_id: Option<String>,
}

/// The counts as bytes.
pub(super) fn write(tally: &Tally, epoch: &Epoch) -> anyhow::Result<Vec<u8>> {
    let series = tally.series.iter().map(|(key, counts)| Series {
        role: key.role.into(),
        transport: key.transport.into(),
        user: (&*key.user).into(),
        namespace: (&*key.namespace).into(),
        pod: (&*key.pod).into(),
        service: (&*key.service).into(),
        counts: *counts,
    });
    let dependencies = tally.dependencies.iter().map(|(key, connections)| SavedDependency {
        tool: (&*key.tool).into(),
        dependency: (&*key.dependency).into(),
        connections: *connections,
    });
    let attributions = tally.outcomes.iter().map(|(outcome, ends)| Attributions {
        end: outcome.end.into(),
        level: outcome.level.into(),
        evidence: outcome.evidence.into(),
        reason: outcome.reason.into(),
        ends: *ends,
    });
    let durations = tally.durations.iter().map(|(service, all)| ((&**service).into(), Cow::Borrowed(all)));
    let saved = Saved {
        netsnoop_state: VERSION,
        counting_since: epoch.counting_since,
        boot_id: epoch.boot_id.as_deref().map(Cow::Borrowed),
        node: tally.node,
        left_out: tally.left_out,
        resumed: tally.resumed,
        series: series.collect(),
        series_bound: tally.series.counts(),
        dependencies: dependencies.collect(),
        attributions: attributions.collect(),
        durations: durations.collect(),
    };
    serde_json::to_vec(&saved).context("writing the counts as JSON")
}

/// Puts the counts in `bytes` into `tally`, which has none yet. Returns since when and where they were made. An error
/// leaves the tally as it was.
pub(super) fn read(bytes: &[u8], tally: &mut Tally) -> anyhow::Result<Epoch> {
    let head: Head = serde_json::from_slice(bytes).context("no counts of netsnoop")?;
    ensure!(
        head.netsnoop_state == VERSION,
        "its version is {}, and {VERSION} is understood here",
        head.netsnoop_state
    );
    let saved: Saved<'_> = serde_json::from_slice(bytes).context("not understood")?;
    let series = saved.series.into_iter().map(series).collect::<anyhow::Result<Vec<_>>>()?;
    let outcomes = saved.attributions.iter().map(outcome).collect::<anyhow::Result<_>>()?;
    let dependency = |saved: SavedDependency<'_>| {
        let key = Dependency { tool: saved.tool.into(), dependency: saved.dependency.into() };
        (key, saved.connections)
    };
    tally.node = saved.node;
    tally.left_out = saved.left_out;
    tally.resumed = saved.resumed;
    tally.series.restore(series, |counts| counts.opened, saved.series_bound);
    let dependencies = saved.dependencies.into_iter().map(dependency).collect();
    tally.dependencies.restore(dependencies, |connections| *connections, BudgetCounts::default());
    tally.outcomes = outcomes;
    tally.restore_durations(
        saved.durations.into_iter().map(|(service, all)| (service.into(), all.into_owned())),
    );
    Ok(Epoch { counting_since: saved.counting_since, boot_id: saved.boot_id.map(Cow::into_owned) })
}

fn series(saved: Series<'_>) -> anyhow::Result<(SeriesKey, Counts)> {
    let transports = Transport::ALL.map(Transport::name);
    let key = SeriesKey {
        role: known(&saved.role, ["client", "server", "none", OTHER])?,
        transport: known(&saved.transport, transports.into_iter().chain([OTHER]))?,
        user: saved.user.into(),
        namespace: saved.namespace.into(),
        pod: saved.pod.into(),
        service: saved.service.into(),
    };
    Ok((key, saved.counts))
}

fn outcome(saved: &Attributions<'_>) -> anyhow::Result<(Outcome, u64)> {
    let outcome = Outcome {
        end: known(&saved.end, ["client", "server"])?,
        level: known(&saved.level, Level::ALL.map(Level::name))?,
        evidence: known(&saved.evidence, Evidence::ALL.map(Evidence::name).into_iter().chain([""]))?,
        reason: known(&saved.reason, Reason::ALL.map(Reason::name).into_iter().chain([""]))?,
    };
    Ok((outcome, saved.ends))
}

/// The word among those that there are.
fn known(word: &str, words: impl IntoIterator<Item = &'static str>) -> anyhow::Result<&'static str> {
    words.into_iter().find(|known| *known == word).with_context(|| format!("'{word}' is not known here"))
}
