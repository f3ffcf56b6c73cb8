//! All connections that are held, found by their endpoints, bounded, each with at most one timer.

use ahash::RandomState;
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use hashbrown::HashTable;

use super::flow::{Flow, Side};
use crate::five_tuple::{FiveTuple, Transport};
use crate::time::Timestamp;

/// Names a held connection. Never reused; newer ones compare greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct FlowId {
    /// Counts connections.
    pub(super) number: u64,
    /// Where it lies in the table, which later ones may do too.
    slot: u32,
}

/// A place for a connection. Boxed, so that the table's growth moves pointers and its room is small where
/// few are held.
#[derive(Debug)]
struct Slot {
    number: u64,
    flow: Box<Flow>,
}

/// A place in the index. The hash is kept so that the table can grow without asking the flows.
#[derive(Clone, Copy, Debug)]
struct Posting {
    hash: u64,
    id: FlowId,
}

#[derive(Debug)]
pub(super) struct FlowTable {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    /// Each end under (protocol, its port, the other endpoint), see [`Self::key`].
    index: HashTable<Posting>,
    /// When each connection is looked at again.
    wakes: BTreeSet<(Timestamp, FlowId)>,
    oldest_first: VecDeque<FlowId>,
    hasher: RandomState,
    capacity: usize,
    next: u64,
}

impl FlowTable {
    pub(super) fn new(hasher: RandomState, capacity: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            wakes: BTreeSet::new(),
            oldest_first: VecDeque::new(),
            hasher,
            // Slots are counted in 32 bits.
            capacity: capacity.min(u32::MAX as usize),
            next: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn get(&self, id: FlowId) -> Option<&Flow> {
        let held = self.slots.get(id.slot as usize)?.as_ref()?;
        (held.number == id.number).then_some(&*held.flow)
    }

    pub(super) fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        let held = self.slots.get_mut(id.slot as usize)?.as_mut()?;
        (held.number == id.number).then_some(&mut *held.flow)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (FlowId, &Flow)> {
        (0..).zip(&self.slots).filter_map(|(slot, held)| {
            let held = held.as_ref()?;
            Some((FlowId { number: held.number, slot }, &*held.flow))
        })
    }

    /// Adds a connection; hands back the oldest one if there was no room.
    pub(super) fn insert(&mut self, flow: Flow) -> (FlowId, Option<Flow>) {
        let evicted = if self.len() >= self.capacity { self.evict_oldest() } else { None };
        let number = self.next;
        self.next += 1;
        let keys = self.keys(&flow);
        let held = Some(Slot { number, flow: Box::new(flow) });
        let id = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.slots.get_mut(slot as usize) {
                    *place = held;
                }
                FlowId { number, slot }
            }
            None => {
                self.slots.push(held);
                FlowId { number, slot: u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX) }
            }
        };
        self.post(id, keys);
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
        if self.oldest_first.len() > 2 * self.len() + 1024 {
            let mut order = core::mem::take(&mut self.oldest_first);
            order.retain(|id| self.get(*id).is_some());
            self.oldest_first = order;
        }
    }

    /// Takes a connection out.
    pub(super) fn remove(&mut self, id: FlowId) -> Option<Flow> {
        self.get(id)?;
        let held = self.slots.get_mut(id.slot as usize)?.take()?;
        self.free.push(id.slot);
        self.unpost(id, self.keys(&held.flow));
        if let Some(wake) = held.flow.wakes_at {
            self.wakes.remove(&(wake, id));
        }
        Some(*held.flow)
    }

    /// Changes what a connection is called, as `change` does.
    pub(super) fn rename(&mut self, id: FlowId, change: impl FnOnce(&mut Flow)) {
        let Some(flow) = self.get(id) else { return };
        let before = self.keys(flow);
        self.unpost(id, before);
        let Some(flow) = self.get_mut(id) else { return };
        change(flow);
        let Some(flow) = self.get(id) else { return };
        let after = self.keys(flow);
        self.post(id, after);
    }

    /// Connections that may be `tuple`'s, each with the side that is `tuple.local`. One may come twice.
    pub(super) fn find(&self, tuple: FiveTuple) -> impl Iterator<Item = (FlowId, Side, &Flow)> {
        // The opposite end may be held as a wildcard; only its own posting finds it then.
        let opposite = (tuple.transport != Transport::Tcp).then(|| self.key(tuple.mirrored()));
        let wildcard = has_wildcard(tuple).then(|| self.wildcard_key(tuple));
        [Some(self.key(tuple)), opposite, wildcard]
            .into_iter()
            .flatten()
            .flat_map(|hash| self.index.iter_hash(hash))
            .filter_map(|posting| Some((posting.id, self.get(posting.id)?)))
            .flat_map(|(id, flow)| [(id, Side::A, flow), (id, Side::B, flow)])
            .filter(move |(_, side, flow)| flow.names(*side).any(|name| agrees(name, tuple)))
    }

    /// Has the connection looked at again at `deadline`, or earlier if it would be anyway: most deadlines
    /// are put off many times before one comes, and putting one off is left to when it would have come.
    pub(super) fn wake_by(&mut self, id: FlowId, deadline: Timestamp) {
        let Some(flow) = self.get_mut(id) else { return };
        let known = flow.wakes_at;
        if known.is_some_and(|known| known <= deadline) {
            return;
        }
        flow.wakes_at = Some(deadline);
        if let Some(known) = known {
            self.wakes.remove(&(known, id));
        }
        self.wakes.insert((deadline, id));
    }

    /// When [`Self::pop_due`] next has one.
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.wakes.first().map(|(wake, _)| *wake)
    }

    /// Takes a connection that is to be looked at by now.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<FlowId> {
        let due = *self.wakes.first().filter(|(wake, _)| *wake <= now)?;
        self.wakes.remove(&due);
        if let Some(flow) = self.get_mut(due.1) {
            flow.wakes_at = None;
        }
        Some(due.1)
    }

    fn post(&mut self, id: FlowId, keys: Vec<u64>) {
        for hash in keys {
            self.index.insert_unique(hash, Posting { hash, id }, |posting| posting.hash);
        }
    }

    fn unpost(&mut self, id: FlowId, keys: Vec<u64>) {
        for hash in keys {
            if let Ok(entry) = self.index.find_entry(hash, |posting| posting.id == id && posting.hash == hash)
            {
                entry.remove();
            }
        }
    }

    fn keys(&self, flow: &Flow) -> Vec<u64> {
        let mut keys: Vec<u64> =
            flow.names(Side::A).flat_map(|name| [self.key(name), self.key(name.mirrored())]).collect();
        let tuple = flow.tuple(Side::A);
        keys.extend(has_wildcard(tuple).then(|| self.wildcard_key(tuple)));
        keys.sort_unstable();
        keys.dedup();
        keys
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

/// Whether two tuples may be one: a wildcard fits any address.
pub(super) fn agrees(one: FiveTuple, other: FiveTuple) -> bool {
    let ends = [(one.local, other.local), (one.remote, other.remote)];
    one.transport == other.transport
        && ends.into_iter().all(|(one, other)| {
            one.port == other.port
                && (one.address == other.address || one.is_wildcard() || other.is_wildcard())
        })
}
