//! What a look has found so far, and what it has not been able to see.

use std::collections::{BTreeMap, HashMap};

use netsnoop_core::attribution::Rung;
use netsnoop_core::inventory::{
    Inventory, ListedNamespace, ListedProcess, ListedSocket, Unseen, UnseenReason, UnseenThing,
};
use netsnoop_core::namespace::NamespaceKey;
use netsnoop_core::time::Timestamp;
use rustix::io::Errno;

use crate::clock;
use crate::sources::namespace_index::NamespaceIndex;

/// An inventory in the making.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) namespaces: Vec<ListedNamespace>,
    pub(super) processes: Vec<ListedProcess>,
    pub(super) sockets: Vec<ListedSocket>,
    place_of: HashMap<u32, u32>,
    unseen: BTreeMap<(UnseenThing, UnseenReason), u64>,
}

impl Draft {
    /// Has the namespaces that `index` knows.
    pub(super) fn new(index: &NamespaceIndex) -> Self {
        let mut this = Self::default();
        for inode in index.namespaces().into_keys() {
            let place = this.add_namespace(NamespaceKey { inode, cookie: None });
            if let Some(namespace) = this.namespaces.get_mut(place as usize) {
                namespace.name = index.name_of(inode);
            }
        }
        this
    }

    /// The place of a namespace, which is added if it is new.
    pub(super) fn add_namespace(&mut self, key: NamespaceKey) -> u32 {
        let namespaces = &mut self.namespaces;
        *self.place_of.entry(key.inode).or_insert_with(|| {
            namespaces.push(ListedNamespace { key, name: None, interfaces: Vec::new() });
            // Inodes of namespaces are 32 bits wide.
            u32::try_from(namespaces.len() - 1).unwrap_or(u32::MAX)
        })
    }

    /// The place of a namespace that is known.
    pub(super) fn place_of(&self, inode: u32) -> Option<u32> {
        self.place_of.get(&inode).copied()
    }

    /// Notes that `count` of something could not be seen.
    pub(super) fn miss(&mut self, what: UnseenThing, why: UnseenReason, count: u64) {
        if count > 0 {
            *self.unseen.entry((what, why)).or_default() += count;
        }
    }

    /// Notes that one thing could not be seen because of `error`.
    pub(super) fn miss_for(&mut self, what: UnseenThing, error: Errno) {
        self.miss(what, reason_of(error), 1);
    }

    /// How many of something could not be seen for one of these reasons.
    pub(super) fn counts(&self, what: UnseenThing, reasons: &[UnseenReason]) -> u64 {
        reasons.iter().filter_map(|why| self.unseen.get(&(what, *why))).sum()
    }

    /// What was found.
    pub(super) fn finish(self, rung: Rung, started: Timestamp) -> Inventory {
        Inventory {
            rung,
            started,
            finished: clock::now(),
            namespaces: self.namespaces,
            processes: self.processes,
            sockets: self.sockets,
            unseen: self.unseen.into_iter().map(|((what, why), count)| Unseen { what, why, count }).collect(),
        }
    }
}

/// What an error says of why something was not seen.
pub(super) const fn reason_of(error: Errno) -> UnseenReason {
    match error {
        Errno::NOENT | Errno::SRCH => UnseenReason::Vanished,
        Errno::ACCESS | Errno::PERM => UnseenReason::Permission,
        Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => UnseenReason::Unsupported,
        _ => UnseenReason::Failed,
    }
}
