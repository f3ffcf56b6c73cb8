//! Which namespace *instance* a cookie or inode means now, which addresses are local to it, and what
//! an interface says about a packet's namespaces.

mod address_claims;
mod changes;

use core::net::IpAddr;
use core::num::{NonZeroU32, NonZeroU64};

use ahash::RandomState;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hashbrown::{HashMap, HashSet};

use super::keeper::Keeper;
use crate::namespace::{Interface, InterfaceKind, NamespaceKey};
use crate::time::Timestamp;
use address_claims::{AddressClaims, Having};

/// Most namespaces remembered at once; beyond it those that no topology listed go first.
const NAMESPACES_MAX: usize = 16_384;

/// One life of a namespace. Never reused, so two lives of one inode never compare equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct NamespaceId(u64);

#[cfg(test)]
impl NamespaceId {
    pub(super) const fn numbered(number: u64) -> Self {
        Self(number)
    }
}

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

/// What is behind an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Behind {
    /// The interface is not known.
    NotKnown,
    /// Nothing can be said from the interface alone.
    Anything,
    /// The capture's own namespace alone.
    Own(NamespaceId),
    /// This namespace, and what it forwards for.
    Namespace(NamespaceId),
    /// A namespace that was not found.
    Hidden,
}

impl Behind {
    /// The namespace that it leads to.
    pub(super) const fn namespace(self) -> Option<NamespaceId> {
        match self {
            Self::Own(id) | Self::Namespace(id) => Some(id),
            Self::NotKnown | Self::Anything | Self::Hidden => None,
        }
    }
}

#[derive(Debug)]
struct Namespace {
    key: NamespaceKey,
    /// Those it has now; `None` until a topology told.
    addresses: Option<HashSet<IpAddr, RandomState>>,
    listed: bool,
    /// Whether the capture's own has given it an id, so that its changes are told.
    numbered: bool,
    ended: Option<Timestamp>,
    keeper: Keeper,
}

#[derive(Debug)]
pub(super) struct NamespaceTable {
    namespaces: HashMap<NamespaceId, Namespace, RandomState>,
    by_cookie: HashMap<NonZeroU64, NamespaceId, RandomState>,
    by_inode: HashMap<u32, NamespaceId, RandomState>,
    /// Addresses that are not local to every namespace, and who has them when.
    claims: AddressClaims,
    interfaces: HashMap<u32, Interface, RandomState>,
    /// By the id that the capture's namespace has given them.
    by_number: HashMap<i32, NamespaceId, RandomState>,
    capture: Option<NamespaceId>,
    /// When the last whole topology was looked at.
    whole_at: Timestamp,
    /// Up to when all changes are known.
    told_until: Timestamp,
    /// Counts what has changed.
    generation: u64,
    hasher: RandomState,
    next: u64,
}

impl NamespaceTable {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            namespaces: HashMap::with_hasher(hasher.clone()),
            by_cookie: HashMap::with_hasher(hasher.clone()),
            by_inode: HashMap::with_hasher(hasher.clone()),
            claims: AddressClaims::new(hasher.clone()),
            interfaces: HashMap::with_hasher(hasher.clone()),
            by_number: HashMap::with_hasher(hasher.clone()),
            capture: None,
            whole_at: Timestamp::default(),
            told_until: Timestamp::default(),
            generation: 0,
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
            self.forget_where(|namespace| !namespace.listed);
        }
        let id = NamespaceId(self.next);
        self.next += 1;
        self.namespaces.insert(
            id,
            Namespace {
                key,
                addresses: None,
                listed: false,
                numbered: false,
                ended: None,
                keeper: Keeper::NotAsked,
            },
        );
        self.by_inode.insert(key.inode, id);
        if let Some(cookie) = key.cookie {
            self.by_cookie.insert(cookie, id);
        }
        id
    }

    fn forget_where(&mut self, is_over: impl Fn(&Namespace) -> bool) {
        let over: Vec<(NamespaceId, NamespaceKey)> = self
            .namespaces
            .iter()
            .filter(|(_, namespace)| is_over(namespace))
            .map(|(id, namespace)| (*id, namespace.key))
            .collect();
        for (id, key) in over {
            self.namespaces.remove(&id);
            if self.by_inode.get(&key.inode) == Some(&id) {
                self.by_inode.remove(&key.inode);
            }
            if let Some(cookie) = key.cookie {
                self.by_cookie.remove(&cookie);
            }
        }
    }

    /// Up to when all changes are known.
    pub(super) const fn told_until(&self) -> Timestamp {
        self.told_until
    }

    /// Another number whenever something has changed.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
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
        self.claims.give(address, id, Timestamp::default());
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

    /// Whether changes in it are told as they happen.
    pub(super) fn is_numbered(&self, id: NamespaceId) -> bool {
        self.namespaces.get(&id).is_some_and(|namespace| namespace.numbered)
    }

    /// Who keeps it for a Kubernetes pod. Nobody keeps the node's own.
    pub(super) fn keeper_mut(&mut self, id: NamespaceId) -> Option<&mut Keeper> {
        let is_own = self.capture == Some(id);
        self.namespaces.get_mut(&id).filter(|_| !is_own).map(|namespace| &mut namespace.keeper)
    }

    /// The same, to look at.
    pub(super) fn keeper(&self, id: NamespaceId) -> Option<&Keeper> {
        self.namespaces.get(&id).map(|namespace| &namespace.keeper)
    }

    /// The namespace that packets are captured in.
    pub(super) const fn capture(&self) -> Option<NamespaceId> {
        self.capture
    }

    /// What a source may be told `id` is.
    pub(super) fn key(&self, id: NamespaceId) -> Option<NamespaceKey> {
        self.namespaces.get(&id).map(|namespace| namespace.key)
    }

    /// What a source may be asked about `id` by, if it is there still.
    pub(super) fn key_while_there(&self, id: NamespaceId) -> Option<NamespaceKey> {
        self.namespaces.get(&id).filter(|namespace| namespace.ended.is_none()).map(|namespace| namespace.key)
    }

    /// The interface's name.
    pub(super) fn interface_name(&self, index: NonZeroU32) -> Option<&Arc<str>> {
        self.interfaces.get(&index.get()).map(|interface| &interface.name)
    }

    /// Whose sockets the interface leads to.
    pub(super) fn behind_interface(&self, index: NonZeroU32) -> Behind {
        let Some(interface) = self.interfaces.get(&index.get()) else { return Behind::NotKnown };
        match interface.kind {
            InterfaceKind::Loopback | InterfaceKind::VethHere => {
                self.capture.map_or(Behind::Anything, Behind::Own)
            }
            InterfaceKind::Veth(number) => {
                let namespace = number.and_then(|number| self.numbered(number));
                namespace.map_or(Behind::Hidden, Behind::Namespace)
            }
            InterfaceKind::Other => Behind::Anything,
        }
    }

    /// Whether `id` has the address then; every namespace has loopback's.
    pub(super) fn owns(&self, id: NamespaceId, address: IpAddr, at: Timestamp) -> bool {
        is_local_everywhere(address) || self.claims.has(id, address, at)
    }

    /// Where `address` is at that moment, for a socket in `from`.
    pub(super) fn place_seen_from(&self, from: NamespaceId, address: IpAddr, at: Timestamp) -> Place {
        if self.owns(from, address, at) { Place::Local(from) } else { self.place_of(address, at) }
    }

    /// Where `address` is at that moment, for a packet of which `behind` is the namespace that its interface leads to.
    pub(super) fn place_on_interface(
        &self,
        behind: Option<NamespaceId>,
        address: IpAddr,
        at: Timestamp,
    ) -> Place {
        match behind {
            Some(id) if self.owns(id, address, at) => Place::Local(id),
            // A loopback address on an interface that leads nowhere we know (ipvlan, a capture file).
            _ if is_local_everywhere(address) => self.capture.map_or(Place::Unknown, Place::Local),
            _ => self.place_of(address, at),
        }
    }

    fn place_of(&self, address: IpAddr, at: Timestamp) -> Place {
        match self.claims.having(address, at) {
            Having::One(only) => Place::Local(only),
            Having::Several => match self.capture {
                // An address of the capture's own namespace is reached there, whoever else has it too.
                Some(capture) if self.owns(capture, address, at) => Place::Local(capture),
                _ => Place::Ambiguous,
            },
            Having::Nobody if self.capture.is_some() => Place::Remote,
            Having::Nobody => Place::Unknown,
        }
    }

    /// Whether a socket at `here` in one namespace can be the other end of one at `there` in another.
    /// A wildcard address says nothing against it.
    pub(super) fn can_meet(
        &self,
        here: (NamespaceId, IpAddr),
        there: (NamespaceId, IpAddr),
        at: Timestamp,
    ) -> bool {
        let stays = |id, address: IpAddr| !address.is_unspecified() && self.owns(id, address, at);
        let local_only = here.1.is_loopback() || there.1.is_loopback();
        here.0 == there.0 || !(local_only || stays(here.0, there.1) || stays(there.0, here.1))
    }
}

/// Whether every namespace has this address for itself: loopback, and `::`/`0.0.0.0` as a destination,
/// which Linux treats as loopback (ip(7), IPV4 `INADDR_ANY`).
fn is_local_everywhere(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}
