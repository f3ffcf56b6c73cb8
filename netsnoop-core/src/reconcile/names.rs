//! What servers are called: by what clients say to them, and by what the clients' namespaces have looked up.
//!
//! An answer to a lookup counts for the namespace of whoever asked, which is the client's end of the connection to the
//! resolver. What nobody was seen to ask for does not count: anybody may send an answer.

use core::time::Duration;

use alloc::sync::Arc;

use super::Reconciler;
use super::end::Side;
use super::flow::Flow;
use super::flow_table::FlowId;
use super::namespace_table::Place;
use super::resolution_table::Asker;
use crate::connection::Role;
use crate::observation::PacketSighting;
use crate::resolution::Resolution;
use crate::service::{LearntName, NameKind};
use crate::time::{PACKET_CLOCK_ERROR, Timestamp};

/// Most answers that wait until it is known where whoever asked is.
const UNPLACED_MAX: usize = 1024;
/// How long a new connection waits for packets that may tell what its server is called.
const ANSWER_BEHIND_MAX: Duration = Duration::from_secs(1);

/// An answer to a lookup of somebody whose place is not known yet.
#[derive(Debug)]
pub(super) struct Unplaced {
    at: Timestamp,
    /// The connection to the resolver.
    flow: FlowId,
    asker: Side,
    resolution: Arc<Resolution>,
}

/// Whether it is known who asked.
enum Asking {
    Known(Asker),
    NotYet,
    Never,
}

impl Reconciler {
    /// The same comes by every interface that the packet crosses.
    pub(super) fn handle_name(&mut self, now: Timestamp, packet: &PacketSighting, name: LearntName) {
        let seen = self.sighting(packet, packet.header.tuple);
        let Some((id, _)) = self.locate(&seen) else {
            self.ledger.names_unmatched += 1;
            return;
        };
        if self.flows.get_mut(id).is_some_and(|flow| flow.learn_name(name)) {
            self.review(now, id);
        }
    }

    /// The same comes by every interface that the answer crosses.
    pub(super) fn handle_resolution(
        &mut self,
        now: Timestamp,
        packet: &PacketSighting,
        resolution: Arc<Resolution>,
    ) {
        let seen = self.sighting(packet, packet.header.tuple);
        let asked = self.locate(&seen).filter(|(id, resolver)| {
            let flow = self.flows.get(*id);
            flow.is_some_and(|flow| flow.role > Role::Unknown && flow.client != *resolver)
        });
        let Some((flow, resolver)) = asked else {
            self.ledger.resolutions_unmatched += 1;
            return;
        };
        if self.unplaced_resolutions.len() >= UNPLACED_MAX && self.unplaced_resolutions.pop_front().is_some()
        {
            self.ledger.resolutions_evicted += 1;
        }
        let asker = resolver.other();
        self.unplaced_resolutions.push_back(Unplaced { at: packet.at, flow, asker, resolution });
        self.place_resolutions(now);
    }

    /// Enters the answers of which it is known by now who asked.
    pub(super) fn place_resolutions(&mut self, now: Timestamp) {
        for unplaced in core::mem::take(&mut self.unplaced_resolutions) {
            match self.asking(now, &unplaced) {
                Asking::Known(asker) => self.resolutions.learn(unplaced.at, asker, &unplaced.resolution),
                Asking::NotYet => self.unplaced_resolutions.push_back(unplaced),
                Asking::Never => self.ledger.resolutions_unmatched += 1,
            }
        }
    }

    fn asking(&self, now: Timestamp, unplaced: &Unplaced) -> Asking {
        // One that has turned out to be another under a given name was seen under its own too.
        let Some(flow) = self.flows.get(unplaced.flow) else { return Asking::Never };
        let end = flow.end(unplaced.asker);
        let is_shown = end.place_certain || end.shown_by_interface || flow.opened;
        match end.place {
            Place::Local(namespace) if is_shown || !self.may_be_translated(now, flow) => {
                Asking::Known(Asker::Namespace(namespace))
            }
            Place::Unknown if flow.opened => Asking::Known(address_of(flow, unplaced.asker)),
            Place::Remote if flow.opened || !self.may_be_translated(now, flow) => {
                Asking::Known(address_of(flow, unplaced.asker))
            }
            Place::Ambiguous => Asking::Never,
            Place::Local(_) | Place::Unknown | Place::Remote => Asking::NotYet,
        }
    }

    /// Names the server by what the client's namespace had looked up when the connection began.
    pub(super) fn learn_resolved_name(&mut self, now: Timestamp, id: FlowId) {
        if self.resolutions.len() == 0 && self.unplaced_resolutions.is_empty() {
            return;
        }
        self.place_resolutions(now);
        let Some(flow) = self.flows.get(id) else { return };
        if flow.preexisting || flow.role == Role::Unknown {
            return;
        }
        let asker = match flow.end(flow.client).place {
            Place::Local(namespace) => Asker::Namespace(namespace),
            Place::Remote | Place::Unknown => address_of(flow, flow.client),
            Place::Ambiguous => return,
        };
        let asked = flow.tuple(flow.client).remote.address;
        let mut names = self.resolutions.find(flow.first_seen, asker, asked).into_iter();
        let Some(last) = names.next() else { return };
        if let Some(flow) = self.flows.get_mut(id)
            && flow.learn_name(LearntName { kind: NameKind::Dns, text: last })
        {
            flow.rival_names = names.collect();
        }
    }

    /// Whether an answer that is on its way, or of which it is not known yet who asked, may make a new connection another
    /// service's: it came before the connection began, but packets are read later than kernel events.
    pub(super) fn awaits_resolution(&self, now: Timestamp, flow: &Flow) -> bool {
        let Some(known_until) = self.packets_until.filter(|_| !flow.opened && !flow.preexisting) else {
            return false;
        };
        let asked = flow.tuple(flow.client).remote;
        let leads_there = |unplaced: &Unplaced| {
            unplaced.resolution.addresses.iter().any(|resolved| resolved.address == asked.address)
        };
        now < flow.first_seen + ANSWER_BEHIND_MAX
            && (known_until < flow.first_seen + PACKET_CLOCK_ERROR
                || self.unplaced_resolutions.iter().any(leads_there))
            && self.settings.services.awaits_resolution(flow.transport, asked, &flow.names)
    }
}

fn address_of(flow: &Flow, side: Side) -> Asker {
    Asker::Address(flow.tuple(side).local.address)
}
