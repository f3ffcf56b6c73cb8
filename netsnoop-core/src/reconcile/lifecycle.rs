//! When a connection is told of, looked up, closed and forgotten.

use core::time::Duration;

use alloc::vec::Vec;

use smallvec::SmallVec;

use super::end::{End, Search, Side};
use super::flow::Flow;
use super::flow_table::FlowId;
use super::namespace_table::Place;
use super::{Reconciler, enter_ends};
use crate::attribution::{Attribution, Evidence, Owner, Reason};
use crate::connection::{ConnectionState, Role};
use crate::five_tuple::Transport;
use crate::process::{Process, ProcessFacts};
use crate::time::Timestamp;

/// Where kernel hooks report, an event is at most this much behind its packet; only then is it missed.
const HOOK_LATENCY: Duration = Duration::from_millis(25);
/// The longest that packets are held back because the kernel's events are behind them: on an idle node no
/// event shows that none is.
pub(super) const EVENTS_BEHIND_MAX: Duration = Duration::from_secs(1);
/// How soon to look again whether the events have caught up.
const CATCH_UP_CHECK: Duration = Duration::from_millis(50);
/// How long packets may be behind the kernel's events, where one of them may tell a name; and what is asked about owners.
const NAME_BEHIND_MAX: Duration = Duration::from_secs(1);
/// A SYN nobody answers is given up after the kernel's own retries (tcp_syn_retries 6: 127 s, tcp(7)).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(130);
/// How long a closed connection is kept that its server has not accepted yet.
const UNACCEPTED_LINGER: Duration = Duration::from_secs(60);
/// How soon a UDP flow whose process has ended is closed.
const UDP_OWNER_CHECK: Duration = Duration::from_secs(2);

impl Reconciler {
    pub(super) const fn lookup_delay(&self) -> Duration {
        if self.settings.hooks.connect { HOOK_LATENCY } else { Duration::ZERO }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some(id) = self.flows.pop_due(now) {
            self.expire(now, id);
            self.review(now, id);
        }
    }

    /// Tells of everything that was waiting to settle, because the sources have ended.
    pub fn drain(&mut self, now: Timestamp) {
        self.draining = true;
        let waiting: Vec<FlowId> =
            self.flows.iter().filter(|(_, flow)| !flow.closed).map(|(id, _)| id).collect();
        waiting.into_iter().for_each(|id| self.review(now, id));
        if self.bytes_ended != Timestamp::default() {
            self.tell_bytes_of(|_| true);
        }
    }

    /// Looks at a connection after something about it changed: what to ask, what to tell, when to look again.
    pub(super) fn review(&mut self, now: Timestamp, id: FlowId) {
        self.judge_places_again(now, id);
        self.ask(now, id);
        self.ask_for_keepers(now, id);
        let Some(flow) = self.flows.get_mut(id) else { return };
        flow.note_owners(now);
        let Some(flow) = self.flows.get(id) else { return };
        let due = !flow.opened && self.is_settled(now, flow)
            || flow.opened && (flow.changed || self.is_finished(now, flow));
        if due {
            self.enqueue(id);
        } else {
            self.await_packets(now, id);
            self.await_hearing(now, id);
        }
        // One that waits to be told is looked at again when it has been.
        if let Some(flow) = self.flows.get(id).filter(|flow| !flow.queued) {
            let deadline = self.deadline(now, flow);
            self.flows.wake_by(id, deadline);
        }
    }

    pub(super) fn enqueue(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(id)
            && !flow.queued
        {
            flow.queued = true;
            self.ready.push_back(id);
        }
    }

    /// Asks for the owners that no event named in time, and for the facts of owning processes.
    fn ask(&mut self, now: Timestamp, id: FlowId) {
        self.place_the_unknown(id);
        let Some(flow) = self.flows.get(id) else { return };
        let due = self.settings.lookups && !self.draining && now >= flow.lookup_at && !flow.closed;
        let mut sockets = Vec::new();
        let mut unanswerable = Vec::new();
        let mut processes = SmallVec::<[Process; 2]>::new();
        for (side, end) in flow.both() {
            let is_asked = match end.search {
                Search::NotAsked => due && end.attribution.reason() == Some(Reason::Pending),
                Search::Again(at) => due && now >= at,
                Search::Asked | Search::Done => false,
            };
            match (&end.attribution.owner, end.place) {
                (Owner::Process(process), _) => processes.push(*process),
                (_, Place::Local(namespace)) if is_asked => {
                    let accepted = flow.transport == Transport::Tcp
                        && flow.role >= Role::Listener
                        && flow.client != side;
                    sockets.push((side, namespace, flow.tuple(side), accepted));
                }
                (Owner::Unattributed(Reason::Pending), Place::Local(_)) if !self.settings.lookups => {
                    unanswerable.push(side);
                }
                _ => {}
            }
        }
        processes.extend(self.keepers(flow));
        for (side, namespace, tuple, accepted) in sockets {
            let asked = self.questions.want_socket(now, namespace, tuple);
            if !asked {
                self.attribute(id, side, Attribution::namespace(Reason::Lost, None), None);
            } else if accepted {
                self.questions.want_listener(namespace, tuple);
            }
            if let Some(flow) = self.flows.get_mut(id) {
                flow.end_mut(side).search = if asked { Search::Asked } else { Search::Done };
            }
        }
        for side in unanswerable {
            self.attribute(id, side, Attribution::namespace(Reason::NotEnabled, None), None);
        }
        for process in processes {
            let asks = self.processes.note(&process);
            if asks && !(self.settings.process_facts && self.questions.want_process(process)) {
                self.processes.answer(process.id, ProcessFacts::default());
            }
            self.processes.wait_for(process.id, id);
        }
    }

    /// Whether all that will be known of a connection's owners soon is known.
    fn is_settled(&self, now: Timestamp, flow: &Flow) -> bool {
        self.draining || self.packets_bear_out(now, flow) && self.has_told_enough(now, flow)
    }

    fn has_told_enough(&self, now: Timestamp, flow: &Flow) -> bool {
        if self.may_be_translated(now, flow) || self.awaits_resolution(now, flow) {
            return false;
        }
        now >= self.settles_at(flow) && self.has_heard_of(now, flow.first_seen)
            // A line that says how the handshake went is worth a round trip's wait.
            || flow.state != ConnectionState::Connecting
                && flow.both().into_iter().all(|end| self.is_final(now, flow, end))
                && !self.may_be_a_socket_of_no_address(flow)
    }

    /// Whether an event that is on its way may show that an end which seems to be elsewhere is a socket here all the
    /// same: one with an address that no interface has, as a transparent proxy's.
    fn may_be_a_socket_of_no_address(&self, flow: &Flow) -> bool {
        let is_passing_by = flow.both().into_iter().all(|(_, end)| !end.is_local());
        is_passing_by && self.settings.hooks.connect && self.newest_event < flow.first_seen
    }

    /// How long to wait for what belongs together: longer while the kernel's events are behind.
    fn patience(&self) -> Duration {
        self.settings.settle + self.events_behind.min(EVENTS_BEHIND_MAX)
    }

    fn settles_at(&self, flow: &Flow) -> Timestamp {
        // From when it was learnt: at the start packets wait until everything is opened.
        flow.lookup_at - self.lookup_delay() + self.patience()
    }

    /// Whether the kernel's events have been read up to `moment`, so that what they have to tell of it is
    /// known. On an overloaded node they may be behind the packets; they are in order among themselves.
    fn has_heard_of(&self, now: Timestamp, moment: Timestamp) -> bool {
        !self.settings.hooks.connect
            || self.newest_event >= moment
            || now >= moment + self.settings.settle + EVENTS_BEHIND_MAX
    }

    fn is_final(&self, now: Timestamp, flow: &Flow, (side, end): (Side, &End)) -> bool {
        let awaits_hook = !flow.preexisting
            && if side == flow.client { self.settings.hooks.connect } else { self.settings.hooks.accept };
        match (&end.attribution.owner, end.place) {
            (_, Place::Unknown) => false,
            (Owner::Unattributed(Reason::Remote), _) => true,
            (Owner::Process(process), _) => {
                let best = end.attribution.evidence >= Some(Evidence::KernelFirstUse);
                (best || !awaits_hook) && self.processes.is_answered(process.id)
            }
            (Owner::Unattributed(Reason::Pending), _) => false,
            (Owner::Unattributed(Reason::ClosedPort), _) => self.is_pod_told(now, end),
            _ if matches!(end.search, Search::Asked | Search::Again(_)) => false,
            _ => !awaits_hook && self.is_pod_told(now, end),
        }
    }

    /// Whether a connection has ended and nothing more will be known of how.
    pub(super) fn is_finished(&self, now: Timestamp, flow: &Flow) -> bool {
        let Some(ended) = flow.ended_at else { return false };
        let tcp = flow.transport == Transport::Tcp;
        let mut local = flow.both().into_iter().filter(|(_, end)| end.is_local());
        let told = !(tcp && self.settings.hooks.close)
            || local.all(|(_, end)| end.closed || !end.is_hooked() && end.attribution.reason().is_some());
        let waited = now >= ended + self.patience() && self.has_heard_of(now, ended);
        // A short connection's owner may be in an answer that is on its way.
        let asked = flow
            .both()
            .into_iter()
            .any(|(_, end)| end.search == Search::Asked && !end.attribution.has_owner());
        let is_known = waited || told && !asked && self.packets_bear_out(now, flow);
        let is_named =
            now >= ended + NAME_BEHIND_MAX || !self.awaits_name(flow) && self.is_described(now, flow);
        !flow.closed && (self.draining || is_known && is_named)
    }

    /// Whether all that is asked about its owners is answered, the names of their containers too.
    fn is_described(&self, now: Timestamp, flow: &Flow) -> bool {
        flow.both().into_iter().all(|(_, end)| match end.attribution.owning_process() {
            Some(process) => self.processes.is_answered(process.id),
            None => self.is_pod_told(now, end),
        })
    }

    /// Whether a packet that is on its way may make it another service's.
    fn awaits_name(&self, flow: &Flow) -> bool {
        let was_open = matches!(flow.state, ConnectionState::Closed | ConnectionState::Reset);
        let asked = flow.tuple(flow.client).remote;
        was_open
            && flow.transport == Transport::Tcp
            && self.settings.services.awaits_name(flow.transport, asked, &flow.names)
    }

    fn deadline(&self, now: Timestamp, flow: &Flow) -> Timestamp {
        if flow.closed {
            return flow.ended_at.unwrap_or(now).max(flow.last_seen) + self.linger(flow);
        }
        let looks_again = flow.both().into_iter().filter_map(|(_, end)| match end.search {
            Search::Again(at) => Some(at.max(now)),
            _ => None,
        });
        looks_again.chain([self.own_deadline(now, flow)]).min().unwrap_or(now)
    }

    fn own_deadline(&self, now: Timestamp, flow: &Flow) -> Timestamp {
        if !flow.opened {
            let asks = self.settings.lookups
                && flow.lookup_at > now
                && flow
                    .both()
                    .iter()
                    .any(|(_, end)| end.search == Search::NotAsked && !end.attribution.has_owner());
            let settles = later(self.settles_at(flow), now);
            let settles = self.hearing_due(now, flow).map_or(settles, |due| due.min(settles));
            return if asks { flow.lookup_at.min(settles) } else { settles };
        }
        if let Some(ended) = flow.ended_at {
            let named = ended + NAME_BEHIND_MAX;
            let waits = self.awaits_name(flow) || !self.is_described(now, flow);
            let waits_longer = now >= ended + self.patience() && now < named && waits;
            return if waits_longer { named } else { later(ended + self.patience(), now) };
        }
        match flow.transport {
            Transport::Udp | Transport::UdpLite => {
                let idle = flow.last_seen + self.settings.udp_idle;
                if self.settings.hooks.process { idle.min(now + UDP_OWNER_CHECK) } else { idle }
            }
            Transport::Tcp if flow.state == ConnectionState::Connecting => flow.first_seen + CONNECT_TIMEOUT,
            Transport::Tcp => now.max(flow.last_seen) + self.settings.tcp_probe,
        }
    }

    /// A connection that was reset before its server accepted it stays in the accept queue: accepted at last, it must
    /// not be taken for another one. The length of those queues (listen(2)) bounds how many there are.
    fn linger(&self, flow: &Flow) -> Duration {
        let server = flow.end(flow.client.other());
        let was_open = matches!(flow.state, ConnectionState::Closed | ConnectionState::Reset);
        let awaits_accept = self.settings.hooks.accept
            && flow.transport == Transport::Tcp
            && !flow.preexisting
            && was_open
            && server.is_local()
            && server.attribution.evidence < Some(Evidence::KernelFirstUse);
        if awaits_accept { UNACCEPTED_LINGER.max(self.settings.linger) } else { self.settings.linger }
    }

    /// What time alone does to a connection.
    fn expire(&mut self, now: Timestamp, id: FlowId) {
        let Some(flow) = self.flows.get(id) else { return };
        if flow.closed {
            if now >= self.deadline(now, flow)
                && let Some(flow) = self.flows.remove(id)
            {
                enter_ends(&mut self.ledger, &flow, true);
            }
            return;
        }
        if !flow.opened || flow.ended_at.is_some() {
            return;
        }
        match flow.transport {
            Transport::Udp | Transport::UdpLite => self.expire_udp(now, id),
            Transport::Tcp if flow.state == ConnectionState::Connecting => {
                if now >= flow.first_seen + CONNECT_TIMEOUT
                    && let Some(flow) = self.flows.get_mut(id)
                {
                    flow.advance(ConnectionState::Timeout, now);
                }
            }
            Transport::Tcp => self.probe_tcp(now, id),
        }
    }

    fn expire_udp(&mut self, now: Timestamp, id: FlowId) {
        let Some(flow) = self.flows.get(id) else { return };
        let owners_ended = flow
            .both()
            .iter()
            .filter_map(|(_, end)| end.attribution.owning_process())
            .any(|process| self.processes.has_ended(process.id));
        let idle = now.since(flow.last_seen) >= self.settings.udp_idle;
        let (last_seen, settle) = (flow.last_seen, self.settings.settle);
        if (idle || owners_ended && now.since(last_seen) >= settle)
            && let Some(flow) = self.flows.get_mut(id)
        {
            flow.advance(ConnectionState::Closed, last_seen);
        }
    }

    /// Asks whether a connection nothing was heard of still exists.
    fn probe_tcp(&mut self, now: Timestamp, id: FlowId) {
        let Some(flow) = self.flows.get(id) else { return };
        if !self.settings.lookups || now.since(flow.last_seen) < self.settings.tcp_probe {
            return;
        }
        let local = flow.both().into_iter().find_map(|(side, end)| Some((side, end.namespace_id()?)));
        let Some((side, namespace)) = local else { return };
        let tuple = flow.tuple(side);
        if self.questions.want_socket(now, namespace, tuple)
            && let Some(flow) = self.flows.get_mut(id)
        {
            flow.end_mut(side).search = Search::Asked;
        }
    }

    /// With both ends or none on this node and no other evidence, the higher port is the client's;
    /// with one, that end is.
    pub(super) fn default_client(flow: &mut Flow) {
        if flow.role != Role::Unknown {
            return;
        }
        flow.client = match (flow.end(Side::A).is_local(), flow.end(Side::B).is_local()) {
            (true, false) => Side::A,
            (false, true) => Side::B,
            _ if flow.end(Side::A).endpoint.port >= flow.end(Side::B).endpoint.port => Side::A,
            _ => Side::B,
        };
    }
}

/// `due`, or if that is over, the next time to look whether the events have caught up.
fn later(due: Timestamp, now: Timestamp) -> Timestamp {
    if due > now { due } else { now + CATCH_UP_CHECK }
}
