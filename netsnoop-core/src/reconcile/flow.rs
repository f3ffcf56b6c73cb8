//! One connection while it is held: both ends, what is known of each, and how it stands.

use core::num::{NonZeroU32, NonZeroU64};

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::byte_counts::ByteCounts;
use super::living_table::Tabled;
use super::namespace_table::{NamespaceId, Place};
use super::path::Path;
use super::resumed::Resumed;
use crate::attribution::{Attribution, Evidence, Owner, Reason, Refinement, Rung, RungSet};
use crate::connection::{ConnectionState, Role};
use crate::five_tuple::{Endpoint, FiveTuple, Transport};
use crate::namespace::NamespaceKey;
use crate::service::LearntName;
use crate::time::Timestamp;

/// One of the two ends, by its place in [`Flow::ends`]. Which of them is the client is [`Flow::client`].
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

/// One connection.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) transport: Transport,
    ends: [End; 2],
    pub(super) client: Side,
    pub(super) role: Role,
    /// The client's initial sequence number (TCP).
    pub(super) isn: Option<u32>,
    pub(super) first_seen: Timestamp,
    pub(super) last_seen: Timestamp,
    pub(super) preexisting: bool,
    /// Of a connection that a pass over the tables found, and nothing else has told of: a moment at which its sockets
    /// had no file yet.
    pub(super) found_after: Option<Timestamp>,
    pub(super) state: ConnectionState,
    pub(super) ended_at: Option<Timestamp>,
    pub(super) rungs: RungSet,
    /// The interface, and whether it is the one nearest to the client.
    pub(super) interface: Option<(Arc<str>, bool)>,
    /// What the client calls its server, the first of each kind.
    pub(super) names: Vec<LearntName>,
    /// Other names that led to it.
    pub(super) rival_names: Box<[Arc<str>]>,
    /// The interface it was first seen on, and the end on the far side of that.
    pub(super) arrived: Option<(NonZeroU32, Side)>,
    /// The generation of the topology that its places were judged in.
    pub(super) judged_in: u64,
    pub(super) opened: bool,
    pub(super) closed: bool,
    /// Whether something that was told has changed since.
    pub(super) changed: bool,
    /// Whether it waits in the queue of records.
    pub(super) queued: bool,
    /// Whether it waits for packets that may take back what a look told.
    pub(super) awaits_packets: bool,
    /// Whether it waits to hear whether it is translated.
    pub(super) awaits_hearing: bool,
    /// When its one timer wakes it: at its deadline or before.
    pub(super) wakes_at: Option<Timestamp>,
    /// When unanswered ends are looked up.
    pub(super) lookup_at: Timestamp,
    /// The last silence after which its owners were asked for again.
    pub(super) resumed: Option<Resumed>,
    /// How often they were.
    pub(super) doubts: u8,
    /// Its payload.
    pub(super) bytes: ByteCounts,
    /// Where it is renamed on its way, if it is. The ends' endpoints are then those of before all of it.
    pub(super) path: Option<Box<Path>>,
}

impl Flow {
    /// A connection first seen `at`, whose side A is `tuple.local`.
    pub(super) fn new(tuple: FiveTuple, at: Timestamp) -> Self {
        Self {
            transport: tuple.transport,
            ends: [End::new(tuple.local), End::new(tuple.remote)],
            client: if tuple.local.port >= tuple.remote.port { Side::A } else { Side::B },
            role: Role::Unknown,
            isn: None,
            first_seen: at,
            last_seen: at,
            preexisting: false,
            found_after: None,
            state: ConnectionState::Connecting,
            ended_at: None,
            rungs: RungSet::EMPTY,
            interface: None,
            names: Vec::new(),
            rival_names: Box::default(),
            arrived: None,
            judged_in: 0,
            opened: false,
            closed: false,
            changed: false,
            queued: false,
            awaits_packets: false,
            awaits_hearing: false,
            wakes_at: None,
            lookup_at: at,
            resumed: None,
            doubts: 0,
            bytes: ByteCounts::default(),
            path: None,
        }
    }

    pub(super) const fn end(&self, side: Side) -> &End {
        let [a, b] = &self.ends;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    pub(super) const fn end_mut(&mut self, side: Side) -> &mut End {
        let [a, b] = &mut self.ends;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    pub(super) const fn both(&self) -> [(Side, &End); 2] {
        let [a, b] = &self.ends;
        [(Side::A, a), (Side::B, b)]
    }

    /// The flow as the socket at `side` sees it.
    pub(super) fn tuple(&self, side: Side) -> FiveTuple {
        match &self.path {
            Some(path) if path.asker != side => path.seen_by_answerer(),
            _ => FiveTuple {
                transport: self.transport,
                local: self.end(side).endpoint,
                remote: self.end(side.other()).endpoint,
            },
        }
    }

    /// All names that packets and sockets know it by, with `side` as the local end.
    pub(super) fn names(&self, side: Side) -> impl Iterator<Item = FiveTuple> + use<'_> {
        let plain = self.path.is_none().then(|| self.tuple(side));
        let steps = self.path.iter().flat_map(move |path| {
            let names = path.steps().flat_map(|step| step.names()).flatten();
            names.map(move |name| if path.asker == side { name } else { name.mirrored() })
        });
        plain.into_iter().chain(steps)
    }

    /// Takes the name that the server is called by; `false` if one of its kind is known.
    pub(super) fn learn_name(&mut self, name: LearntName) -> bool {
        let is_new = self.names.iter().all(|known| known.kind != name.kind);
        if is_new {
            self.names.push(name);
            self.changed |= self.opened;
        }
        is_new
    }

    /// Takes `client` for the client if `role` is better evidence than what is known.
    pub(super) fn learn_role(&mut self, client: Side, role: Role) {
        if role > self.role {
            self.changed |= self.opened && self.client != client;
            self.client = client;
            self.role = role;
        }
    }

    /// Whether no packet or kernel event has told of its beginning, but only tables of it.
    pub(super) const fn is_known_by_tables_alone(&self) -> bool {
        self.isn.is_none() && (self.preexisting || self.found_after.is_some())
    }

    /// Whether it was seen to begin, at [`Self::first_seen`].
    pub(super) const fn was_seen_to_begin(&self) -> bool {
        !self.preexisting && self.found_after.is_none()
    }

    /// It was seen to begin after all.
    pub(super) fn begins_in_our_time(&mut self) {
        self.preexisting = false;
        self.bytes.begin_at_none();
    }

    /// Refines one end's attribution; what was told before and is different now becomes an update.
    pub(super) fn attribute(
        &mut self,
        side: Side,
        attribution: Attribution,
        rung: Option<Rung>,
    ) -> Refinement {
        let opened = self.opened;
        let end = self.end_mut(side);
        if !end.attribution.is_weaker_than(&attribution) {
            return Refinement::Kept;
        }
        let before = end.attribution.clone();
        let outcome = end.attribution.refine(attribution);
        let tells_more = match (before.owning_process(), end.attribution.owning_process()) {
            (Some(before), Some(now)) => before.id != now.id || before.uid != now.uid,
            _ => before.owner != end.attribution.owner,
        };
        if tells_more {
            end.named_at = None;
        }
        if let Some(rung) = rung {
            self.rungs.insert(rung);
        }
        self.changed |= opened && tells_more;
        outcome
    }

    /// Notes since when owners are known: to be called whenever they may have changed.
    pub(super) fn note_owners(&mut self, now: Timestamp) {
        for end in &mut self.ends {
            end.named_at = if end.attribution.has_owner() { end.named_at.or(Some(now)) } else { None };
        }
    }

    /// Moves on to `state`, if the connection has not ended and `state` is later.
    pub(super) fn advance(&mut self, state: ConnectionState, at: Timestamp) {
        if self.state.is_end() || self.state == state || state == ConnectionState::Connecting {
            return;
        }
        self.changed |= self.opened && !state.is_end();
        self.state = state;
        if state.is_end() {
            self.ended_at = Some(at);
        }
    }

    /// Of a TCP connection older than netsnoop a use proves a holder, not who connected or accepted. Whether it is one
    /// shows by the time it is told of: a packet may still tell of its beginning after the first use.
    pub(super) fn doubt_users_of_an_older_one(&mut self) {
        if self.transport != Transport::Tcp || !self.preexisting {
            return;
        }
        for attribution in self.ends.iter_mut().map(|end| &mut end.attribution) {
            if let Some(user) = attribution.owning_process().map(|process| process.uid)
                && attribution.evidence == Some(Evidence::KernelFirstUse)
            {
                let uid = attribution.socket_uid.or(Some(user));
                *attribution = Attribution::namespace(Reason::Ambiguous, uid);
            }
        }
    }

    /// It is over: an owner nobody has named by now will not be named.
    pub(super) fn give_up_waiting(&mut self) {
        let waiting = self.ends.iter_mut().map(|end| &mut end.attribution);
        for attribution in waiting.filter(|attribution| attribution.reason() == Some(Reason::Pending)) {
            attribution.owner = Owner::Unattributed(Reason::GoneBeforeLookup);
        }
    }
}
