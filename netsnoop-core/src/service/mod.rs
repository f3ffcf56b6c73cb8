//! Named services: which one a connection goes to, by the server's address, port and names. Most specific wins.
//!
//! Where names come from (answers to lookups, TLS, HTTP) is not known here.

mod cidr;
mod name;
mod rule;
#[cfg(test)]
mod tests;

use core::net::IpAddr;
use core::ops::RangeInclusive;

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

pub use cidr::Cidr;
pub use name::{BadPattern, LearntName, NameKind, NamePattern};
pub use rule::{ServiceName, ServiceRule, Where};

use crate::five_tuple::{Endpoint, Transport};

/// The service of a connection, and why.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Service {
    /// Its name.
    pub name: Arc<str>,
    /// The rule that won, as it is written.
    pub rule: Arc<str>,
}

/// Where TLS is, for a rule that names no port.
const TLS_PORT: u16 = 443;
/// Ranges of ports that whoever captures is told.
const PORT_RANGES_MAX: usize = 16;

/// The names of servers that rules ask for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NameWishes {
    /// Those of TLS.
    pub sni: bool,
    /// Those of HTTP/1.
    pub host: bool,
    /// Those that were looked up.
    pub dns: bool,
    /// Where TLS is looked for closely.
    pub sni_ports: Vec<RangeInclusive<u16>>,
}

/// The configured services. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Services(Arc<Table>);

/// Rules, the most specific first.
#[derive(Debug, Default)]
struct Table {
    rules: Vec<(ServiceRule, Arc<str>)>,
    /// The places of rules for one address alone, ascending: there may be many, of which few are looked at.
    of_address: BTreeMap<IpAddr, Vec<usize>>,
    /// The places of all others, ascending.
    others: Vec<usize>,
    /// Whether any asks for a name.
    names: bool,
}

impl Services {
    /// Takes the rules; of equally specific ones the first wins.
    pub fn new(mut rules: Vec<ServiceRule>) -> Self {
        rules.sort_by(|one, other| other.compare(one));
        let mut table = Table::default();
        for (place, rule) in rules.into_iter().enumerate() {
            table.names |= matches!(rule.place, Where::Named(..));
            match rule.single_address() {
                Some(address) => table.of_address.entry(address).or_default().push(place),
                None => table.others.push(place),
            }
            let text = Arc::from(rule.to_string());
            table.rules.push((rule, text));
        }
        Self(Arc::new(table))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.rules.is_empty()
    }

    /// The service of a connection to `endpoint`, whose server was called by `names`: that of the most specific rule.
    pub fn find(&self, transport: Transport, endpoint: Endpoint, names: &[LearntName]) -> Option<Service> {
        self.find_place(transport, endpoint, names).map(|(_, service)| service)
    }

    fn find_place(
        &self,
        transport: Transport,
        endpoint: Endpoint,
        names: &[LearntName],
    ) -> Option<(usize, Service)> {
        let single = self.0.of_address.get(&endpoint.address).map_or(&[][..], Vec::as_slice);
        let applies = |place: &usize| {
            let (rule, text) = self.0.rules.get(*place)?;
            let name = rule.applies(transport, endpoint, names)?;
            Some((*place, Service { name, rule: text.clone() }))
        };
        let found = [single, &self.0.others].into_iter().filter_map(|places| places.iter().find_map(applies));
        found.min_by_key(|(place, _)| *place)
    }

    /// Whether a name that the client may still say might make it another service's.
    pub fn awaits_name(&self, transport: Transport, endpoint: Endpoint, names: &[LearntName]) -> bool {
        self.awaits((transport, endpoint), names, &[NameKind::Sni, NameKind::Host])
    }

    /// Whether a name that the client has looked up might make it another service's, if it turned out that there is one.
    pub fn awaits_resolution(&self, transport: Transport, endpoint: Endpoint, names: &[LearntName]) -> bool {
        self.awaits((transport, endpoint), names, &[NameKind::Dns])
    }

    fn awaits(&self, server: (Transport, Endpoint), names: &[LearntName], kinds: &[NameKind]) -> bool {
        if !self.0.names {
            return false;
        }
        let won = self.find_place(server.0, server.1, names).map_or(self.0.rules.len(), |(place, _)| place);
        let waits = |(rule, _): &(ServiceRule, _)| rule.awaits_name(server, names, kinds);
        self.0.rules.iter().take(won).any(waits)
    }

    /// Which names the rules ask for.
    pub fn name_wishes(&self) -> NameWishes {
        let mut wishes = NameWishes::default();
        for (rule, _) in &self.0.rules {
            match rule.place {
                Where::Named(NameKind::Sni, _) => {
                    wishes.sni = true;
                    let ports = rule.ports.clone().unwrap_or(TLS_PORT..=TLS_PORT);
                    if !wishes.sni_ports.contains(&ports) && wishes.sni_ports.len() < PORT_RANGES_MAX {
                        wishes.sni_ports.push(ports);
                    }
                }
                Where::Named(NameKind::Host, _) => wishes.host = true,
                Where::Named(NameKind::Dns, _) => wishes.dns = true,
                Where::In(_) | Where::Anywhere => {}
            }
        }
        wishes
    }

    /// Whether a service of this name is configured.
    pub fn knows(&self, name: &str) -> bool {
        self.0
            .rules
            .iter()
            .any(|(rule, _)| matches!(&rule.service, ServiceName::Given(given) if **given == *name))
    }
}
