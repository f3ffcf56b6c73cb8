//! Which sockets the last passes over each namespace's tables found, and what each of them is: so that only new ones
//! are looked at, and those that are gone are noticed.
//!
//! Left out: what follows from either (`passes`).

use core::num::NonZeroU64;

use ahash::RandomState;
use alloc::vec::Vec;
use hashbrown::HashMap;

use super::end::Side;
use super::flow_table::FlowId;
use super::namespace_table::NamespaceId;
use crate::five_tuple::Endpoint;
use crate::time::Timestamp;

/// What a socket is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meaning {
    /// Not known yet, or nothing that is told of.
    Nothing,
    /// It listens there; the cookie is its own.
    Listener(Endpoint, Option<NonZeroU64>),
    /// This side of this connection.
    Connection(FlowId, Side),
}

#[derive(Clone, Copy, Debug)]
struct Living {
    meaning: Meaning,
    /// When the last look began that found it.
    seen_at: Timestamp,
}

/// The looks at one namespace.
#[derive(Debug)]
struct Looks {
    /// When the last one began, and the one before.
    last: Timestamp,
    before: Option<Timestamp>,
    by_inode: HashMap<NonZeroU64, Living, RandomState>,
}

#[derive(Debug)]
pub(super) struct LivingTable {
    by_namespace: HashMap<NamespaceId, Looks, RandomState>,
    held: usize,
    capacity: usize,
    hasher: RandomState,
    pub(super) dropped: u64,
}

impl LivingTable {
    pub(super) fn new(hasher: RandomState, capacity: usize) -> Self {
        Self { by_namespace: HashMap::with_hasher(hasher.clone()), held: 0, capacity, hasher, dropped: 0 }
    }

    /// How many sockets are held.
    pub(super) const fn len(&self) -> usize {
        self.held
    }

    /// A look at `namespace` began at `at`. Returns when the one before it did.
    pub(super) fn look(&mut self, namespace: NamespaceId, at: Timestamp) -> Option<Timestamp> {
        let looks = self.by_namespace.entry(namespace).or_insert_with(|| Looks {
            last: at,
            before: None,
            by_inode: HashMap::with_hasher(self.hasher.clone()),
        });
        if looks.last < at {
            looks.before = Some(looks.last);
            looks.last = at;
        }
        looks.before
    }

    /// The last look found this socket; `true` if none before did.
    pub(super) fn see(&mut self, namespace: NamespaceId, inode: NonZeroU64) -> bool {
        let has_room = self.held < self.capacity;
        let Some(looks) = self.by_namespace.get_mut(&namespace) else { return false };
        if let Some(living) = looks.by_inode.get_mut(&inode) {
            living.seen_at = looks.last;
            return false;
        }
        if !has_room {
            self.dropped += 1;
            return false;
        }
        looks.by_inode.insert(inode, Living { meaning: Meaning::Nothing, seen_at: looks.last });
        self.held += 1;
        true
    }

    /// Notes what a socket is.
    pub(super) fn explain(&mut self, namespace: NamespaceId, inode: NonZeroU64, meaning: Meaning) {
        let looks = self.by_namespace.get_mut(&namespace);
        if let Some(living) = looks.and_then(|looks| looks.by_inode.get_mut(&inode)) {
            living.meaning = meaning;
        }
    }

    /// Takes out those that neither of the last two looks found: a look may miss one while others come and go. Returns
    /// what they were.
    pub(super) fn take_gone(&mut self, namespace: NamespaceId) -> Vec<Meaning> {
        let Some(looks) = self.by_namespace.get_mut(&namespace) else { return Vec::new() };
        let Some(before) = looks.before else { return Vec::new() };
        let gone = looks.by_inode.extract_if(|_, living| living.seen_at < before);
        let gone: Vec<Meaning> = gone.map(|(_, living)| living.meaning).collect();
        self.held -= gone.len();
        gone
    }

    /// Takes out all of a namespace that has ended. Returns what they were.
    pub(super) fn take_all(&mut self, namespace: NamespaceId) -> Vec<Meaning> {
        let Some(looks) = self.by_namespace.remove(&namespace) else { return Vec::new() };
        self.held -= looks.by_inode.len();
        looks.by_inode.into_values().map(|living| living.meaning).collect()
    }
}
