//! What kernel programs tell: who connects, accepts, listens, sends first; how sockets end.

use alloc::vec;

use super::Reconciler;
use super::end::{Search, Side};
use super::flow_table::FlowId;
use super::listener_table::Listener;
use super::matching::Sighting;
use super::namespace_table::{NamespaceId, Place};
use super::places::Missing;
use super::translation::FirstSight;
use crate::attribution::{Attribution, Evidence, Owner};
use crate::connection::{ConnectionState, IoSource, Role};
use crate::five_tuple::Transport;
use crate::observation::{Act, KernelEvent, KernelSocket, SocketClose};
use crate::process::Process;
use crate::socket::TcpState;
use crate::time::Timestamp;

/// errno values of `sk_err` (include/uapi/asm-generic/errno.h; the same on all of Rust's Linux targets
/// that BPF runs on).
mod errno {
    pub(super) const ECONNRESET: u16 = 104;
    pub(super) const EPIPE: u16 = 32;
    pub(super) const ETIMEDOUT: u16 = 110;
}

/// A socket event with its namespace resolved.
#[derive(Clone, Copy, Debug)]
struct SocketEvent {
    at: Timestamp,
    socket: KernelSocket,
    namespace: NamespaceId,
    process: Option<Process>,
}

impl Reconciler {
    pub(super) fn handle_kernel_event(&mut self, now: Timestamp, event: KernelEvent) {
        self.newest_event = self.newest_event.max(event.at);
        self.events_behind = now.since(event.at);
        match (&event.act, event.process) {
            (Act::Exec { executable }, Some(process)) => {
                return self.processes.exec(&process, executable.clone());
            }
            (Act::Exit, Some(process)) => return self.processes.exit(&process),
            _ => {}
        }
        let Some(socket) = event.socket else { return };
        let namespace = self.namespaces.resolve(socket.namespace);
        self.notice(Missing::Addresses(namespace));
        let seen = SocketEvent { at: event.at, socket, namespace, process: event.process };
        let found = match event.act {
            Act::Listen => return self.learn_listener(&seen),
            Act::Closed(close) if close.from == TcpState::LISTEN => {
                let ended = (socket.tuple.local, socket.cookie);
                return self.listeners.remove(namespace, socket.tuple.transport, ended);
            }
            // A socket without a peer says nothing of a connection.
            _ if socket.tuple.remote.port == 0 => return,
            Act::Connect => self.connected(now, &seen),
            Act::Accept => self.accepted(now, &seen),
            Act::FirstSend | Act::FirstReceive => self.first_used(now, &seen, event.act == Act::FirstSend),
            Act::Established { by_client } => self.established(now, &seen, by_client),
            Act::Closed(close) => self.socket_closed(&seen, close),
            Act::Exec { .. } | Act::Exit => None,
        };
        let Some((id, side)) = found else { return };
        if let Some(flow) = self.flows.get_mut(id) {
            flow.rungs.insert(event.rung);
            flow.last_seen = flow.last_seen.max(event.at);
        }
        self.note_socket(id, side, &seen);
        self.review(now, id);
    }

    fn learn_listener(&mut self, seen: &SocketEvent) {
        let listener = Listener {
            local: seen.socket.tuple.local,
            cookie: seen.socket.cookie,
            holders: seen.process.map(|process| vec![process]).unwrap_or_default(),
        };
        self.listeners.insert(seen.namespace, seen.socket.tuple.transport, listener);
    }

    fn event_sighting(&self, seen: &SocketEvent, begins: bool) -> Sighting {
        let remote = seen.socket.tuple.remote.address;
        let remote = match self.namespaces.place_seen_from(seen.namespace, remote, seen.at) {
            // A namespace whose addresses nobody has told yet may have that one too.
            Place::Remote if !self.namespaces.knows_addresses(seen.namespace) => Place::Unknown,
            place => place,
        };
        Sighting {
            tuple: seen.socket.tuple,
            namespace: Some(seen.namespace),
            places: [Place::Local(seen.namespace), remote],
            cookie: seen.socket.cookie,
            sock_address: seen.socket.address,
            isn: seen.socket.client_isn,
            begins,
            sent_at: None,
            at: None,
        }
    }

    /// The connection a socket event is of; a new one if none is held.
    fn locate_or_open(&mut self, now: Timestamp, seen: &SocketEvent, begins: bool) -> (FlowId, Side) {
        let sighting = self.event_sighting(seen, begins);
        let (id, side) = match self.locate(&sighting) {
            Some(found) => found,
            None => {
                let (tuple, namespace) = (seen.socket.tuple, Some(seen.namespace));
                (self.add_flow(now, &FirstSight { tuple, at: seen.at, namespace, asks: begins }), Side::A)
            }
        };
        self.concretise(id, side, seen.socket.tuple);
        self.namespaces.learn_address(seen.namespace, seen.socket.tuple.local.address);
        self.set_place(id, side, Place::Local(seen.namespace), true);
        self.place_by_address(id, side.other(), seen.socket.tuple.remote, sighting.places[1]);
        if let Some(flow) = self.flows.get_mut(id) {
            flow.isn = flow.isn.or(seen.socket.client_isn);
            flow.first_seen = flow.first_seen.min(seen.at);
        }
        (id, side)
    }

    /// What identifies the socket, so that later events of it find their connection.
    fn note_socket(&mut self, id: FlowId, side: Side, seen: &SocketEvent) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        let end = flow.end_mut(side);
        end.cookie = end.cookie.or(seen.socket.cookie);
        if seen.socket.address != 0 {
            end.sock_address = seen.socket.address;
        }
        if !end.attribution.has_owner() && end.attribution.socket_uid.is_none() {
            end.attribution.socket_uid = seen.socket.uid;
        }
    }

    fn attribute_event(&mut self, id: FlowId, side: Side, seen: &SocketEvent, evidence: Evidence) {
        let attribution = match seen.process {
            Some(process) => Attribution::process(process, evidence),
            None => Attribution { owner: Owner::Kernel, evidence: Some(evidence), socket_uid: None },
        };
        self.attribute(id, side, attribution, None);
        if let Some(flow) = self.flows.get_mut(id) {
            flow.end_mut(side).search = Search::Done;
        }
    }

    fn connected(&mut self, now: Timestamp, seen: &SocketEvent) -> Option<(FlowId, Side)> {
        let (id, side) = self.locate_or_open(now, seen, true);
        let flow = self.flows.get_mut(id)?;
        flow.begins_in_our_time();
        flow.learn_role(side, Role::Syscall);
        self.attribute_event(id, side, seen, Evidence::KernelEvent);
        Some((id, side))
    }

    fn accepted(&mut self, now: Timestamp, seen: &SocketEvent) -> Option<(FlowId, Side)> {
        let (id, side) = self.locate_or_open(now, seen, false);
        let flow = self.flows.get_mut(id)?;
        flow.learn_role(side.other(), Role::Syscall);
        flow.advance(ConnectionState::Established, seen.at);
        self.attribute_event(id, side, seen, Evidence::KernelEvent);
        Some((id, side))
    }

    fn first_used(&mut self, now: Timestamp, seen: &SocketEvent, sent: bool) -> Option<(FlowId, Side)> {
        let tcp = seen.socket.tuple.transport == Transport::Tcp;
        let held = self.flows.len();
        let (id, side) = self.locate_or_open(now, seen, false);
        let is_new = self.flows.len() > held;
        let flow = self.flows.get_mut(id)?;
        if tcp {
            // Its connect or accept was before our time.
            flow.preexisting |= is_new;
        } else {
            flow.learn_role(if sent { side } else { side.other() }, Role::FirstDatagram);
        }
        flow.advance(ConnectionState::Established, seen.at);
        // Of a connection older than netsnoop a use proves a holder, not who connected or accepted.
        let is_known = flow.opened || flow.end(side).attribution.has_owner();
        let proves_less = tcp && flow.preexisting && is_known;
        if !proves_less {
            let evidence = if tcp { Evidence::KernelFirstUse } else { Evidence::KernelEvent };
            self.attribute_event(id, side, seen, evidence);
        }
        Some((id, side))
    }

    fn established(&mut self, now: Timestamp, seen: &SocketEvent, by_client: bool) -> Option<(FlowId, Side)> {
        let (id, side) = self.locate_or_open(now, seen, false);
        let flow = self.flows.get_mut(id)?;
        flow.learn_role(if by_client { side } else { side.other() }, Role::Syn);
        flow.advance(ConnectionState::Established, seen.at);
        // Without the one hook the table tells who listened at the start, which may be long ago; without the other a
        // child of who listens may have accepted, and nothing would tell.
        if !by_client && self.settings.hooks.listen && self.settings.hooks.accept {
            self.attribute_listener(id, side);
        }
        Some((id, side))
    }

    /// A server end nobody has accepted belongs to who listens.
    pub(super) fn attribute_listener(&mut self, id: FlowId, side: Side) {
        let Some(flow) = self.flows.get(id) else { return };
        let end = flow.end(side);
        let Some(namespace) = end.namespace_id() else { return };
        let holders = self.listeners.holders(namespace, flow.transport, end.endpoint, &self.processes);
        if let Some(holders) = holders {
            let uid = end.attribution.socket_uid;
            self.attribute(id, side, Attribution::holders(holders, Evidence::Listener, uid), None);
        }
    }

    fn socket_closed(&mut self, seen: &SocketEvent, close: SocketClose) -> Option<(FlowId, Side)> {
        let (id, side) = self.locate(&self.event_sighting(seen, false))?;
        let flow = self.flows.get_mut(id)?;
        let by_client = flow.client == side;
        let refused = close.from == TcpState::SYN_SENT && close.error != 0 && close.error != errno::ETIMEDOUT;
        flow.end_mut(side).closed = true;
        flow.count_socket(side, close.payload, IoSource::KernelEvent);
        if flow.closed && flow.bytes.has_untold() {
            self.grown.push_back(id);
        }
        flow.advance(end_state(close), seen.at);
        if refused && by_client {
            self.nobody_listens(id, side.other());
        }
        Some((id, side))
    }
}

fn end_state(close: SocketClose) -> ConnectionState {
    let connecting = matches!(close.from, TcpState::SYN_SENT | TcpState::SYN_RECV | TcpState::NEW_SYN_RECV);
    let open = matches!(close.from, TcpState::ESTABLISHED | TcpState::CLOSE_WAIT);
    match close.error {
        errno::ETIMEDOUT => ConnectionState::Timeout,
        0 if connecting => ConnectionState::Closed,
        _ if connecting => ConnectionState::Refused,
        errno::ECONNRESET | errno::EPIPE => ConnectionState::Reset,
        // Neither side said FIN: closed with SO_LINGER 0 or with unread data (RFC 1122 section 4.2.2.13).
        _ if open => ConnectionState::Reset,
        _ => ConnectionState::Closed,
    }
}
