//! Who listens where: the owner of a TCP connection nobody has accepted yet, and a hint which end of a
//! connection is the server.

use core::num::NonZeroU64;

use ahash::RandomState;
use alloc::vec::Vec;
use hashbrown::HashMap;

use super::namespace_table::NamespaceId;
use super::process_table::ProcessTable;
use crate::five_tuple::{Endpoint, Transport};
use crate::process::Process;

/// Most listening sockets on one port of one namespace that are told apart (SO_REUSEPORT groups).
const PER_PORT_MAX: usize = 256;
/// Most ports with listeners held at once.
const PORTS_MAX: usize = 65_536;

#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) local: Endpoint,
    pub(super) cookie: Option<NonZeroU64>,
    pub(super) holders: Vec<Process>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Port(NamespaceId, Transport, u16);

#[derive(Debug)]
pub(super) struct ListenerTable {
    by_port: HashMap<Port, Vec<Listener>, RandomState>,
    pub(super) dropped: u64,
}

impl ListenerTable {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self { by_port: HashMap::with_hasher(hasher), dropped: 0 }
    }

    /// Adds a listener, or replaces what was known of the same socket.
    pub(super) fn insert(&mut self, namespace: NamespaceId, transport: Transport, listener: Listener) {
        let port = Port(namespace, transport, listener.local.port);
        if self.by_port.len() >= PORTS_MAX && !self.by_port.contains_key(&port) {
            self.dropped += 1;
            return;
        }
        let group = self.by_port.entry(port).or_default();
        let room = group.len() < PER_PORT_MAX;
        match group.iter_mut().find(|known| known.is_same(&listener)) {
            Some(known) => *known = listener,
            None if room => group.push(listener),
            None => self.dropped += 1,
        }
    }

    /// Adds a listener unless that socket is known, perhaps with its holders.
    pub(super) fn insert_unknown(
        &mut self,
        namespace: NamespaceId,
        transport: Transport,
        listener: Listener,
    ) {
        let group = self.by_port.get(&Port(namespace, transport, listener.local.port));
        let is_known = group.is_some_and(|group| group.iter().any(|known| known.is_same(&listener)));
        if !is_known {
            self.insert(namespace, transport, listener);
        }
    }

    /// The socket no longer listens.
    pub(super) fn remove(
        &mut self,
        namespace: NamespaceId,
        transport: Transport,
        socket: (Endpoint, Option<NonZeroU64>),
    ) {
        let port = Port(namespace, transport, socket.0.port);
        let Some(group) = self.by_port.get_mut(&port) else { return };
        let ended = Listener { local: socket.0, cookie: socket.1, holders: Vec::new() };
        group.retain(|known| !known.is_same(&ended));
        if group.is_empty() {
            self.by_port.remove(&port);
        }
    }

    /// Whether anything listens where a connection to `local` would arrive.
    pub(super) fn listens(&self, namespace: NamespaceId, transport: Transport, local: Endpoint) -> bool {
        self.matching(namespace, transport, local).next().is_some()
    }

    /// Everybody who may accept a connection to `local`; `None` if that is not known for certain.
    pub(super) fn holders(
        &self,
        namespace: NamespaceId,
        transport: Transport,
        local: Endpoint,
        processes: &ProcessTable,
    ) -> Option<Vec<Process>> {
        let mut holders = Vec::new();
        for listener in self.matching(namespace, transport, local) {
            // A holder that has ended may have left the socket to children nobody has told of.
            if listener.holders.is_empty()
                || listener.holders.iter().any(|holder| processes.has_ended(holder.id))
            {
                return None;
            }
            holders.extend_from_slice(&listener.holders);
        }
        (!holders.is_empty()).then_some(holders)
    }

    /// An exact address beats a wildcard, as in the kernel's lookup (`compute_score`,
    /// <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/inet_hashtables.c>).
    fn matching(
        &self,
        namespace: NamespaceId,
        transport: Transport,
        local: Endpoint,
    ) -> impl Iterator<Item = &Listener> {
        let group =
            self.by_port.get(&Port(namespace, transport, local.port)).map(Vec::as_slice).unwrap_or_default();
        let exact = group.iter().any(|listener| listener.local.address == local.address);
        group.iter().filter(move |listener| {
            if exact { listener.local.address == local.address } else { listener.local.is_wildcard() }
        })
    }
}

impl Listener {
    fn is_same(&self, other: &Self) -> bool {
        match (self.cookie, other.cookie) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => self.local == other.local,
        }
    }
}
