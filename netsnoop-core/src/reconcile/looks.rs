//! What a look for the sockets of certain ends tells: their owners, that another look is due, or why nobody is
//! known.
//!
//! Left out: what a row proves of its end's owner (`snapshots`, `table_owner`), and when to look (`questions`).

use core::time::Duration;

use alloc::vec::Vec;

use super::Reconciler;
use super::end::{Search, Side};
use super::flow_table::{FlowId, agrees};
use super::namespace_table::{NamespaceId, Place};
use super::snapshots::{Look, all_holders, evidence_of, incomplete, is_listener};
use crate::attribution::{Attribution, Evidence, Reason};
use crate::connection::{ConnectionState, Role};
use crate::five_tuple::{FiveTuple, Transport};
use crate::observation::{Exits, SocketSnapshot};
use crate::process::{Process, ProcessId};
use crate::socket::SocketRow;
use crate::socket_match::{Rows, awaits_accept, serves_anybody};
use crate::time::{PACKET_CLOCK_ERROR, Timestamp};

/// For how long one process that serves a port alone is taken to be the only one, if no relative of it has ended
/// meanwhile and nothing shows that it was so before. A worker may close what it served and live on for a while.
const ONE_LASTS: Duration = Duration::from_millis(20);
/// The same where exits are not heard of.
const UNHEARD_LASTS: Duration = Duration::from_millis(5);
/// How long after a look that told no process the next one comes: soon, as sockets are accepted and closed soon,
/// then less and less often.
const LOOK_PAUSES: [Duration; 4] = [
    Duration::from_millis(2),
    Duration::from_millis(10),
    Duration::from_millis(40),
    Duration::from_millis(150),
];

impl Reconciler {
    /// Rows that were asked for: each asked end takes the best row there is for it.
    pub(super) fn answer_wanted(
        &mut self,
        now: Timestamp,
        namespace: NamespaceId,
        snapshot: &SocketSnapshot,
    ) {
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
            let connected = best.iter().any(|row| !is_listener(row));
            let listening = all_holders(&rows.answering(&tuple.listening()));
            let serving = serving(&rows, &tuple, &best);
            let late = self.is_late(asked, (namespace, &serving), snapshot);
            if is_whole(&serving) {
                self.serving.note(namespace, &serving, snapshot.searched);
            }
            if connected && self.may_be_of_another(asked, (snapshot.started, snapshot.finished)) {
                let listening = if late { Vec::new() } else { listening };
                let gone = self.owner_of_the_gone(asked, listening).or_user(snapshot.only_user);
                self.end_search(now, asked, gone);
                continue;
            }
            let cookie = if let [row] = *best { row.cookie } else { None };
            let found = holders_in(&best);
            let (id, side) =
                self.judge_after_silence(now, asked, (found.as_deref().map_err(|lack| *lack), cookie));
            self.note_datagram_socket((id, side), cookie);
            let pause = self.pause_before_next_look((id, side), &best);
            let look = Look {
                rung: snapshot.rung,
                listening: &listening,
                again: pause.is_some(),
                only_user: snapshot.only_user,
                late,
            };
            match best.as_slice() {
                rows if rows.iter().all(|row| is_listener(row)) => {
                    self.take_listener_rows((id, side), rows, &look)
                }
                [row] => self.take_row((id, side), row, &look),
                [row, ..] if late => self.attribute(id, side, incomplete(row), Some(snapshot.rung)),
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

    /// Whether `serving` may be others than those who served the port when a connection to it began: a worker of a
    /// group may have left since, and was perhaps the one.
    fn is_late(
        &self,
        (id, side): (FlowId, Side),
        (namespace, serving): (NamespaceId, &[&SocketRow]),
        snapshot: &SocketSnapshot,
    ) -> bool {
        let Some(flow) = self.flows.get(id) else { return false };
        let holds = |holder: ProcessId| {
            serving.iter().any(|row| row.holders.iter().any(|process| process.id == holder))
        };
        let since_then = |(holder, ended): &(ProcessId, Timestamp)| {
            *ended + PACKET_CLOCK_ERROR >= flow.first_seen && holds(*holder)
        };
        let is_one = matches!(serving, [row] if row.inode.is_some() && row.holders.len() <= 1);
        let is_whole = is_whole(serving);
        let exits = snapshot.exits.as_ref();
        let may_have_left = match exits {
            // Those who are several come and go; who leaves may close its socket and live on.
            _ if !is_one || !is_whole => true,
            Some(exits) if exits.known_since <= flow.first_seen => {
                snapshot.searched > flow.first_seen + ONE_LASTS || exits.relatives.iter().any(since_then)
            }
            _ => snapshot.searched > flow.first_seen + UNHEARD_LASTS,
        };
        let is_asked_for = !serving.is_empty() && (!is_one || flow.client != side);
        let child_may_have_left =
            |exits: &Exits| exits.known_since > flow.first_seen || exits.children.iter().any(since_then);
        let stood = || {
            is_whole
                && self.serving.stood(namespace, serving, flow.first_seen)
                && !exits.is_some_and(child_may_have_left)
        };
        is_asked_for && may_have_left && !flow.preexisting && !stood()
    }

    /// Notes who serves which port.
    pub(super) fn note_serving(&mut self, namespace: NamespaceId, snapshot: &SocketSnapshot) {
        let mut serving: Vec<&SocketRow> =
            snapshot.sockets.iter().filter(|row| serves_anybody(row)).collect();
        serving.retain(|row| is_whole(&[row]));
        serving.sort_by_key(|row| row.tuple);
        for port in serving.chunk_by(|one, other| one.tuple == other.tuple) {
            self.serving.note(namespace, port, snapshot.searched);
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

    /// The flow and side of an end whose socket calls it `tuple`, and that is looked up by a question that went out at
    /// `asked_at` or before.
    fn searching(
        &self,
        namespace: NamespaceId,
        tuple: FiveTuple,
        asked_at: Timestamp,
    ) -> Option<(FlowId, Side)> {
        let searching = self.flows.find(tuple).filter(|(_, side, flow)| {
            let end = flow.end(*side);
            let is_older = flow.first_seen <= asked_at + PACKET_CLOCK_ERROR;
            let is_own_name = agrees(flow.tuple(*side), tuple);
            is_older && is_own_name && end.search == Search::Asked && end.namespace_id() == Some(namespace)
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
        let judged = self.judge_after_silence(now, asked, (found, None));
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
    /// a pod is given the address of one that is gone. Where it is heard who has an address when, that is known.
    fn doubt_places(
        &mut self,
        now: Timestamp,
        (namespace, wanted): (NamespaceId, &[FiveTuple]),
        oldest: Timestamp,
    ) {
        if self.settings.topology_changes && self.namespaces.is_numbered(namespace) {
            return;
        }
        for tuple in wanted {
            if let Some((id, side)) = self.searching(namespace, *tuple, now)
                && let Some(flow) = self.flows.get_mut(id)
                && flow.end(side).is_placed_by_address()
                && flow.first_seen + PACKET_CLOCK_ERROR < oldest
            {
                flow.end_mut(side).place_says(Place::Ambiguous, None);
                flow.end_mut(side).place_doubted = true;
                flow.end_mut(side).search = Search::Done;
                self.review(now, id);
            }
        }
    }

    pub(super) fn missing(
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

/// The rows that serve the port of `tuple`'s own end; `best` are those that answer for it.
fn serving<'a>(rows: &Rows<'a>, tuple: &FiveTuple, best: &[&'a SocketRow]) -> Vec<&'a SocketRow> {
    match tuple.transport {
        Transport::Tcp => rows.answering(&tuple.listening()),
        Transport::Udp | Transport::UdpLite => {
            best.iter().copied().filter(|row| serves_anybody(row)).collect()
        }
    }
}

/// Whether all were looked at who could hold these, as far as that is allowed at all: a search that was cut short may
/// have met but one of many.
fn is_whole(rows: &[&SocketRow]) -> bool {
    rows.iter().all(|row| row.holders_lack != Some(Reason::Lost))
}

/// Whether another look soon may tell more: of several listeners one will accept; a socket that has a file but no
/// holder is just being accepted, or its holder was missed.
fn may_improve(rows: &[&SocketRow]) -> bool {
    let awaits = rows.iter().all(|row| is_listener(row) || awaits_accept(row));
    awaits || rows.iter().any(|row| row.inode.is_some() && row.holders.is_empty())
}

/// All who hold one of the rows, or why none is known. A row that nobody holds was closed by its process.
fn holders_in(rows: &[&SocketRow]) -> Result<Vec<Process>, Reason> {
    let holders = all_holders(rows);
    let lack = rows.iter().find_map(|row| row.holders_lack);
    if holders.is_empty() { Err(lack.unwrap_or(Reason::GoneBeforeLookup)) } else { Ok(holders) }
}
