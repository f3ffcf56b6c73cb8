//! In which order sockets are shown: by the keys that were named, then by kind, namespace and addresses, so that two
//! looks at the same sockets show the same lines.

use std::cmp::Ordering;
use std::net::IpAddr;

use netsnoop_core::inventory::{Addresses, ProtocolGroup, SocketEnd};

use super::difference::Change;
use super::look::Seen;
use crate::cli::{SortKey, SortOrder};

/// A socket that is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) seen: Seen<'a>,
    pub(super) change: Change,
    /// A number that stands for the beginning of what it is compared by: most rows are told apart without a look at the
    /// sockets.
    prefix: u128,
}

impl<'a> Row<'a> {
    /// Of a socket.
    pub(super) fn new(seen: Seen<'a>, change: Change) -> Self {
        Self { seen, change, prefix: prefix(seen) }
    }
}

/// Brings rows into order.
pub(super) fn sort(rows: &mut [Row<'_>], keys: &[SortOrder]) {
    rows.sort_unstable_by(|one, other| {
        let by_keys = || keys.iter().map(|order| by_order(one.seen, other.seen, *order));
        let by_rest = || one.prefix.cmp(&other.prefix).then_with(|| compare(one.seen, other.seen));
        by_keys().find(|found| found.is_ne()).unwrap_or_else(by_rest)
    });
}

/// A socket that [`compare`] puts after another never has a lesser one.
fn prefix(seen: Seen<'_>) -> u128 {
    // Of longer addresses the first half of 64 bits; the port comes after the rest and is left to the comparison.
    let (is_ipv6, end) = match seen.socket.addresses {
        Addresses::Internet { local: SocketEnd { address: IpAddr::V4(address), port }, .. } => {
            (0, (u64::from(u32::from(address)) << 16) | u64::from(port))
        }
        Addresses::Internet { local: SocketEnd { address: IpAddr::V6(address), .. }, .. } => {
            (1, (address.to_bits() >> 64) as u64)
        }
        _ => (0, 0),
    };
    let namespace = netns(seen).map_or(0, |inode| u64::from(inode) + 1);
    [(8, kind(seen) as u64), (33, namespace), (3, family(seen)), (1, is_ipv6), (64, end)]
        .into_iter()
        .fold(0, |prefix, (bits, part)| (prefix << bits) | u128::from(part))
}

/// Compares two sockets where no key tells them apart.
fn compare(one: Seen<'_>, other: Seen<'_>) -> Ordering {
    let [of_one, of_other] = [one, other].map(|seen| (kind(seen), netns(seen)));
    of_one.cmp(&of_other).then_with(|| {
        by_local(one, other)
            .then_with(|| by_peer(one, other))
            .then_with(|| one.socket.state.cmp(&other.socket.state))
            .then_with(|| one.socket.inode.cmp(&other.socket.inode))
    })
}

fn by_order(one: Seen<'_>, other: Seen<'_>, order: SortOrder) -> Ordering {
    let found = by_key(one, other, order.key);
    if order.descending { found.reverse() } else { found }
}

/// What has an address on a network comes first: it is what most people look for.
const fn kind(seen: Seen<'_>) -> ProtocolGroup {
    seen.socket.protocol.group()
}

fn netns(seen: Seen<'_>) -> Option<u32> {
    seen.namespace().map(|namespace| namespace.key.inode)
}

fn by_key(one: Seen<'_>, other: Seen<'_>, key: SortKey) -> Ordering {
    let by = |of: &dyn Fn(Seen<'_>) -> Option<u64>| of(one).cmp(&of(other));
    match key {
        SortKey::Netid => one.socket.protocol.cmp(&other.socket.protocol),
        SortKey::State => one.socket.state.cmp(&other.socket.state),
        SortKey::RecvQ => one.socket.receive_queue.cmp(&other.socket.receive_queue),
        SortKey::SendQ => one.socket.send_queue.cmp(&other.socket.send_queue),
        SortKey::Local => by_local(one, other),
        SortKey::Peer => by_peer(one, other),
        SortKey::Port => by(&|seen| seen.internet_ends().map(|(local, _)| local.port.into())),
        SortKey::User => by(&|seen| seen.uid().map(u64::from)),
        SortKey::Netns => by(&|seen| netns(seen).map(u64::from)),
        SortKey::Container => container(one).cmp(&container(other)),
        SortKey::Process => name(one).cmp(&name(other)),
        SortKey::Pid => by(&|seen| seen.first_holder().map(|holder| holder.process.id.pid.into())),
    }
}

fn by_local(one: Seen<'_>, other: Seen<'_>) -> Ordering {
    match (&one.socket.addresses, &other.socket.addresses) {
        (Addresses::Internet { local: one, .. }, Addresses::Internet { local: other, .. }) => one.cmp(other),
        (Addresses::Unix { path: one, .. }, Addresses::Unix { path: other, .. }) => one.cmp(other),
        (Addresses::Vsock { local: one, .. }, Addresses::Vsock { local: other, .. }) => one.cmp(other),
        (Addresses::Netlink { port_id: one }, Addresses::Netlink { port_id: other }) => one.cmp(other),
        (Addresses::Packet { protocol: one, .. }, Addresses::Packet { protocol: other, .. }) => {
            one.cmp(other)
        }
        _ => family(one).cmp(&family(other)),
    }
}

/// Which kind of addresses: of one family, all are compared with each other.
fn family(seen: Seen<'_>) -> u64 {
    match seen.socket.addresses {
        Addresses::Internet { .. } => 0,
        Addresses::Unix { .. } => 1,
        Addresses::Packet { .. } => 2,
        Addresses::Netlink { .. } => 3,
        Addresses::Vsock { .. } => 4,
        Addresses::Unknown => 5,
    }
}

fn by_peer(one: Seen<'_>, other: Seen<'_>) -> Ordering {
    match (&one.socket.addresses, &other.socket.addresses) {
        (Addresses::Internet { remote: one, .. }, Addresses::Internet { remote: other, .. }) => {
            one.cmp(other)
        }
        (Addresses::Unix { peer: one, .. }, Addresses::Unix { peer: other, .. }) => one.cmp(other),
        (Addresses::Vsock { remote: one, .. }, Addresses::Vsock { remote: other, .. }) => one.cmp(other),
        _ => family(one).cmp(&family(other)),
    }
}

/// Pods by their names, other containers by their ids.
fn container(seen: Seen<'_>) -> Option<(Option<&str>, Option<&str>, &str)> {
    let container = seen.first_holder()?.container.as_deref()?;
    let pod = container.pod.as_deref();
    let namespace = pod.and_then(|pod| pod.namespace.as_deref());
    Some((namespace, pod.and_then(|pod| pod.name.as_deref()), &container.id))
}

fn name(seen: Seen<'_>) -> Option<&[u8]> {
    seen.first_holder().map(|holder| holder.process.name.as_bytes())
}
