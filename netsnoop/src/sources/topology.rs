//! Which namespaces, addresses and interfaces this node has.
//!
//! Left out: what the reconciler makes of them. The capture's namespace is the agent's own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Context;
use netsnoop_core::namespace::{Interface, InterfaceKind, NamespaceFacts, NamespaceKey, Topology};
use netsnoop_core::proc_text::{fib_trie, if_inet6};
use rustix::io::Errno;

use super::namespace_index::{NamespaceIndex, NetFiles};
use super::netns::on_own_thread;
use super::proc_fs::count_unreadable;
use super::rtnetlink::{Link, RtNetlink};
use crate::clock;
use crate::counters::Counters;

/// Looks once. The caller's thread stays in its namespace.
pub fn read(proc_root: &Path, counters: &Counters) -> anyhow::Result<Topology> {
    on_own_thread(|visitor| read_with(&mut NamespaceIndex::new(proc_root, visitor)?, counters))
}

/// Looks once, from the thread that `index` belongs to.
pub(super) fn read_with(index: &mut NamespaceIndex, counters: &Counters) -> anyhow::Result<Topology> {
    index.refresh(counters, clock::now())?;
    let mut namespaces = Vec::new();
    let mut text = Vec::new();
    for inode in index.namespaces().into_keys() {
        let name = index.name_of(inode);
        let read = |key, files: NetFiles<'_>| (key, addresses(&files, &mut text, counters));
        match index.enter(inode, read) {
            Ok((key, addresses)) => namespaces.push(NamespaceFacts { key, addresses, name, id: None }),
            Err(error) => {
                count_unreadable(counters, Errno::from(error));
            }
        }
    }
    let home = index.home_inode();
    let mut keys = namespaces.iter().map(|facts| facts.key);
    let capture_namespace =
        keys.find(|key| key.inode == home).context("read the own network namespace's addresses")?;
    let interfaces = interfaces(index, capture_namespace, &mut namespaces, counters)?;
    Ok(Topology { capture_namespace, interfaces, namespaces })
}

fn addresses(files: &NetFiles<'_>, text: &mut Vec<u8>, counters: &Counters) -> Vec<IpAddr> {
    let mut found = Vec::new();
    match files.read("fib_trie", text) {
        Ok(()) => found.extend(fib_trie::local_addresses(text).into_iter().map(IpAddr::V4)),
        Err(error) => {
            count_unreadable(counters, error);
        }
    }
    match files.read("if_inet6", text) {
        Ok(()) => {
            let mut rows = if_inet6::addresses(text);
            found.extend(rows.by_ref().map(IpAddr::V6));
            counters.proc_lines_rejected.add(rows.rejected());
        }
        // A kernel without IPv6.
        Err(Errno::NOENT) => {}
        Err(error) => {
            count_unreadable(counters, error);
        }
    }
    found
}

fn interfaces(
    index: &mut NamespaceIndex,
    own: NamespaceKey,
    namespaces: &mut [NamespaceFacts],
    counters: &Counters,
) -> anyhow::Result<Vec<Interface>> {
    let opened = index.enter(own.inode, |_, _| RtNetlink::open());
    let mut netlink = opened.map_err(Errno::from).context("enter the own network namespace")??;
    let links = netlink.links(counters)?;
    let mut by_id: HashMap<i32, NamespaceKey> = HashMap::new();
    if links.iter().any(|link| link.peer_namespace.is_some()) {
        for facts in namespaces {
            let Ok(namespace) = index.open(facts.key.inode) else { continue };
            facts.id = netlink.id_of(namespace.as_fd(), counters)?;
            by_id.extend(facts.id.map(|id| (id, facts.key)));
        }
    }
    let interface =
        |link: Link| Interface { kind: kind_of(&link, own, &by_id), index: link.index, name: link.name };
    Ok(links.into_iter().map(interface).collect())
}

/// Of a veth whose other half is in a namespace that cannot be found nothing is known.
fn kind_of(link: &Link, own: NamespaceKey, by_id: &HashMap<i32, NamespaceKey>) -> InterfaceKind {
    if link.is_loopback {
        return InterfaceKind::Loopback;
    }
    let peer = match link.peer_namespace {
        _ if !link.is_veth => None,
        None => Some(&own),
        Some(id) => by_id.get(&id),
    };
    peer.map_or(InterfaceKind::Other, |key| InterfaceKind::VethPeer(*key))
}
