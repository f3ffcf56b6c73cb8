//! Who served a port when it was last looked at, and since when: a look that comes late finds who serves it now, and
//! one of those that did when the packet came may have left.
//!
//! Left out: listening sockets as kernel hooks tell of them, which needs no looks (`listener_table`).

use core::num::NonZeroU64;

use ahash::RandomState;
use alloc::vec::Vec;
use hashbrown::HashMap;

use super::namespace_table::NamespaceId;
use crate::five_tuple::{Endpoint, Transport};
use crate::process::ProcessId;
use crate::socket::SocketRow;
use crate::time::Timestamp;

/// Most ports held at once. When they are too many all are forgotten, and late looks name fewer for a while.
const PORTS_MAX: usize = 65_536;

/// Where somebody serves: the bound address may be a wildcard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Port(NamespaceId, Transport, Endpoint);

/// The sockets of one port, as looks at tables tell them apart.
#[derive(PartialEq, Eq, Debug)]
struct Serving {
    /// The socket's inode if it is but one.
    only: Option<NonZeroU64>,
    /// All who hold one, in order.
    holders: Vec<ProcessId>,
}

#[derive(Debug)]
pub(super) struct ServingTable {
    by_port: HashMap<Port, (Serving, Timestamp), RandomState>,
}

impl ServingTable {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self { by_port: HashMap::with_hasher(hasher) }
    }

    /// `rows`, which serve one port, were found at `at`.
    pub(super) fn note(&mut self, namespace: NamespaceId, rows: &[&SocketRow], at: Timestamp) {
        let Some(first) = rows.first() else { return };
        let port = Port(namespace, first.tuple.transport, first.tuple.local);
        let serving = Serving::of(rows);
        match self.by_port.get(&port) {
            Some((known, _)) if *known == serving => {}
            known => {
                if known.is_none() && self.by_port.len() >= PORTS_MAX {
                    self.by_port.clear();
                }
                self.by_port.insert(port, (serving, at));
            }
        }
    }

    /// Whether the very same `rows` had been found before `moment`, and no others since.
    pub(super) fn stood(&self, namespace: NamespaceId, rows: &[&SocketRow], moment: Timestamp) -> bool {
        let Some(first) = rows.first() else { return false };
        let known = self.by_port.get(&Port(namespace, first.tuple.transport, first.tuple.local));
        known.is_some_and(|(known, since)| *since <= moment && *known == Serving::of(rows))
    }
}

impl Serving {
    fn of(rows: &[&SocketRow]) -> Self {
        let only = match rows {
            [only] => only.inode,
            _ => None,
        };
        let mut holders: Vec<ProcessId> =
            rows.iter().flat_map(|row| &row.holders).map(|holder| holder.id).collect();
        holders.sort_unstable();
        holders.dedup();
        Self { only, holders }
    }
}
