//! Which namespaces had an address at a moment: an address names a namespace only while that namespace has it.
//!
//! What is told of late has happened between two moments, so a claim may stand a little longer than the truth. Two
//! that may stand at one moment are both told.

use core::net::IpAddr;

use ahash::RandomState;
use alloc::vec::Vec;
use hashbrown::HashMap;

use super::NamespaceId;
use crate::time::{PACKET_CLOCK_ERROR, Timestamp};

/// That a namespace has an address.
#[derive(Clone, Copy, Debug)]
struct Claim {
    namespace: NamespaceId,
    /// When it was not known to have it; it may since.
    from: Timestamp,
    /// When it had it no longer.
    until: Option<Timestamp>,
}

impl Claim {
    fn may_stand(&self, at: Timestamp) -> bool {
        self.from <= at + PACKET_CLOCK_ERROR
            && self.until.is_none_or(|until| at <= until + PACKET_CLOCK_ERROR)
    }
}

/// Who has an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Having {
    Nobody,
    One(NamespaceId),
    Several,
}

#[derive(Debug)]
pub(super) struct AddressClaims(HashMap<IpAddr, Vec<Claim>, RandomState>);

impl AddressClaims {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self(HashMap::with_hasher(hasher))
    }

    /// `namespace` has `address`, which it may have got as early as `from`.
    pub(super) fn give(&mut self, address: IpAddr, namespace: NamespaceId, from: Timestamp) {
        let claims = self.0.entry(address).or_default();
        if !claims.iter().any(|claim| claim.namespace == namespace && claim.until.is_none()) {
            claims.push(Claim { namespace, from, until: None });
        }
    }

    /// `namespace` has `address` no longer, perhaps until as late as `until`.
    pub(super) fn take(&mut self, address: IpAddr, namespace: NamespaceId, until: Timestamp) {
        let standing = self.0.get_mut(&address).into_iter().flatten();
        for claim in standing.filter(|claim| claim.namespace == namespace && claim.until.is_none()) {
            claim.until = Some(until);
        }
    }

    /// Forgets what ended before `then`.
    pub(super) fn forget_ended(&mut self, then: Timestamp) {
        self.0.retain(|_, claims| {
            claims.retain(|claim| claim.until.is_none_or(|until| until >= then));
            !claims.is_empty()
        });
    }

    /// Who may have had `address` at that moment.
    pub(super) fn having(&self, address: IpAddr, at: Timestamp) -> Having {
        let mut standing = self.0.get(&address).into_iter().flatten().filter(|claim| claim.may_stand(at));
        let Some(first) = standing.next() else { return Having::Nobody };
        if standing.any(|other| other.namespace != first.namespace) {
            Having::Several
        } else {
            Having::One(first.namespace)
        }
    }

    /// Whether `namespace` may have had `address` at that moment.
    pub(super) fn has(&self, namespace: NamespaceId, address: IpAddr, at: Timestamp) -> bool {
        let mut claims = self.0.get(&address).into_iter().flatten();
        claims.any(|claim| claim.namespace == namespace && claim.may_stand(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NamespaceId = NamespaceId::numbered(1);
    const OTHER: NamespaceId = NamespaceId::numbered(2);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    /// Who has the address at each of these moments, if `ONE` had it from 10 to at most 20 and `OTHER` since `then`.
    fn check(then: u64, expected: &[(u64, Having)]) {
        let address = IpAddr::from([198, 18, 0, 1]);
        let mut claims = AddressClaims::new(RandomState::with_seeds(1, 2, 3, 4));
        claims.give(address, ONE, at(10));
        claims.give(address, ONE, at(15));
        claims.take(address, OTHER, at(16));
        claims.take(address, ONE, at(20));
        claims.give(address, OTHER, at(then));
        for (moment, having) in expected {
            assert_eq!(claims.having(address, at(*moment)), *having, "{then}: at {moment}");
            let has = [ONE, OTHER].map(|namespace| claims.has(namespace, address, at(*moment)));
            let expected = match having {
                Having::Nobody => [false; 2],
                Having::One(one) => [*one == ONE, *one == OTHER],
                Having::Several => [true; 2],
            };
            assert_eq!(has, expected, "{then}: at {moment}");
        }
        claims.forget_ended(at(21));
        assert_eq!(claims.having(address, at(15)), Having::Nobody, "{then}");
        assert_eq!(claims.having(address, at(99)), Having::One(OTHER), "{then}");
    }

    #[test]
    fn an_address_names_who_has_it_then_and_both_where_that_is_not_sure() {
        use Having::{Nobody, One, Several};
        check(30, &[(5, Nobody), (12, One(ONE)), (20, One(ONE)), (25, Nobody), (30, One(OTHER))]);
        check(18, &[(12, One(ONE)), (19, Several), (22, One(OTHER)), (99, One(OTHER))]);
    }
}
