//! Two ways of knowing, side by side: which records of theirs tell of the same connection, and what they say of its
//! ends. Who is right is not judged here; nobody knows that but the truth bench.
//!
//! [`Comparison::take`] takes every record of both ways, [`Comparison::finish`] what has not ended by then, and
//! [`Comparison::poll_end`] hands out the ends that were compared.

#[cfg(test)]
mod tests;
mod verdict;

use ahash::RandomState;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use hashbrown::HashMap;

use crate::attribution::Way;
use crate::connection::{ConnectionId, ConnectionRecord, RecordEvent};
use crate::five_tuple::{Endpoint, FiveTuple, Transport};
use crate::time::Timestamp;

pub use verdict::{Answer, ComparedEnd, EndRole, Lack, Verdict};
use verdict::{ToldEnd, are_different, judge};

/// How far apart two ways may have first seen one connection: the one by a packet, the other by a kernel event.
/// Longer ago the same addresses were another connection's.
const FIRST_SIGHTS_APART: Duration = Duration::from_secs(1);

/// Pairs the records of two ways and compares what they say.
#[derive(Debug)]
pub struct Comparison {
    /// The last word on connections that have not ended.
    live: HashMap<(Way, ConnectionId), Told, RandomState>,
    /// Ended ones that wait for their counterpart.
    ended: HashMap<Addresses, Vec<(Way, Told)>, RandomState>,
    held_max: usize,
    /// How many wait in `ended`.
    waiting: usize,
    compared: VecDeque<ComparedEnd>,
    connections: u64,
    overflowed: u64,
}

/// The addresses of a connection, whichever end is the client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Addresses {
    transport: Transport,
    low: Endpoint,
    high: Endpoint,
}

/// What is kept of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Told {
    /// The client's end first.
    tuple: FiveTuple,
    start: Option<Timestamp>,
    isn: Option<u32>,
    /// Whether a packet of it was seen.
    captured: bool,
    /// Whether somebody asked for it.
    wanted: bool,
    client: ToldEnd,
    server: ToldEnd,
}

impl Comparison {
    /// An empty one that holds at most `held_max` records; `seed` makes its tables unforeseeable.
    pub fn new([first, second, third, fourth]: [u64; 4], held_max: usize) -> Self {
        let hasher = RandomState::with_seeds(first, second, third, fourth);
        Self {
            live: HashMap::with_hasher(hasher.clone()),
            ended: HashMap::with_hasher(hasher),
            held_max,
            waiting: 0,
            compared: VecDeque::new(),
            connections: 0,
            overflowed: 0,
        }
    }

    /// Takes a record of `way`. A connection is compared if one record of it was `wanted`.
    pub fn take(&mut self, way: Way, record: &ConnectionRecord, wanted: bool) {
        let known = self.live.remove(&(way, record.id));
        if known.is_none() && self.live.len() + self.waiting >= self.held_max {
            // Told once for each connection; what follows of it is not known either.
            self.overflowed += u64::from(record.event == RecordEvent::Open);
            return;
        }
        let wanted = wanted || known.is_some_and(|told| told.wanted);
        let told = Told::of(record, wanted);
        if record.event == RecordEvent::Close {
            self.end(way, told);
        } else {
            self.live.insert((way, record.id), told);
        }
    }

    /// Compares what has not ended, and what has found no counterpart.
    pub fn finish(&mut self) {
        let mut live: Vec<((Way, ConnectionId), Told)> = self.live.drain().collect();
        // Not in the order of a hash table: the same records give the same report.
        live.sort_unstable_by_key(|((way, id), told)| (*way, told.start, *id));
        for ((way, _), told) in live {
            self.end(way, told);
        }
        let mut alone: Vec<(Way, Told)> = self.ended.drain().flat_map(|(_, waiting)| waiting).collect();
        alone.sort_by_key(|(_, told)| (told.start, told.tuple));
        self.waiting = 0;
        for (way, told) in alone {
            match way {
                Way::Main => self.compare(Some(told), None),
                Way::Tables => self.compare(None, Some(told)),
            }
        }
    }

    /// The next end that was compared.
    pub fn poll_end(&mut self) -> Option<ComparedEnd> {
        self.compared.pop_front()
    }

    /// How many connections were compared.
    pub const fn connections(&self) -> u64 {
        self.connections
    }

    /// How many connections of either way found no room.
    pub const fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// Pairs an ended connection with its counterpart, or lets it wait for that.
    fn end(&mut self, way: Way, told: Told) {
        let waiting = self.ended.entry(told.addresses()).or_default();
        let best = waiting
            .iter()
            .enumerate()
            .filter(|(_, (other, _))| *other != way)
            .filter_map(|(place, (_, other))| Some((told.fit(other)?, place)))
            .max();
        let Some((_, place)) = best else {
            waiting.push((way, told));
            self.waiting += 1;
            return;
        };
        let (_, other) = waiting.remove(place);
        if waiting.is_empty() {
            self.ended.remove(&told.addresses());
        }
        self.waiting -= 1;
        match way {
            Way::Main => self.compare(Some(told), Some(other)),
            Way::Tables => self.compare(Some(other), Some(told)),
        }
    }

    fn compare(&mut self, main: Option<Told>, tables: Option<Told>) {
        let both = [main.as_ref(), tables.as_ref()];
        if !both.iter().flatten().any(|told| told.wanted) {
            return;
        }
        // The kernel's word on who is the client goes before.
        let Some(tuple) = both.iter().flatten().next().map(|told| told.tuple) else { return };
        self.connections += 1;
        // A way that knows of packets and has not this connection, although the other saw packets of it, missed it.
        let captured = both.iter().flatten().any(|told| told.captured);
        let absent = if captured { Lack::NotSeen } else { Lack::NotCaptured };
        let starts = both.map(|told| told.map(|told| told.start));
        let began =
            if starts.contains(&Some(None)) { None } else { starts.into_iter().flatten().flatten().min() };
        let ends = |told: Option<Told>| told.map(|told| told.ends_from(tuple.local)).unzip();
        let ((main_client, main_server), (tables_client, tables_server)) = (ends(main), ends(tables));
        for (role, main, tables) in
            [(EndRole::Client, main_client, tables_client), (EndRole::Server, main_server, tables_server)]
        {
            if ![&main, &tables].into_iter().flatten().any(ToldEnd::is_local) {
                continue;
            }
            let answer = |end: Option<ToldEnd>| end.map_or(Answer::none(absent), |end| end.answer(began));
            let (main, tables) = (answer(main), answer(tables));
            let tuple = if role == EndRole::Client { tuple } else { tuple.mirrored() };
            self.compared.push_back(ComparedEnd {
                role,
                tuple,
                verdict: judge(&main, &tables),
                main,
                tables,
            });
        }
    }
}

/// How well two records fit, worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Fit {
    /// They show the same initial sequence number.
    same_sequence: bool,
    /// Both know when it began.
    both_start: bool,
    /// How far apart that was: the nearer the better.
    apart: Reverse<Duration>,
}

impl Told {
    fn of(record: &ConnectionRecord, wanted: bool) -> Self {
        Self {
            tuple: FiveTuple {
                transport: record.transport,
                local: record.client.endpoint,
                remote: record.server.endpoint,
            },
            start: record.start,
            isn: record.isn,
            captured: record.interface.is_some(),
            wanted,
            client: ToldEnd::of(&record.client),
            server: ToldEnd::of(&record.server),
        }
    }

    fn addresses(&self) -> Addresses {
        let FiveTuple { transport, local, remote } = self.tuple;
        Addresses { transport, low: local.min(remote), high: local.max(remote) }
    }

    /// The ends, that at `first` first.
    fn ends_from(self, first: Endpoint) -> (ToldEnd, ToldEnd) {
        if self.tuple.local == first { (self.client, self.server) } else { (self.server, self.client) }
    }

    /// How well a record of the other way with the same addresses fits; `None`: it is another connection's.
    fn fit(&self, other: &Self) -> Option<Fit> {
        let sequence = self.isn.zip(other.isn).map(|(one, other)| one == other);
        if sequence == Some(false) {
            return None;
        }
        let starts = self.start.zip(other.start);
        let apart = starts.map_or(Duration::ZERO, |(one, other)| one.since(other).max(other.since(one)));
        // Two ways that saw the same handshake may still say different namespaces; that is for the verdict.
        if sequence.is_none() && (apart > FIRST_SIGHTS_APART || self.lies_elsewhere(other)) {
            return None;
        }
        let same_sequence = sequence.is_some();
        Some(Fit { same_sequence, both_start: starts.is_some(), apart: Reverse(apart) })
    }

    fn lies_elsewhere(&self, other: &Self) -> bool {
        let same_way = self.tuple.local == other.tuple.local;
        let (client, server) =
            if same_way { (&other.client, &other.server) } else { (&other.server, &other.client) };
        [(&self.client, client), (&self.server, server)]
            .into_iter()
            .filter_map(|(one, other)| one.namespace.zip(other.namespace))
            .any(|(one, other)| are_different(one, other))
    }
}
