//! What looks at socket tables tell: connections older than netsnoop, listeners, and what a row says of its end.
//!
//! Left out: what follows for the ends that were asked about (`looks`).

use super::Reconciler;
use super::end::{Search, Side};
use super::flow::Flow;
use super::flow_table::FlowId;
use super::listener_table::Listener;
use super::matching::Sighting;
use super::namespace_table::{NamespaceId, Place};
use super::table_owner::{Origin, owner_of};
use super::translation::FirstSight;
use crate::attribution::{Attribution, Evidence, Reason, Rung};
use crate::connection::{ConnectionState, Role};
use crate::five_tuple::Transport;
use crate::observation::{SnapshotScope, SocketSnapshot};
use crate::process::Process;
use crate::socket::{SocketRow, TcpState};
use crate::socket_match::{awaits_accept, serves_anybody};
use crate::time::Timestamp;

use alloc::vec::Vec;

/// How strong what a rung's tables show is.
pub(super) const fn evidence_of(rung: Rung) -> Evidence {
    match rung {
        Rung::SockDiag => Evidence::SockDiag,
        Rung::Proc => Evidence::Proc,
        _ => Evidence::SocketIterator,
    }
}

/// What belongs to a row.
pub(super) struct Look<'a> {
    pub(super) rung: Rung,
    /// Who may have accepted the socket.
    pub(super) listening: &'a [Process],
    /// Whether there will be another look, so that nothing is told of a row without an owner.
    pub(super) again: bool,
    pub(super) only_user: Option<u32>,
    /// Whether others may have served the port when the connection began than those it found.
    pub(super) late: bool,
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
                self.note_serving(namespace, &snapshot);
                self.living.look(namespace, snapshot.started);
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
        self.learn_keeper(now, namespace, &snapshot);
    }

    fn row_sighting(&self, namespace: NamespaceId, row: &SocketRow, at: Timestamp) -> Sighting {
        let remote = self.namespaces.place_seen_from(namespace, row.tuple.remote.address, at);
        Sighting::in_table((row.tuple, row.cookie), namespace, remote)
    }

    /// A connected socket of a whole table: known already, or older than netsnoop.
    fn learn_connected(
        &mut self,
        now: Timestamp,
        namespace: NamespaceId,
        row: &SocketRow,
        snapshot: &SocketSnapshot,
    ) {
        let sighting = self.row_sighting(namespace, row, snapshot.started);
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
                &Look { rung: snapshot.rung, listening: &[], again: false, only_user: None, late: false },
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
    pub(super) fn take_row(&mut self, (id, side): (FlowId, Side), row: &SocketRow, look: &Look<'_>) {
        let Some(flow) = self.flows.get(id) else { return };
        if awaits_accept(row) {
            // The same snapshot showed who listens.
            return if look.late {
                self.attribute(id, side, incomplete(row), Some(look.rung));
            } else {
                self.attribute_listener(id, side);
            };
        }
        let attribution = owner_of(row, origin(flow, side, look.listening), evidence_of(look.rung));
        let attribution = attribution.or_user(look.only_user);
        let is_by_port = serves_anybody(row) || attribution.evidence == Some(Evidence::Listener);
        let attribution = if look.late && is_by_port { incomplete(row) } else { attribution };
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

    pub(super) fn take_listener_rows(
        &mut self,
        (id, side): (FlowId, Side),
        rows: &[&SocketRow],
        look: &Look<'_>,
    ) {
        let holders = all_holders(rows);
        let lack = rows.iter().find_map(|row| row.holders_lack.filter(|_| row.holders.is_empty()));
        let uid = rows.first().and_then(|row| row.uid);
        let attribution = match (lack, rows.first().filter(|_| look.late)) {
            (None, None) => Attribution::holders(holders, Evidence::Listener, uid),
            (None, Some(row)) => incomplete(row),
            (Some(reason), _) => Attribution::namespace(reason, uid),
        };
        self.attribute(id, side, attribution, None);
    }
}

/// What is told of an end by a look that may have missed some of those who served its port.
pub(super) const fn incomplete(row: &SocketRow) -> Attribution {
    Attribution::namespace(Reason::Ambiguous, row.uid)
}

/// How the end came by its socket, as far as packets told.
fn origin<'a>(flow: &Flow, side: Side, listening: &'a [Process]) -> Origin<'a> {
    let is_client = flow.client == side;
    match flow.transport {
        _ if flow.preexisting => Origin::Unseen,
        Transport::Tcp if let Some(before) = flow.found_after => {
            let is_server = flow.role >= Role::Listener && !is_client;
            if is_server { Origin::Accepted(before, listening) } else { Origin::Found }
        }
        Transport::Udp | Transport::UdpLite => Origin::Used(flow.first_seen),
        Transport::Tcp if flow.role < Role::Syn => Origin::Unseen,
        Transport::Tcp if is_client => Origin::Connected(flow.first_seen),
        Transport::Tcp => Origin::Accepted(flow.first_seen, listening),
    }
}

pub(super) fn all_holders(rows: &[&SocketRow]) -> Vec<Process> {
    rows.iter().flat_map(|row| &row.holders).copied().collect()
}

pub(super) fn is_listener(row: &SocketRow) -> bool {
    row.tuple.transport == Transport::Tcp && row.state == TcpState::LISTEN
}

fn is_connected(row: &SocketRow) -> bool {
    let waits = matches!(row.state, TcpState::TIME_WAIT | TcpState::LISTEN | TcpState::NEW_SYN_RECV);
    row.tuple.remote.port != 0 && row.tuple.local.port != 0 && !waits
}
