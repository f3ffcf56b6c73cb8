//! Which connections may be called by a name, in time that does not grow with how many there are.
//!
//! A socket that is bound to no address has a wildcard in its name, where its packets have an address. So a name is
//! held under as many keys as there are ways to ask for it. Left out: whether a connection found is meant.

use ahash::RandomState;
use alloc::collections::BTreeSet;
use core::hash::Hash;

use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::five_tuple::{Endpoint, FiveTuple, Transport};

/// What a name is held under.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    /// Few connections share it.
    Rare(u32),
    /// All peers of a socket may share it.
    Crowded(u32),
}

/// A place in the table. The hash is kept so that it can grow without asking the connections: half of one, as there are three
/// of these a connection, and one that is found for nothing is seen not to be meant.
#[derive(Clone, Copy, Debug)]
struct Posting {
    hash: u32,
    slot: u32,
}

#[derive(Debug)]
pub(super) struct FlowIndex {
    rare: HashTable<Posting>,
    /// A table would walk past all that share a key to find one of them.
    crowded: BTreeSet<(u32, u32)>,
    /// How many of TCP's names have a wildcard. Mostly none: then none is asked for.
    wild_tcp: usize,
    hasher: RandomState,
}

impl FlowIndex {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self { rare: HashTable::new(), crowded: BTreeSet::new(), wild_tcp: 0, hasher }
    }

    /// Has the connection at `slot` found by its names.
    pub(super) fn post(&mut self, slot: u32, names: impl Iterator<Item = FiveTuple>) {
        let (keys, wild_tcp) = self.keys(names);
        self.wild_tcp += wild_tcp;
        for key in keys {
            match key {
                Key::Rare(hash) => {
                    self.rare
                        .insert_unique(spread(hash), Posting { hash, slot }, |posting| spread(posting.hash));
                }
                Key::Crowded(hash) => {
                    self.crowded.insert((hash, slot));
                }
            }
        }
    }

    /// Undoes [`Self::post`].
    pub(super) fn unpost(&mut self, slot: u32, names: impl Iterator<Item = FiveTuple>) {
        let (keys, wild_tcp) = self.keys(names);
        self.wild_tcp -= wild_tcp;
        for key in keys {
            match key {
                Key::Rare(hash) => {
                    let is_it = |posting: &Posting| posting.slot == slot && posting.hash == hash;
                    if let Ok(entry) = self.rare.find_entry(spread(hash), is_it) {
                        entry.remove();
                    }
                }
                Key::Crowded(hash) => {
                    self.crowded.remove(&(hash, slot));
                }
            }
        }
    }

    /// Slots of all connections that have a name which agrees with `tuple`, and perhaps of others. One may come
    /// several times.
    pub(super) fn candidates(&self, tuple: FiveTuple) -> SmallVec<[u32; 8]> {
        let mut slots = SmallVec::new();
        for key in self.asked(tuple).into_iter().flatten() {
            match key {
                Key::Rare(hash) => {
                    let postings = self.rare.iter_hash(spread(hash));
                    postings
                        .filter(|posting| posting.hash == hash)
                        .for_each(|posting| slots.push(posting.slot));
                }
                Key::Crowded(hash) => {
                    slots.extend(self.crowded.range((hash, 0)..=(hash, u32::MAX)).map(|(_, slot)| *slot));
                }
            }
        }
        slots
    }

    /// What names are held under, and how many of them are [`Self::wild_tcp`].
    fn keys(&self, names: impl Iterator<Item = FiveTuple>) -> (SmallVec<[Key; 6]>, usize) {
        let (mut keys, mut wild_tcp) = (SmallVec::<[Key; 6]>::new(), 0);
        for name in names {
            let is_wild = name.local.is_wildcard() || name.remote.is_wildcard();
            wild_tcp += usize::from(is_wild && name.transport == Transport::Tcp);
            self.held_under(name).into_iter().flatten().for_each(|key| keys.push(key));
        }
        keys.sort_unstable();
        keys.dedup();
        (keys, wild_tcp)
    }

    fn held_under(&self, name: FiveTuple) -> [Option<Key>; 3] {
        let FiveTuple { transport, local, remote } = name;
        let known = |own: Endpoint, other| {
            let by = [
                self.bound_to_none(transport, own.port, other),
                self.by_ports(transport, own.port, other.port),
            ];
            [Some(by[0]), Some(by[1]), None]
        };
        match (local.is_wildcard(), remote.is_wildcard()) {
            (false, false) => [
                Some(self.whole(name)),
                Some(self.without_own(transport, local.port, remote)),
                Some(self.without_own(transport, remote.port, local)),
            ],
            (true, false) => known(local, remote),
            (false, true) => known(remote, local),
            (true, true) => {
                let ports = [(local.port, remote.port), (remote.port, local.port)];
                let [one, other] = ports.map(|(own, other)| Some(self.by_ports(transport, own, other)));
                [one, other, None]
            }
        }
    }

    /// The keys of all names that may agree: a wildcard fits any address.
    fn asked(&self, tuple: FiveTuple) -> [Option<Key>; 3] {
        let FiveTuple { transport, local, remote } = tuple;
        let unbound = |own: Endpoint, other: Endpoint| {
            [
                Some(self.bound_to_none(transport, own.port, other)),
                Some(self.without_own(transport, own.port, other)),
                Some(self.by_ports(transport, other.port, own.port)),
            ]
        };
        match (local.is_wildcard(), remote.is_wildcard()) {
            (false, false) if transport == Transport::Tcp && self.wild_tcp == 0 => {
                [Some(self.whole(tuple)), None, None]
            }
            (false, false) => [
                Some(self.whole(tuple)),
                Some(self.bound_to_none(transport, local.port, remote)),
                Some(self.bound_to_none(transport, remote.port, local)),
            ],
            (true, false) => unbound(local, remote),
            (false, true) => unbound(remote, local),
            (true, true) => self.held_under(tuple),
        }
    }

    /// Both ends, whichever comes first.
    fn whole(&self, name: FiveTuple) -> Key {
        let (one, other) = (name.local.min(name.remote), name.local.max(name.remote));
        Key::Rare(self.hash((0_u8, name.transport, one, other)))
    }

    /// A name whose own address is a wildcard.
    fn bound_to_none(&self, transport: Transport, own: u16, other: Endpoint) -> Key {
        Key::Rare(self.hash((1_u8, transport, own, other)))
    }

    /// A name whose own address is known, for those who do not know it. One datagram socket may talk to any number
    /// of peers at the same port: for them it is the other end.
    fn without_own(&self, transport: Transport, own: u16, other: Endpoint) -> Key {
        let hash = self.hash((2_u8, transport, own, other));
        if transport == Transport::Tcp { Key::Rare(hash) } else { Key::Crowded(hash) }
    }

    /// Two sockets bound to no address that talk to each other have only their ports in common. The first one is that
    /// of the wildcard.
    fn by_ports(&self, transport: Transport, own: u16, other: u16) -> Key {
        Key::Crowded(self.hash((3_u8, transport, own, other)))
    }

    fn hash(&self, what: impl Hash) -> u32 {
        // The upper half.
        u32::try_from(self.hasher.hash_one(what) >> u32::BITS).unwrap_or_default()
    }
}

/// As the table wants it, which looks at both ends of 64 bits.
fn spread(hash: u32) -> u64 {
    // Odd, so that none is lost: 2^64 divided by the golden ratio.
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::super::flow_table::agrees;
    use super::*;

    /// Few addresses and ports, so that names often agree; 0 is the wildcard.
    fn endpoint() -> impl Strategy<Value = Endpoint> {
        (0_u8..4, 1_u16..4).prop_map(|(last, port)| {
            let address = if last == 0 { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::new(10, 0, 0, last) };
            Endpoint::new(IpAddr::V4(address), port)
        })
    }

    fn name() -> impl Strategy<Value = FiveTuple> {
        let transport = prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)];
        (transport, endpoint(), endpoint()).prop_map(|(transport, local, remote)| FiveTuple {
            transport,
            local,
            remote,
        })
    }

    /// A name with both addresses is not taken for one without any: nothing but its ports would tell.
    fn may_ask(asked: FiveTuple, name: FiveTuple) -> bool {
        let wildcards =
            |tuple: FiveTuple| [tuple.local, tuple.remote].iter().filter(|end| end.is_wildcard()).count();
        !matches!((wildcards(asked), wildcards(name)), (0, 2) | (2, 0))
    }

    proptest! {
        /// Whatever agrees is found, under either orientation, and nothing is once it was taken back.
        #[test]
        fn whatever_agrees_is_found(names in proptest::collection::vec(name(), 1..20), asked in name()) {
            let mut index = FlowIndex::new(RandomState::with_seeds(1, 2, 3, 4));
            for (slot, name) in (0..).zip(&names) {
                index.post(slot, core::iter::once(*name));
            }
            let found = index.candidates(asked);
            for (slot, name) in (0..).zip(&names) {
                let is_meant = agrees(*name, asked) || agrees(name.mirrored(), asked);
                if is_meant && may_ask(asked, *name) {
                    prop_assert!(found.contains(&slot), "{:?} is not found by {:?}", name, asked);
                }
            }
            for (slot, name) in (0..).zip(&names) {
                index.unpost(slot, core::iter::once(*name));
            }
            prop_assert!(index.candidates(asked).is_empty());
            prop_assert!(index.rare.is_empty() && index.crowded.is_empty() && index.wild_tcp == 0);
        }
    }

    #[test]
    fn one_among_all_peers_of_a_socket_is_found_alone() {
        let mut index = FlowIndex::new(RandomState::with_seeds(1, 2, 3, 4));
        let own = Endpoint::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 5000);
        let peer = |number: u32| Endpoint::new(IpAddr::V4(Ipv4Addr::from(0x0a01_0000 + number)), 53);
        let name = |number| FiveTuple { transport: Transport::Udp, local: own, remote: peer(number) };
        (0..10_000).for_each(|number| index.post(number, core::iter::once(name(number))));
        for asked in [name(77), name(77).mirrored()] {
            assert_eq!(index.candidates(asked).as_slice(), [77]);
        }
        let unbound = FiveTuple { local: Endpoint::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 5000), ..name(78) };
        assert_eq!(index.candidates(unbound).as_slice(), [78]);
    }
}
