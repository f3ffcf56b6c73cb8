//! What a look has found so far, and what it has not been able to see.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use netsnoop_core::attribution::Rung;
use netsnoop_core::inventory::{
    Inventory, ListedNamespace, ListedProcess, ListedSocket, Unseen, UnseenReason, UnseenThing,
};
use netsnoop_core::namespace::NamespaceKey;
use netsnoop_core::time::Timestamp;
use rustix::io::Errno;

use crate::clock;
use crate::memory::room_for;
use crate::sources::namespace_index::NamespaceIndex;

/// An inventory in the making.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) namespaces: Vec<ListedNamespace>,
    pub(super) processes: Vec<ListedProcess>,
    pub(super) sockets: Vec<ListedSocket>,
    place_of: HashMap<u32, u32>,
    unseen: BTreeMap<(UnseenThing, UnseenReason), u64>,
}

/// Sockets that there is room for at first; there may be a hundred thousand.
const SOCKETS_AT_FIRST: usize = 1 << 14;

impl Draft {
    /// Nothing is found yet.
    pub(super) fn new() -> Self {
        Self {
            namespaces: Vec::new(),
            processes: Vec::new(),
            sockets: room_for(SOCKETS_AT_FIRST),
            place_of: HashMap::new(),
            unseen: BTreeMap::new(),
        }
    }

    /// Adds the namespaces that `index` knows, with their names.
    pub(super) fn add_known(&mut self, index: &NamespaceIndex) {
        for inode in index.namespaces().into_keys() {
            let place = self.add_inode(inode);
            if let Some(namespace) = self.namespaces.get_mut(place as usize) {
                namespace.name = index.name_of(inode);
            }
        }
    }

    /// The place of a namespace, which is added if it is new: an inode of which another cookie was seen stands for another
    /// namespace now.
    pub(super) fn add_namespace(&mut self, key: NamespaceKey) -> u32 {
        let place = self.add_inode(key.inode);
        let Some(known) = self.namespaces.get_mut(place as usize) else { return place };
        if known.key.cookie.is_some_and(|cookie| key.cookie.is_some_and(|other| other != cookie)) {
            return self.push_namespace(key);
        }
        known.key.cookie = known.key.cookie.or(key.cookie);
        place
    }

    /// The place of the namespace that has this inode now.
    pub(super) fn add_inode(&mut self, inode: u32) -> u32 {
        match self.place_of(inode) {
            Some(place) => place,
            None => self.push_namespace(NamespaceKey { inode, cookie: None }),
        }
    }

    fn push_namespace(&mut self, key: NamespaceKey) -> u32 {
        // Inodes of namespaces are 32 bits wide.
        let place = u32::try_from(self.namespaces.len()).unwrap_or(u32::MAX);
        self.namespaces.push(ListedNamespace { key, name: None, interfaces: Vec::new() });
        self.place_of.insert(key.inode, place);
        place
    }

    /// The place of a namespace that is known.
    pub(super) fn place_of(&self, inode: u32) -> Option<u32> {
        self.place_of.get(&inode).copied()
    }

    /// The inode of the namespace at `place`.
    pub(super) fn inode_of(&self, place: u32) -> Option<u32> {
        self.namespaces.get(place as usize).map(|namespace| namespace.key.inode)
    }

    /// Notes the identity of the namespace at `place`, as it was told inside.
    pub(super) fn identify(&mut self, place: u32, key: NamespaceKey) {
        if let Some(namespace) = self.namespaces.get_mut(place as usize) {
            namespace.key.cookie = namespace.key.cookie.or(key.cookie);
        }
    }

    /// The places of all namespaces that are known by now.
    pub(super) fn places(&self) -> Range<u32> {
        0..u32::try_from(self.namespaces.len()).unwrap_or(u32::MAX)
    }

    /// Notes that `count` of something could not be seen.
    pub(super) fn miss(&mut self, what: UnseenThing, why: UnseenReason, count: u64) {
        if count > 0 {
            *self.unseen.entry((what, why)).or_default() += count;
        }
    }

    /// Notes that some of something could not be seen, nobody can say how many.
    pub(super) fn miss_some(&mut self, what: UnseenThing, why: UnseenReason) {
        self.unseen.entry((what, why)).or_default();
    }

    /// Notes that one thing could not be seen because of `error`.
    pub(super) fn miss_for(&mut self, what: UnseenThing, error: Errno) {
        self.miss(what, reason_of(error), 1);
    }

    /// Whether some of something could not be seen for one of these reasons.
    pub(super) fn misses(&self, what: UnseenThing, reasons: &[UnseenReason]) -> bool {
        reasons.iter().any(|why| self.unseen.contains_key(&(what, *why)))
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
