//! What packets tell: that a connection begins, was answered, ends; and on which interface.
use super::Reconciler;
use super::byte_counts::SeenOn;
use super::end::{Search, Side};
use super::flow_table::FlowId;
use super::matching::Sighting;
use super::namespace_table::{Behind, Place};
use super::places::Missing;
use super::translation::FirstSight;
use crate::attribution::{Attribution, Reason};
use crate::connection::{ConnectionState, Role};
use crate::five_tuple::{Endpoint, FiveTuple, Transport};
use crate::observation::PacketSighting;
use crate::packet::{Direction, PacketContent, TcpFlags};
use crate::time::Timestamp;

impl Reconciler {
    pub(super) fn handle_packet(&mut self, now: Timestamp, packet: &PacketSighting) {
        if let Some(index) = packet.interface {
            self.notice(Missing::Interface(index));
        }
        let tuple = packet.header.tuple;
        let id = match packet.header.content {
            PacketContent::Tcp { flags, sequence, acknowledgement, .. } => {
                self.handle_tcp(now, packet, (flags, sequence, acknowledgement))
            }
            PacketContent::Udp { payload_length } => self.handle_udp(now, packet, payload_length),
            PacketContent::Unreachable => self.handle_unreachable(packet, tuple),
        };
        let Some(id) = id else { return };
        self.note_interface(id, packet);
        if let Some(flow) = self.flows.get_mut(id) {
            flow.last_seen = flow.last_seen.max(packet.at);
        }
        self.review(now, id);
    }

    pub(super) fn sighting(&self, packet: &PacketSighting, tuple: FiveTuple) -> Sighting {
        let behind =
            packet.interface.map_or(Behind::Anything, |index| self.namespaces.behind_interface(index));
        let may_lead_there = matches!(behind, Behind::Namespace(_) | Behind::Hidden | Behind::NotKnown);
        let near = near_end(packet).filter(|_| may_lead_there && self.settings.topology_changes);
        // A bridge shows the same packet once more on an interface that is known.
        let is_new = behind == Behind::NotKnown || matches!(self.missing, Some(Missing::Interface(_)));
        let place = |end: Endpoint| {
            let address = end.address;
            match self.namespaces.place_on_interface(behind.namespace(), address, packet.at) {
                Place::Remote if is_new => Place::Unknown,
                Place::Local(namespace) if behind.namespace() == Some(namespace) => Place::Local(namespace),
                // It may be behind the interface for so short a time that this is not known yet.
                _ if near == Some(end) && !address.is_multicast() => Place::Unknown,
                place => place,
            }
        };
        Sighting {
            tuple,
            namespace: None,
            places: [place(tuple.local), place(tuple.remote)],
            cookie: None,
            sock_address: 0,
            isn: None,
            begins: false,
            sent_at: None,
            // Packets wait in libpcap's buffer while the kernel's events overtake them.
            at: Some(packet.at),
        }
    }

    fn handle_tcp(
        &mut self,
        now: Timestamp,
        packet: &PacketSighting,
        (flags, sequence, acknowledgement): (TcpFlags, u32, u32),
    ) -> Option<FlowId> {
        let tuple = packet.header.tuple;
        if flags.contains(TcpFlags::SYN) {
            let answer = flags.contains(TcpFlags::ACK);
            // Seen as the client sees it: the SYN's sender, the SYN-ACK's receiver.
            let mut seen = self.sighting(packet, if answer { tuple.mirrored() } else { tuple });
            seen.isn = Some(if answer { acknowledgement.wrapping_sub(1) } else { sequence });
            seen.begins = true;
            seen.sent_at = (!answer).then_some(packet.at);
            // The sequence number tells connections apart better than the stamps of two sources.
            seen.at = None;
            let (id, client) = self.locate_or_add(now, packet, &seen);
            self.take_back_late_looks(now, id, packet.at);
            let flow = self.flows.get_mut(id)?;
            if flow.is_known_by_tables_alone() {
                flow.first_seen = flow.first_seen.min(packet.at);
            }
            flow.isn = seen.isn;
            flow.begins_in_our_time();
            flow.found_after = None;
            flow.learn_role(client, Role::Syn);
            if answer {
                flow.advance(ConnectionState::Established, packet.at);
            }
            return Some(id);
        }
        let seen = self.sighting(packet, tuple);
        // A segment of a connection nothing is known of tells neither its start nor its client.
        let (id, sender) = self.locate(&seen)?;
        if flags.contains(TcpFlags::RST) {
            self.end_by_reset(id, sender, packet.at);
        } else if flags.contains(TcpFlags::FIN) {
            let flow = self.flows.get_mut(id)?;
            flow.end_mut(sender).sent_fin = true;
            if flow.both().iter().all(|(_, end)| end.sent_fin) {
                flow.advance(ConnectionState::Closed, packet.at);
            }
        }
        Some(id)
    }

    fn end_by_reset(&mut self, id: FlowId, sender: Side, at: Timestamp) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        let refused = flow.state == ConnectionState::Connecting && sender != flow.client;
        flow.advance(if refused { ConnectionState::Refused } else { ConnectionState::Reset }, at);
        if refused {
            self.nobody_listens(id, sender);
        }
    }

    /// The server's end was answered for by the kernel alone.
    pub(super) fn nobody_listens(&mut self, id: FlowId, server: Side) {
        let Some(end) = self.flows.get_mut(id).map(|flow| flow.end_mut(server)) else { return };
        if end.is_local() && !end.attribution.has_owner() {
            end.attribution = Attribution::namespace(Reason::ClosedPort, None);
            end.search = Search::Done;
        }
    }

    fn handle_udp(&mut self, now: Timestamp, packet: &PacketSighting, length: u32) -> Option<FlowId> {
        let seen = self.sighting(packet, packet.header.tuple);
        let (id, sender) = self.locate_or_add(now, packet, &seen);
        self.doubt_after_silence(now, id, packet.at);
        let flow = self.flows.get_mut(id)?;
        flow.learn_role(sender, Role::FirstDatagram);
        let seen_on = SeenOn::new(packet.interface, packet.direction);
        flow.bytes.count_datagram(sender, seen_on, length);
        flow.advance(ConnectionState::Established, packet.at);
        Some(id)
    }

    fn handle_unreachable(&mut self, packet: &PacketSighting, tuple: FiveTuple) -> Option<FlowId> {
        let (id, sender) = self.locate(&self.unreachable_sighting(tuple))?;
        let flow = self.flows.get_mut(id)?;
        // An established TCP connection survives ICMP errors (RFC 5927); so does a flow that was answered.
        let unanswered = match tuple.transport {
            Transport::Tcp => flow.state == ConnectionState::Connecting,
            Transport::Udp | Transport::UdpLite => flow.client == sender,
        };
        if unanswered {
            flow.advance(ConnectionState::Refused, packet.at);
            self.nobody_listens(id, sender.other());
        }
        Some(id)
    }

    const fn unreachable_sighting(&self, tuple: FiveTuple) -> Sighting {
        Sighting {
            tuple,
            namespace: None,
            // The error may come by another way than the packet it tells of.
            places: [Place::Unknown; 2],
            cookie: None,
            sock_address: 0,
            isn: None,
            begins: false,
            sent_at: None,
            at: None,
        }
    }

    /// The connection a packet is of; a new one if none is held. Its ends are put where the addresses say, and where the
    /// interface says.
    fn locate_or_add(&mut self, now: Timestamp, packet: &PacketSighting, seen: &Sighting) -> (FlowId, Side) {
        let (id, side) = match self.locate(seen) {
            Some((id, side)) => {
                self.concretise(id, side, seen.tuple);
                (id, side)
            }
            None => {
                let first = FirstSight { tuple: seen.tuple, at: packet.at, namespace: None, asks: false };
                (self.add_flow(now, &first), Side::A)
            }
        };
        if let Some((index, near)) = packet.interface.zip(near_end(packet)) {
            let near = if near == seen.tuple.local { side } else { side.other() };
            self.arrived(id, index, near);
        }
        let [local, remote] = seen.places;
        self.place_by_address(id, side, seen.tuple.local, local);
        self.place_by_address(id, side.other(), seen.tuple.remote, remote);
        (id, side)
    }

    /// A packet shows the address that a wildcard socket is reached by.
    pub(super) fn concretise(&mut self, id: FlowId, side: Side, tuple: FiveTuple) {
        for (side, seen) in [(side, tuple.local), (side.other(), tuple.remote)] {
            let wildcard = self.flows.get(id).is_some_and(|flow| flow.end(side).endpoint.is_wildcard());
            if wildcard && !seen.is_wildcard() {
                self.flows.rename(id, |flow| flow.end_mut(side).endpoint = seen);
            }
        }
    }

    fn note_interface(&mut self, id: FlowId, packet: &PacketSighting) {
        let Some(index) = packet.interface else { return };
        let behind = self.namespaces.behind_interface(index).namespace();
        let Some(name) = self.namespaces.interface_name(index) else { return };
        let Some(flow) = self.flows.get_mut(id) else { return };
        let nearest = behind.is_some() && flow.end(flow.client).namespace_id() == behind;
        let better = flow.interface.as_ref().is_none_or(|(_, known_nearest)| nearest && !known_nearest);
        if better {
            flow.interface = Some((name.clone(), nearest));
        }
    }
}

/// The packet's end on the far side of the interface it was seen on.
const fn near_end(packet: &PacketSighting) -> Option<Endpoint> {
    match packet.direction {
        Direction::In => Some(packet.header.tuple.local),
        Direction::Out => Some(packet.header.tuple.remote),
        Direction::Unknown => None,
    }
}
