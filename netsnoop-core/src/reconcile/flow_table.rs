//! All connections that are held, found by their endpoints, bounded, each with at most one timer.

use ahash::RandomState;
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::end::Side;
use super::flow::Flow;
use super::flow_index::FlowIndex;
use crate::five_tuple::FiveTuple;
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

#[derive(Debug)]
pub(super) struct FlowTable {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    index: FlowIndex,
    /// When each connection is looked at again.
    wakes: BTreeSet<(Timestamp, FlowId)>,
    oldest_first: VecDeque<FlowId>,
    capacity: usize,
    next: u64,
}

impl FlowTable {
    pub(super) fn new(hasher: RandomState, capacity: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: FlowIndex::new(hasher),
            wakes: BTreeSet::new(),
            oldest_first: VecDeque::new(),
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
    pub(super) fn insert(&mut self, flow: Box<Flow>) -> (FlowId, Option<Box<Flow>>) {
        let evicted = if self.len() >= self.capacity { self.evict_oldest() } else { None };
        let number = self.next;
        self.next += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        self.index.post(slot, flow.names(Side::A));
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(Slot { number, flow });
        }
        let id = FlowId { number, slot };
        self.oldest_first.push_back(id);
        self.forget_stale_order();
        (id, evicted)
    }

    fn evict_oldest(&mut self) -> Option<Box<Flow>> {
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
    pub(super) fn remove(&mut self, id: FlowId) -> Option<Box<Flow>> {
        self.get(id)?;
        let held = self.slots.get_mut(id.slot as usize)?.take()?;
        self.free.push(id.slot);
        self.index.unpost(id.slot, held.flow.names(Side::A));
        if let Some(wake) = held.flow.wakes_at {
            self.wakes.remove(&(wake, id));
        }
        Some(held.flow)
    }

    /// Changes what a connection is called, as `change` does.
    pub(super) fn rename(&mut self, id: FlowId, change: impl FnOnce(&mut Flow)) {
        let held = self.slots.get_mut(id.slot as usize).and_then(Option::as_mut);
        let Some(held) = held.filter(|held| held.number == id.number) else { return };
        self.index.unpost(id.slot, held.flow.names(Side::A));
        change(&mut held.flow);
        self.index.post(id.slot, held.flow.names(Side::A));
    }

    /// Connections that may be `tuple`'s, each with the side that is `tuple.local`. One may come twice.
    pub(super) fn find(&self, tuple: FiveTuple) -> impl Iterator<Item = (FlowId, Side, &Flow)> {
        // Every packet and event asks this, so it is loops over few instead of iterators within iterators.
        let mut found = SmallVec::<[_; 4]>::new();
        for slot in self.index.candidates(tuple) {
            let Some(held) = self.slots.get(slot as usize).and_then(Option::as_ref) else { continue };
            let id = FlowId { number: held.number, slot };
            for side in [Side::A, Side::B] {
                if is_called(&held.flow, side, tuple) {
                    found.push((id, side, &*held.flow));
                }
            }
        }
        found.into_iter()
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
}

/// Whether a connection may be called `tuple`, with `side` as the local end.
fn is_called(flow: &Flow, side: Side, tuple: FiveTuple) -> bool {
    match flow.path {
        None => agrees(flow.tuple(side), tuple),
        Some(_) => flow.names(side).any(|name| agrees(name, tuple)),
    }
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
