//! A port that serves one TCP connection after another faster than sockets are looked up, where no hook tells who
//! connects: what a look found is the owner of the connection that the port served then, and of no other.
//!
//! Left out: datagrams, which do not tell where one flow ends and the next begins (see `resumed`).

use core::time::Duration;

use alloc::vec::Vec;

use super::Reconciler;
use super::flow::Side;
use super::flow_table::FlowId;
use crate::attribution::{Attribution, Evidence, Reason};
use crate::five_tuple::Transport;
use crate::time::Timestamp;

/// How far the clocks of packets and looks may be apart.
const STAMP_TOLERANCE: Duration = Duration::from_millis(1);

impl Reconciler {
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
        if flow.ended_at.is_some_and(|ended| ended + STAMP_TOLERANCE < from) {
            return true;
        }
        let namespace = flow.end(side).namespace_id();
        self.flows.find(flow.tuple(side)).any(|(other, side, later)| {
            other > id
                && later.first_seen <= until + STAMP_TOLERANCE
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
                    let late = end.looked_at.is_some_and(|looked| looked + STAMP_TOLERANCE > sent);
                    let by_tables = end.attribution.evidence < Some(Evidence::KernelFirstUse);
                    let is_told = end.attribution.has_owner() && late && by_tables;
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
