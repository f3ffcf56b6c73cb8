//! The ends that were compared, counted: by kind of end and verdict, by what each way lacks, by how long each took.

use std::collections::BTreeMap;
use std::iter;
use std::time::Duration;

use netsnoop_core::attribution::Way;
use netsnoop_core::comparison::{ComparedEnd, EndRole, Lack, Verdict};
use netsnoop_core::five_tuple::Transport;

/// Disagreements that are kept whole; of the rest only the number is.
pub(super) const LISTED_MAX: usize = 50;
/// Delays that are kept of each kind of end and way, the first ones.
const DELAYS_MAX: usize = 1 << 18;

/// A kind of end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Kind {
    pub(super) transport: Transport,
    pub(super) role: EndRole,
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    kinds: BTreeMap<Kind, Counts>,
    lacks: BTreeMap<Lacking, u64>,
    disagreements: Vec<ComparedEnd>,
}

/// What each way lacks where not both name the same owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Lacking {
    pub(super) verdict: Verdict,
    pub(super) main: Option<Lack>,
    pub(super) tables: Option<Lack>,
}

/// Counts of one kind of end, or of several kinds together.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    verdicts: [u64; Verdict::ALL.len()],
    delays: [Vec<Duration>; Way::ALL.len()],
}

/// How long it took from the first sight of a connection to its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Delays {
    /// Of how many ends.
    pub(super) ends: usize,
    pub(super) median: Duration,
    pub(super) p90: Duration,
    pub(super) p99: Duration,
}

impl Tally {
    /// Counts an end.
    pub(super) fn add(&mut self, end: ComparedEnd) {
        self.kinds.entry(Kind::of(&end)).or_default().add(&end);
        if end.verdict != Verdict::Agree {
            let lacking = Lacking { verdict: end.verdict, main: end.main.lack(), tables: end.tables.lack() };
            *self.lacks.entry(lacking).or_default() += 1;
        }
        if end.verdict == Verdict::Disagree && self.disagreements.len() < LISTED_MAX {
            self.disagreements.push(end);
        }
    }

    /// The counts by kind of end.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (Kind, &Counts)> {
        self.kinds.iter().map(|(kind, counts)| (*kind, counts))
    }

    /// The counts of all ends together.
    pub(super) fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.kinds.values().for_each(|counts| total.join(counts));
        total
    }

    /// What is lacking, and how often, except where both ways name an owner.
    pub(super) fn lacks(&self) -> impl Iterator<Item = (Lacking, u64)> {
        self.lacks
            .iter()
            .filter(|(lacking, _)| lacking.main.is_some() || lacking.tables.is_some())
            .map(|(lacking, ends)| (*lacking, *ends))
    }

    /// The disagreements that are listed.
    pub(super) fn disagreements(&self) -> &[ComparedEnd] {
        &self.disagreements
    }

    /// How many more there are.
    pub(super) fn unlisted(&self) -> u64 {
        self.total().of(Verdict::Disagree) - self.disagreements.len() as u64
    }
}

impl Kind {
    /// The kind of `end`.
    pub(super) const fn of(end: &ComparedEnd) -> Self {
        Self { transport: end.tuple.transport, role: end.role }
    }
}

impl Counts {
    fn add(&mut self, end: &ComparedEnd) {
        for (verdict, count) in Verdict::ALL.into_iter().zip(&mut self.verdicts) {
            *count += u64::from(verdict == end.verdict);
        }
        for (way, delays) in Way::ALL.into_iter().zip(&mut self.delays) {
            delays.extend(end.answer(way).delay.filter(|_| delays.len() < DELAYS_MAX));
        }
    }

    fn join(&mut self, other: &Self) {
        for (count, more) in iter::zip(&mut self.verdicts, other.verdicts) {
            *count += more;
        }
        for (delays, more) in iter::zip(&mut self.delays, &other.delays) {
            delays.extend(more);
        }
    }

    /// How many ends there are.
    pub(super) fn ends(&self) -> u64 {
        self.verdicts.iter().sum()
    }

    /// How many ends have this verdict.
    pub(super) fn of(&self, verdict: Verdict) -> u64 {
        iter::zip(Verdict::ALL, self.verdicts)
            .filter(|(known, _)| *known == verdict)
            .map(|(_, count)| count)
            .sum()
    }

    /// How long `way` took; `None` if it named no owner of a connection whose beginning was seen.
    pub(super) fn delays(&self, way: Way) -> Option<Delays> {
        let mut sorted: Vec<Duration> = iter::zip(Way::ALL, &self.delays)
            .filter(|(known, _)| *known == way)
            .flat_map(|(_, delays)| delays.clone())
            .collect();
        sorted.sort_unstable();
        // The nearest rank: so many in a hundred took that long or less.
        let rank =
            |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Delays { ends: sorted.len(), median: rank(50)?, p90: rank(90)?, p99: rank(99)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::comparison::samples;

    #[test]
    fn ends_are_counted_by_kind_and_verdict() {
        let tally = samples::tally();
        let counts = |counts: &Counts| Verdict::ALL.map(|verdict| counts.of(verdict));
        let kinds: Vec<_> = tally.kinds().map(|(kind, of)| (kind, counts(of))).collect();
        let [client, server] = EndRole::ALL.map(|role| Kind { transport: Transport::Tcp, role });
        assert_eq!(kinds, [(client, [2, 1, 0, 1, 0]), (server, [1, 0, 0, 0, 1])]);
        assert_eq!((counts(&tally.total()), tally.total().ends()), ([3, 1, 0, 1, 1], 6));
    }

    #[test]
    fn delays_are_told_by_the_nearest_rank() {
        let check = |delays: &[u64], expected: Option<[u64; 3]>| {
            let delays: Vec<Duration> = delays.iter().copied().map(Duration::from_millis).collect();
            let counts = Counts { delays: [delays, Vec::new()], ..Counts::default() };
            let told = counts.delays(Way::Main).map(|told| [told.median, told.p90, told.p99]);
            assert_eq!(told, expected.map(|millis| millis.map(Duration::from_millis)));
            assert_eq!(counts.delays(Way::Tables), None);
        };
        check(&[], None);
        check(&[3], Some([3, 3, 3]));
        check(&[2, 1], Some([1, 2, 2]));
        check(&(1..=1000).rev().collect::<Vec<_>>(), Some([500, 900, 990]));
    }

    #[test]
    fn disagreements_beyond_those_listed_are_counted() {
        let mut tally = Tally::default();
        for _ in 0..LISTED_MAX + 3 {
            tally.add(samples::disagreement());
        }
        assert_eq!((tally.disagreements().len(), tally.unlisted()), (LISTED_MAX, 3));
    }
}
