//! Whether a socket is one of those that were asked for.

use std::collections::HashMap;
use std::net::IpAddr;

use netsnoop_core::inventory::{ListedNamespace, SocketEnd, UnixPath};

use super::look::{Seen, is_any};
use crate::cli::{Condition, Place};
use crate::config::ListQuestion;
use crate::sinks::owner_filter::OwnerFilter;

/// What was asked for.
#[derive(Debug)]
pub(super) struct Selection {
    question: ListQuestion,
    owners: OwnerFilter,
    /// Local addresses by the inode of the namespace, for `--who`.
    addresses: HashMap<u32, Vec<IpAddr>>,
}

impl Selection {
    /// Makes it of what was asked for; `uids` are those of the users asked for.
    pub(super) fn new(question: ListQuestion, uids: Vec<u32>) -> Self {
        let owners = OwnerFilter::new(&question.owners, uids);
        Self { question, owners, addresses: HashMap::new() }
    }

    /// Tells which addresses are local to which namespace.
    pub(super) fn learn(&mut self, addresses: HashMap<u32, Vec<IpAddr>>) {
        self.addresses = addresses;
    }

    /// Whether it can only say which sockets hold the address that was asked for if it is told whose it is.
    pub(super) fn needs_addresses(&self, seen: Seen<'_>) -> bool {
        let Some(Place::Internet { addresses: Some(_), port: Some(port) }) = &self.question.who else {
            return false;
        };
        seen.internet_ends().is_some_and(|(local, _)| local.port == *port && is_any(local.address))
    }

    /// Whether `seen` is asked for.
    pub(super) fn matches(&self, seen: Seen<'_>) -> bool {
        let question = &self.question;
        question.protocols.contains(seen.socket.protocol.group())
            && question.states.contains(seen.socket.state)
            && self.place_fits(seen)
            && self.namespace_fits(seen)
            && question.condition.as_ref().is_none_or(|condition| fulfils(seen, condition))
            && self.owner_fits(seen)
    }

    /// Whether the namespace at `place` of a look is asked for.
    pub(super) fn names(&self, namespace: &ListedNamespace, name: Option<&str>) -> bool {
        let wanted = &self.question.namespaces;
        let is_inode = |text: &str| text.parse() == Ok(namespace.key.inode);
        wanted.is_empty() || wanted.iter().any(|wanted| Some(&**wanted) == name || is_inode(wanted))
    }

    fn namespace_fits(&self, seen: Seen<'_>) -> bool {
        self.question.namespaces.is_empty()
            || seen
                .namespace()
                .is_some_and(|namespace| self.names(namespace, seen.namespace_name().as_deref()))
    }

    fn place_fits(&self, seen: Seen<'_>) -> bool {
        let question = &self.question;
        let asks_for_ends =
            question.only_v4.is_some() || !question.ports.is_empty() || !question.addresses.is_empty();
        if asks_for_ends {
            let Some((local, remote)) = seen.internet_ends() else { return false };
            let either = |fits: &dyn Fn(SocketEnd) -> bool| fits(local) || remote.is_some_and(fits);
            let in_block = |end: SocketEnd| {
                let address = end.address.to_canonical();
                question.addresses.iter().any(|block| block.contains(address) || block.contains(end.address))
            };
            if question.only_v4.is_some_and(|only_v4| local.address.is_ipv4() != only_v4)
                || !(question.ports.is_empty() || either(&|end| question.ports.contains(&end.port)))
                || !(question.addresses.is_empty() || either(&in_block))
            {
                return false;
            }
        }
        question.who.as_ref().is_none_or(|who| self.holds(seen, who))
    }

    /// Whether it is at either end of the socket, or would be delivered to it.
    fn holds(&self, seen: Seen<'_>, who: &Place) -> bool {
        if at(seen, End::Source, who) || at(seen, End::Destination, who) {
            return true;
        }
        let (Place::Internet { addresses: Some(block), port }, Some((local, remote))) =
            (who, seen.internet_ends())
        else {
            return false;
        };
        let own = seen.namespace().and_then(|namespace| self.addresses.get(&namespace.key.inode));
        is_any(local.address)
            && remote.is_none()
            && port.is_none_or(|port| port == local.port)
            && own.is_some_and(|own| {
                // An IPv4 socket gets no packets for IPv6 addresses.
                own.iter()
                    .any(|address| block.contains(*address) && (address.is_ipv4() || local.address.is_ipv6()))
            })
    }

    fn owner_fits(&self, seen: Seen<'_>) -> bool {
        if self.owners.is_open() {
            return true;
        }
        let mut holders = seen.holders().peekable();
        if holders.peek().is_none() {
            return self.owners.nobodys_fits(seen.socket.uid);
        }
        holders.any(|(listed, _)| self.owners.holder_fits(&listed.process, listed.container.as_deref()))
    }
}

/// One end of a socket.
#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

fn at(seen: Seen<'_>, end: End, place: &Place) -> bool {
    match place {
        Place::Internet { addresses, port } => internet_end(seen, end).is_some_and(|found| {
            let fits = |address: IpAddr| addresses.is_none_or(|block| block.contains(address));
            (fits(found.address) || fits(found.address.to_canonical()))
                && port.is_none_or(|port| port == found.port)
        }),
        Place::Unix(pattern) => {
            let path = seen.unix_paths().and_then(|(own, peer)| match end {
                End::Source => own,
                End::Destination => peer,
            });
            path.is_some_and(|path| is_like(path, pattern))
        }
    }
}

fn internet_end(seen: Seen<'_>, end: End) -> Option<SocketEnd> {
    let (local, remote) = seen.internet_ends()?;
    match end {
        End::Source => Some(local),
        End::Destination => remote,
    }
}

fn fulfils(seen: Seen<'_>, condition: &Condition) -> bool {
    let port = |end| internet_end(seen, end).map(|found| found.port);
    match condition {
        Condition::All(all) => all.iter().all(|inner| fulfils(seen, inner)),
        Condition::Any(any) => any.iter().any(|inner| fulfils(seen, inner)),
        Condition::Not(inner) => !fulfils(seen, inner),
        Condition::Source(place) => at(seen, End::Source, place),
        Condition::Destination(place) => at(seen, End::Destination, place),
        Condition::SourcePort(how, named) => port(End::Source).is_some_and(|port| how.holds(port, *named)),
        Condition::DestinationPort(how, named) => {
            port(End::Destination).is_some_and(|port| how.holds(port, *named))
        }
    }
}

/// Whether a path is what the pattern says: `*` stands for any bytes, a leading `@` for that of abstract names.
fn is_like(path: &UnixPath, pattern: &str) -> bool {
    match (path.is_abstract(), pattern.strip_prefix('@')) {
        (true, Some(pattern)) => globs(path.0.get(1..).unwrap_or_default(), pattern.as_bytes()),
        (false, None) => globs(&path.0, pattern.as_bytes()),
        _ => false,
    }
}

fn globs(text: &[u8], pattern: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = (0..=rest.len()).find(|at| rest.get(*at..).is_some_and(|rest| rest.starts_with(part)))
        else {
            return false;
        };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}
