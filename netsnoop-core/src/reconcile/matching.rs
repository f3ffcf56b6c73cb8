//! Whether a sighting is of a connection that is already held.
//!
//! Two sightings are of one connection when their tuples agree or mirror each other, nothing that
//! identifies a socket (cookie, sock address, initial sequence number) contradicts it, and the ends lie
//! in one namespace or in two between which the addresses can meet.

use core::num::NonZeroU64;
use core::time::Duration;

use super::Reconciler;
use super::end::{End, Side};
use super::flow::Flow;
use super::flow_table::FlowId;
use super::namespace_table::{NamespaceId, Place};
use crate::connection::ConnectionState;
use crate::five_tuple::{Endpoint, FiveTuple, Transport};
use crate::time::{PACKET_CLOCK_ERROR, Timestamp};

/// One source's view of a socket or packet, its own end first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sighting {
    pub(super) tuple: FiveTuple,
    /// The namespace of the local end's socket, if the socket itself told it.
    pub(super) namespace: Option<NamespaceId>,
    /// Where the local and the remote end are concluded to be.
    pub(super) places: [Place; 2],
    pub(super) cookie: Option<NonZeroU64>,
    /// 0: not known.
    pub(super) sock_address: u64,
    pub(super) isn: Option<u32>,
    /// Whether it begins a connection, so that an ended one cannot be meant.
    pub(super) begins: bool,
    /// When it was sent, if it is a SYN.
    pub(super) sent_at: Option<Timestamp>,
    /// When it was made, if it was long enough on its way that an older connection may be meant.
    pub(super) at: Option<Timestamp>,
}

impl Sighting {
    /// A socket as a table of its namespace shows it, with the place of its remote end.
    pub(super) const fn in_table(
        (tuple, cookie): (FiveTuple, Option<NonZeroU64>),
        namespace: NamespaceId,
        remote: Place,
    ) -> Self {
        Self {
            tuple,
            namespace: Some(namespace),
            places: [Place::Local(namespace), remote],
            cookie,
            sock_address: 0,
            isn: None,
            begins: false,
            sent_at: None,
            at: None,
        }
    }
}

/// How much earlier than its first packet a connection's kernel event may be stamped: by the way from the hook to the
/// interface, and the error of the packets' clock.
const HOOK_TO_PACKET_MAX: Duration = Duration::from_millis(1);

/// How well a sighting fits, worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fit {
    /// Only the addresses agree, and the connection has ended.
    Ended,
    /// The addresses agree, and the places do not contradict.
    Addresses,
    /// The namespace agrees too.
    Namespace,
    /// The initial sequence number agrees.
    Sequence,
    /// It is the same socket.
    Socket,
}

impl Reconciler {
    /// The held connection a sighting is of, and the side its local end is; the best fit, then the newest.
    pub(super) fn locate(&self, sighting: &Sighting) -> Option<(FlowId, Side)> {
        self.flows
            .find(sighting.tuple)
            .filter_map(|(id, side, flow)| Some(((self.fit(flow, side, sighting)?, id), side)))
            .max_by_key(|(rank, _)| *rank)
            .map(|((_, id), side)| (id, side))
    }

    fn fit(&self, flow: &Flow, side: Side, sighting: &Sighting) -> Option<Fit> {
        let near = flow.end(side);
        if let (Some(known), Some(seen)) = (near.cookie, sighting.cookie) {
            return (known == seen).then_some(Fit::Socket);
        }
        let both_addressed = near.sock_address != 0 && sighting.sock_address != 0;
        if both_addressed && near.sock_address != sighting.sock_address {
            return None;
        }
        let sequence = flow.isn.zip(sighting.isn).map(|(known, seen)| known == seen);
        // Of a datagram flow the first event may come after the datagram; a TCP connection begins with its SYN. A
        // process may be held up between the two for as long as others run, so the sequence number knows better.
        let is_tcp = flow.transport == Transport::Tcp && sequence != Some(true);
        let is_older = is_tcp && sighting.at.is_some_and(|at| at + HOOK_TO_PACKET_MAX < flow.first_seen);
        // What is concluded from an address may be out of date, for a pod that was given that of another one; the
        // same number from the same ports is no accident.
        let is_concluded = sighting.namespace.is_none() && !sighting.tuple.local.address.is_loopback();
        let is_same_anyway = sequence == Some(true) && is_concluded;
        if is_older || !is_same_anyway && !self.places_agree(flow, side, sighting) {
            return None;
        }
        let is_of_a_later_one = sighting.sent_at.is_some_and(|sent| was_open_by_then(flow, sent));
        if sequence == Some(false) || is_of_a_later_one {
            return None;
        }
        // The address of a socket that was closed is soon that of another one.
        if both_addressed && !near.closed {
            return Some(Fit::Socket);
        }
        if sequence == Some(true) {
            return Some(Fit::Sequence);
        }
        if flow.state.is_end() {
            return (!sighting.begins).then_some(Fit::Ended);
        }
        let same_namespace = sighting.namespace.is_some() && near.namespace_id() == sighting.namespace;
        Some(if same_namespace { Fit::Namespace } else { Fit::Addresses })
    }

    fn places_agree(&self, flow: &Flow, side: Side, sighting: &Sighting) -> bool {
        let (near, far) = (flow.end(side), flow.end(side.other()));
        let Some(namespace) = sighting.namespace else {
            let [local, remote] = sighting.places;
            // Of an end that is seen under an address it was given, that address tells nothing.
            let differs = |own: Endpoint, seen: Endpoint, place, at| {
                (flow.path.is_none() || own == seen) && differ(place, at)
            };
            let own = [flow.tuple(side).local, flow.tuple(side.other()).local];
            let at = sighting.at.unwrap_or(flow.first_seen);
            return self.may_send_from(near, sighting.tuple.local, at)
                && !differs(own[0], sighting.tuple.local, near.place, local)
                && !differs(own[1], sighting.tuple.remote, far.place, remote);
        };
        if near.place_certain && near.namespace_id() != Some(namespace) {
            return false;
        }
        if flow.path.is_some() {
            // Translated addresses meet wherever those who translate have them meet.
            return true;
        }
        if self.is_elsewhere(near.endpoint, namespace, flow.first_seen)
            || !self.may_send_from(far, sighting.tuple.remote, flow.first_seen)
        {
            return false;
        }
        match far.place {
            Place::Local(there) if far.place_certain => self.namespaces.can_meet(
                (namespace, sighting.tuple.local.address),
                (there, sighting.tuple.remote.address),
                flow.first_seen,
            ),
            // A loopback connection concluded to be in another namespace than the socket's own.
            _ if sighting.tuple.local.address.is_loopback() => !differ(near.place, Place::Local(namespace)),
            _ => true,
        }
    }
}

impl Reconciler {
    /// Whether the address is that of another namespace, so that no socket of `namespace` sends from it or is reached by
    /// it; one that is bound to no address has the same port in every namespace.
    fn is_elsewhere(&self, own: Endpoint, namespace: NamespaceId, at: Timestamp) -> bool {
        let place = self.namespaces.place_seen_from(namespace, own.address, at);
        differ(place, Place::Local(namespace))
    }

    /// Whether a packet from `seen` may be of the socket at `end`: one that is bound to no address sends from those of
    /// its namespace, and never from one that it is given on the way.
    fn may_send_from(&self, end: &End, seen: Endpoint, at: Timestamp) -> bool {
        let bound_to_none = end.place_certain && end.endpoint.is_wildcard() && !seen.is_wildcard();
        end.namespace_id().filter(|_| bound_to_none).is_none_or(|namespace| {
            !self.namespaces.knows_addresses(namespace) || self.namespaces.owns(namespace, seen.address, at)
        })
    }
}

/// Whether tables showed the connection to be open before `sent`, so that no SYN of its own can be sent then.
fn was_open_by_then(flow: &Flow, sent: Timestamp) -> bool {
    flow.is_known_by_tables_alone()
        && flow.state == ConnectionState::Established
        && flow.first_seen + PACKET_CLOCK_ERROR < sent
}

fn differ(one: Place, other: Place) -> bool {
    matches!((one, other), (Place::Local(one), Place::Local(other)) if one != other)
}
