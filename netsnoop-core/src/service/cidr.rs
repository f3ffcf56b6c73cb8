//! A block of addresses, as services and filters name it.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A block of addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cidr {
    network: IpAddr,
    prefix_length: u8,
}

impl Cidr {
    /// Makes the block that `address` lies in; `None` if the prefix is longer than the address.
    pub const fn new(address: IpAddr, prefix_length: u8) -> Option<Self> {
        if prefix_length > longest_prefix(address) {
            return None;
        }
        Some(Self { network: first_of(address, prefix_length), prefix_length })
    }

    /// The block that is one address.
    pub const fn one(address: IpAddr) -> Self {
        Self { network: address, prefix_length: longest_prefix(address) }
    }

    /// Its first address.
    pub const fn network(&self) -> IpAddr {
        self.network
    }

    /// Whether it is one of IPv6.
    pub const fn is_ipv6(&self) -> bool {
        self.network.is_ipv6()
    }

    /// How many leading bits it fixes.
    pub const fn prefix_length(&self) -> u8 {
        self.prefix_length
    }

    /// The address, if it is only one.
    pub fn single(&self) -> Option<IpAddr> {
        (self.prefix_length == longest_prefix(self.network)).then_some(self.network)
    }

    /// Whether `address` lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing.checked_shr(32 - u32::from(self.prefix_length)).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differing = network.to_bits() ^ address.to_bits();
                differing.checked_shr(128 - u32::from(self.prefix_length)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// `address` without the bits that the prefix leaves open. libpcap takes no others for a network.
const fn first_of(address: IpAddr, prefix_length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let open = match u32::MAX.checked_shr(prefix_length as u32) {
                Some(open) => open,
                None => 0,
            };
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & !open))
        }
        IpAddr::V6(address) => {
            let open = match u128::MAX.checked_shr(prefix_length as u32) {
                Some(open) => open,
                None => 0,
            };
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !open))
        }
    }
}

const fn longest_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// As filters and services write it: without the length if it is one address.
impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.single() {
            Some(address) => write!(f, "{address}"),
            None => write!(f, "{}/{}", self.network, self.prefix_length),
        }
    }
}
