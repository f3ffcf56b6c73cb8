//! Which namespace *instance* a cookie or inode means now, which addresses are local to it, and what
//! an interface says about a packet's namespaces.

use core::net::IpAddr;
use core::num::{NonZeroU32, NonZeroU64};

use ahash::RandomState;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hashbrown::{HashMap, HashSet};

use crate::namespace::{Interface, InterfaceKind, NamespaceKey, Topology};

/// Most namespaces remembered at once; beyond it those that no topology listed go first.
const NAMESPACES_MAX: usize = 16_384;

/// One life of a namespace. Never reused, so two lives of one inode never compare equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct NamespaceId(u64);

/// Where an end is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Nothing is known yet.
    Unknown,
    /// More than one namespace fits.
    Ambiguous,
    /// Not on this node.
    Remote,
    /// In this namespace.
    Local(NamespaceId),
}

#[derive(Debug)]
struct Namespace {
    key: NamespaceKey,
    /// `None` until a topology told.
    addresses: Option<HashSet<IpAddr, RandomState>>,
    listed: bool,
}

#[derive(Debug)]
pub(super) struct NamespaceTable {
    namespaces: HashMap<NamespaceId, Namespace, RandomState>,
    by_cookie: HashMap<NonZeroU64, NamespaceId, RandomState>,
    by_inode: HashMap<u32, NamespaceId, RandomState>,
    /// Addresses that are not local to every namespace, and who has them.
    by_address: HashMap<IpAddr, Vec<NamespaceId>, RandomState>,
    interfaces: HashMap<u32, Interface, RandomState>,
    /// By the id that the capture's namespace has given them.
    by_number: HashMap<i32, NamespaceId, RandomState>,
    capture: Option<NamespaceId>,
    hasher: RandomState,
    next: u64,
}

impl NamespaceTable {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            namespaces: HashMap::with_hasher(hasher.clone()),
            by_cookie: HashMap::with_hasher(hasher.clone()),
            by_inode: HashMap::with_hasher(hasher.clone()),
            by_address: HashMap::with_hasher(hasher.clone()),
            interfaces: HashMap::with_hasher(hasher.clone()),
            by_number: HashMap::with_hasher(hasher.clone()),
            capture: None,
            hasher,
            next: 0,
        }
    }

    /// The instance `key` means now; made if it is new.
    pub(super) fn resolve(&mut self, key: NamespaceKey) -> NamespaceId {
        if let Some(known) = key.cookie.and_then(|cookie| self.by_cookie.get(&cookie)) {
            return *known;
        }
        if let Some(id) = self.by_inode.get(&key.inode).copied()
            && let Some(namespace) = self.namespaces.get_mut(&id)
        {
            match (namespace.key.cookie, key.cookie) {
                (_, None) => return id,
                (None, Some(cookie)) => {
                    namespace.key.cookie = Some(cookie);
                    self.by_cookie.insert(cookie, id);
                    return id;
                }
                // Another cookie: the inode number was given to a new namespace.
                (Some(_), Some(_)) => {}
            }
        }
        self.insert(key)
    }

    fn insert(&mut self, key: NamespaceKey) -> NamespaceId {
        if self.namespaces.len() >= NAMESPACES_MAX {
            self.forget_where(|_, namespace| !namespace.listed);
        }
        let id = NamespaceId(self.next);
        self.next += 1;
        self.namespaces.insert(id, Namespace { key, addresses: None, listed: false });
        self.by_inode.insert(key.inode, id);
        if let Some(cookie) = key.cookie {
            self.by_cookie.insert(cookie, id);
        }
        id
    }

    fn forget_where(&mut self, ended: impl Fn(NamespaceId, &Namespace) -> bool) {
        let ended: Vec<(NamespaceId, NamespaceKey)> = self
            .namespaces
            .iter()
            .filter(|(id, namespace)| ended(**id, namespace))
            .map(|(id, namespace)| (*id, namespace.key))
            .collect();
        for (id, key) in ended {
            self.namespaces.remove(&id);
            if self.by_inode.get(&key.inode) == Some(&id) {
                self.by_inode.remove(&key.inode);
            }
            if let Some(cookie) = key.cookie {
                self.by_cookie.remove(&cookie);
            }
        }
    }

    /// Takes a whole new topology: namespaces that one listed before and this one misses have ended.
    /// Those that only an event has named stay, as they may be younger than the topology.
    pub(super) fn replace(&mut self, topology: Topology) {
        let mut present: HashSet<NamespaceId, RandomState> = HashSet::with_hasher(self.hasher.clone());
        self.by_address.clear();
        self.by_number.clear();
        for facts in topology.namespaces {
            let id = self.resolve(facts.key);
            present.insert(id);
            self.by_number.extend(facts.id.map(|number| (number, id)));
            for address in facts.addresses.iter().filter(|address| !is_local_everywhere(**address)) {
                self.by_address.entry(*address).or_default().push(id);
            }
            if let Some(namespace) = self.namespaces.get_mut(&id) {
                let mut addresses = HashSet::with_hasher(self.hasher.clone());
                addresses.extend(facts.addresses);
                namespace.addresses = Some(addresses);
                namespace.listed = true;
            }
        }
        self.forget_where(|id, namespace| namespace.listed && !present.contains(&id));
        self.capture = Some(self.resolve(topology.capture_namespace));
        self.interfaces.clear();
        self.interfaces.extend(topology.interfaces.into_iter().map(|interface| (interface.index, interface)));
    }

    /// Whether a topology has told the addresses of `id`.
    pub(super) fn knows_addresses(&self, id: NamespaceId) -> bool {
        self.namespaces.get(&id).is_some_and(|namespace| namespace.addresses.is_some())
    }

    /// A socket of `id`, which no topology has told of yet, has this address.
    pub(super) fn learn_address(&mut self, id: NamespaceId, address: IpAddr) {
        if self.knows_addresses(id) || is_local_everywhere(address) || address.is_unspecified() {
            return;
        }
        let owners = self.by_address.entry(address).or_default();
        if !owners.contains(&id) {
            owners.push(id);
        }
    }

    /// Whether the interface is known; an unknown one means the topology has changed.
    pub(super) fn knows_interface(&self, index: NonZeroU32) -> bool {
        self.interfaces.contains_key(&index.get())
    }

    /// The instance `key` means now, if it is known.
    pub(super) fn known(&self, key: NamespaceKey) -> Option<NamespaceId> {
        let by_cookie = key.cookie.and_then(|cookie| self.by_cookie.get(&cookie));
        by_cookie.or_else(|| self.by_inode.get(&key.inode)).copied()
    }

    /// The namespace that the capture's own knows by this id.
    pub(super) fn numbered(&self, number: i32) -> Option<NamespaceId> {
        self.by_number.get(&number).copied()
    }

    /// The namespace that packets are captured in.
    pub(super) const fn capture(&self) -> Option<NamespaceId> {
        self.capture
    }

    /// What a source may be told `id` is.
    pub(super) fn key(&self, id: NamespaceId) -> Option<NamespaceKey> {
        self.namespaces.get(&id).map(|namespace| namespace.key)
    }

    /// The interface's name.
    pub(super) fn interface_name(&self, index: NonZeroU32) -> Option<&Arc<str>> {
        self.interfaces.get(&index.get()).map(|interface| &interface.name)
    }

    /// The one namespace whose sockets the interface leads to, if it leads to one.
    pub(super) fn behind_interface(&mut self, index: NonZeroU32) -> Option<NamespaceId> {
        match self.interfaces.get(&index.get())?.kind {
            InterfaceKind::Loopback => self.capture,
            InterfaceKind::VethPeer(key) => Some(self.resolve(key)),
            InterfaceKind::Other => None,
        }
    }

    fn owns(&self, id: NamespaceId, address: IpAddr) -> bool {
        is_local_everywhere(address)
            || self
                .namespaces
                .get(&id)
                .and_then(|namespace| namespace.addresses.as_ref())
                .is_some_and(|addresses| addresses.contains(&address))
    }

    /// Where `address` is, for a socket in `from`.
    pub(super) fn place_seen_from(&self, from: NamespaceId, address: IpAddr) -> Place {
        if self.owns(from, address) { Place::Local(from) } else { self.place_of(address) }
    }

    /// Where `address` is, for a packet of which `behind` is the namespace that its interface leads to.
    pub(super) fn place_on_interface(&self, behind: Option<NamespaceId>, address: IpAddr) -> Place {
        match behind {
            Some(id) if self.owns(id, address) => Place::Local(id),
            // A loopback address on an interface that leads nowhere we know (ipvlan, a capture file).
            _ if is_local_everywhere(address) => self.capture.map_or(Place::Unknown, Place::Local),
            _ => self.place_of(address),
        }
    }

    fn place_of(&self, address: IpAddr) -> Place {
        match self.by_address.get(&address).map(Vec::as_slice) {
            Some(&[only]) => Place::Local(only),
            Some(&[_, _, ..]) => match self.capture {
                // An address of the capture's own namespace is reached there, whoever else has it too.
                Some(capture) if self.owns(capture, address) => Place::Local(capture),
                _ => Place::Ambiguous,
            },
            _ if self.capture.is_some() => Place::Remote,
            _ => Place::Unknown,
        }
    }

    /// Whether a socket at `here` in one namespace can be the other end of one at `there` in another.
    /// A wildcard address says nothing against it.
    pub(super) fn can_meet(&self, here: (NamespaceId, IpAddr), there: (NamespaceId, IpAddr)) -> bool {
        let stays = |id, address: IpAddr| !address.is_unspecified() && self.owns(id, address);
        let local_only = here.1.is_loopback() || there.1.is_loopback();
        here.0 == there.0 || !(local_only || stays(here.0, there.1) || stays(there.0, here.1))
    }
}

/// Whether every namespace has this address for itself: loopback, and `::`/`0.0.0.0` as a destination,
/// which Linux treats as loopback (ip(7), IPV4 `INADDR_ANY`).
fn is_local_everywhere(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}
