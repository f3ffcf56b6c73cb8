//! One connection while it is held: its two ends, and how it stands.

use core::num::NonZeroU32;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::byte_counts::ByteCounts;
use super::end::{End, Side};
use super::path::Path;
use crate::attribution::{Attribution, Evidence, Owner, Reason, Refinement, Rung, RungSet};
use crate::connection::{ConnectionState, IoSource, Role};
use crate::five_tuple::{FiveTuple, Transport};
use crate::service::LearntName;
use crate::socket::Payload;
use crate::time::Timestamp;

/// The silence that a flow was taken up again after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resumed {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
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

    /// What the kernel counted at the socket of `side`.
    pub(super) fn count_socket(&mut self, side: Side, payload: Payload, source: IoSource) {
        let is_older = self.preexisting;
        self.bytes.learn(side, payload, source, is_older);
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
