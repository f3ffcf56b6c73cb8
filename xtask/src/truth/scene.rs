//! Where the bench plays: the places of its node and their addresses. Making them is `node`'s.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A network namespace of the bench.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub(crate) enum Place {
    /// The node's own: netsnoop's root namespace.
    Node,
    /// Pods on the node's bridge; many users run in them.
    PodA,
    PodB,
    PodC,
    /// A pod on the bridge in which all processes are of one user.
    OneUserPod,
    /// A pod behind a routed link of its own, off the bridge: answers to it pass the node's translation.
    ServiceHost,
    /// A host beyond the node: what goes to it is masqueraded.
    Outside,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Place {
    pub(crate) const ALL: [Self; 7] =
        [Self::Node, Self::PodA, Self::PodB, Self::PodC, Self::OneUserPod, Self::ServiceHost, Self::Outside];

    /// Those on the bridge.
    pub(crate) const BRIDGED: [Self; 4] = [Self::PodA, Self::PodB, Self::PodC, Self::OneUserPod];

    /// Its subnet and its number there.
    const fn numbers(self) -> (u8, u8) {
        match self {
            Self::Node => (64, 1),
            Self::PodA => (64, 11),
            Self::PodB => (64, 12),
            Self::PodC => (64, 13),
            Self::OneUserPod => (64, 14),
            Self::ServiceHost => (65, 2),
            Self::Outside => (66, 2),
        }
    }

    /// Its address.
    pub(crate) fn address(self, family: Family) -> IpAddr {
        let (subnet, number) = self.numbers();
        address(family, subnet, number)
    }

    /// The node's address on the link to it.
    pub(crate) fn gateway(self, family: Family) -> IpAddr {
        address(family, self.numbers().0, 1)
    }

    /// Its address with a port.
    pub(crate) fn at(self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(family), port)
    }

    /// The user whose process holds its namespace, as a pod's first container does.
    pub(crate) const fn holder(self) -> u32 {
        match self {
            Self::OneUserPod => ONE_USER,
            _ => 0,
        }
    }

    /// The last folder of its cgroup, as a container's is.
    pub(crate) fn container(self) -> String {
        let (subnet, number) = self.numbers();
        format!("{subnet:02x}{number:02x}").repeat(16)
    }
}

/// The only user of [`Place::OneUserPod`].
pub(crate) const ONE_USER: u32 = 10_007;

/// What the bench's addresses of an IP version begin with.
pub(crate) const SUBNETS: std::ops::RangeInclusive<u8> = 64..=67;

/// A service's address: no interface has it, the node translates it.
pub(crate) const fn service_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 67, number)
}

fn address(family: Family, subnet: u8, number: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(198, 18, subnet, number).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, subnet.into(), 0, 0, 0, number.into()).into(),
    }
}

/// An address as records show it: IPv4 within IPv6 is IPv4.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether an address is one of the bench's, so that a record with it is judged.
pub(crate) fn is_ours(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            (a, b) == (198, 18) && SUBNETS.contains(&c)
        }
        IpAddr::V6(address) => {
            let [a, b, _, d, ..] = address.segments();
            (a, b) == (0x2001, 0xdb8) && SUBNETS.contains(&u8::try_from(d).unwrap_or(0))
        }
    }
}
