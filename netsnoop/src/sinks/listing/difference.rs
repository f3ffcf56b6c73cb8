//! Which sockets have come, changed and gone between two looks.

use std::collections::HashMap;
use std::num::NonZeroU64;

use netsnoop_core::inventory::{Addresses, Protocol};
use netsnoop_core::namespace::NamespaceKey;
use netsnoop_core::socket::TcpState;

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

/// What has become of a socket since the look before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// It was there, just so.
    Stays,
    /// It was not there.
    Comes,
    /// It was there, in another state or between other addresses.
    Alters,
    /// It is not there any more; shown is how it was.
    Goes,
}

impl Change {
    /// The name in JSON; what is as it was has none.
    pub(super) const fn name(self) -> Option<&'static str> {
        match self {
            Self::Stays => None,
            Self::Comes => Some("new"),
            Self::Alters => Some("changed"),
            Self::Goes => Some("gone"),
        }
    }
}

/// The sockets of one look, and how each was.
#[derive(Debug, Default)]
pub(super) struct Known<'a>(HashMap<Identity, (TcpState, &'a Addresses)>);

impl<'a> Known<'a> {
    /// Of these.
    pub(super) fn of(sockets: impl Iterator<Item = Seen<'a>>) -> Self {
        Self(sockets.map(|seen| (Identity::of(seen), how(seen))).collect())
    }

    /// Whether it is one of them.
    pub(super) fn has(&self, seen: Seen<'_>) -> bool {
        self.0.contains_key(&Identity::of(seen))
    }

    /// What a socket that is seen after these has done meanwhile.
    pub(super) fn change_of(&self, seen: Seen<'_>) -> Change {
        match self.0.get(&Identity::of(seen)) {
            None => Change::Comes,
            Some(known) if *known == how(seen) => Change::Stays,
            Some(_) => Change::Alters,
        }
    }
}

const fn how(seen: Seen<'_>) -> (TcpState, &Addresses) {
    (seen.socket.state, &seen.socket.addresses)
}
