//! Datagram flows that go on after a silence, where no hook tells who sends: whether the ports are still held
//! by the owners that were told. In a young flow the least pause is doubted, later only longer ones.
//!
//! Left out: a port that changes hands without such a pause in its flow, which nothing but a hook can tell.

use core::num::NonZeroU64;
use core::time::Duration;

use alloc::vec::Vec;

use super::Reconciler;
use super::end::{Search, Side};
use super::flow::Resumed;
use super::flow_table::FlowId;
use super::namespace_table::NamespaceId;
use super::translation::FirstSight;
use crate::attribution::{Owner, Reason};
use crate::connection::ConnectionState;
use crate::five_tuple::Transport;
use crate::process::Process;
use crate::time::Timestamp;

/// A shorter pause is not worth a lookup.
const SILENCE: Duration = Duration::from_millis(200);
/// Nor is one shorter than this in a flow that was not doubted before. Each doubt doubles it.
const FIRST_SILENCE: Duration = Duration::from_millis(1);

impl Reconciler {
    /// Asks again for the owners of a flow that a datagram was seen of, if its last one is long ago.
    pub(super) fn doubt_after_silence(&mut self, now: Timestamp, id: FlowId, seen: Timestamp) {
        let Some(flow) = self.flows.get(id) else { return };
        let can_ask = self.settings.lookups && !self.settings.hooks.connect;
        let silence = seen.since(flow.last_seen);
        let enough = SILENCE.min(FIRST_SILENCE * 2_u32.saturating_pow(flow.doubts.into()));
        if !can_ask || !flow.opened || flow.state.is_end() || silence < enough {
            return;
        }
        let resumed = Resumed { from: flow.last_seen, until: seen };
        let doubted: Vec<(Side, NamespaceId)> = flow
            .both()
            .into_iter()
            .filter(|(_, end)| end.attribution.has_owner() && end.search == Search::Done)
            .filter_map(|(side, end)| Some((side, end.namespace_id()?)))
            .collect();
        if let Some(flow) = self.flows.get_mut(id).filter(|_| !doubted.is_empty()) {
            flow.doubts = flow.doubts.saturating_add(1);
        }
        for (side, namespace) in doubted {
            let Some(flow) = self.flows.get_mut(id) else { return };
            if self.questions.want_socket(now, namespace, flow.tuple(side)) {
                flow.end_mut(side).search = Search::Asked;
                flow.resumed = Some(resumed);
            }
        }
    }

    /// The end that an answer is for: of the flow that was asked about, or, if another process has the port
    /// now, of the new one that began when the silence ended. `found` are the holders now, or why none is known, and the
    /// socket's cookie.
    pub(super) fn judge_after_silence(
        &mut self,
        now: Timestamp,
        (id, side): (FlowId, Side),
        (found, cookie): (Result<&[Process], Reason>, Option<NonZeroU64>),
    ) -> (FlowId, Side) {
        let Some(flow) = self.flows.get(id) else { return (id, side) };
        let Some(resumed) = flow.resumed else { return (id, side) };
        // Its owner may have left it to a child, at the latest while holders were looked for.
        if flow.end(side).cookie.zip(cookie).is_some_and(|(then, now)| then == now) {
            return (id, side);
        }
        let owns = |holder: &Process| match &flow.end(side).attribution.owner {
            Owner::Process(owner) => owner.id == holder.id,
            Owner::Shared(owners) => owners.iter().any(|owner| owner.id == holder.id),
            Owner::Kernel | Owner::Unattributed(_) => true,
        };
        let is_same = match found {
            Ok(holders) => holders.iter().any(owns),
            // Who cannot be looked at may be the same as before; after a short pause so may be who is gone.
            Err(reason) => {
                let is_gone = matches!(reason, Reason::GoneBeforeLookup | Reason::ClosedPort);
                !is_gone || resumed.until.since(resumed.from) < SILENCE
            }
        };
        if is_same { (id, side) } else { (self.split(now, (id, side), resumed), Side::A) }
    }

    /// Notes which socket of datagrams a look found, where no hook tells that.
    pub(super) fn note_datagram_socket(&mut self, (id, side): (FlowId, Side), cookie: Option<NonZeroU64>) {
        let is_untold = !self.settings.hooks.connect;
        if let Some(flow) =
            self.flows.get_mut(id).filter(|flow| is_untold && flow.transport != Transport::Tcp)
        {
            let end = flow.end_mut(side);
            end.cookie = end.cookie.or(cookie);
        }
    }

    /// Ends a flow where it fell silent, and begins another where it was taken up again.
    fn split(&mut self, now: Timestamp, (id, side): (FlowId, Side), resumed: Resumed) -> FlowId {
        let Some(flow) = self.flows.get_mut(id) else { return id };
        flow.resumed = None;
        flow.end_mut(side).search = Search::Done;
        flow.advance(ConnectionState::Closed, resumed.from);
        let (tuple, role, interface) = (flow.tuple(side), flow.role, flow.interface.clone());
        let client = if flow.client == side { Side::A } else { Side::B };
        let places = [side, side.other()].map(|side| (flow.end(side).place, flow.end(side).place_certain));
        self.review(now, id);
        let first = FirstSight { tuple, at: resumed.until, namespace: None, asks: false };
        let new = self.add_flow(now, &first);
        for (side, (place, certain)) in [Side::A, Side::B].into_iter().zip(places) {
            self.set_place(new, side, place, certain);
        }
        if let Some(flow) = self.flows.get_mut(new) {
            flow.learn_role(client, role);
            flow.interface = interface;
            flow.advance(ConnectionState::Established, resumed.until);
        }
        new
    }
}
