//! What looks at socket tables tell: connections older than netsnoop, listeners, and the owners of ends
//! that no event named.

use core::time::Duration;

use super::Reconciler;
use super::flow::{Search, Side};
use super::flow_table::FlowId;
use super::listener_table::Listener;
use super::matching::Sighting;
use super::namespace_table::{NamespaceId, Place};
use crate::attribution::{Attribution, Evidence, Reason, Rung};
use crate::connection::{ConnectionState, Role};
use crate::five_tuple::{FiveTuple, Transport};
use crate::observation::{SnapshotScope, SocketSnapshot};
use crate::process::Process;
use crate::socket::{SocketRow, TcpState};
use crate::socket_match::{answering_rows, awaits_accept};
use crate::time::Timestamp;

use alloc::vec::Vec;

/// How far the clocks of packets and processes may be apart. Start times are rounded down to a tick of 10 ms, so
/// one that is later than this is later indeed.
const STAMP_TOLERANCE: Duration = Duration::from_millis(1);

/// How strong what a rung's tables show is.
const fn evidence_of(rung: Rung) -> Evidence {
    match rung {
        Rung::SockDiag => Evidence::SockDiag,
        Rung::Proc => Evidence::Proc,
        _ => Evidence::SocketIterator,
    }
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
            SnapshotScope::Wanted { missing } => {
                self.answer_wanted(now, namespace, &snapshot);
                for (tuple, reason) in missing {
                    self.missing(now, (namespace, *tuple), snapshot.started, *reason);
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
                let id = self.add_flow(now, row.tuple, snapshot.started);
                if let Some(flow) = self.flows.get_mut(id) {
                    flow.preexisting = true;
                }
                (id, Side::A)
            }
        };
        self.set_place(id, side, Place::Local(namespace), true);
        self.set_place(id, side.other(), sighting.places[1], false);
        if let Some(flow) = self.flows.get_mut(id) {
            flow.end_mut(side).cookie = flow.end(side).cookie.or(row.cookie);
        }
        self.learn_role_from_listeners(id);
        self.take_row(id, side, row, snapshot.rung);
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

    /// Attributes an end by a row of its own socket.
    fn take_row(&mut self, id: FlowId, side: Side, row: &SocketRow, rung: Rung) {
        let Some(flow) = self.flows.get(id) else { return };
        if awaits_accept(row) {
            // The same snapshot showed who listens.
            return self.attribute_listener(id, side);
        }
        let is_client = flow.client == side && flow.role >= Role::Syn;
        // A process that is younger than the SYN cannot have sent it: the port was used again since.
        let newest_start = flow.first_seen + STAMP_TOLERANCE;
        let too_young = row.holders.iter().any(|holder| holder.id.started_at() > newest_start);
        let attribution = if is_client && too_young {
            Attribution::namespace(Reason::GoneBeforeLookup, row.uid)
        } else if let (true, Some(reason)) = (row.holders.is_empty(), row.holders_lack) {
            Attribution::namespace(reason, row.uid)
        } else {
            Attribution::holders(row.holders.clone(), evidence_of(rung), row.uid)
        };
        self.attribute(id, side, attribution, Some(rung));
        if let Some(flow) = self.flows.get_mut(id) {
            flow.end_mut(side).search = Search::Done;
            if !matches!(row.state, TcpState::SYN_SENT | TcpState::SYN_RECV | TcpState::CLOSE) {
                flow.advance(ConnectionState::Established, flow.last_seen);
            }
        }
    }

    /// Rows that were asked for: each asked end takes the best row there is for it.
    fn answer_wanted(&mut self, now: Timestamp, namespace: NamespaceId, snapshot: &SocketSnapshot) {
        let asked = self.questions.outstanding(namespace);
        for tuple in asked {
            let Some(asked) = self.searching(namespace, tuple, snapshot.started) else { continue };
            let best = answering_rows(&tuple, &snapshot.sockets);
            if best.is_empty() {
                continue;
            }
            let connected = best.iter().any(|row| !is_listener(row) && !row.holders.is_empty());
            if connected && self.may_be_of_another(asked, (snapshot.started, snapshot.finished)) {
                self.end_search(now, asked, Attribution::namespace(Reason::GoneBeforeLookup, None));
                continue;
            }
            let (id, side) =
                self.judge_after_silence(now, asked, holders_in(&best).as_deref().map_err(|r| *r));
            match best.as_slice() {
                rows if rows.iter().all(|row| is_listener(row)) => self.take_listener_rows(id, side, rows),
                [row] => self.take_row(id, side, row, snapshot.rung),
                rows => {
                    let mut holders = Vec::new();
                    rows.iter().for_each(|row| holders.extend_from_slice(&row.holders));
                    let shared = Attribution::holders(holders, evidence_of(snapshot.rung), None);
                    self.attribute(id, side, shared, Some(snapshot.rung));
                }
            }
            if let Some(flow) = self.flows.get_mut(id) {
                flow.end_mut(side).search = Search::Done;
                flow.end_mut(side).looked_at = Some(snapshot.finished);
            }
            self.learn_role_from_listeners(id);
            self.review(now, id);
        }
    }

    fn take_listener_rows(&mut self, id: FlowId, side: Side, rows: &[&SocketRow]) {
        let mut holders = Vec::new();
        rows.iter().for_each(|row| holders.extend_from_slice(&row.holders));
        let lack = rows.iter().find_map(|row| row.holders_lack.filter(|_| row.holders.is_empty()));
        let uid = rows.first().and_then(|row| row.uid);
        let attribution = match lack {
            None => Attribution::holders(holders, Evidence::Listener, uid),
            Some(reason) => Attribution::namespace(reason, uid),
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

    fn missing(
        &mut self,
        now: Timestamp,
        (namespace, tuple): (NamespaceId, FiveTuple),
        asked_at: Timestamp,
        reason: Reason,
    ) {
        let probe_age = self.settings.tcp_probe;
        if let Some((id, _)) = self.searching(namespace, tuple, asked_at)
            && let Some(flow) = self.flows.get_mut(id)
            && flow.opened
            && reason == Reason::GoneBeforeLookup
            && now.since(flow.first_seen) >= probe_age
        {
            // It was looked up because nothing was heard of it; its end was missed.
            flow.advance(ConnectionState::Closed, now);
        }
        self.settle_search(now, (namespace, tuple), asked_at, Attribution::namespace(reason, None));
    }
}

/// All who hold one of the rows, or why none is known. A row that nobody holds was closed by its process.
fn holders_in(rows: &[&SocketRow]) -> Result<Vec<Process>, Reason> {
    let holders: Vec<Process> = rows.iter().flat_map(|row| &row.holders).copied().collect();
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
