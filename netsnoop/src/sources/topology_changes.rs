//! Follows the topology by the kernel's events: finds each namespace as it is given an id, before its first packet,
//! and tells what comes and goes in the order it happened.
//!
//! An event names a namespace by its id; the way to the namespace itself is a process that is in it or a mount of it,
//! which are looked through once for all that are new. Left out: the look at everything (`topology`).

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::Context;
use netsnoop_core::namespace::{NamespaceFacts, Topology, TopologyChange, TopologyReport};
use netsnoop_core::time::Timestamp;
use rustix::io::Errno;

use super::link_events::{LinkEvent, LinkEvents};
use super::namespace_index::NamespaceIndex;
use super::rtnetlink::RtNetlink;
use super::topology::{facts_of, interface_of};
use crate::clock;
use crate::counters::Counters;

/// Most events told at once; more are as good as lost, and everything is looked at.
const EVENTS_MAX: usize = 16_384;
/// After a search for namespaces the next one waits this many times as long as it took.
const REST_AFTER_SEARCH: u32 = 4;
/// How long after a search that did not find a namespace the first one more comes; each after that, twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// How often a namespace is searched for: a second in all. Then only a look at everything may find it.
const SEARCHES_MAX: u32 = 10;

/// A namespace that was given an id and is not found yet.
#[derive(Clone, Copy, Debug)]
struct Sought {
    /// When it had no id yet.
    since: Timestamp,
    searches: u32,
    next: Timestamp,
}

/// What has been heard, and what is known of ids.
pub(super) struct TopologyChanges {
    events: LinkEvents,
    netlink: RtNetlink,
    /// The inodes of the namespaces that were found, by id.
    found: HashMap<i32, u32>,
    sought: HashMap<i32, Sought>,
    search_from: Timestamp,
    until: Timestamp,
}

/// What became of the events that waited.
pub(super) enum Gathered {
    /// All are told.
    Report(TopologyReport),
    /// Some were lost: everything must be looked at.
    Lost,
}

impl TopologyChanges {
    /// Goes on from `events`, of which nothing was read yet. Call it at home.
    pub(super) fn new(events: LinkEvents) -> anyhow::Result<Self> {
        Ok(Self {
            events,
            netlink: RtNetlink::open()?,
            found: HashMap::new(),
            sought: HashMap::new(),
            search_from: Timestamp::default(),
            until: Timestamp::default(),
        })
    }

    /// What is readable when there is something to gather.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// How long until there is something to do without an event.
    pub(super) fn patience(&self, now: Timestamp) -> Option<Duration> {
        let next = self.sought.values().map(|sought| sought.next).min()?;
        Some(next.max(self.search_from).since(now))
    }

    /// Everything was looked at.
    pub(super) fn learn(&mut self, topology: &Topology) {
        let numbered = topology.namespaces.iter().filter_map(|facts| Some((facts.id?, facts.key.inode)));
        self.found = numbered.collect();
        self.sought.retain(|id, _| !self.found.contains_key(id));
    }

    /// Takes the events that wait, and looks for what they name.
    pub(super) fn gather(
        &mut self,
        index: &mut NamespaceIndex,
        counters: &Counters,
    ) -> anyhow::Result<Gathered> {
        let since = self.until;
        let mut heard = Vec::new();
        self.until = loop {
            let moment = clock::now();
            match self.events.read(counters, &mut heard) {
                Ok(()) if heard.len() >= EVENTS_MAX => return self.lose(counters),
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break moment,
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    Some(Errno::NOBUFS) => return self.lose(counters),
                    _ => return Err(error).context("read the events of interfaces"),
                },
            }
        };
        self.note_ids(&heard, index, since);
        let mut found = self.search(index, counters)?;
        let switched = self.switched(&heard);
        let mut changes = Vec::with_capacity(heard.len());
        // A namespace is found as it is by now; what is heard of it from its beginning on comes after.
        for (place, event) in heard.iter().enumerate() {
            match event {
                LinkEvent::Numbered(id) if !is_numbered_again(&heard[place + 1..], *id) => {
                    changes.extend(found.remove(id));
                }
                event => changes.extend(change_of(event)),
            }
        }
        let late: Vec<TopologyChange> = found.into_values().collect();
        changes.splice(0..0, late);
        for id in switched {
            let facts = self.found.get(&id).and_then(|inode| facts_of(index, *inode, counters));
            changes.extend(facts.map(|facts| found_as(facts, id, since)));
        }
        Ok(Gathered::Report(TopologyReport { since, until: self.until, changes }))
    }

    fn lose(&mut self, counters: &Counters) -> anyhow::Result<Gathered> {
        counters.link_event_overflows.add(1);
        self.sought.clear();
        // What still waits is older than the look at everything, and would take back what that tells.
        let mut stale = Vec::new();
        while !matches!(self.events.read(counters, &mut stale), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            && stale.len() < EVENTS_MAX
        {}
        self.until = clock::now();
        Ok(Gathered::Lost)
    }

    fn note_ids(&mut self, heard: &[LinkEvent], index: &mut NamespaceIndex, since: Timestamp) {
        for event in heard {
            match event {
                LinkEvent::Numbered(id) => {
                    self.found.remove(id);
                    self.sought.insert(*id, Sought { since, searches: 0, next: Timestamp::default() });
                }
                LinkEvent::Ended(id) => {
                    self.sought.remove(id);
                    if let Some(inode) = self.found.remove(id) {
                        index.forget_users(inode);
                    }
                }
                _ => {}
            }
        }
    }

    /// The namespaces whose addresses may have changed without an address's event: interfaces that go up or down take
    /// local addresses with them. Where others are not heard, that the own half of a veth has a carrier tells it.
    fn switched(&self, heard: &[LinkEvent]) -> Vec<i32> {
        let mut switched: Vec<i32> = heard
            .iter()
            .filter_map(|event| match event {
                LinkEvent::Switched(id) => Some(*id),
                LinkEvent::Link(link) if !self.events.hears_others && link.has_carrier => link.peer_namespace,
                _ => None,
            })
            .collect();
        switched.sort_unstable();
        switched.dedup();
        switched
    }

    /// Looks for the namespaces that are sought and due, all in one pass.
    fn search(
        &mut self,
        index: &mut NamespaceIndex,
        counters: &Counters,
    ) -> anyhow::Result<HashMap<i32, TopologyChange>> {
        let mut changes = HashMap::new();
        let began = clock::now();
        if began < self.search_from || !self.sought.values().any(|sought| sought.next <= began) {
            return Ok(changes);
        }
        index.refresh(counters, began)?;
        self.look_through(index, counters, &mut changes)?;
        if !self.sought.is_empty() {
            index.refresh_mounts(counters);
            self.look_through(index, counters, &mut changes)?;
        }
        let ended = clock::now();
        for sought in self.sought.values_mut() {
            sought.next = ended + FIRST_PAUSE * 2_u32.pow(sought.searches);
            sought.searches += 1;
        }
        self.sought.retain(|_, sought| sought.searches < SEARCHES_MAX);
        self.search_from = ended + ended.since(began) * REST_AFTER_SEARCH;
        Ok(changes)
    }

    fn look_through(
        &mut self,
        index: &mut NamespaceIndex,
        counters: &Counters,
        changes: &mut HashMap<i32, TopologyChange>,
    ) -> anyhow::Result<()> {
        let known: HashSet<u32> = self.found.values().copied().collect();
        for inode in index.namespaces().into_keys().filter(|inode| !known.contains(inode)) {
            let Ok(namespace) = index.open(inode) else { continue };
            let Some(id) = self.netlink.id_of(namespace.as_fd(), counters)? else { continue };
            drop(namespace);
            let Some(sought) = self.sought.get(&id) else { continue };
            if let Some(facts) = facts_of(index, inode, counters) {
                changes.insert(id, found_as(facts, id, sought.since));
                self.found.insert(id, inode);
                self.sought.remove(&id);
            }
        }
        Ok(())
    }
}

fn found_as(facts: NamespaceFacts, id: i32, since: Timestamp) -> TopologyChange {
    TopologyChange::Found { facts: NamespaceFacts { id: Some(id), ..facts }, since }
}

fn is_numbered_again(later: &[LinkEvent], id: i32) -> bool {
    later.iter().any(|event| matches!(event, LinkEvent::Numbered(other) if *other == id))
}

fn change_of(event: &LinkEvent) -> Option<TopologyChange> {
    match event {
        LinkEvent::Numbered(_) | LinkEvent::Switched(_) => None,
        LinkEvent::Ended(id) => Some(TopologyChange::Ended(*id)),
        LinkEvent::Given(namespace, address) => Some(TopologyChange::Given(*namespace, *address)),
        LinkEvent::Taken(namespace, address) => Some(TopologyChange::Taken(*namespace, *address)),
        LinkEvent::Link(link) => Some(TopologyChange::Interface(interface_of(link.clone()))),
        LinkEvent::LinkGone(index) => Some(TopologyChange::InterfaceGone(*index)),
    }
}
