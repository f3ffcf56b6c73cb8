//! Which pod or service of the cluster has had an address when. Bounded.
//!
//! An address that two have at a time is nobody's. What is gone is remembered for connections that began before, the longest
//! gone is forgotten first.

use core::net::IpAddr;

use ahash::RandomState;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::cluster::{ClusterChange, ClusterKind, ClusterName, ClusterNames, ClusterObject, ClusterService};
use crate::process::Pod;
use crate::time::Timestamp;

/// That an address was somebody's.
#[derive(Clone, Debug)]
struct Claim {
    uid: Arc<str>,
    from: Timestamp,
    until: Option<Timestamp>,
    name: ClusterName,
}

impl Claim {
    fn holds(&self, at: Timestamp) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }
}

/// One that there is.
#[derive(Debug)]
struct Known {
    addresses: Vec<IpAddr>,
    kind: ClusterKind,
    /// The list it was last told in.
    list: u64,
}

#[derive(Debug)]
pub(super) struct ClusterTable {
    claims: HashMap<IpAddr, SmallVec<[Claim; 1]>, RandomState>,
    known: HashMap<Arc<str>, Known, RandomState>,
    /// Claims that have ended, the longest ago first.
    ended: VecDeque<(IpAddr, Arc<str>)>,
    /// How many claims there are.
    held: usize,
    capacity: usize,
    /// Count lists of each kind.
    pod_lists: u64,
    service_lists: u64,
    /// Claims that found no room, or were forgotten for others.
    pub(super) evicted: u64,
}

impl ClusterTable {
    pub(super) fn new(hasher: RandomState, capacity: usize) -> Self {
        Self {
            claims: HashMap::with_hasher(hasher.clone()),
            known: HashMap::with_hasher(hasher),
            ended: VecDeque::new(),
            held: 0,
            capacity,
            pod_lists: 0,
            service_lists: 0,
            evicted: 0,
        }
    }

    pub(super) fn learn(&mut self, now: Timestamp, change: ClusterChange) {
        match change {
            ClusterChange::ListBegins(ClusterKind::Pods) => self.pod_lists += 1,
            ClusterChange::ListBegins(ClusterKind::Services) => self.service_lists += 1,
            ClusterChange::Is(object) => self.learn_object(now, object),
            ClusterChange::Gone(uid) => self.end(now, &uid),
            ClusterChange::ListEnds(kind) => {
                let list = self.list(kind);
                let untold = self.known.iter().filter(|(_, known)| known.kind == kind && known.list < list);
                for uid in untold.map(|(uid, _)| uid.clone()).collect::<Vec<_>>() {
                    self.end(now, &uid);
                }
            }
        }
    }

    fn learn_object(&mut self, now: Timestamp, object: ClusterObject) {
        let list = self.list(object.name.kind());
        if let Some(known) = self.known.get_mut(&object.uid)
            && known.addresses == object.addresses
        {
            known.list = list;
            self.rename(&object);
            return;
        }
        self.end(now, &object.uid);
        let ClusterObject { uid, since, mut addresses, name } = object;
        let from = since.map_or(now, |since| since.min(now));
        addresses
            .retain(|address| self.has_room().then(|| self.claim(*address, &uid, from, &name)).is_some());
        if !addresses.is_empty() {
            self.known.insert(uid, Known { addresses, kind: name.kind(), list });
        }
    }

    const fn list(&self, kind: ClusterKind) -> u64 {
        match kind {
            ClusterKind::Pods => self.pod_lists,
            ClusterKind::Services => self.service_lists,
        }
    }

    /// Labels may change.
    fn rename(&mut self, object: &ClusterObject) {
        for address in &object.addresses {
            let claims = self.claims.get_mut(address).into_iter().flatten();
            let mut own = claims.filter(|claim| claim.until.is_none() && claim.uid == object.uid);
            if let Some(claim) = own.next().filter(|claim| claim.name != object.name) {
                claim.name = object.name.clone();
            }
        }
    }

    fn has_room(&mut self) -> bool {
        if self.held < self.capacity {
            return true;
        }
        self.evicted += 1;
        let Some((address, uid)) = self.ended.pop_front() else { return false };
        if let Some(claims) = self.claims.get_mut(&address)
            && let Some(place) = claims.iter().position(|claim| claim.until.is_some() && claim.uid == uid)
        {
            claims.remove(place);
            self.held -= 1;
            if claims.is_empty() {
                self.claims.remove(&address);
            }
        }
        true
    }

    fn claim(&mut self, address: IpAddr, uid: &Arc<str>, from: Timestamp, name: &ClusterName) {
        let claim = Claim { uid: uid.clone(), from, until: None, name: name.clone() };
        self.claims.entry(address).or_default().push(claim);
        self.held += 1;
    }

    fn end(&mut self, now: Timestamp, uid: &Arc<str>) {
        for address in self.known.remove(uid).into_iter().flat_map(|known| known.addresses) {
            let claims = self.claims.get_mut(&address).into_iter().flatten();
            for claim in claims.filter(|claim| claim.until.is_none() && claim.uid == *uid) {
                claim.until = Some(now);
                self.ended.push_back((address, uid.clone()));
            }
        }
    }

    /// Who had this address at that time, if it was one alone.
    fn find(&self, address: IpAddr, at: Timestamp) -> Option<&ClusterName> {
        let mut holding = self.claims.get(&address)?.iter().filter(|claim| claim.holds(at));
        let first = holding.next()?;
        // One that was lost sight of for a while has two claims.
        holding.all(|other| other.uid == first.uid).then_some(&first.name)
    }

    fn pod(&self, address: IpAddr, at: Timestamp) -> Option<Arc<Pod>> {
        match self.find(address, at)? {
            ClusterName::Pod(pod) => Some(pod.clone()),
            ClusterName::Service(_) => None,
        }
    }

    fn service(&self, address: IpAddr, at: Timestamp) -> Option<Arc<ClusterService>> {
        match self.find(address, at)? {
            ClusterName::Service(service) => Some(service.clone()),
            ClusterName::Pod(_) => None,
        }
    }

    /// What an end is called that has the address `own`, if it is on another node, and that was asked for as `asked`, if it
    /// is the server.
    pub(super) fn names(
        &self,
        own: Option<IpAddr>,
        asked: Option<IpAddr>,
        at: Timestamp,
    ) -> Option<ClusterNames> {
        if self.claims.is_empty() {
            return None;
        }
        let names = ClusterNames {
            pod: own.and_then(|address| self.pod(address, at)),
            service: asked.and_then(|address| self.service(address, at)),
        };
        (names != ClusterNames::default()).then_some(names)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    const POD: &str = "198.18.9.1";

    fn at(second: u64) -> Timestamp {
        Timestamp::from_nanos(0) + Duration::from_secs(second)
    }

    fn pod(name: &str, address: &str, since: Option<u64>) -> ClusterChange {
        let pod = Pod { uid: name.into(), name: Some(name.into()), ..Pod::default() };
        ClusterChange::Is(ClusterObject {
            uid: name.into(),
            since: since.map(at),
            addresses: address.split_whitespace().map(|address| address.parse().unwrap()).collect(),
            name: ClusterName::Pod(Arc::new(pod)),
        })
    }

    fn gone(name: &str) -> ClusterChange {
        ClusterChange::Gone(name.into())
    }

    /// What is told at each second from 10 on, and who had the address at some seconds.
    fn check(told: &[ClusterChange], expected: &[(u64, Option<&str>)]) -> ClusterTable {
        let mut table = ClusterTable::new(RandomState::with_seeds(1, 2, 3, 4), 4);
        for (second, change) in (10..).zip(told) {
            table.learn(at(second), change.clone());
        }
        for (second, name) in expected {
            let names = table.names(Some(POD.parse().unwrap()), None, at(*second));
            let found = names.and_then(|names| names.pod).and_then(|pod| pod.name.clone());
            assert_eq!(found.as_deref(), *name, "at {second} after {told:?}");
        }
        let held = table.claims.values().map(SmallVec::len).sum::<usize>();
        assert_eq!(table.held, held);
        table
    }

    #[test]
    fn a_name_holds_from_when_it_is_known_to_until_the_pod_is_gone() {
        check(&[pod("a", POD, None)], &[(9, None), (10, Some("a")), (99, Some("a"))]);
        check(
            &[pod("a", POD, Some(5)), gone("a")],
            &[(4, None), (5, Some("a")), (10, Some("a")), (11, None)],
        );
        // Reused, and told of again with another address.
        let reused = [pod("a", POD, None), gone("a"), pod("b", POD, None), pod("b", "198.18.9.2", None)];
        check(&reused, &[(10, Some("a")), (11, None), (12, Some("b")), (13, None)]);
        // A stamp from the future is that of another clock.
        check(&[pod("a", POD, Some(50))], &[(9, None), (10, Some("a"))]);
    }

    #[test]
    fn an_address_that_two_have_is_nobodys() {
        let two = [pod("a", POD, None), pod("b", POD, None), gone("a")];
        check(&two, &[(10, Some("a")), (11, None), (12, Some("b"))]);
    }

    #[test]
    fn what_a_list_leaves_out_is_gone() {
        let (begins, ends) = (ClusterChange::ListBegins, ClusterChange::ListEnds);
        let told = |second| {
            [
                begins(ClusterKind::Pods),
                pod("a", POD, None),
                ends(ClusterKind::Pods),
                begins(ClusterKind::Pods),
                second,
                ends(ClusterKind::Pods),
            ]
        };
        check(&told(pod("a", POD, None)), &[(11, Some("a")), (99, Some("a"))]);
        check(&told(pod("b", "198.18.9.2", None)), &[(14, Some("a")), (15, None)]);
        // Services are listed apart.
        let services = [pod("a", POD, None), begins(ClusterKind::Services), ends(ClusterKind::Services)];
        check(&services, &[(99, Some("a"))]);
        // Lost sight of, and known to have been there all the while.
        let again =
            [pod("a", POD, None), begins(ClusterKind::Pods), ends(ClusterKind::Pods), pod("a", POD, Some(5))];
        check(&again, &[(4, None), (11, Some("a")), (99, Some("a"))]);
    }

    #[test]
    fn the_longest_gone_are_forgotten_first_and_what_finds_no_room_is_counted() {
        let others = "198.18.9.2 198.18.9.3 198.18.9.4";
        let table = check(
            &[pod("a", POD, None), gone("a"), pod("b", others, None), pod("c", POD, None)],
            &[(10, None), (13, Some("c"))],
        );
        assert_eq!(table.evicted, 1);
        let table = check(&[pod("b", others, None), pod("c", "198.18.9.5 198.18.9.1", None)], &[(11, None)]);
        assert_eq!(table.evicted, 1);
    }
}
