//! What looks at the bytes of living sockets tell: how far their connections have got.
//!
//! Left out: connections that are not held. Such looks find none; passes do, where no hook tells (`passes`).

use alloc::vec::Vec;

use super::Reconciler;
use super::flow::Flow;
use super::flow_table::FlowId;
use super::matching::Sighting;
use super::namespace_table::{NamespaceId, Place};
use crate::connection::IoSource;
use crate::five_tuple::Transport;
use crate::observation::{ByteLook, CountedSocket};
use crate::time::Timestamp;

impl Reconciler {
    pub(super) fn handle_bytes(&mut self, look: &ByteLook) {
        let Some(namespace) = self.namespaces.known(look.namespace) else { return };
        for socket in &look.sockets {
            self.count_living(namespace, socket, look.started);
        }
    }

    fn count_living(&mut self, namespace: NamespaceId, socket: &CountedSocket, started: Timestamp) {
        let sighting = Sighting::in_table((socket.tuple, socket.cookie), namespace, Place::Unknown);
        let Some((id, side)) = self.locate(&sighting) else { return };
        let Some(flow) = self.flows.get_mut(id) else { return };
        // One that had ended by then, or began since, is not meant: another had its ports, or will.
        if flow.ended_at.is_some() || flow.first_seen > started {
            return;
        }
        flow.count_socket(side, socket.payload, IoSource::SockDiag);
        if flow.opened && flow.bytes.has_untold() {
            self.grown.push_back(id);
        }
    }

    /// Has told what looks at sockets do not show: of datagram flows that go on since the last time, and what came before a
    /// connection was told of. Most flows are short, and their end is soon.
    pub(super) fn handle_bytes_end(&mut self, now: Timestamp) {
        let last = core::mem::replace(&mut self.bytes_ended, now);
        let goes_on = |flow: &Flow| flow.first_seen < last && flow.last_seen >= last;
        self.tell_bytes_of(|flow| flow.transport == Transport::Tcp || goes_on(flow));
    }

    /// Has told of what has not been, if it is one of these connections.
    pub(super) fn tell_bytes_of(&mut self, are_told: impl Fn(&Flow) -> bool) {
        let is_grown = |flow: &Flow| flow.opened && !flow.closed && flow.bytes.has_untold();
        let grown = self.flows.iter().filter(|(_, flow)| is_grown(flow) && are_told(flow));
        let grown: Vec<FlowId> = grown.map(|(id, _)| id).collect();
        self.grown.extend(grown);
    }
}
