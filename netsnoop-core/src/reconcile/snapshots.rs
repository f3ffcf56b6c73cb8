//! What looks at socket tables tell: connections older than netsnoop, listeners, and the owners of ends
//! that no event named.

use core::time::Duration;

use super::Reconciler;
use super::flow::{Flow, Search, Side};
use super::flow_table::FlowId;
use super::listener_table::Listener;
use super::matching::Sighting;
use super::namespace_table::{NamespaceId, Place};
use super::table_owner::{Origin, owner_of};
use super::translation::FirstSight;
use crate::attribution::{Attribution, Evidence, Reason, Rung};
use crate::connection::{ConnectionState, Role};
use crate::five_tuple::{FiveTuple, Transport};
use crate::observation::{SnapshotScope, SocketSnapshot};
use crate::process::Process;
use crate::socket::{SocketRow, TcpState};
use crate::socket_match::{Rows, awaits_accept};
use crate::time::Timestamp;

use alloc::vec::Vec;

/// How far the clocks of packets and looks may be apart.
const STAMP_TOLERANCE: Duration = Duration::from_millis(1);
/// For how long a group of sockets at one port is taken to be the same.
const GROUP_LASTS: Duration = Duration::from_millis(5);
/// How long after a look that told no process the next one comes: soon, as sockets are accepted and closed soon,
/// then less and less often.
const LOOK_PAUSES: [Duration; 4] = [
    Duration::from_millis(2),
    Duration::from_millis(10),
    Duration::from_millis(40),
    Duration::from_millis(150),
];

/// How strong what a rung's tables show is.
const fn evidence_of(rung: Rung) -> Evidence {
    match rung {
        Rung::SockDiag => Evidence::SockDiag,
        Rung::Proc => Evidence::Proc,
        _ => Evidence::SocketIterator,
    }
}

/// What belongs to a row.
struct Look<'a> {
    rung: Rung,
    /// Who may have accepted the socket.
    listening: &'a [Process],
    /// Whether there will be another look, so that nothing is told of a row without an owner.
    again: bool,
    only_user: Option<u32>,
    /// When it began.
    started: Timestamp,
}

impl Reconciler {
    pub(super) fn handle_snapshot(&mut self, now: Timestamp, snapshot: SocketSnapshot) {
        let namespace = self.namespaces.resolve(snapshot.namespace);
        for row in snapshot.sockets.iter().filter(|row| is_listener(row)) {
            let listener =
                Listener { local: row.tuple.local, cookie: row.cookie, holders: row.holders.clone() };
            self.listeners.insert(namespace, row.tuple.transport, listener);
        }
        match &snapshot.scope {
            SnapshotScope::Whole => {
                for row in snapshot.sockets.iter().filter(|row| is_connected(row)) {
                    self.learn_connected(now, namespace, row, &snapshot);
                }
            }
            SnapshotScope::Ended => {
                let asked = self.questions.outstanding(namespace);
                self.answer_for_ended_namespace(now, namespace, &asked);
            }
            SnapshotScope::Wanted { missing } => {
                self.answer_wanted(now, namespace, &snapshot);
                for (tuple, reason) in missing {
                    let answer = Attribution::namespace(*reason, None).or_user(snapshot.only_user);
                    self.missing(now, (namespace, *tuple), snapshot.started, answer);
                }
                self.questions.answered(namespace);
            }
        }
    }

    fn row_sighting(&self, namespace: NamespaceId, row: &SocketRow) -> Sighting {
        let remote = self.namespaces.place_seen_from(namespace, row.tuple.remote.address);
        Sighting {
            tuple: row.tuple,
            namespace: Some(namespace),
            places: [Place::Local(namespace), remote],
            cookie: row.cookie,
            sock_address: 0,
            isn: None,
            begins: false,
            at: None,
        }
    }

    /// A connected socket of a whole table: known already, or older than netsnoop.
    fn learn_connected(
        &mut self,
        now: Timestamp,
        namespace: NamespaceId,
        row: &SocketRow,
        snapshot: &SocketSnapshot,
    ) {
        let sighting = self.row_sighting(namespace, row);
        let found = self
            .locate(&sighting)
            .filter(|(id, _)| self.flows.get(*id).is_some_and(|flow| !flow.state.is_end()));
        let (id, side) = match found {
            Some(found) => found,
            None => {
                let (tuple, at) = (row.tuple, snapshot.started);
                let first = FirstSight { tuple, at, namespace: Some(namespace), asks: false };
                let id = self.add_flow(now, &first);
                if let Some(flow) = self.flows.get_mut(id) {
                    flow.preexisting = true;
                }
                (id, Side::A)
            }
        };
        self.set_place(id, side, Place::Local(namespace), true);
        self.place_by_address(id, side.other(), row.tuple.remote, sighting.places[1]);
        if let Some(flow) = self.flows.get_mut(id) {
            flow.end_mut(side).cookie = flow.end(side).cookie.or(row.cookie);
        }
        self.learn_role_from_listeners(id);
        // Of a connection that packets have told of, a look of its own tells more.
        if self.flows.get(id).is_some_and(|flow| flow.preexisting) {
            self.take_row(
                (id, side),
                row,
                &Look {
                    rung: snapshot.rung,
                    listening: &[],
                    again: false,
                    only_user: None,
                    started: snapshot.started,
                },
            );
            if let Some(flow) = self.flows.get_mut(id) {
                flow.end_mut(side).search = Search::Done;
            }
        }
        self.review(now, id);
    }

    /// The end whose port somebody listens on is the server's.
    pub(super) fn learn_role_from_listeners(&mut self, id: FlowId) {
        let Some(flow) = self.flows.get(id) else { return };
        let listens = |side: Side| {
            let end = flow.end(side);
            end.namespace_id()
                .is_some_and(|namespace| self.listeners.listens(namespace, flow.transport, end.endpoint))
        };
        let client = match (listens(Side::A), listens(Side::B)) {
            (true, false) => Side::B,
            (false, true) => Side::A,
            _ => return,
        };
        if let Some(flow) = self.flows.get_mut(id) {
            flow.learn_role(client, Role::Listener);
        }
    }

    /// Attributes an end by a row of its own socket. `listening` are who may have accepted it, if that was asked.
    fn take_row(&mut self, (id, side): (FlowId, Side), row: &SocketRow, look: &Look<'_>) {
        let Some(flow) = self.flows.get(id) else { return };
        if awaits_accept(row) {
            // The same snapshot showed who listens.
            return self.attribute_listener(id, side);
        }
        let attribution = owner_of(row, origin(flow, side, look.listening), evidence_of(look.rung));
        let attribution = attribution.or_user(look.only_user);
        let attribution = if is_late_group(flow, row, look.started) { incomplete(row) } else { attribution };
        let end = flow.end(side);
        // The one that listened alone when the SYN came is the only one that can have accepted.
        let is_known = end.attribution.evidence == Some(Evidence::Listener)
            && end.attribution.owning_process().is_some();
        if !is_known && (attribution.has_owner() || !look.again) {
            self.attribute(id, side, attribution, Some(look.rung));
        }
        if let Some(flow) = self.flows.get_mut(id)
            && !matches!(row.state, TcpState::SYN_SENT | TcpState::SYN_RECV | TcpState::CLOSE)
        {
            flow.advance(ConnectionState::Established, flow.last_seen);
        }
    }

    /// Rows that were asked for: each asked end takes the best row there is for it.
    fn answer_wanted(&mut self, now: Timestamp, namespace: NamespaceId, snapshot: &SocketSnapshot) {
        let asked = self.questions.outstanding(namespace);
        if let Some(oldest) = snapshot.oldest_process {
            self.doubt_places(now, (namespace, &asked), oldest);
        }
        let rows = Rows::new(&snapshot.sockets);
        for tuple in asked {
            let Some(asked) = self.searching(namespace, tuple, snapshot.started) else { continue };
            let best = rows.answering(&tuple);
            if best.is_empty() {
                continue;
            }
            let connected = best.iter().any(|row| !is_listener(row) && !row.holders.is_empty());
            let listening = all_holders(&rows.answering(&tuple.listening()));
            if connected && self.may_be_of_another(asked, (snapshot.started, snapshot.finished)) {
                let gone = self.owner_of_the_gone(asked, listening).or_user(snapshot.only_user);
                self.end_search(now, asked, gone);
                continue;
            }
            let (id, side) =
                self.judge_after_silence(now, asked, holders_in(&best).as_deref().map_err(|r| *r));
            let pause = self.pause_before_next_look((id, side), &best);
            let look = Look {
                rung: snapshot.rung,
                listening: &listening,
                again: pause.is_some(),
                only_user: snapshot.only_user,
                started: snapshot.started,
            };
            match best.as_slice() {
                rows if rows.iter().all(|row| is_listener(row)) => {
                    self.take_listener_rows((id, side), rows, &look)
                }
                [row] => self.take_row((id, side), row, &look),
                rows => {
                    let shared = Attribution::holders(all_holders(rows), evidence_of(snapshot.rung), None);
                    self.attribute(id, side, shared, Some(snapshot.rung));
                }
            }
            self.looked((id, side), snapshot.finished, pause.map(|pause| now + pause));
            self.learn_role_from_listeners(id);
            self.review(now, id);
        }
    }

    /// What is left to say of an end whose socket is gone: who accepted it was one of those who listen.
    fn owner_of_the_gone(&self, (id, side): (FlowId, Side), listening: Vec<Process>) -> Attribution {
        let is_server = self.flows.get(id).is_some_and(|flow| flow.role >= Role::Syn && flow.client != side);
        if is_server && !listening.is_empty() {
            Attribution::holders(listening, Evidence::Listener, None)
        } else {
            Attribution::namespace(Reason::GoneBeforeLookup, None)
        }
    }

    /// How long until another look may tell more than these rows do; `None` if none will.
    fn pause_before_next_look(&self, (id, side): (FlowId, Side), rows: &[&SocketRow]) -> Option<Duration> {
        let flow = self.flows.get(id)?;
        let end = flow.end(side);
        let may = !flow.state.is_end() && end.attribution.owning_process().is_none() && may_improve(rows);
        LOOK_PAUSES.get(usize::from(end.looks)).copied().filter(|_| may)
    }

    fn looked(&mut self, (id, side): (FlowId, Side), finished: Timestamp, again: Option<Timestamp>) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        let end = flow.end_mut(side);
        end.looked_at = Some(finished);
        end.looks = end.looks.saturating_add(1);
        // One listener alone is who will accept.
        let again = again.filter(|_| end.attribution.owning_process().is_none());
        end.search = again.map_or(Search::Done, Search::Again);
    }

    fn take_listener_rows(&mut self, (id, side): (FlowId, Side), rows: &[&SocketRow], look: &Look<'_>) {
        let holders = all_holders(rows);
        let lack = rows.iter().find_map(|row| row.holders_lack.filter(|_| row.holders.is_empty()));
        let uid = rows.first().and_then(|row| row.uid);
        let is_late =
            |row: &&&SocketRow| self.flows.get(id).is_some_and(|flow| is_late_group(flow, row, look.started));
        let attribution = match (lack, rows.iter().find(is_late)) {
            (None, None) => Attribution::holders(holders, Evidence::Listener, uid),
            (None, Some(row)) => incomplete(row),
            (Some(reason), _) => Attribution::namespace(reason, uid),
        };
        self.attribute(id, side, attribution, None);
    }

    /// The flow and side of an end of `tuple` that is looked up by a question that went out at `asked_at` or
    /// before.
    fn searching(
        &self,
        namespace: NamespaceId,
        tuple: FiveTuple,
        asked_at: Timestamp,
    ) -> Option<(FlowId, Side)> {
        let searching = self.flows.find(tuple).filter(|(_, side, flow)| {
            let end = flow.end(*side);
            let is_older = flow.first_seen <= asked_at + STAMP_TOLERANCE;
            is_older && end.search == Search::Asked && end.namespace_id() == Some(namespace)
        });
        searching.map(|(id, side, _)| (id, side)).max_by_key(|(id, _)| *id)
    }

    /// Ends the search for an end with an answer that names no row.
    pub(super) fn settle_search(
        &mut self,
        now: Timestamp,
        (namespace, tuple): (NamespaceId, FiveTuple),
        asked_at: Timestamp,
        answer: Attribution,
    ) {
        let Some(asked) = self.searching(namespace, tuple, asked_at) else { return };
        let found = Err(answer.reason().unwrap_or(Reason::Lost));
        let judged = self.judge_after_silence(now, asked, found);
        self.end_search(now, judged, answer);
    }

    fn end_search(&mut self, now: Timestamp, (id, side): (FlowId, Side), answer: Attribution) {
        self.attribute(id, side, answer, None);
        if let Some(flow) = self.flows.get_mut(id) {
            flow.end_mut(side).search = Search::Done;
        }
        self.review(now, id);
    }

    /// Nobody can say any more who owned the ends in a namespace that has ended.
    pub(super) fn answer_for_ended_namespace(
        &mut self,
        now: Timestamp,
        namespace: NamespaceId,
        wanted: &[FiveTuple],
    ) {
        self.doubt_places(now, (namespace, wanted), now);
        for tuple in wanted {
            let answer = Attribution::namespace(Reason::GoneBeforeLookup, None);
            self.settle_search(now, (namespace, *tuple), now, answer);
        }
        self.questions.answered(namespace);
    }

    /// Takes back that ends are in `namespace`, where only an address said so and nobody was there before `oldest`:
    /// a pod is given the address of one that is gone.
    fn doubt_places(
        &mut self,
        now: Timestamp,
        (namespace, wanted): (NamespaceId, &[FiveTuple]),
        oldest: Timestamp,
    ) {
        for tuple in wanted {
            if let Some((id, side)) = self.searching(namespace, *tuple, now)
                && let Some(flow) = self.flows.get_mut(id)
                && !flow.end(side).place_certain
                && flow.first_seen + STAMP_TOLERANCE < oldest
            {
                flow.end_mut(side).place_says(Place::Ambiguous, None);
                flow.end_mut(side).search = Search::Done;
                self.review(now, id);
            }
        }
    }

    fn missing(
        &mut self,
        now: Timestamp,
        (namespace, tuple): (NamespaceId, FiveTuple),
        asked_at: Timestamp,
        answer: Attribution,
    ) {
        let probe_age = self.settings.tcp_probe;
        if let Some((id, _)) = self.searching(namespace, tuple, asked_at)
            && let Some(flow) = self.flows.get_mut(id)
            && flow.opened
            && answer.reason() == Some(Reason::GoneBeforeLookup)
            && now.since(flow.first_seen) >= probe_age
        {
            // It was looked up because nothing was heard of it; its end was missed.
            flow.advance(ConnectionState::Closed, now);
        }
        self.settle_search(now, (namespace, tuple), asked_at, answer);
    }
}

/// Whether `row` stands for a group of sockets (`SO_REUSEPORT`) that may have been larger when the flow began: what
/// was sent then went to one of them, perhaps to one that was closed since.
fn is_late_group(flow: &Flow, row: &SocketRow, looked: Timestamp) -> bool {
    let is_group = row.inode.is_none() && row.holders.len() > 1;
    is_group && !flow.preexisting && looked > flow.first_seen + GROUP_LASTS
}

const fn incomplete(row: &SocketRow) -> Attribution {
    Attribution::namespace(Reason::Ambiguous, row.uid)
}

/// How the end came by its socket, as far as packets told.
fn origin<'a>(flow: &Flow, side: Side, listening: &'a [Process]) -> Origin<'a> {
    let is_client = flow.client == side;
    match flow.transport {
        _ if flow.preexisting => Origin::Unseen,
        Transport::Udp | Transport::UdpLite => Origin::Used(flow.first_seen),
        Transport::Tcp if flow.role < Role::Syn => Origin::Unseen,
        Transport::Tcp if is_client => Origin::Connected(flow.first_seen),
        Transport::Tcp => Origin::Accepted(flow.first_seen, listening),
    }
}

/// Whether another look soon may tell more: of several listeners one will accept; a socket that has a file but no
/// holder is just being accepted, or its holder was missed.
fn may_improve(rows: &[&SocketRow]) -> bool {
    let awaits = rows.iter().all(|row| is_listener(row) || awaits_accept(row));
    awaits || rows.iter().any(|row| row.inode.is_some() && row.holders.is_empty())
}

fn all_holders(rows: &[&SocketRow]) -> Vec<Process> {
    rows.iter().flat_map(|row| &row.holders).copied().collect()
}

/// All who hold one of the rows, or why none is known. A row that nobody holds was closed by its process.
fn holders_in(rows: &[&SocketRow]) -> Result<Vec<Process>, Reason> {
    let holders = all_holders(rows);
    let lack = rows.iter().find_map(|row| row.holders_lack);
    if holders.is_empty() { Err(lack.unwrap_or(Reason::GoneBeforeLookup)) } else { Ok(holders) }
}

fn is_listener(row: &SocketRow) -> bool {
    row.tuple.transport == Transport::Tcp && row.state == TcpState::LISTEN
}

fn is_connected(row: &SocketRow) -> bool {
    let waits = matches!(row.state, TcpState::TIME_WAIT | TcpState::LISTEN | TcpState::NEW_SYN_RECV);
    row.tuple.remote.port != 0 && row.tuple.local.port != 0 && !waits
}
