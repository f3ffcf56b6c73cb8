//! How the table follows the node: by a whole topology, or by what has changed since.

use core::net::IpAddr;
use core::time::Duration;

use ahash::RandomState;
use alloc::vec::Vec;
use hashbrown::HashSet;

use super::{Namespace, NamespaceId, NamespaceTable, is_local_everywhere};
use crate::namespace::{NamespaceFacts, Topology, TopologyChange, TopologyReport};
use crate::time::Timestamp;

/// For how long packets and kernel events may still come from a namespace that has ended.
const LATE: Duration = Duration::from_secs(10);

impl NamespaceTable {
    /// Takes a whole new topology: namespaces that one listed before and this one misses have ended.
    /// Those that only an event has named stay, as they may be younger than the topology.
    pub(in crate::reconcile) fn replace(&mut self, now: Timestamp, topology: Topology) {
        let mut present: HashSet<NamespaceId, RandomState> = HashSet::with_hasher(self.hasher.clone());
        self.by_number.clear();
        for facts in topology.namespaces {
            present.insert(self.learn(facts, (self.whole_at, now)));
        }
        let missing = |(id, namespace): (&NamespaceId, &Namespace)| {
            (namespace.listed && namespace.ended.is_none() && !present.contains(id)).then_some(*id)
        };
        let ended: Vec<NamespaceId> = self.namespaces.iter().filter_map(missing).collect();
        for id in ended {
            self.end(id, now);
        }
        self.capture = Some(self.resolve(topology.capture_namespace));
        self.interfaces.clear();
        self.interfaces.extend(topology.interfaces.into_iter().map(|interface| (interface.index, interface)));
        self.whole_at = topology.began;
        self.told_until = self.told_until.max(topology.began);
        self.generation += 1;
        let then = now - LATE;
        self.forget_where(|namespace| namespace.ended.is_some_and(|ended| ended < then));
        self.claims.forget_ended(then);
    }

    /// Takes what has changed.
    pub(in crate::reconcile) fn change(&mut self, report: TopologyReport) {
        let (since, until) = (report.since, report.until);
        self.told_until = self.told_until.max(until);
        self.generation += u64::from(!report.changes.is_empty());
        for change in report.changes {
            match change {
                TopologyChange::Found { facts, since } => {
                    self.learn(facts, (since, until));
                }
                TopologyChange::Ended(number) => {
                    if let Some(id) = self.by_number.remove(&number) {
                        self.end(id, until);
                    }
                }
                TopologyChange::Given(number, address) => self.give(self.told_by(number), address, since),
                TopologyChange::Taken(number, address) => self.take(self.told_by(number), address, until),
                TopologyChange::Interface(interface) => {
                    self.interfaces.insert(interface.index, interface);
                }
                TopologyChange::InterfaceGone(index) => {
                    self.interfaces.remove(&index);
                }
            }
        }
    }

    fn told_by(&self, number: Option<i32>) -> Option<NamespaceId> {
        number.map_or(self.capture, |number| self.numbered(number))
    }

    /// What a look at a namespace told. Addresses that are new it may have got since `from`, others it had until
    /// `until` at most.
    fn learn(&mut self, facts: NamespaceFacts, (from, until): (Timestamp, Timestamp)) -> NamespaceId {
        let known = self.resolve(facts.key);
        // Without a cookie only its end tells that an inode is another namespace's now.
        let has_ended = self.namespaces.get(&known).is_some_and(|namespace| namespace.ended.is_some());
        let id = if has_ended { self.insert(facts.key) } else { known };
        self.by_number.extend(facts.id.map(|number| (number, id)));
        let Some(namespace) = self.namespaces.get_mut(&id) else { return id };
        namespace.listed = true;
        namespace.numbered |= facts.id.is_some();
        let mut now = HashSet::with_hasher(self.hasher.clone());
        now.extend(facts.addresses.into_iter().filter(|address| !is_local_everywhere(*address)));
        let before = namespace
            .addresses
            .replace(now.clone())
            .unwrap_or_else(|| HashSet::with_hasher(self.hasher.clone()));
        for address in before.difference(&now) {
            self.claims.take(*address, id, until);
        }
        for address in now {
            self.claims.give(address, id, from);
        }
        id
    }

    fn give(&mut self, id: Option<NamespaceId>, address: IpAddr, from: Timestamp) {
        let Some(id) = id else { return };
        let addresses = self.namespaces.get_mut(&id).and_then(|namespace| namespace.addresses.as_mut());
        if let Some(addresses) = addresses.filter(|_| !is_local_everywhere(address)) {
            addresses.insert(address);
            self.claims.give(address, id, from);
        }
    }

    fn take(&mut self, id: Option<NamespaceId>, address: IpAddr, until: Timestamp) {
        let Some(id) = id else { return };
        let addresses = self.namespaces.get_mut(&id).and_then(|namespace| namespace.addresses.as_mut());
        if let Some(addresses) = addresses {
            addresses.remove(&address);
            self.claims.take(address, id, until);
        }
    }

    /// It is remembered for a while, as what was seen of it before may come late.
    fn end(&mut self, id: NamespaceId, at: Timestamp) {
        let Some(namespace) = self.namespaces.get_mut(&id) else { return };
        namespace.ended = Some(at);
        for address in namespace.addresses.iter().flatten() {
            self.claims.take(*address, id, at);
        }
    }
}
