//! Which namespaces, addresses and interfaces this node has.
//!
//! Left out: what the reconciler makes of them. The capture's namespace is the agent's own.

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
use crate::scans::Scan;

/// Looks once. The caller's thread stays in its namespace.
pub fn read(proc_root: &Path, counters: &Counters) -> anyhow::Result<Topology> {
    on_own_thread(|visitor| read_with(&mut NamespaceIndex::new(proc_root, visitor)?, counters))
}

/// Looks once, from the thread that `index` belongs to.
pub(super) fn read_with(index: &mut NamespaceIndex, counters: &Counters) -> anyhow::Result<Topology> {
    let _timing = counters.scans.begin(Scan::Topology);
    let began = clock::now();
    index.refresh(counters, began)?;
    let mut namespaces: Vec<NamespaceFacts> =
        index.namespaces().into_keys().filter_map(|inode| facts_of(index, inode, counters)).collect();
    let home = index.home_inode();
    let mut keys = namespaces.iter().map(|facts| facts.key);
    let capture_namespace =
        keys.find(|key| key.inode == home).context("read the own network namespace's addresses")?;
    let interfaces = interfaces(index, capture_namespace, &mut namespaces, counters)?;
    Ok(Topology { began, capture_namespace, interfaces, namespaces })
}

/// What is to be known of a namespace, its id left out; `None`, counted, if it cannot be read.
pub(super) fn facts_of(
    index: &mut NamespaceIndex,
    inode: u32,
    counters: &Counters,
) -> Option<NamespaceFacts> {
    let name = index.name_of(inode);
    match index.enter(inode, |key, files: NetFiles<'_>| (key, addresses(&files, counters))) {
        Ok((key, addresses)) => Some(NamespaceFacts { key, addresses, name, id: None }),
        Err(error) => {
            count_unreadable(counters, Errno::from(error));
            None
        }
    }
}

fn addresses(files: &NetFiles<'_>, counters: &Counters) -> Vec<IpAddr> {
    let mut text = Vec::new();
    let mut found = Vec::new();
    match files.read("fib_trie", &mut text) {
        Ok(()) => found.extend(fib_trie::local_addresses(&text).into_iter().map(IpAddr::V4)),
        Err(error) => {
            count_unreadable(counters, error);
        }
    }
    match files.read("if_inet6", &mut text) {
        Ok(()) => {
            let mut rows = if_inet6::addresses(&text);
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
    if links.iter().any(|link| link.peer_namespace.is_some()) {
        for facts in namespaces {
            let Ok(namespace) = index.open(facts.key.inode) else { continue };
            facts.id = netlink.id_of(namespace.as_fd(), counters)?;
        }
    }
    Ok(links.into_iter().map(interface_of).collect())
}

/// An interface as the reconciler knows it.
pub(super) fn interface_of(link: Link) -> Interface {
    let kind = match link.peer_namespace {
        _ if link.is_loopback => InterfaceKind::Loopback,
        _ if !link.is_veth => InterfaceKind::Other,
        None if link.has_peer => InterfaceKind::VethHere,
        id => InterfaceKind::Veth(id),
    };
    Interface { kind, index: link.index, name: link.name }
}
