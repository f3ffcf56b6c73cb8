//! What is translated now, or was a moment ago, found by any name that a connection has on its way; bounded.

use core::time::Duration;

use ahash::RandomState;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use hashbrown::{HashMap, HashTable};

use super::flow_table::agrees;
use crate::five_tuple::FiveTuple;
use crate::observation::Tracker;
use crate::time::Timestamp;
use crate::translation::Translation;

/// An entry is told of at most this long after the packet that made it.
const TELLING: Duration = Duration::from_millis(50);

/// An entry and when it was in force, as far as can be told: it was read a moment after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tracked {
    pub(super) translation: Translation,
    pub(super) tracker: Tracker,
    since: Timestamp,
    ended: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Posting {
    hash: u64,
    number: u64,
}

#[derive(Debug)]
pub(super) struct TranslationTable {
    entries: HashMap<u64, Tracked, RandomState>,
    /// Every name of each, and its mirror.
    index: HashTable<Posting>,
    oldest_first: VecDeque<u64>,
    /// Those that have ended, in the order that this was told in.
    ended: VecDeque<(Timestamp, u64)>,
    hasher: RandomState,
    capacity: usize,
    next: u64,
    pub(super) evicted: u64,
}

impl TranslationTable {
    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn new(hasher: RandomState, capacity: usize) -> Self {
        Self {
            entries: HashMap::with_hasher(hasher.clone()),
            index: HashTable::new(),
            oldest_first: VecDeque::new(),
            ended: VecDeque::new(),
            hasher,
            capacity,
            next: 0,
            evicted: 0,
        }
    }

    /// Adds an entry; `false` if it is known already.
    pub(super) fn begin(&mut self, translation: Translation, tracker: Tracker, at: Timestamp) -> bool {
        if self.number_of(&translation, tracker).is_some() {
            return false;
        }
        if self.entries.len() >= self.capacity {
            self.evict_oldest();
        }
        let number = self.next;
        self.next += 1;
        for hash in self.keys(&translation) {
            self.index.insert_unique(hash, Posting { hash, number }, |posting| posting.hash);
        }
        self.entries.insert(number, Tracked { translation, tracker, since: at, ended: None });
        self.oldest_first.push_back(number);
        true
    }

    /// The entry is no more in force. It is kept for packets that are read late.
    pub(super) fn end(&mut self, translation: &Translation, tracker: Tracker, at: Timestamp) {
        let Some(number) = self.number_of(translation, tracker) else { return };
        self.end_numbered(number, at);
    }

    fn end_numbered(&mut self, number: u64, at: Timestamp) {
        if let Some(tracked) = self.entries.get_mut(&number) {
            tracked.ended = Some(at);
            self.ended.push_back((at, number));
        }
    }

    /// Of `tracker` only `present` are left.
    pub(super) fn end_all_but(&mut self, present: &[Translation], tracker: Tracker, at: Timestamp) {
        let mut numbers: Vec<u64> =
            present.iter().filter_map(|translation| self.number_of(translation, tracker)).collect();
        numbers.sort_unstable();
        let gone: Vec<u64> = self
            .entries
            .iter()
            .filter(|(number, tracked)| {
                tracked.tracker == tracker
                    && tracked.ended.is_none()
                    && numbers.binary_search(number).is_err()
            })
            .map(|(number, _)| *number)
            .collect();
        gone.into_iter().for_each(|number| self.end_numbered(number, at));
    }

    /// Forgets what had ended by `limit`.
    pub(super) fn forget_ended(&mut self, limit: Timestamp) {
        while let Some((_, number)) = self.ended.pop_front_if(|(at, _)| *at <= limit) {
            self.remove(number);
        }
        if self.oldest_first.len() > 2 * self.entries.len() + 1024 {
            let entries = &self.entries;
            self.oldest_first.retain(|number| entries.contains_key(number));
        }
    }

    /// The entry by which something seen at `at` under this name is translated. Of several that fit, as a port may
    /// serve one connection after another: that which was told of right after, else the newest before it.
    pub(super) fn find(
        &self,
        tuple: FiveTuple,
        at: Timestamp,
        fits: impl Fn(&Tracked) -> bool,
    ) -> Option<&Tracked> {
        let rank = |tracked: &Tracked| {
            let told_after = tracked.since.since(at);
            let is_prompt = tracked.since >= at && told_after <= TELLING;
            (is_prompt, core::cmp::Reverse(told_after), tracked.since)
        };
        self.index
            .iter_hash(self.key(tuple))
            .filter_map(|posting| self.entries.get(&posting.number))
            .filter(|tracked| tracked.ended.is_none_or(|ended| at <= ended))
            .filter(|tracked| tracked.translation.is_called(tuple) && fits(tracked))
            .max_by_key(|tracked| rank(tracked))
    }

    fn number_of(&self, translation: &Translation, tracker: Tracker) -> Option<u64> {
        let same = |tracked: &Tracked| {
            tracked.translation == *translation && tracked.tracker == tracker && tracked.ended.is_none()
        };
        self.index
            .iter_hash(self.key(translation.original))
            .map(|posting| posting.number)
            .find(|number| self.entries.get(number).is_some_and(same))
    }

    fn evict_oldest(&mut self) {
        while let Some(number) = self.oldest_first.pop_front() {
            if self.remove(number) {
                self.evicted += 1;
                return;
            }
        }
    }

    fn remove(&mut self, number: u64) -> bool {
        let Some(tracked) = self.entries.remove(&number) else { return false };
        for hash in self.keys(&tracked.translation) {
            let posted =
                self.index.find_entry(hash, |posting| posting.number == number && posting.hash == hash);
            if let Ok(entry) = posted {
                entry.remove();
            }
        }
        true
    }

    fn keys(&self, translation: &Translation) -> Vec<u64> {
        let names = translation.names().into_iter().flatten();
        let mut keys: Vec<u64> =
            names.flat_map(|name| [name, name.mirrored()]).map(|name| self.key(name)).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The own address is left out, as a socket's may be a wildcard.
    fn key(&self, tuple: FiveTuple) -> u64 {
        self.hasher.hash_one((tuple.transport, tuple.local.port, tuple.remote))
    }
}

impl Translation {
    /// Whether something seen as `tuple` may be of this connection.
    fn is_called(&self, tuple: FiveTuple) -> bool {
        self.names().into_iter().flatten().any(|name| agrees(name, tuple) || agrees(name.mirrored(), tuple))
    }
}
