//! One end of a connection: where its socket is, what is known of its owner, and how the search for that stands.

use core::num::NonZeroU64;

use super::namespace_table::{NamespaceId, Place};
use crate::attribution::{Attribution, Reason};
use crate::five_tuple::Endpoint;
use crate::namespace::NamespaceKey;
use crate::time::Timestamp;

/// One of the two ends of a connection. Which of them is the client, the connection knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    A,
    B,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// Where the search for an end's owner stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Search {
    /// Nothing was asked.
    NotAsked,
    /// A question is out or waiting.
    Asked,
    /// The answer may be a better one at this time.
    Again(Timestamp),
    /// The question was answered, or nothing can answer it.
    Done,
}

/// What passes over the tables tell of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tabled {
    /// None has met it.
    Never,
    /// It was there at the last or the one before.
    There,
    /// It was there, and is no more.
    Gone,
}

/// What is known of one end.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) endpoint: Endpoint,
    pub(super) place: Place,
    /// Whether `place` was told by the socket itself rather than concluded from addresses.
    pub(super) place_certain: bool,
    /// Whether an interface that leads to nobody else showed it.
    pub(super) shown_by_interface: bool,
    /// Whether a look found it to be wrong.
    pub(super) place_doubted: bool,
    /// The namespace's key when the place was told, kept for records after the namespace has ended.
    pub(super) namespace: Option<NamespaceKey>,
    pub(super) attribution: Attribution,
    /// Since when the owner that stands now is known.
    pub(super) named_at: Option<Timestamp>,
    pub(super) cookie: Option<NonZeroU64>,
    /// Address of the kernel's `struct sock`, 0 if no event told it.
    pub(super) sock_address: u64,
    pub(super) search: Search,
    /// How often its socket was looked for.
    pub(super) looks: u8,
    /// When the socket tables that told its owner had been read.
    pub(super) looked_at: Option<Timestamp>,
    pub(super) closed: bool,
    pub(super) sent_fin: bool,
    /// What passes over the tables tell of its socket.
    pub(super) tabled: Tabled,
}

impl End {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            place: Place::Unknown,
            place_certain: false,
            shown_by_interface: false,
            place_doubted: false,
            namespace: None,
            attribution: Attribution::unattributed(Reason::Pending),
            named_at: None,
            cookie: None,
            sock_address: 0,
            search: Search::NotAsked,
            looks: 0,
            looked_at: None,
            closed: false,
            sent_fin: false,
            tabled: Tabled::Never,
        }
    }

    /// Whether a socket of this node is (or may be) this end.
    pub(super) const fn is_local(&self) -> bool {
        matches!(self.place, Place::Local(_) | Place::Ambiguous)
    }

    pub(super) const fn namespace_id(&self) -> Option<NamespaceId> {
        match self.place {
            Place::Local(id) => Some(id),
            _ => None,
        }
    }

    /// Whether nothing but its address says where it is.
    pub(super) const fn is_placed_by_address(&self) -> bool {
        !(self.place_certain || self.shown_by_interface || self.place_doubted)
    }

    /// Whether a kernel hook has seen this end's socket.
    pub(super) const fn is_hooked(&self) -> bool {
        self.sock_address != 0
    }

    /// Its socket was looked for by a name that it does not know.
    pub(super) fn look_anew(&mut self) {
        if matches!(self.attribution.reason(), Some(Reason::Pending | Reason::GoneBeforeLookup)) {
            self.place_says(self.place, self.namespace);
            self.search = Search::NotAsked;
            self.looks = 0;
        }
    }

    /// The attribution that follows from the place alone.
    pub(super) fn place_says(&mut self, place: Place, namespace: Option<NamespaceKey>) {
        self.place = place;
        self.namespace = namespace;
        let by_place = match place {
            Place::Unknown => return,
            Place::Remote => Attribution::unattributed(Reason::Remote),
            Place::Ambiguous => Attribution::unattributed(Reason::Ambiguous),
            Place::Local(_) => Attribution::namespace(Reason::Pending, None),
        };
        if !self.attribution.has_owner() {
            self.attribution = by_place;
        }
    }
}
