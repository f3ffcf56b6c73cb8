//! What a pass over the sockets of all namespaces tells: connections that no packet or kernel event told of, as they
//! cross no interface that is captured, and that such ones are over.
//!
//! A socket is judged once all packets and translations of its time are known: until then its connection may be told of
//! by them, under this name or another. Left out: who holds a socket, which is asked for as for any other connection.

use core::time::Duration;

use alloc::vec::Vec;

use super::Reconciler;
use super::end::{Side, Tabled};
use super::flow_table::FlowId;
use super::listener_table::Listener;
use super::living_table::Meaning;
use super::matching::Sighting;
use super::namespace_table::{NamespaceId, Place};
use super::translation::FirstSight;
use crate::attribution::Rung;
use crate::connection::ConnectionState;
use crate::five_tuple::Transport;
use crate::observation::{LivingSocket, SocketPass};
use crate::socket::TcpState;
use crate::time::{PACKET_CLOCK_ERROR, Timestamp};

/// How long translations are waited for at most. Whoever reads them may have ended.
const TRANSLATIONS_BEHIND_MAX: Duration = Duration::from_secs(5);
/// Most sockets that are judged at once, so that nothing else waits for long.
const JUDGED_AT_ONCE: usize = 1024;

/// A connected socket that a pass found, and none before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    socket: LivingSocket,
    namespace: NamespaceId,
    rung: Rung,
    /// When the look began that found it, when it ended, and when the one before that had begun.
    started: Timestamp,
    finished: Timestamp,
    before: Timestamp,
}

impl Reconciler {
    pub(super) fn handle_pass(&mut self, now: Timestamp, pass: SocketPass) {
        // With such a hook, connections are known as they begin.
        if self.settings.hooks.connect {
            return;
        }
        if pass.ended {
            if let Some(namespace) = self.namespaces.known(pass.namespace) {
                let gone = self.living.take_all(namespace);
                self.forget_sockets(now, (namespace, gone), pass.started);
            }
            return;
        }
        let namespace = self.namespaces.resolve(pass.namespace);
        let before = self.living.look(namespace, pass.started);
        for socket in pass.sockets {
            if !self.living.see(namespace, socket.inode) {
                continue;
            }
            if socket.state == TcpState::LISTEN {
                self.note_listener(namespace, &socket);
            } else {
                self.candidates.push_back(Candidate {
                    socket,
                    namespace,
                    rung: pass.rung,
                    started: pass.started,
                    finished: pass.finished,
                    before: before.unwrap_or_default(),
                });
            }
        }
        let gone = self.living.take_gone(namespace);
        self.forget_sockets(now, (namespace, gone), before.unwrap_or(pass.started));
        self.judge_candidates(now);
    }

    /// Learns where somebody listens. Not who: of a group that is still gathering, a look at once would find but one, who
    /// would then seem to have served alone.
    fn note_listener(&mut self, namespace: NamespaceId, socket: &LivingSocket) {
        let LivingSocket { tuple, cookie, inode, .. } = *socket;
        self.living.explain(namespace, inode, Meaning::Listener(tuple.local, cookie));
        let listener = Listener { local: tuple.local, cookie, holders: Vec::new() };
        self.listeners.insert_unknown(namespace, tuple.transport, listener);
    }

    /// Judges sockets in the order of their looks, as far as all is known that may tell of them.
    pub(super) fn judge_candidates(&mut self, now: Timestamp) {
        for _ in 0..JUDGED_AT_ONCE {
            let Some(candidate) = self.candidates.front().copied() else { return };
            let read = candidate.finished;
            let packets_known = self.packets_until.is_some_and(|until| until >= read + PACKET_CLOCK_ERROR);
            if !packets_known {
                return;
            }
            if !self.hears_translations_of(read) && now < read + TRANSLATIONS_BEHIND_MAX {
                return;
            }
            self.candidates.pop_front();
            self.judge(now, &candidate);
        }
    }

    /// A connected socket: of a connection that is known, or of one that nothing else tells of.
    fn judge(&mut self, now: Timestamp, candidate: &Candidate) {
        let Candidate { socket, namespace, .. } = *candidate;
        let remote =
            self.namespaces.place_seen_from(namespace, socket.tuple.remote.address, candidate.started);
        let sighting = Sighting::in_table((socket.tuple, socket.cookie), namespace, remote);
        let (id, side) = match self.locate(&sighting) {
            Some((id, side)) => {
                let Some(flow) = self.flows.get(id) else { return };
                let is_known_otherwise = !flow.is_known_by_tables_alone();
                match flow.ended_at {
                    // What packets tell of it is all there is to tell.
                    _ if is_known_otherwise => return,
                    None => (id, side),
                    // It is over since.
                    Some(ended) if ended + PACKET_CLOCK_ERROR >= candidate.started => return,
                    // Another one has its ports.
                    Some(_) => (self.open_found(now, candidate), Side::A),
                }
            }
            None => (self.open_found(now, candidate), Side::A),
        };
        self.living.explain(namespace, socket.inode, Meaning::Connection(id, side));
        self.set_place(id, side, Place::Local(namespace), true);
        self.place_by_address(id, side.other(), socket.tuple.remote, remote);
        self.learn_role_from_listeners(id);
        if let Some(flow) = self.flows.get_mut(id) {
            flow.rungs.insert(candidate.rung);
            let end = flow.end_mut(side);
            end.cookie = end.cookie.or(socket.cookie);
            end.tabled = Tabled::There;
            if !end.attribution.has_owner() {
                end.attribution.socket_uid = end.attribution.socket_uid.or(socket.uid);
            }
        }
        self.review(now, id);
    }

    /// Adds a connection that nothing but its socket tells of. Side A is the socket's.
    fn open_found(&mut self, now: Timestamp, candidate: &Candidate) -> FlowId {
        let (tuple, namespace) = (candidate.socket.tuple, Some(candidate.namespace));
        let first = FirstSight { tuple, at: candidate.started, namespace, asks: false };
        let id = self.add_flow(now, &first);
        if let Some(flow) = self.flows.get_mut(id) {
            flow.found_after = Some(candidate.before);
            flow.advance(ConnectionState::Established, candidate.started);
        }
        id
    }

    /// Sockets that are there no more since `at`, or before.
    fn forget_sockets(
        &mut self,
        now: Timestamp,
        (namespace, gone): (NamespaceId, Vec<Meaning>),
        at: Timestamp,
    ) {
        for meaning in gone {
            match meaning {
                Meaning::Nothing => {}
                Meaning::Listener(local, cookie) => {
                    self.listeners.remove(namespace, Transport::Tcp, (local, cookie));
                }
                Meaning::Connection(id, side) => self.forget_socket(now, (id, side), at),
            }
        }
    }

    /// A connection that only tables tell of is over once they show none of its sockets any more.
    fn forget_socket(&mut self, now: Timestamp, (id, side): (FlowId, Side), at: Timestamp) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        flow.end_mut(side).tabled = Tabled::Gone;
        let is_there = flow.both().into_iter().any(|(_, end)| end.tabled == Tabled::There);
        if flow.is_known_by_tables_alone() && !is_there {
            flow.advance(ConnectionState::Closed, at);
            self.review(now, id);
        }
    }
}
