//! A port that serves one TCP connection after another faster than sockets are looked up, where no hook tells who
//! connects: what a look found is the owner of the connection that the port served then, and of no other.
//!
//! Left out: datagrams, which do not tell where one flow ends and the next begins (see `resumed`).

use core::time::Duration;

use alloc::vec::Vec;

use super::Reconciler;
use super::end::{End, Side};
use super::flow::Flow;
use super::flow_table::FlowId;
use crate::attribution::{Attribution, Evidence, Reason};
use crate::five_tuple::Transport;
use crate::time::{PACKET_CLOCK_ERROR, Timestamp};

/// How long an owner that a look told is held back at most for packets that may take it back.
const PACKETS_BEHIND_MAX: Duration = Duration::from_millis(250);

impl Reconciler {
    /// All packets up to `until` are known.
    pub(super) fn handle_packets_until(&mut self, now: Timestamp, until: Timestamp) {
        self.packets_until = self.packets_until.max(Some(until));
        self.place_resolutions(now);
        for id in core::mem::take(&mut self.awaiting_packets) {
            if let Some(flow) = self.flows.get_mut(id) {
                flow.awaits_packets = false;
                self.review(now, id);
            }
        }
        self.judge_candidates(now);
    }

    /// Whether no packet that is still on its way can take back what looks told of `flow`'s ends: when they were
    /// made, its port may have served the next connection already.
    pub(super) fn packets_bear_out(&self, now: Timestamp, flow: &Flow) -> bool {
        let Some(known_until) = self.packets_until.filter(|_| flow.transport == Transport::Tcp) else {
            return true;
        };
        flow.both().into_iter().all(|(_, end)| match end.looked_at {
            Some(looked) if is_told_by_look(end) => {
                known_until >= looked + PACKET_CLOCK_ERROR || now >= looked + PACKETS_BEHIND_MAX
            }
            _ => true,
        })
    }

    /// Has a connection that waits for packets looked at again when they have come.
    pub(super) fn await_packets(&mut self, now: Timestamp, id: FlowId) {
        let Some(flow) = self.flows.get(id) else { return };
        let awaits = !self.packets_bear_out(now, flow) || self.awaits_resolution(now, flow);
        if flow.awaits_packets || flow.closed || !awaits {
            return;
        }
        if let Some(flow) = self.flows.get_mut(id) {
            flow.awaits_packets = true;
            self.awaiting_packets.push(id);
        }
    }

    /// Whether a connected socket found by a look that lasted `from` to `until` may be another connection's: this
    /// one had ended before, or the port served a later one.
    pub(super) fn may_be_of_another(
        &self,
        (id, side): (FlowId, Side),
        (from, until): (Timestamp, Timestamp),
    ) -> bool {
        let Some(flow) = self.flows.get(id).filter(|flow| flow.transport == Transport::Tcp) else {
            return false;
        };
        if flow.ended_at.is_some_and(|ended| ended + PACKET_CLOCK_ERROR < from) {
            return true;
        }
        let namespace = flow.end(side).namespace_id();
        self.flows.find(flow.tuple(side)).any(|(other, side, later)| {
            other > id
                && later.first_seen <= until + PACKET_CLOCK_ERROR
                && later.end(side).namespace_id() == namespace
        })
    }

    /// Takes back the owners that were looked up for earlier connections once the SYN of `new` had been sent.
    /// Packets come late: they wait for each other in libpcap's buffer.
    pub(super) fn take_back_late_looks(&mut self, now: Timestamp, new: FlowId, sent: Timestamp) {
        let Some(flow) = self.flows.get(new) else { return };
        let tuple = flow.tuple(Side::A);
        let namespaces = [Side::A, Side::B].map(|side| flow.end(side).namespace_id());
        let earlier: Vec<(FlowId, Side)> = self
            .flows
            .find(tuple)
            .filter(|(id, ..)| *id < new)
            .flat_map(|(id, side, flow)| {
                [side, side.other()].into_iter().zip(namespaces).filter_map(move |(side, namespace)| {
                    let end = flow.end(side);
                    let late = end.looked_at.is_some_and(|looked| looked + PACKET_CLOCK_ERROR > sent);
                    // Whoever listened accepted the earlier connection too.
                    let may_differ = end.attribution.evidence != Some(Evidence::Listener);
                    let is_told = late && may_differ && is_told_by_look(end);
                    (is_told && end.namespace_id() == namespace).then_some((id, side))
                })
            })
            .collect();
        for (id, side) in earlier {
            let Some(flow) = self.flows.get_mut(id) else { continue };
            flow.changed |= flow.opened;
            flow.end_mut(side).attribution = Attribution::namespace(Reason::GoneBeforeLookup, None);
            self.ledger.conflicts += 1;
            self.review(now, id);
        }
    }
}

/// Whether an owner, or only the user, is known by nothing better than a look at tables.
fn is_told_by_look(end: &End) -> bool {
    let is_told = end.attribution.has_owner() || end.attribution.socket_uid.is_some();
    is_told && end.attribution.evidence < Some(Evidence::KernelFirstUse)
}
