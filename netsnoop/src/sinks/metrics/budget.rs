//! A table of counts with a hard bound. What finds no room is counted together; every count is in exactly one place at
//! the time it is made, and only grows there, as Prometheus wants it of counters.
//!
//! Who comes first has a place of its own. Once all are taken, it is counted how often newcomers come, and now and then
//! the busiest of them take the places of those that hardly come any more. So the top ones are exact from the start, or
//! from the next round on if they come late.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use netsnoop_core::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How often places change hands, and activity is forgotten by half.
const ROUND: Duration = Duration::from_secs(60);

/// What is counted by.
pub(super) trait Key: Clone + Eq + Hash {
    /// What it is counted by where there is no room; of these there may be a few.
    fn folded(&self) -> Self;

    /// What it is counted by where there is no room for those either. Only one.
    fn rest() -> Self;
}

/// The table.
#[derive(Debug)]
pub(super) struct Budget<K, V> {
    capacity: usize,
    places: HashMap<K, Place<V>>,
    /// Counted together; never gives up a place, so that its counts never fall.
    others: HashMap<K, V>,
    /// How often who has no place came since the last round.
    newcomers: HashMap<K, u64>,
    round_ends: Timestamp,
    counts: BudgetCounts,
}

#[derive(Debug)]
struct Place<V> {
    value: V,
    recent: u64,
}

/// What the bound cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct BudgetCounts {
    /// Events that were counted together with others.
    pub(super) in_other: u64,
    /// Places that changed hands.
    pub(super) replaced: u64,
}

impl<K: Key, V: Default> Budget<K, V> {
    /// With room for `capacity`, and a tenth of it for what is counted together.
    pub(super) fn new(capacity: usize, now: Timestamp) -> Self {
        Self {
            capacity: capacity.max(1),
            places: HashMap::new(),
            others: HashMap::new(),
            newcomers: HashMap::new(),
            round_ends: now + ROUND,
            counts: BudgetCounts::default(),
        }
    }

    /// Where an event of `key` is to be counted.
    pub(super) fn place(&mut self, key: &K, now: Timestamp) -> &mut V {
        if now >= self.round_ends {
            self.end_round(now);
        }
        let has_place = self.places.contains_key(key);
        if has_place || self.places.len() < self.capacity {
            let place =
                self.places.entry(key.clone()).or_insert_with(|| Place { value: V::default(), recent: 0 });
            place.recent += 1;
            return &mut place.value;
        }
        self.counts.in_other += 1;
        self.note_newcomer(key);
        let folded = key.folded();
        let has_room = self.others.contains_key(&folded) || self.others.len() < self.folded_max();
        self.others.entry(if has_room { folded } else { K::rest() }).or_default()
    }

    /// Puts in what was counted before, the busiest first. What finds no room, because there was more before, gives way as
    /// it does to busier ones: counted together with others it would look as if it had just happened.
    pub(super) fn restore(&mut self, mut entries: Vec<(K, V)>, busy: fn(&V) -> u64, counts: BudgetCounts) {
        self.counts = counts;
        // What took the rest comes after all that there may be room for.
        entries.sort_by_key(|(key, value)| (*key == K::rest(), Reverse(busy(value))));
        for (key, value) in entries {
            let is_rest = key == K::rest();
            if is_rest || key == key.folded() {
                if is_rest || self.others.len() < self.folded_max() {
                    self.others.insert(key, value);
                } else {
                    self.counts.replaced += 1;
                }
            } else if self.places.len() < self.capacity {
                self.places.insert(key, Place { value, recent: 0 });
            } else {
                self.counts.replaced += 1;
            }
        }
    }

    /// Everything counted, what is counted together last.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.places.iter().map(|(key, place)| (key, &place.value)).chain(&self.others)
    }

    /// How many have a place of their own, and how many could.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.places.len(), self.capacity)
    }

    /// What the bound cost.
    pub(super) const fn counts(&self) -> BudgetCounts {
        self.counts
    }

    const fn folded_max(&self) -> usize {
        self.capacity / 10
    }

    fn note_newcomer(&mut self, key: &K) {
        let room = self.newcomers.len() < self.capacity;
        match self.newcomers.get_mut(key) {
            Some(count) => *count += 1,
            None if room => {
                self.newcomers.insert(key.clone(), 1);
            }
            None => {}
        }
    }

    /// Gives the busiest newcomers the places of those that came less than half as often.
    fn end_round(&mut self, now: Timestamp) {
        self.round_ends = now + ROUND;
        let mut newcomers: Vec<_> = self.newcomers.drain().collect();
        if !newcomers.is_empty() {
            newcomers.sort_by_key(|(_, count)| Reverse(*count));
            let mut idlest: Vec<_> =
                self.places.iter().map(|(key, place)| (place.recent, key.clone())).collect();
            idlest.sort_by_key(|(recent, _)| *recent);
            for ((newcomer, count), (recent, idle)) in newcomers.into_iter().zip(idlest) {
                if count <= recent.saturating_mul(2) {
                    break;
                }
                self.places.remove(&idle);
                self.places.insert(newcomer, Place { value: V::default(), recent: count });
                self.counts.replaced += 1;
            }
        }
        self.places.values_mut().for_each(|place| place.recent /= 2);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A number of a family; families are folded by their last digit.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    enum Number {
        One(u32),
        Family(u32),
        Rest,
    }

    impl Key for Number {
        fn folded(&self) -> Self {
            match self {
                Self::One(number) => Self::Family(number % 10),
                Self::Family(_) | Self::Rest => *self,
            }
        }

        fn rest() -> Self {
            Self::Rest
        }
    }

    fn second(number: u64) -> Timestamp {
        Timestamp::from_nanos(number * 1_000_000_000)
    }

    fn count(budget: &Budget<Number, u64>, key: Number) -> Option<u64> {
        budget.iter().find(|(known, _)| **known == key).map(|(_, count)| *count)
    }

    #[test]
    fn who_comes_first_has_a_place_and_the_rest_is_counted_together() {
        let mut budget = Budget::new(20, second(0));
        for number in 0..40 {
            *budget.place(&Number::One(number), second(1)) += 1;
        }
        assert_eq!((count(&budget, Number::One(19)), count(&budget, Number::One(20))), (Some(1), None));
        // Room for two families, then all together.
        assert_eq!(count(&budget, Number::Family(0)), Some(2));
        assert_eq!(count(&budget, Number::Family(1)), Some(2));
        assert_eq!(count(&budget, Number::Rest), Some(16));
        assert_eq!((budget.size(), budget.counts().in_other), ((20, 20), 20));
    }

    #[test]
    fn the_busy_take_the_places_of_the_idle_once_a_round_is_over() {
        let mut budget = Budget::new(2, second(0));
        for number in [1, 2, 2, 2] {
            *budget.place(&Number::One(number), second(1)) += 1;
        }
        for _ in 0..5 {
            *budget.place(&Number::One(3), second(2)) += 1;
        }
        *budget.place(&Number::One(3), second(60)) += 1;
        assert_eq!(count(&budget, Number::One(1)), None, "it came once, the newcomer five times");
        assert_eq!((count(&budget, Number::One(2)), count(&budget, Number::One(3))), (Some(3), Some(1)));
        assert_eq!(count(&budget, Number::Rest), Some(5), "what was counted together stays there");
        assert_eq!(budget.counts(), BudgetCounts { in_other: 5, replaced: 1 });
    }

    #[test]
    fn what_was_counted_before_is_there_again_as_far_as_there_is_room() {
        let entries = || {
            let own = [(1, 5), (2, 7), (3, 6)].map(|(number, count)| (Number::One(number), count));
            own.into_iter().chain([(Number::Family(4), 2), (Number::Rest, 9)]).collect()
        };
        let check = |capacity: usize, expected: [Option<u64>; 5], replaced: u64| {
            let mut budget: Budget<Number, u64> = Budget::new(capacity, second(0));
            budget.restore(entries(), |count| *count, BudgetCounts { in_other: 11, replaced: 3 });
            let found = [Number::One(1), Number::One(2), Number::One(3), Number::Family(4), Number::Rest];
            assert_eq!(found.map(|key| count(&budget, key)), expected, "{capacity}");
            assert_eq!(budget.counts(), BudgetCounts { in_other: 11, replaced: 3 + replaced });
        };
        check(10, [Some(5), Some(7), Some(6), Some(2), Some(9)], 0);
        check(2, [None, Some(7), Some(6), None, Some(9)], 2);
    }

    proptest! {
        /// The bound holds, what has a place and what is counted together only grows, and nothing is counted twice.
        #[test]
        fn counts_are_conserved_and_bounded(
            events in proptest::collection::vec((0_u32..50, 0_u64..40), 1..300), capacity in 1_usize..20
        ) {
            let mut budget: Budget<Number, u64> = Budget::new(capacity, second(0));
            let (mut now, mut given_up) = (0, 0);
            for (made, (number, pause)) in events.into_iter().enumerate() {
                now += pause;
                let before: Vec<_> = budget.iter().map(|(key, count)| (*key, *count)).collect();
                *budget.place(&Number::One(number), second(now)) += 1;
                let held: u64 = budget.iter().map(|(_, count)| count).sum();
                for (key, was) in before {
                    match count(&budget, key) {
                        // The key may have lost its place and come back in one round: then it began anew.
                        Some(is) if is >= was => {}
                        Some(_) | None => given_up += was,
                    }
                }
                prop_assert_eq!(held + given_up, made as u64 + 1);
                prop_assert!(budget.size().0 <= capacity);
                prop_assert!(budget.others.len() <= capacity / 10 + 1);
                prop_assert!(budget.newcomers.len() <= capacity);
            }
        }
    }
}
