//! What connection tracking tells (NAT): the names before and after translation are those of one connection.
//!
//! An entry mostly comes before anything is seen of its connection; a new connection then has all its names from the
//! start. One that comes late renames a connection that is held, and makes one of two that turn out to be the same.

use core::time::Duration;

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::Reconciler;
use super::end::{End, Side};
use super::flow::Flow;
use super::flow_table::{FlowId, agrees};
use super::namespace_table::{NamespaceId, Place};
use super::path::Path;
use super::places::Missing;
use super::translation_table::Tracked;
use crate::connection::{ConnectionState, Role};
use crate::five_tuple::{Endpoint, FiveTuple, Transport};
use crate::observation::{Tracker, TranslationReport};
use crate::time::Timestamp;
use crate::translation::{Translation, TranslationChange};

/// A connection that had ended longer before its entry was told of is an earlier one.
const TOLD_LATE: Duration = Duration::from_secs(1);

/// Something that is seen of a connection for the first time.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstSight {
    pub(super) tuple: FiveTuple,
    pub(super) at: Timestamp,
    /// The namespace of the local end's socket, if the socket itself told it.
    pub(super) namespace: Option<NamespaceId>,
    /// Whether the local end's socket asks: it knows the connection by the name before all translation.
    pub(super) asks: bool,
}

impl Reconciler {
    pub(super) fn handle_translations(&mut self, now: Timestamp, report: TranslationReport) {
        let TranslationReport { tracker, at, whole, changes } = report;
        if let Tracker::Numbered(number) = tracker {
            self.notice(Missing::Namespace(number));
        }
        self.hearing.reports = true;
        self.translations.forget_ended(now - self.settings.linger);
        if whole {
            let present: Vec<Translation> = changes
                .iter()
                .filter_map(|change| match change {
                    TranslationChange::Began(translation) => Some(*translation),
                    TranslationChange::Ended(_) => None,
                })
                .collect();
            self.translations.end_all_but(&present, tracker, at);
        }
        for change in changes {
            match change {
                TranslationChange::Began(translation) => {
                    if self.translations.begin(translation, tracker, at) {
                        self.translate_held(now, translation, tracker, at);
                    }
                }
                TranslationChange::Ended(translation) => self.translations.end(&translation, tracker, at),
            }
        }
    }

    /// A new connection with all the names it is known to have. Side A is `seen`'s local end.
    pub(super) fn new_flow(&self, seen: &FirstSight) -> Box<Flow> {
        let mut flow = Box::new(Flow::new(seen.tuple, seen.at));
        let applies = |tracked: &Tracked| {
            self.is_tracked_where(tracked.tracker, seen.tuple, seen.namespace)
                && (!seen.asks || agrees(tracked.translation.original, seen.tuple))
        };
        let mut found =
            self.translations.find(seen.tuple, seen.at, applies).map(|tracked| tracked.translation);
        while let Some(step) = found {
            take_step(&mut flow, step);
            found = self.further_step(&flow, seen.at);
        }
        flow
    }

    /// A step before or after those that are known: what is translated in two namespaces has in the second one the
    /// name that it was given in the first.
    fn further_step(&self, flow: &Flow, at: Timestamp) -> Option<Translation> {
        let path = flow.path.as_ref().filter(|path| path.has_room())?;
        [path.seen_by_asker(), path.seen_by_answerer()].into_iter().find_map(|name| {
            let goes_on = |next: &Tracked| {
                path.goes_on_with(&next.translation) && self.is_tracked_where(next.tracker, name, None)
            };
            self.translations.find(name, at, goes_on).map(|tracked| tracked.translation)
        })
    }

    /// An address that every namespace has for itself is translated there and nowhere else.
    fn is_tracked_where(&self, tracker: Tracker, tuple: FiveTuple, namespace: Option<NamespaceId>) -> bool {
        let is_local = tuple.local.address.is_loopback() || tuple.remote.address.is_loopback();
        let tracked_in = match tracker {
            Tracker::Own => self.namespaces.capture(),
            Tracker::Numbered(number) => self.namespaces.numbered(number),
            Tracker::Known(key) => self.namespaces.known(key),
        };
        !is_local || tracked_in.is_some() && tracked_in == namespace.or(self.namespaces.capture())
    }

    /// Puts the ends of a new connection that were seen under another's address where their sockets are.
    pub(super) fn place_translated(&mut self, id: FlowId, seen: FiveTuple) {
        let Some(flow) = self.flows.get(id).filter(|flow| flow.path.is_some()) else { return };
        let at = flow.first_seen;
        let hidden: Vec<(Side, Endpoint)> = [(Side::A, seen.local), (Side::B, seen.remote)]
            .into_iter()
            .map(|(side, seen)| (side, seen, flow.tuple(side).local))
            .filter(|(_, seen, own)| seen != own)
            .map(|(side, _, own)| (side, own))
            .collect();
        for (side, own) in hidden {
            let place = self.place_of_translated(own, at);
            self.set_place(id, side, place, false);
        }
    }

    fn place_of_translated(&self, own: Endpoint, at: Timestamp) -> Place {
        match self.namespaces.place_on_interface(None, own.address, at) {
            // A namespace that was made just now may have it.
            Place::Remote if self.missing.is_some() => Place::Unknown,
            place => place,
        }
    }

    /// An entry that was told of after its connection was seen, under one of its names or under several.
    fn translate_held(&mut self, now: Timestamp, step: Translation, tracker: Tracker, at: Timestamp) {
        let mut held: Vec<FlowId> = self.flow_called(step.original, tracker, at).into_iter().collect();
        for id in self.flows_renamed(&step, tracker, at) {
            if !held.contains(&id) {
                held.push(id);
            }
        }
        // What was told of goes on under its number.
        let is_told = |id: &FlowId| self.flows.get(*id).is_some_and(|flow| flow.opened);
        let Some(kept) = held.iter().copied().find(is_told).or(held.first().copied()) else { return };
        let mut next = Some(step);
        while let Some(step) = next {
            self.take_step_held(kept, step);
            next = self.flows.get(kept).and_then(|flow| self.further_step(flow, at));
        }
        for other in held.into_iter().filter(|id| *id != kept) {
            if self.are_one(kept, other) {
                self.merge(now, kept, other);
            }
        }
        self.review(now, kept);
    }

    /// The newest connection that may be called `name` when an entry for it is told of at `at`.
    fn flow_called(&self, name: FiveTuple, tracker: Tracker, at: Timestamp) -> Option<FlowId> {
        self.flows
            .find(name)
            .filter(|(_, side, flow)| {
                let is_over = flow.ended_at.is_some_and(|ended| ended + TOLD_LATE < at);
                !is_over && self.is_tracked_where(tracker, name, flow.end(*side).namespace_id())
            })
            .map(|(id, ..)| id)
            .max()
    }

    /// The newest connections that may be called as `step` renames one, a name each, and that are not known to be
    /// called so by another step. A packet may be seen under each name, and its answer too.
    fn flows_renamed(&self, step: &Translation, tracker: Tracker, at: Timestamp) -> Vec<FlowId> {
        let names = step.names().into_iter().flatten().filter(|name| *name != step.original);
        let is_free = |id: &FlowId| {
            let path = self.flows.get(*id).map(|flow| flow.path.as_ref());
            path.is_some_and(|path| path.is_none_or(|path| path.goes_on_with(step)))
        };
        names.filter_map(|name| self.flow_called(name, tracker, at)).filter(is_free).collect()
    }

    /// Renames a held connection, and moves the ends that turn out to be elsewhere.
    fn take_step_held(&mut self, id: FlowId, step: Translation) {
        let Some(flow) = self.flows.get(id) else { return };
        let before = [Side::A, Side::B].map(|side| flow.tuple(side));
        self.flows.rename(id, |flow| take_step(flow, step));
        for (side, before) in [Side::A, Side::B].into_iter().zip(before) {
            let Some(flow) = self.flows.get_mut(id) else { return };
            flow.changed |= flow.opened;
            let (own, at) = (flow.tuple(side), flow.first_seen);
            if own.local.address != before.local.address && !before.local.is_wildcard() {
                self.move_end(id, side, self.place_of_translated(own.local, at));
            } else if !agrees(own, before) {
                flow.end_mut(side).look_anew();
            }
        }
    }

    /// Whether two held connections can be one: what identifies their sockets does not differ.
    fn are_one(&self, one: FlowId, other: FlowId) -> bool {
        let (Some(one), Some(other)) = (self.flows.get(one), self.flows.get(other)) else { return false };
        let differ = |side: Side, of_other: Side| {
            let (mine, its) = (one.end(side), other.end(of_other));
            mine.place_certain && its.place_certain && mine.namespace_id() != its.namespace_id()
                || mine.cookie.zip(its.cookie).is_some_and(|(mine, its)| mine != its)
        };
        let Some(of_other) = matching_side(one, other) else { return false };
        !differ(Side::A, of_other)
            && !differ(Side::B, of_other.other())
            && one.isn.zip(other.isn).is_none_or(|(mine, its)| mine == its)
    }

    /// Makes one of two connections: `kept` takes what `other` knows better.
    fn merge(&mut self, now: Timestamp, kept: FlowId, other: FlowId) {
        let both = self.flows.get(kept).zip(self.flows.get(other));
        let Some(of_other) = both.and_then(|(kept, other)| matching_side(kept, other)) else { return };
        if both.is_some_and(|(kept, other)| kept.opened && other.opened) {
            return self.end_double(now, kept, (other, of_other));
        }
        let Some(gone) = self.flows.remove(other) else { return };
        let Some(flow) = self.flows.get_mut(kept) else { return };
        let local = |flow: &Flow| flow.both().into_iter().filter(|(_, end)| end.is_local()).count() as u64;
        let before = local(flow) + local(&gone);
        for (side, its) in [(Side::A, of_other), (Side::B, of_other.other())] {
            let (own, seen) = (flow.tuple(side).local, gone.tuple(its).local);
            let is_own = own == seen || own.port == seen.port && seen.is_wildcard();
            take_better(flow.end_mut(side), gone.end(its), is_own);
            if !agrees(gone.tuple(its), flow.tuple(side)) {
                flow.end_mut(side).look_anew();
            }
        }
        flow.take_over(&gone, of_other);
        self.ledger.ends_seen = self.ledger.ends_seen + local(flow) - before;
        self.review(now, kept);
    }

    /// A connection that was told of twice: the second one is ended, so that nobody waits for its end.
    fn end_double(&mut self, now: Timestamp, kept: FlowId, (double, side_a_of_double): (FlowId, Side)) {
        self.ledger.connections_told_twice += 1;
        let counted = self.flows.get_mut(double).map(|flow| {
            flow.advance(ConnectionState::Closed, flow.last_seen);
            flow.bytes.hand_over()
        });
        if let (Some(counted), Some(flow)) = (counted, self.flows.get_mut(kept)) {
            flow.bytes.take_over(&counted, side_a_of_double);
        }
        self.review(now, double);
    }
}

/// Gives `flow` the names of `step`.
fn take_step(flow: &mut Flow, step: Translation) {
    match &mut flow.path {
        Some(path) => {
            if !path.add(step) {
                return;
            }
        }
        None => {
            let is_called = |side: &Side| {
                let tuple = flow.tuple(*side);
                step.names().into_iter().flatten().any(|name| agrees(name, tuple))
            };
            let Some(asker) = [Side::A, Side::B].into_iter().find(is_called) else { return };
            flow.path = Some(Box::new(Path::new(asker, step)));
        }
    }
    let Some(path) = &flow.path else { return };
    let (asker, asked) = (path.asker, path.seen_by_asker());
    flow.end_mut(asker).endpoint = asked.local;
    flow.end_mut(asker.other()).endpoint = asked.remote;
    // What is translated was so from its first packet on, which for TCP is the SYN: nothing else makes an entry that
    // translates.
    let role = if flow.transport == Transport::Tcp { Role::Syn } else { Role::FirstDatagram };
    // Under one of its names the answer may have been seen first.
    if flow.role == role && flow.client != asker {
        flow.changed |= flow.opened;
        flow.client = asker;
    }
    flow.learn_role(asker, role);
}

/// The side of `other` that is side A of `one`.
fn matching_side(one: &Flow, other: &Flow) -> Option<Side> {
    [Side::A, Side::B]
        .into_iter()
        .find(|side| one.names(Side::A).any(|mine| other.names(*side).any(|its| agrees(mine, its))))
}

/// Has `mine` take what `its` knows better of the same end. `is_own`: `its` was seen under the end's own address.
fn take_better(mine: &mut End, its: &End, is_own: bool) {
    mine.sent_fin |= its.sent_fin;
    mine.closed |= its.closed;
    let knows_better = its.place_certain && !mine.place_certain || mine.place == Place::Unknown;
    let knows_as_well = its.place == mine.place && mine.attribution.is_weaker_than(&its.attribution);
    if is_own && (knows_better || knows_as_well && !mine.place_certain) {
        let End { endpoint, sent_fin, closed, tabled, .. } = *mine;
        *mine = End { endpoint, sent_fin, closed, tabled, ..its.clone() };
    } else if is_own && knows_as_well {
        mine.attribution.refine(its.attribution.clone());
    }
}

impl Flow {
    /// Takes what `gone`, which is the same connection, knows of it as a whole.
    fn take_over(&mut self, gone: &Self, side_a_of_gone: Side) {
        self.first_seen = self.first_seen.min(gone.first_seen);
        self.last_seen = self.last_seen.max(gone.last_seen);
        self.lookup_at = self.lookup_at.min(gone.lookup_at);
        let is_found = self.is_known_by_tables_alone() && gone.is_known_by_tables_alone();
        if !gone.preexisting {
            self.begins_in_our_time();
        }
        self.bytes.take_over(&gone.bytes, side_a_of_gone);
        let found_after = self.found_after.or(gone.found_after);
        self.found_after = found_after.filter(|_| is_found && !self.preexisting);
        self.isn = self.isn.or(gone.isn);
        for name in &gone.names {
            self.learn_name(name.clone());
        }
        gone.rungs.iter().for_each(|rung| self.rungs.insert(rung));
        self.learn_role(if gone.client == side_a_of_gone { Side::A } else { Side::B }, gone.role);
        self.advance(gone.state, gone.ended_at.unwrap_or(gone.last_seen));
        let is_nearest =
            |interface: &Option<(_, bool)>| interface.as_ref().is_some_and(|(_, nearest)| *nearest);
        if self.interface.is_none() || is_nearest(&gone.interface) && !is_nearest(&self.interface) {
            self.interface.clone_from(&gone.interface);
        }
    }
}
