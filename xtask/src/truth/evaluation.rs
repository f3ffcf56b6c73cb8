//! From one way's run to its score: what was told and what was seen, matched, judged and counted.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result};

use super::matching::{self, Matched};
use super::records::{self, Clock, Connection};
use super::run::{self, Outcome, Played, Programme};
use super::score::{Answers, Group, Row, Score};
use super::show::{Exhibits, Kind};
use super::verdict::{Case, Verdict};
use super::ways::Way;
use super::{classes, ledger};
use crate::shell;

/// Plays and scores one way; or why it is not to be had here.
pub(crate) fn score(programme: &Programme<'_>, way: Way, show: &[Kind]) -> Result<Result<Score, String>> {
    let started = Instant::now();
    let played = match run::play(programme, way).with_context(|| format!("playing {way}"))? {
        Outcome::Played(played) => played,
        Outcome::Unavailable(why) => {
            shell::say(&format!("skipped: {way}: {why}"))?;
            return Ok(Err(why));
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
    let shown = exhibits.render(show)?;
    if !shown.is_empty() {
        shell::say(shown.trim_end())?;
    }
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
    Ok(Ok(score))
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
