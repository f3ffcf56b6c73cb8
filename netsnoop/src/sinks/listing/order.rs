//! In which order sockets are shown: by the keys that were named, then by kind, namespace and addresses, so that two
//! looks at the same sockets show the same lines.

use std::cmp::Ordering;

use netsnoop_core::inventory::{Addresses, ProtocolGroup};

use super::look::Seen;
use crate::cli::{SortKey, SortOrder};

/// Compares two sockets.
pub(super) fn compare(one: Seen<'_>, other: Seen<'_>, sort: &[SortOrder]) -> Ordering {
    for order in sort {
        let found = by_key(one, other, order.key);
        let found = if order.descending { found.reverse() } else { found };
        if found.is_ne() {
            return found;
        }
    }
    let [of_one, of_other] = [one, other].map(|seen| (kind(seen), netns(seen)));
    of_one.cmp(&of_other).then_with(|| {
        by_local(one, other)
            .then_with(|| by_peer(one, other))
            .then_with(|| one.socket.state.cmp(&other.socket.state))
            .then_with(|| one.socket.inode.cmp(&other.socket.inode))
    })
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
        _ => Ordering::Equal,
    }
}

fn by_peer(one: Seen<'_>, other: Seen<'_>) -> Ordering {
    match (&one.socket.addresses, &other.socket.addresses) {
        (Addresses::Internet { remote: one, .. }, Addresses::Internet { remote: other, .. }) => {
            one.cmp(other)
        }
        (Addresses::Unix { peer: one, .. }, Addresses::Unix { peer: other, .. }) => one.cmp(other),
        (Addresses::Vsock { remote: one, .. }, Addresses::Vsock { remote: other, .. }) => one.cmp(other),
        _ => Ordering::Equal,
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
