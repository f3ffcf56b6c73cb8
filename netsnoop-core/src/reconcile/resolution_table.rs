//! What names the workloads of a namespace have looked up, and for how long an address is known by them. Bounded.

use core::net::IpAddr;
use core::time::Duration;

use ahash::RandomState;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::namespace_table::NamespaceId;
use crate::resolution::{Resolution, ResolvedAddress};
use crate::time::{PACKET_CLOCK_ERROR, Timestamp};

/// Programs keep an answer for longer than its time to live: Java for 30 s, and whoever asks once and connects a moment later.
const KEPT_MIN: Duration = Duration::from_secs(60);
/// Nothing says for longer where a name leads (RFC 8767, section 4, has resolvers cap it at a week; few let it come near).
const KEPT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Connections are told of so long after they began at most.
const TOLD_LATE_MAX: Duration = Duration::from_secs(10);
/// How often answers that hold no longer are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Answers remembered of one address in one namespace; an address with more names is that of a crowd.
const ANSWERS_MAX: usize = 8;

/// Who looked a name up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Asker {
    /// Somebody in this namespace.
    Namespace(NamespaceId),
    /// Somebody with this address, on another node or in a namespace that is not known.
    Address(IpAddr),
}

/// That a name led to an address.
#[derive(Clone, Debug)]
struct Answer {
    /// Counts answers.
    number: u64,
    name: Arc<str>,
    /// When it was given first, without another one since.
    from: Timestamp,
    until: Timestamp,
}

impl Answer {
    fn holds(&self, at: Timestamp) -> bool {
        self.from <= at + PACKET_CLOCK_ERROR && at <= self.until
    }
}

#[derive(Debug)]
pub(super) struct ResolutionTable {
    /// The oldest first.
    answers: HashMap<(Asker, IpAddr), SmallVec<[Answer; 1]>, RandomState>,
    /// With some that are held no longer.
    oldest_first: VecDeque<(u64, (Asker, IpAddr))>,
    held: usize,
    next: u64,
    capacity: usize,
    swept: Timestamp,
    /// Answers forgotten because there were too many.
    pub(super) evicted: u64,
}

impl ResolutionTable {
    pub(super) fn new(hasher: RandomState, capacity: usize) -> Self {
        Self {
            answers: HashMap::with_hasher(hasher),
            oldest_first: VecDeque::new(),
            held: 0,
            next: 0,
            capacity,
            swept: Timestamp::default(),
            evicted: 0,
        }
    }

    /// How many answers are held.
    pub(super) const fn len(&self) -> usize {
        self.held
    }

    /// `asker` was told this at that time.
    pub(super) fn learn(&mut self, at: Timestamp, asker: Asker, resolution: &Resolution) {
        if at.since(self.swept) >= SWEEP_EVERY || self.oldest_first.len() > 2 * self.capacity {
            self.forget_ended(at);
        }
        for ResolvedAddress { address, ttl } in &resolution.addresses {
            let until = at + (*ttl).clamp(KEPT_MIN, KEPT_MAX);
            let (number, name) = (self.next, resolution.name.clone());
            self.learn_address((asker, *address), Answer { number, name, from: at, until });
        }
    }

    fn learn_address(&mut self, key: (Asker, IpAddr), answer: Answer) {
        let known = self.answers.entry(key).or_default();
        // The same answer comes by every interface that it crosses, and again before it has ended.
        if let Some(last) = known.last_mut()
            && last.name == answer.name
            && last.holds(answer.from)
        {
            last.until = last.until.max(answer.until);
            return;
        }
        self.oldest_first.push_back((answer.number, key));
        known.push(answer);
        self.next += 1;
        self.held += 1;
        if known.len() > ANSWERS_MAX {
            // Of a name that was told of again since, else the oldest.
            let is_repeated = |place: &usize| {
                let (older, newer) = known.split_at(place + 1);
                older.last().is_some_and(|old| newer.iter().any(|new| new.name == old.name))
            };
            let place = (0..known.len()).find(is_repeated).unwrap_or(0);
            known.remove(place);
            self.held -= 1;
            self.evicted += 1;
        }
        while self.held > self.capacity
            && let Some((number, key)) = self.oldest_first.pop_front()
        {
            self.evict(number, key);
        }
    }

    fn evict(&mut self, number: u64, key: (Asker, IpAddr)) {
        let Some(known) = self.answers.get_mut(&key) else { return };
        let before = known.len();
        known.retain(|answer| answer.number != number);
        let gone = before - known.len();
        if known.is_empty() {
            self.answers.remove(&key);
        }
        self.held -= gone;
        self.evicted += gone as u64;
    }

    fn forget_ended(&mut self, now: Timestamp) {
        self.swept = now;
        let Self { answers, oldest_first, .. } = self;
        answers.retain(|_, known| {
            known.retain(|answer| answer.until + TOLD_LATE_MAX >= now);
            !known.is_empty()
        });
        oldest_first.retain(|(number, key)| {
            answers.get(key).is_some_and(|known| known.iter().any(|answer| answer.number == *number))
        });
        self.held = self.answers.values().map(|known| known.len()).sum();
    }

    /// The names by which `asker` knew `address` at that time, the one it was told of last first.
    pub(super) fn find(&self, at: Timestamp, asker: Asker, address: IpAddr) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = Vec::new();
        let known = self.answers.get(&(asker, address)).into_iter().flatten().rev();
        for answer in known.filter(|answer| answer.holds(at)) {
            if !names.contains(&answer.name) {
                names.push(answer.name.clone());
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    fn second(number: u64) -> Timestamp {
        Timestamp::from_nanos((1_000 + number) * 1_000_000_000)
    }

    fn asker(number: u64) -> Asker {
        Asker::Namespace(NamespaceId::numbered(number))
    }

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(198, 18, 1, last).into()
    }

    fn table(capacity: usize) -> ResolutionTable {
        ResolutionTable::new(RandomState::with_seeds(1, 2, 3, 4), capacity)
    }

    fn learn(table: &mut ResolutionTable, at: u64, by: u64, (name, last, ttl): (&str, u8, u64)) {
        let addresses =
            Vec::from([ResolvedAddress { address: address(last), ttl: Duration::from_secs(ttl) }]);
        table.learn(second(at), asker(by), &Resolution { name: name.into(), addresses });
    }

    /// The names known at each of these times after `answers`, each with its time, name and time to live.
    #[track_caller]
    fn check(answers: &[(u64, &str, u64)], expected: &[(u64, &[&str])]) {
        let mut table = table(100);
        for (at, name, ttl) in answers {
            learn(&mut table, *at, 1, (name, 13, *ttl));
        }
        for (at, names) in expected {
            let found = table.find(second(*at), asker(1), address(13));
            assert_eq!(found.iter().map(|name| &**name).collect::<Vec<_>>(), *names, "at {at}: {answers:?}");
            assert!(table.find(second(*at), asker(2), address(13)).is_empty());
            assert!(table.find(second(*at), asker(1), address(14)).is_empty());
        }
    }

    #[test]
    fn a_name_is_known_from_its_answer_on_until_that_has_ended() {
        check(&[(10, "a", 300)], &[(9, &[]), (10, &["a"]), (310, &["a"]), (311, &[])]);
        // Short ones are kept for a minute, long ones for a day.
        check(&[(10, "a", 0)], &[(70, &["a"]), (71, &[])]);
        check(&[(10, "a", u64::from(u32::MAX))], &[(10 + 86_400, &["a"]), (11 + 86_400, &[])]);
        check(&[(10, "a", 60), (40, "a", 60)], &[(10, &["a"]), (100, &["a"]), (101, &[])]);
    }

    #[test]
    fn the_last_answer_before_comes_first() {
        let answers = [(10, "a", 300), (20, "b", 60), (30, "a", 300)];
        check(&answers, &[(15, &["a"]), (25, &["b", "a"]), (35, &["a", "b"]), (90, &["a"]), (331, &[])]);
    }

    #[test]
    fn an_address_with_many_names_keeps_the_last_and_those_that_are_not_repeated() {
        let names = ["c", "a", "b", "a", "b", "a", "b", "a", "b"];
        let answers: Vec<_> = (1..).zip(names).map(|(at, name)| (at, name, 300)).collect();
        check(&answers, &[(50, &["b", "a", "c"])]);
        let mut table = table(100);
        for number in 0..20 {
            learn(&mut table, number, 1, (&alloc::format!("n{number}"), 13, 300));
        }
        assert_eq!((table.len(), table.evicted), (ANSWERS_MAX, 12));
        assert_eq!(&*table.find(second(30), asker(1), address(13))[0], "n19");
    }

    #[test]
    fn a_full_table_forgets_the_oldest_and_counts_it_but_not_what_has_ended() {
        let mut table = table(10);
        for number in 0..50 {
            learn(&mut table, 1, number, ("a", 13, 30));
        }
        assert_eq!((table.len(), table.evicted), (10, 40));
        assert!(table.find(second(2), asker(39), address(13)).is_empty());
        assert_eq!(table.find(second(2), asker(40), address(13)).len(), 1);
        learn(&mut table, 200, 7, ("a", 13, 30));
        assert_eq!((table.len(), table.evicted), (1, 40));
        for round in 0..200 {
            learn(&mut table, 201, 7, (&alloc::format!("n{round}"), 13, 30));
            assert!(table.oldest_first.len() <= 2 * table.capacity + 1);
        }
    }
}
