//! An inventory ready for questions: sockets with their namespaces and holders at hand, and names for namespaces.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Arc, OnceLock};

use netsnoop_core::inventory::{
    Addresses, Holder, Inventory, ListedNamespace, ListedProcess, ListedSocket, SocketEnd, UnixPath,
};
use netsnoop_core::process::Container;

/// One look at the node.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) inventory: Inventory,
    /// For each namespace, the pod or container whose it is.
    tenants: Vec<Option<Arc<Container>>>,
    unix_by_inode: OnceLock<HashMap<NonZeroU64, usize>>,
}

impl Look {
    /// Gets it ready.
    pub(super) fn new(mut inventory: Inventory) -> Self {
        // What one process holds then stands together.
        inventory.sockets.iter_mut().for_each(|socket| socket.holders.sort_unstable());
        let tenants = tenants(&inventory);
        Self { inventory, tenants, unix_by_inode: OnceLock::new() }
    }

    /// All sockets.
    pub(super) fn sockets(&self) -> impl Iterator<Item = Seen<'_>> {
        self.inventory.sockets.iter().map(|socket| Seen { look: self, socket })
    }

    /// The container whose processes alone are in the namespace at `place`; of a pod's several, one of them.
    pub(super) fn tenant(&self, place: u32) -> Option<&Container> {
        self.tenants.get(place as usize)?.as_deref()
    }

    /// The namespace's own name, else that of the pod or container whose it is.
    pub(super) fn name_of(&self, place: u32) -> Option<Cow<'_, str>> {
        let namespace = self.inventory.namespaces.get(place as usize)?;
        if let Some(name) = namespace.name.as_deref() {
            return Some(Cow::Borrowed(name));
        }
        let tenant = self.tenant(place)?;
        match tenant.pod.as_deref() {
            Some(pod) => Some(match (pod.namespace.as_deref(), pod.name.as_deref()) {
                (Some(namespace), Some(name)) => Cow::Owned(format!("{namespace}/{name}")),
                _ => Cow::Owned(format!("pod:{}", pod.uid)),
            }),
            None => Some(Cow::Owned(container_name(tenant))),
        }
    }

    fn unix_socket(&self, inode: NonZeroU64) -> Option<Seen<'_>> {
        let by_inode = self.unix_by_inode.get_or_init(|| {
            let sockets = self.inventory.sockets.iter().enumerate();
            let unix = sockets.filter(|(_, socket)| matches!(socket.addresses, Addresses::Unix { .. }));
            unix.filter_map(|(place, socket)| Some((socket.inode?, place))).collect()
        });
        let socket = self.inventory.sockets.get(*by_inode.get(&inode)?)?;
        Some(Seen { look: self, socket })
    }
}

/// The runtime and the beginning of the id, as container tools show it.
fn container_name(container: &Container) -> String {
    let id: String = container.id.chars().take(12).collect();
    format!("{}:{id}", container.runtime.unwrap_or("container"))
}

/// A namespace belongs to a pod if every process in a container there is of that pod: the node's own has processes
/// of many, or of the node. Pods that share the node's namespace do not give it their name.
fn tenants(inventory: &Inventory) -> Vec<Option<Arc<Container>>> {
    enum Tenancy {
        Empty,
        One(Arc<Container>),
        Mixed,
    }
    let mut tenancies: Vec<Tenancy> = inventory.namespaces.iter().map(|_| Tenancy::Empty).collect();
    for listed in &inventory.processes {
        let Some(tenancy) = listed.namespace.and_then(|place| tenancies.get_mut(place as usize)) else {
            continue;
        };
        let next = match (&*tenancy, &listed.container) {
            (Tenancy::Empty, Some(container)) => Tenancy::One(container.clone()),
            (Tenancy::One(known), Some(container)) if live_together(known, container) => continue,
            _ => Tenancy::Mixed,
        };
        *tenancy = next;
    }
    let one = |tenancy| if let Tenancy::One(container) = tenancy { Some(container) } else { None };
    tenancies.into_iter().map(one).collect()
}

fn live_together(one: &Container, other: &Container) -> bool {
    match (&one.pod, &other.pod) {
        (Some(one), Some(other)) => one.uid == other.uid,
        _ => one.id == other.id,
    }
}

/// A socket, and the look that found it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    look: &'a Look,
    pub(super) socket: &'a ListedSocket,
}

impl<'a> Seen<'a> {
    /// Its namespace.
    pub(super) fn namespace(self) -> Option<&'a ListedNamespace> {
        self.look.inventory.namespaces.get(self.socket.namespace? as usize)
    }

    /// The name of its namespace.
    pub(super) fn namespace_name(self) -> Option<Cow<'a, str>> {
        self.look.name_of(self.socket.namespace?)
    }

    /// Every process that holds it, each once, and its descriptors.
    pub(super) fn holders(self) -> impl Iterator<Item = (&'a ListedProcess, &'a [Holder])> {
        let by_process = self.socket.holders.chunk_by(|one, other| one.process == other.process);
        by_process.filter_map(move |own| {
            let process = self.look.inventory.processes.get(own.first()?.process as usize)?;
            Some((process, own))
        })
    }

    /// The process that is named first.
    pub(super) fn first_holder(self) -> Option<&'a ListedProcess> {
        self.look.inventory.processes.get(self.socket.holders.first()?.process as usize)
    }

    /// The user: of all who hold it if they agree, else of who made it.
    pub(super) fn uid(self) -> Option<u32> {
        // Most have one holder.
        if let [_] = self.socket.holders.as_slice() {
            return self.first_holder().map(|listed| listed.process.uid).or(self.socket.uid);
        }
        let mut uids = self.holders().map(|(listed, _)| listed.process.uid);
        match uids.next() {
            Some(first) if uids.all(|uid| uid == first) => Some(first),
            _ => self.socket.uid,
        }
    }

    /// Both ends of an Internet socket; a peer it does not have is no end.
    pub(super) fn internet_ends(self) -> Option<(SocketEnd, Option<SocketEnd>)> {
        let Addresses::Internet { local, remote, .. } = self.socket.addresses else { return None };
        let has_peer = remote.port != 0 || !is_any(remote.address);
        Some((local, has_peer.then_some(remote)))
    }

    /// The path of a Unix socket, and that of its peer.
    pub(super) fn unix_paths(self) -> Option<(Option<&'a UnixPath>, Option<&'a UnixPath>)> {
        let Addresses::Unix { path, peer } = &self.socket.addresses else { return None };
        let peer = peer.and_then(|inode| self.look.unix_socket(inode));
        let peer_path = peer.and_then(|seen| match &seen.socket.addresses {
            Addresses::Unix { path, .. } => path.as_ref(),
            _ => None,
        });
        Some((path.as_ref(), peer_path))
    }

    /// The interface it is bound to, and its name if it is known.
    pub(super) fn interface(self) -> Option<(NonZeroU32, Option<&'a str>)> {
        let (Addresses::Internet { interface, .. } | Addresses::Packet { interface, .. }) =
            self.socket.addresses
        else {
            return None;
        };
        let index = interface?;
        let names = self.namespace().map(|namespace| namespace.interfaces.as_slice()).unwrap_or_default();
        Some((index, names.iter().find(|(known, _)| *known == index).map(|(_, name)| &**name)))
    }
}

/// Whether an address is none in particular.
pub(super) fn is_any(address: IpAddr) -> bool {
    address.to_canonical().is_unspecified()
}
