//! Which sockets have come and gone between two looks.

use std::collections::HashSet;
use std::num::NonZeroU64;

use netsnoop_core::inventory::{Addresses, Protocol};
use netsnoop_core::namespace::NamespaceKey;

use super::look::Seen;

/// What makes a socket the same in two looks. Inodes are not used again while a socket lives, and only after the
/// counter of the kernel has gone around; a socket without one is known by its addresses.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Identity {
    /// By its inode.
    Inode(NonZeroU64),
    /// By namespace, kind and addresses.
    Place(Option<NamespaceKey>, Protocol, Addresses),
}

impl Identity {
    /// Of a socket.
    pub(super) fn of(seen: Seen<'_>) -> Self {
        match seen.socket.inode {
            Some(inode) => Self::Inode(inode),
            None => {
                let namespace = seen.namespace().map(|namespace| namespace.key);
                Self::Place(namespace, seen.socket.protocol, seen.socket.addresses.clone())
            }
        }
    }
}

/// The sockets of one look.
#[derive(Debug, Default)]
pub(super) struct Known(HashSet<Identity>);

impl Known {
    /// Of these.
    pub(super) fn of<'a>(sockets: impl Iterator<Item = Seen<'a>>) -> Self {
        Self(sockets.map(Identity::of).collect())
    }

    /// Whether it is one of them.
    pub(super) fn has(&self, seen: Seen<'_>) -> bool {
        self.0.contains(&Identity::of(seen))
    }
}
