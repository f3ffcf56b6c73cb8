//! Where ends are: told by their sockets, shown by an interface, or concluded from an address.
//!
//! What was concluded from an address alone is judged again when the topology turns out to be another one than was
//! known: the address may have been another namespace's at the time.

use core::num::NonZeroU32;
use core::time::Duration;

use alloc::vec::Vec;

use super::Reconciler;
use super::end::{End, Side};
use super::flow::Flow;
use super::flow_table::FlowId;
use super::namespace_table::{Behind, NamespaceId, Place};
use crate::five_tuple::Endpoint;
use crate::namespace::{Topology, TopologyReport};
use crate::time::Timestamp;

/// Most connections reviewed when a topology arrives; the others are placed at their next review.
const UNPLACED_MAX: usize = 16_384;
/// For how long what is learnt of the time of a connection's beginning may change where its ends were. Less than what
/// has ended is remembered for.
const JUDGED_FOR: Duration = Duration::from_secs(5);

/// Something the topology does not know.
#[derive(Clone, Copy, Debug)]
pub(super) enum Missing {
    Interface(NonZeroU32),
    Addresses(NamespaceId),
    /// The namespace that the capture's own has given this id.
    Namespace(i32),
}

impl Reconciler {
    pub(super) fn handle_topology(&mut self, now: Timestamp, topology: Topology) {
        self.namespaces.replace(now, topology);
        // It may have been read just before what it was asked for came into being: one more try.
        let missed = self.missing.take().is_some_and(|missing| !self.knows(missing));
        self.questions.topology_answered(now, missed);
        self.review_unplaced(now);
    }

    pub(super) fn handle_topology_changes(&mut self, now: Timestamp, report: TopologyReport) {
        self.namespaces.change(report);
        self.questions.changes_told();
        // What no event tells of, such as a namespace without an id, a whole look does.
        if self.missing.is_some_and(|missing| !self.knows(missing)) {
            self.questions.want_topology();
        } else {
            self.missing = None;
        }
        self.review_unplaced(now);
    }

    fn review_unplaced(&mut self, now: Timestamp) {
        for flow in core::mem::take(&mut self.unplaced) {
            self.review(now, flow);
        }
    }

    fn knows(&self, missing: Missing) -> bool {
        match missing {
            Missing::Interface(index) => self.namespaces.behind_interface(index) != Behind::NotKnown,
            Missing::Addresses(namespace) => self.namespaces.knows_addresses(namespace),
            Missing::Namespace(number) => self.namespaces.numbered(number).is_some(),
        }
    }

    /// Asks for the topology if it lacks something.
    pub(super) fn notice(&mut self, missing: Missing) {
        if !self.knows(missing) {
            self.missing = Some(missing);
            if self.settings.topology_changes {
                self.questions.want_changes();
            } else {
                self.questions.want_topology();
            }
        }
    }

    /// Puts an end where a source saw it. A place that the socket itself told is final.
    pub(super) fn set_place(&mut self, id: FlowId, side: Side, place: Place, certain: bool) {
        let key = match place {
            Place::Local(namespace) => self.namespaces.key(namespace),
            _ => None,
        };
        let Some(flow) = self.flows.get_mut(id) else { return };
        let opened = flow.opened;
        let end = flow.end_mut(side);
        // Conclusions from addresses never move an end off this node, nor replace one another.
        if end.place_certain || (!certain && end.place != Place::Unknown) {
            return;
        }
        let was_local = end.is_local();
        end.place_certain = certain;
        end.place_says(place, key);
        if end.is_local() && !was_local {
            self.ledger.ends_seen += 1;
        }
        flow.changed |= opened && place != Place::Unknown;
    }

    /// Puts an end where the address it was seen under says, if that is its own and not one it was given.
    pub(super) fn place_by_address(&mut self, id: FlowId, side: Side, seen: Endpoint, place: Place) {
        let is_given =
            self.flows.get(id).is_some_and(|flow| flow.path.is_some() && flow.tuple(side).local != seen);
        if !is_given {
            self.set_place(id, side, place, false);
        }
    }

    /// A packet of a connection was seen on an interface, on whose far side the end `near` is. If that leads to a
    /// namespace that has the end's address, the end is there, whoever else has that address.
    pub(super) fn arrived(&mut self, id: FlowId, index: NonZeroU32, near: Side) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        flow.arrived = flow.arrived.or(Some((index, near)));
        let end = flow.end(near);
        if flow.path.is_some() || end.place_certain || end.shown_by_interface {
            return;
        }
        let Behind::Namespace(namespace) = self.namespaces.behind_interface(index) else { return };
        let there = Place::Local(namespace);
        if self.namespaces.owns(namespace, end.endpoint.address, flow.first_seen) {
            if end.place == Place::Unknown || end.place == there {
                self.set_place(id, near, there, false);
            } else {
                self.move_end(id, near, there);
            }
            if let Some(flow) = self.flows.get_mut(id) {
                flow.end_mut(near).shown_by_interface = true;
            }
        }
    }

    /// What was concluded from an address that is not the end's own, or no longer, is taken back.
    pub(super) fn move_end(&mut self, id: FlowId, side: Side, place: Place) {
        let Some(end) = self.flows.get_mut(id).map(|flow| flow.end_mut(side)) else { return };
        if end.place_certain {
            return;
        }
        if end.is_local() {
            self.ledger.ends_seen -= 1;
        }
        *end = End { sent_fin: end.sent_fin, ..End::new(end.endpoint) };
        self.set_place(id, side, place, false);
    }

    /// Judges again what was concluded from addresses alone, if the topology has changed since.
    pub(super) fn judge_places_again(&mut self, now: Timestamp, id: FlowId) {
        let generation = self.namespaces.generation();
        let Some(flow) = self.flows.get_mut(id).filter(|flow| flow.judged_in != generation) else { return };
        flow.judged_in = generation;
        let is_judged =
            |flow: &&Flow| !flow.closed && flow.path.is_none() && now.since(flow.first_seen) < JUDGED_FOR;
        let Some(flow) = self.flows.get(id).filter(is_judged) else { return };
        let moved: Vec<(Side, Place)> = flow
            .both()
            .into_iter()
            .filter(|(_, end)| end.place != Place::Unknown && end.is_placed_by_address())
            .map(|(side, end)| (side, end.place, self.place_by_all_that_is_known(flow, side)))
            .filter(|(_, was, now)| was != now && *now != Place::Unknown)
            .map(|(side, _, now)| (side, now))
            .collect();
        for (side, place) in moved {
            self.move_end(id, side, place);
        }
    }

    /// An end that was seen before the topology was known is placed once it is.
    pub(super) fn place_the_unknown(&mut self, id: FlowId) {
        let Some(flow) = self.flows.get(id) else { return };
        if flow.both().iter().all(|(_, end)| end.place != Place::Unknown) {
            return;
        }
        let follows = self.settings.topology_changes;
        let is_behind = follows && self.namespaces.told_until() < flow.first_seen;
        if is_behind {
            self.questions.want_changes();
        }
        let waits = if follows { self.missing.is_some() } else { self.questions.topology_is_pending() };
        if is_behind || waits {
            if self.unplaced.len() < UNPLACED_MAX && self.unplaced.last() != Some(&id) {
                self.unplaced.push(id);
            }
            return;
        }
        let unknown: Vec<(Side, Place)> = flow
            .both()
            .into_iter()
            .filter(|(_, end)| end.place == Place::Unknown)
            .map(|(side, _)| (side, self.place_by_all_that_is_known(flow, side)))
            .collect();
        for (side, place) in unknown {
            self.set_place(id, side, place, false);
        }
    }

    /// Where an end is as far as its address, the interface it was first seen on, and the other end say.
    fn place_by_all_that_is_known(&self, flow: &Flow, side: Side) -> Place {
        let own = flow.tuple(side).local.address;
        let near = flow.arrived.filter(|(_, near)| *near == side).map(|(index, _)| index);
        let other = flow.end(side.other());
        match near.map(|index| self.namespaces.behind_interface(index)) {
            Some(Behind::Hidden) => match self.namespaces.place_on_interface(None, own, flow.first_seen) {
                // Whoever else has the address, this one may be another's.
                Place::Local(_) => Place::Ambiguous,
                place => place,
            },
            Some(Behind::Namespace(namespace)) => {
                self.namespaces.place_on_interface(Some(namespace), own, flow.first_seen)
            }
            _ => match other.namespace_id() {
                Some(namespace) => self.namespaces.place_seen_from(namespace, own, flow.first_seen),
                None => self.namespaces.place_on_interface(None, own, flow.first_seen),
            },
        }
    }
}
