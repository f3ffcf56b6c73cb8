//! The kernel's packet filter as the destinations in the file ask for it. It may let through more than they do, as whose
//! connections are told of is judged exactly later; never less.

use std::collections::BTreeSet;

use netsnoop_core::dns_answer::RESOLVER_PORTS;
use netsnoop_core::service::Cidr;

/// Most blocks of each family that the filter names. libpcap 1.10.3 takes 3 s for 300 addresses, 23 s for 600, and the
/// kernel takes no more than 4,096 instructions (`BPF_MAXINSNS`).
const BLOCKS_MAX: usize = 32;

/// The packets of connections to these, and those of resolvers, if they are read; empty for all.
pub(super) fn expression(destinations: &[Cidr], reads_answers: bool) -> String {
    let term = |block: &Cidr| match block.single() {
        Some(address) => format!("host {address}"),
        None => format!("net {block}"),
    };
    let families = [false, true].map(|ipv6| destinations.iter().filter(move |block| block.is_ipv6() == ipv6));
    let blocks: Vec<Cidr> = families.into_iter().flat_map(|family| few_around(family.copied())).collect();
    let resolvers = RESOLVER_PORTS.iter().filter(|_| reads_answers && !blocks.is_empty());
    let terms = blocks.iter().map(term).chain(resolvers.map(|port| format!("port {port}")));
    terms.collect::<Vec<_>>().join(" or ")
}

/// These blocks, or fewer and larger ones that hold them: of prefixes as long as they may be.
fn few_around(blocks: impl Iterator<Item = Cidr> + Clone) -> BTreeSet<Cidr> {
    let longest = blocks.clone().map(|block| block.prefix_length()).max().unwrap_or_default();
    let at_most = |length: u8| {
        let around = |block: Cidr| Cidr::new(block.network(), block.prefix_length().min(length));
        blocks.clone().filter_map(around).collect::<BTreeSet<_>>()
    };
    // Of no bits there is one block.
    (0..=longest).rev().map(at_most).find(|around| around.len() <= BLOCKS_MAX).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn block(text: &str) -> Cidr {
        let (address, length) = text.split_once('/').unwrap();
        Cidr::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
    }

    #[test]
    fn few_destinations_are_asked_for_as_they_are() {
        let check = |destinations: &[&str], reads_answers: bool, expected: &str| {
            let destinations: Vec<Cidr> = destinations.iter().map(|text| block(text)).collect();
            assert_eq!(expression(&destinations, reads_answers), expected);
        };
        check(&[], false, "");
        check(&[], true, "");
        check(&["198.18.1.13/32", "198.18.1.13/32"], false, "host 198.18.1.13");
        check(
            &["2001:db8::/64", "198.18.2.0/24", "198.18.1.13/32"],
            true,
            "host 198.18.1.13 or net 198.18.2.0/24 or net 2001:db8::/64 or port 53 or port 5353",
        );
    }

    #[test]
    fn many_destinations_are_asked_for_by_blocks_around_them() {
        let of_v4: Vec<Cidr> =
            (0..=255).map(|last| Cidr::one(Ipv4Addr::new(198, 18, 1, last).into())).collect();
        let of_v6 = Cidr::one(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into());
        let asked = expression(&[&of_v4[..], &[of_v6]].concat(), false);
        let terms: Vec<&str> = asked.split(" or ").collect();
        assert_eq!((terms.len(), terms[0], terms[32]), (33, "net 198.18.1.0/29", "host 2001:db8::1"));
    }

    fn blocks() -> impl Strategy<Value = Vec<Cidr>> {
        let v4 = (any::<u32>(), 0_u8..=32)
            .prop_map(|(bits, length)| Cidr::new(Ipv4Addr::from(bits).into(), length).unwrap());
        let v6 = (any::<u128>(), 0_u8..=128)
            .prop_map(|(bits, length)| Cidr::new(Ipv6Addr::from(bits).into(), length).unwrap());
        proptest::collection::vec(prop_oneof![v4, v6], 0..200)
    }

    proptest! {
        #[test]
        fn nothing_that_is_wanted_is_left_out(wanted in blocks()) {
            for ipv6 in [false, true] {
                let family: Vec<Cidr> = wanted.iter().copied().filter(|block| block.is_ipv6() == ipv6).collect();
                let asked = few_around(family.iter().copied());
                prop_assert!(asked.len() <= BLOCKS_MAX && asked.is_empty() == family.is_empty());
                for block in &family {
                    let holds = |around: &Cidr| {
                        around.prefix_length() <= block.prefix_length() && around.contains(block.network())
                    };
                    prop_assert!(asked.iter().any(holds), "{block}: {asked:?}");
                }
                if family.len() <= BLOCKS_MAX {
                    prop_assert!(family.iter().all(|block| asked.contains(block)));
                }
            }
        }
    }
}
