//! Named services: which one an address and port belong to.

use core::net::IpAddr;

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::five_tuple::{Endpoint, Transport};

/// A block of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cidr {
    network: IpAddr,
    prefix_length: u8,
}

impl Cidr {
    /// Makes a block; `None` if the prefix is longer than the address.
    pub const fn new(network: IpAddr, prefix_length: u8) -> Option<Self> {
        let longest = if network.is_ipv4() { 32 } else { 128 };
        if prefix_length > longest { None } else { Some(Self { network, prefix_length }) }
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

/// What makes an endpoint part of a service; what is `None` matches anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceRule {
    /// The service's name.
    pub name: Arc<str>,
    /// Its addresses.
    pub addresses: Option<Cidr>,
    /// Its port.
    pub port: Option<u16>,
    /// Its protocol.
    pub transport: Option<Transport>,
}

impl ServiceRule {
    fn matches(&self, transport: Transport, endpoint: Endpoint) -> bool {
        self.addresses.is_none_or(|block| block.contains(endpoint.address))
            && self.port.is_none_or(|port| port == endpoint.port)
            && self.transport.is_none_or(|wanted| wanted == transport)
    }

    /// The longer prefix wins, then a port over none, then a protocol over none.
    fn specificity(&self) -> (u8, bool, bool) {
        let prefix = self.addresses.map_or(0, |block| block.prefix_length + 1);
        (prefix, self.port.is_some(), self.transport.is_some())
    }
}

/// The configured services.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Services(Vec<ServiceRule>);

impl Services {
    /// Takes the rules; of equally specific ones the first wins.
    pub fn new(mut rules: Vec<ServiceRule>) -> Self {
        rules.sort_by_key(|rule| core::cmp::Reverse(rule.specificity()));
        Self(rules)
    }

    /// The service `endpoint` belongs to: that of the most specific rule.
    pub fn find(&self, transport: Transport, endpoint: Endpoint) -> Option<&Arc<str>> {
        self.0.iter().find(|rule| rule.matches(transport, endpoint)).map(|rule| &rule.name)
    }

    /// Whether a service of this name is configured.
    pub fn knows(&self, name: &str) -> bool {
        self.0.iter().any(|rule| &*rule.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn the_most_specific_rule_wins_and_a_zero_prefix_matches_its_family_only() {
        let rule = |name: &str, block: &str, length, port| ServiceRule {
            name: name.into(),
            addresses: Cidr::new(block.parse().unwrap(), length),
            port,
            transport: None,
        };
        let services = Services::new(vec![
            rule("any4", "0.0.0.0", 0, None),
            rule("net", "198.18.0.0", 15, None),
            rule("redis", "198.18.1.13", 32, Some(6379)),
            rule("host", "198.18.1.13", 32, None),
        ]);
        let find = |address: &str, port| {
            services.find(Transport::Tcp, Endpoint::new(address.parse().unwrap(), port)).map(|name| &**name)
        };
        assert_eq!(find("198.18.1.13", 6379), Some("redis"));
        assert_eq!(find("198.18.1.13", 80), Some("host"));
        assert_eq!(find("198.19.255.1", 80), Some("net"));
        assert_eq!(find("192.0.2.1", 80), Some("any4"));
        assert_eq!(find("2001:db8::1", 80), None);
        assert!(Cidr::new("192.0.2.1".parse().unwrap(), 33).is_none());
    }
}
