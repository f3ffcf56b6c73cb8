//! Up to when connection tracking has been heard: a connection that may be translated is told of once it would be
//! known that it is, or two records would tell of one connection.

use core::time::Duration;

use alloc::vec::Vec;

use super::Reconciler;
use super::flow::Flow;
use super::flow_table::FlowId;
use super::lifecycle::EVENTS_BEHIND_MAX;
use crate::time::Timestamp;

/// The kernel tells of an entry while the first packet passes, before that is answered: microseconds after a capture saw
/// it, but a slow guest was seen to take more than 2 ms.
const ENTRY_LATENCY: Duration = Duration::from_millis(10);
/// An answer that takes longer was lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// What is known of how far connection tracking has been read.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// Whether it reports.
    pub(super) reports: bool,
    /// All entries that began before are known.
    until: Timestamp,
    wanted: bool,
    asked_at: Option<Timestamp>,
    /// Connections that wait for the answer.
    awaiting: Vec<FlowId>,
}

impl Hearing {
    /// Whether to ask now how far it has been read.
    pub(super) fn take_question(&mut self, now: Timestamp) -> bool {
        let is_out = self.asked_at.is_some_and(|asked| now.since(asked) < ANSWER_TIMEOUT);
        let asks = self.wanted && !is_out;
        if asks {
            self.wanted = false;
            self.asked_at = Some(now);
        }
        asks
    }
}

impl Reconciler {
    /// All entries that began before `until` are known.
    pub(super) fn handle_translations_until(&mut self, now: Timestamp, until: Timestamp) {
        self.hearing.asked_at = None;
        self.hearing.until = self.hearing.until.max(until);
        self.place_resolutions(now);
        for id in core::mem::take(&mut self.hearing.awaiting) {
            if let Some(flow) = self.flows.get_mut(id) {
                flow.awaits_hearing = false;
                self.review(now, id);
            }
        }
        self.judge_candidates(now);
    }

    /// Whether all entries that began before `moment` are known; asks if they are not.
    pub(super) fn hears_translations_of(&mut self, moment: Timestamp) -> bool {
        let is_known = !self.hearing.reports || self.hearing.until >= moment;
        self.hearing.wanted |= !is_known;
        is_known
    }

    /// Whether a connection may turn out to be translated. One with an owner at both ends has no other name, as a
    /// name that was given belongs to nobody's socket.
    pub(super) fn may_be_translated(&self, now: Timestamp, flow: &Flow) -> bool {
        let learnt = flow.lookup_at - self.lookup_delay();
        self.hearing.reports
            && !self.draining
            && flow.path.is_none()
            && self.hearing.until < entry_due(flow)
            && now < learnt + self.settings.settle + EVENTS_BEHIND_MAX
            && !flow.both().into_iter().all(|(_, end)| end.attribution.has_owner())
    }

    /// When to ask whether a connection is translated, if that is not known and lies ahead.
    pub(super) fn hearing_due(&self, now: Timestamp, flow: &Flow) -> Option<Timestamp> {
        Some(entry_due(flow)).filter(|due| *due > now && self.may_be_translated(now, flow))
    }

    /// Has a connection that may be translated looked at again once that is known.
    pub(super) fn await_hearing(&mut self, now: Timestamp, id: FlowId) {
        let Some(flow) = self.flows.get(id) else { return };
        if flow.awaits_hearing || flow.opened || now < entry_due(flow) || !self.may_be_translated(now, flow) {
            return;
        }
        if let Some(flow) = self.flows.get_mut(id) {
            flow.awaits_hearing = true;
            self.hearing.awaiting.push(id);
            self.hearing.wanted = true;
        }
    }
}

/// From when on it is known of every entry that could be this connection's.
fn entry_due(flow: &Flow) -> Timestamp {
    flow.first_seen + ENTRY_LATENCY
}
