//! All connections that are held, found by their endpoints, bounded, each with at most one deadline.

use ahash::RandomState;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use hashbrown::{HashMap, HashTable};

use super::flow::{Flow, Side};
use crate::five_tuple::{Endpoint, FiveTuple, Transport};
use crate::time::Timestamp;

/// Names a held connection. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct FlowId(pub(super) u64);

/// A place in the index. The hash is kept so that the table can grow without asking the flows.
#[derive(Clone, Copy, Debug)]
struct Posting {
    hash: u64,
    id: FlowId,
}

#[derive(Debug)]
pub(super) struct FlowTable {
    flows: HashMap<FlowId, Flow, RandomState>,
    /// Each end under (protocol, its port, the other endpoint), see [`Self::key`].
    index: HashTable<Posting>,
    deadlines: BTreeSet<(Timestamp, FlowId)>,
    oldest_first: VecDeque<FlowId>,
    hasher: RandomState,
    capacity: usize,
    next: u64,
}

impl FlowTable {
    pub(super) fn new(hasher: RandomState, capacity: usize) -> Self {
        Self {
            flows: HashMap::with_hasher(hasher.clone()),
            index: HashTable::new(),
            deadlines: BTreeSet::new(),
            oldest_first: VecDeque::new(),
            hasher,
            capacity,
            next: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn get(&self, id: FlowId) -> Option<&Flow> {
        self.flows.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.flows.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (FlowId, &Flow)> {
        self.flows.iter().map(|(id, flow)| (*id, flow))
    }

    /// Adds a connection; hands back the oldest one if there was no room.
    pub(super) fn insert(&mut self, flow: Flow) -> (FlowId, Option<Flow>) {
        let evicted = if self.flows.len() >= self.capacity { self.evict_oldest() } else { None };
        let id = FlowId(self.next);
        self.next += 1;
        self.post(id, &flow);
        self.flows.insert(id, flow);
        self.oldest_first.push_back(id);
        self.forget_stale_order();
        (id, evicted)
    }

    fn evict_oldest(&mut self) -> Option<Flow> {
        while let Some(id) = self.oldest_first.pop_front() {
            let evicted = self.remove(id);
            if evicted.is_some() {
                return evicted;
            }
        }
        None
    }

    /// Removed connections leave their id in the order; drop those once they outnumber the living.
    fn forget_stale_order(&mut self) {
        if self.oldest_first.len() > 2 * self.flows.len() + 1024 {
            let flows = &self.flows;
            self.oldest_first.retain(|id| flows.contains_key(id));
        }
    }

    /// Takes a connection out.
    pub(super) fn remove(&mut self, id: FlowId) -> Option<Flow> {
        let flow = self.flows.remove(&id)?;
        self.unpost(id, &flow);
        if let Some(deadline) = flow.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        Some(flow)
    }

    /// Gives a wildcard end the address that its packets show.
    pub(super) fn concretise(&mut self, id: FlowId, side: Side, endpoint: Endpoint) {
        let Some(mut flow) = self.flows.remove(&id) else { return };
        self.unpost(id, &flow);
        flow.end_mut(side).endpoint = endpoint;
        self.post(id, &flow);
        self.flows.insert(id, flow);
    }

    /// Connections that may be `tuple`'s, each with the side that is `tuple.local`.
    pub(super) fn find(&self, tuple: FiveTuple) -> Vec<(FlowId, Side)> {
        let mut found = Vec::new();
        self.collect(self.key(tuple), tuple, &mut found);
        if tuple.transport != Transport::Tcp {
            // The opposite end may be held as a wildcard; only its own posting finds it then.
            self.collect(self.key(tuple.mirrored()), tuple, &mut found);
        }
        if has_wildcard(tuple) {
            self.collect(self.wildcard_key(tuple), tuple, &mut found);
        }
        found
    }

    fn collect(&self, hash: u64, tuple: FiveTuple, found: &mut Vec<(FlowId, Side)>) {
        for posting in self.index.iter_hash(hash) {
            let Some(flow) = self.flows.get(&posting.id) else { continue };
            for side in [Side::A, Side::B] {
                let seen = flow.tuple(side);
                let fits = seen.transport == tuple.transport
                    && agrees(seen.local, tuple.local)
                    && agrees(seen.remote, tuple.remote);
                if fits && !found.contains(&(posting.id, side)) {
                    found.push((posting.id, side));
                }
            }
        }
    }

    /// Sets the connection's only deadline.
    pub(super) fn set_deadline(&mut self, id: FlowId, deadline: Option<Timestamp>) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        if flow.deadline == deadline {
            return;
        }
        if let Some(old) = flow.deadline {
            self.deadlines.remove(&(old, id));
        }
        flow.deadline = deadline;
        if let Some(new) = deadline {
            self.deadlines.insert((new, id));
        }
    }

    /// The earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Takes a connection whose deadline has come; its deadline is cleared.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<FlowId> {
        let due = *self.deadlines.first().filter(|(deadline, _)| *deadline <= now)?;
        self.deadlines.remove(&due);
        if let Some(flow) = self.flows.get_mut(&due.1) {
            flow.deadline = None;
        }
        Some(due.1)
    }

    fn post(&mut self, id: FlowId, flow: &Flow) {
        for hash in self.keys(flow) {
            self.index.insert_unique(hash, Posting { hash, id }, |posting| posting.hash);
        }
    }

    fn unpost(&mut self, id: FlowId, flow: &Flow) {
        for hash in self.keys(flow) {
            if let Ok(entry) = self.index.find_entry(hash, |posting| posting.id == id && posting.hash == hash)
            {
                entry.remove();
            }
        }
    }

    fn keys(&self, flow: &Flow) -> impl Iterator<Item = u64> + use<> {
        let tuple = flow.tuple(Side::A);
        let wildcard = has_wildcard(tuple).then(|| self.wildcard_key(tuple));
        [self.key(tuple), self.key(tuple.mirrored())].into_iter().chain(wildcard)
    }

    /// The end's own address is left out: an unconnected UDP socket has a wildcard there while its
    /// packets have not.
    fn key(&self, tuple: FiveTuple) -> u64 {
        self.hasher.hash_one((tuple.transport, tuple.local.port, tuple.remote))
    }

    /// Two unconnected sockets that talk to each other have only their ports in common.
    fn wildcard_key(&self, tuple: FiveTuple) -> u64 {
        let (one, other) = (tuple.local.port, tuple.remote.port);
        self.hasher.hash_one((tuple.transport, one.min(other), one.max(other)))
    }
}

fn has_wildcard(tuple: FiveTuple) -> bool {
    tuple.local.is_wildcard() || tuple.remote.is_wildcard()
}

/// Whether two sightings of an endpoint may be of the same one: a wildcard fits any address.
fn agrees(one: Endpoint, other: Endpoint) -> bool {
    one.port == other.port && (one.address == other.address || one.is_wildcard() || other.is_wildcard())
}
