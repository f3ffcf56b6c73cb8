//! One rule: what makes a connection one of a service, and how much it says.

use core::cmp::Ordering;
use core::fmt;
use core::net::IpAddr;
use core::ops::RangeInclusive;

use alloc::sync::Arc;

use super::cidr::Cidr;
use super::name::{LearntName, NameKind, NamePattern};
use crate::five_tuple::{Endpoint, Transport};

/// What the service of a rule is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServiceName {
    /// Always this.
    Given(Arc<str>),
    /// The text that the rule's pattern found; a rule without one names nothing.
    FoundText,
}

/// Where the servers of a service are.
#[derive(Clone, Debug)]
pub enum Where {
    /// Anywhere.
    Anywhere,
    /// In this block.
    In(Cidr),
    /// Wherever a name of this kind leads that fits.
    Named(NameKind, NamePattern),
}

/// What makes a connection one of a service.
#[derive(Clone, Debug)]
pub struct ServiceRule {
    /// The service's name.
    pub service: ServiceName,
    /// Where its servers are.
    pub place: Where,
    /// Their ports; `None` is any.
    pub ports: Option<RangeInclusive<u16>>,
    /// Their protocol; `None` is any.
    pub transport: Option<Transport>,
}

impl ServiceRule {
    /// The name of the service, if the connection is one of it.
    pub(super) fn applies(
        &self,
        transport: Transport,
        endpoint: Endpoint,
        names: &[LearntName],
    ) -> Option<Arc<str>> {
        if !self.fits(transport, endpoint) {
            return None;
        }
        let found = match &self.place {
            Where::Anywhere => None,
            Where::In(block) => {
                if !block.contains(endpoint.address) {
                    return None;
                }
                None
            }
            Where::Named(kind, pattern) => Some(
                names.iter().filter(|name| name.kind == *kind).find_map(|name| pattern.find(&name.text))?,
            ),
        };
        match (&self.service, found) {
            (ServiceName::Given(name), _) => Some(name.clone()),
            (ServiceName::FoundText, Some(text)) => Some(text.into()),
            (ServiceName::FoundText, None) => None,
        }
    }

    /// Whether it applies to all but the name, and a name of its kind, which is one of `kinds`, is not known.
    pub(super) fn awaits_name(
        &self,
        (transport, endpoint): (Transport, Endpoint),
        names: &[LearntName],
        kinds: &[NameKind],
    ) -> bool {
        match &self.place {
            Where::Named(kind, _) => {
                kinds.contains(kind)
                    && self.fits(transport, endpoint)
                    && names.iter().all(|name| name.kind != *kind)
            }
            Where::In(_) | Where::Anywhere => false,
        }
    }

    fn fits(&self, transport: Transport, endpoint: Endpoint) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.contains(&endpoint.port))
            && self.transport.is_none_or(|wanted| wanted == transport)
    }

    /// The only address it can be of, if it is one.
    pub(super) fn single_address(&self) -> Option<IpAddr> {
        match &self.place {
            Where::In(block) => block.single(),
            Where::Anywhere | Where::Named(..) => None,
        }
    }

    /// The more specific is greater: by place (an exact name, one address, a wildcard, an expression, a block, anywhere),
    /// then by fewer ports, then by a protocol over none.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let ports = |rule: &Self| rule.ports.as_ref().map_or(usize::MAX, ExactSizeIterator::len);
        let key =
            |rule: &Self| (rule.place.precision(), core::cmp::Reverse(ports(rule)), rule.transport.is_some());
        key(self).cmp(&key(other))
    }
}

impl Where {
    fn precision(&self) -> (u8, usize, Option<NameKind>) {
        match self {
            Self::Anywhere => (0, 0, None),
            Self::In(block) if block.single().is_some() => (4, 0, None),
            Self::In(block) => (1, block.prefix_length().into(), None),
            Self::Named(kind, pattern) => {
                let (class, length) = pattern.precision();
                ([2, 3, 5].get(usize::from(class)).copied().unwrap_or(0), length, Some(*kind))
            }
        }
    }
}

/// As `--define` takes it where it has no name: `198.18.1.13:6379/tcp`, `[2001:db8::]/64:443`, `sni *.example.org:443`.
impl fmt::Display for ServiceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Where::Anywhere => {}
            Where::In(block) if self.ports.is_some() && block.is_ipv6() => write_bracketed(f, block)?,
            Where::In(block) => write!(f, "{block}")?,
            Where::Named(kind, pattern) => write!(f, "{} {pattern}", kind.name())?,
        }
        match &self.ports {
            Some(ports) if ports.start() == ports.end() => write!(f, ":{}", ports.start())?,
            Some(ports) => write!(f, ":{}-{}", ports.start(), ports.end())?,
            None => {}
        }
        match self.transport {
            Some(transport) => write!(f, "/{}", transport.name()),
            None => Ok(()),
        }
    }
}

fn write_bracketed(f: &mut fmt::Formatter<'_>, block: &Cidr) -> fmt::Result {
    write!(f, "[{}]", block.network())?;
    if block.single().is_none() {
        write!(f, "/{}", block.prefix_length())?;
    }
    Ok(())
}
