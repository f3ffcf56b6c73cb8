//! Turning a held connection into the record that is told.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::Reconciler;
use super::end::Side;
use super::flow::Flow;
use super::flow_table::FlowId;
use crate::attribution::{Attribution, Reason};
use crate::cluster::ClusterNames;
use crate::connection::{ConnectionId, ConnectionRecord, EndRecord, Exchanged, Nat, RecordEvent, Role};
use crate::five_tuple::Endpoint;
use crate::process::{Pod, Process, ProcessFacts};
use crate::service::Service;
use crate::time::Timestamp;

impl Reconciler {
    /// What is next to be told of a connection that was queued; queues it again if there is more.
    pub(super) fn next_record(&mut self, now: Timestamp, id: FlowId) -> Option<ConnectionRecord> {
        self.learn_resolved_name(now, id);
        self.learn_service(id);
        let finished = self.flows.get(id).is_some_and(|flow| self.is_finished(now, flow));
        let flow = self.flows.get_mut(id)?;
        flow.queued = false;
        let event = match (flow.opened, flow.changed, finished) {
            (false, ..) => RecordEvent::Open,
            (true, _, true) => RecordEvent::Close,
            (true, true, false) if !flow.closed => RecordEvent::Update,
            _ => return None,
        };
        flow.changed = false;
        flow.opened = true;
        Self::default_client(flow);
        match event {
            RecordEvent::Open => {
                flow.doubt_users_of_an_older_one();
                self.ledger.connections_opened += 1;
            }
            RecordEvent::Update => {}
            RecordEvent::Close => {
                flow.closed = true;
                flow.give_up_waiting();
                self.ledger.connections_closed += 1;
            }
        }
        let record = match event {
            RecordEvent::Close => self.render_with_bytes(now, id, event),
            RecordEvent::Open | RecordEvent::Update => {
                self.flows.get(id).map(|flow| self.render(now, id, flow, event))
            }
        };
        self.review(now, id);
        record
    }

    /// How a connection stands that has exchanged anything which has not been told of. The kernel's event of its end may
    /// come later than was waited for.
    pub(super) fn progress(&mut self, now: Timestamp, id: FlowId) -> Option<ConnectionRecord> {
        let flow = self.flows.get(id)?;
        let is_told = flow.opened && flow.bytes.has_untold();
        is_told.then(|| self.render_with_bytes(now, id, RecordEvent::Update)).flatten()
    }

    /// The record, with the bytes counted so far. From then on those have been told of.
    fn render_with_bytes(
        &mut self,
        now: Timestamp,
        id: FlowId,
        event: RecordEvent,
    ) -> Option<ConnectionRecord> {
        let flow = self.flows.get_mut(id)?;
        let (io, untold) = (flow.bytes.total(flow.client), flow.bytes.take_untold(flow.client));
        let flow = self.flows.get(id)?;
        Some(ConnectionRecord { io, untold, ..self.render(now, id, flow, event) })
    }

    fn learn_service(&mut self, id: FlowId) {
        // What is known as well or better stays, whatever services there are.
        let Some(flow) = self.flows.get(id).filter(|flow| flow.role < Role::Service) else { return };
        let server = [Side::A, Side::B].into_iter().find(|side| self.service_at(flow, *side).is_some());
        if let (Some(server), Some(flow)) = (server, self.flows.get_mut(id)) {
            flow.learn_role(server.other(), Role::Service);
        }
    }

    /// The service that `side` is of: as the other end asked for it, else as it is where that led. What the server is
    /// called says nothing of the client.
    fn service_at(&self, flow: &Flow, side: Side) -> Option<Service> {
        let endpoints = [flow.tuple(side.other()).remote, flow.tuple(side).local];
        let names = if side == flow.client { &[] } else { flow.names.as_slice() };
        let services = &self.settings.services;
        endpoints.into_iter().find_map(|endpoint| services.find(flow.transport, endpoint, names))
    }

    fn render(&self, now: Timestamp, id: FlowId, flow: &Flow, event: RecordEvent) -> ConnectionRecord {
        let (client, server) = (flow.client, flow.client.other());
        let (asked, answered) = (flow.tuple(client), flow.tuple(server).mirrored());
        let given = |own: Endpoint, seen: Endpoint| (own != seen).then_some(seen);
        let at = match event {
            RecordEvent::Open => flow.first_seen,
            RecordEvent::Update => flow.last_seen,
            RecordEvent::Close => flow.ended_at.unwrap_or(now),
        };
        ConnectionRecord {
            event,
            at,
            id: self.connection_id(id),
            start: flow.was_seen_to_begin().then_some(flow.first_seen),
            preexisting: flow.preexisting,
            state: flow.state,
            role: flow.role,
            rungs: flow.rungs,
            duration: flow.was_seen_to_begin().then(|| at.since(flow.first_seen)),
            transport: flow.transport,
            isn: flow.isn,
            interface: flow.interface.as_ref().map(|(name, _)| name.clone()),
            client: self.render_end(flow, client, asked.local),
            server: self.render_end(flow, server, asked.remote),
            nat: Nat {
                client: given(asked.local, answered.local),
                server: given(asked.remote, answered.remote),
            },
            service: self.service_at(flow, server),
            names: flow.names.clone(),
            rival_names: flow.rival_names.clone(),
            io: None,
            untold: Exchanged::default(),
        }
    }

    fn render_end(&self, flow: &Flow, side: Side, endpoint: Endpoint) -> EndRecord {
        let end = flow.end(side);
        EndRecord {
            endpoint,
            namespace: end.namespace,
            facts: self.facts_of(&end.attribution),
            attribution: end.attribution.clone(),
            named_at: end.named_at,
            cluster: self.cluster_names(flow, side, endpoint),
        }
    }

    /// An end of this node has its names from its container, or from who keeps its namespace.
    fn cluster_names(&self, flow: &Flow, side: Side, asked: Endpoint) -> Option<Box<ClusterNames>> {
        let end = flow.end(side);
        let is_remote = end.attribution.reason() == Some(Reason::Remote);
        let own = is_remote.then(|| flow.tuple(side).local.address);
        let asked = (side != flow.client).then_some(asked.address);
        let elsewhere = self.cluster.names(own, asked, flow.first_seen);
        let Some(pod) = self.keeper_of(end).and_then(|keeper| self.pod_of(&keeper)) else {
            return elsewhere.map(Box::new);
        };
        Some(Box::new(ClusterNames { pod: Some(pod), ..elsewhere.unwrap_or_default() }))
    }

    fn pod_of(&self, process: &Process) -> Option<Arc<Pod>> {
        self.processes.facts(process.id)?.container.as_ref()?.pod.clone()
    }

    fn facts_of(&self, attribution: &Attribution) -> Option<Arc<ProcessFacts>> {
        self.processes.facts(attribution.owning_process()?.id).cloned()
    }

    /// A different number for each connection, and other numbers in each run: an odd factor and an
    /// offset are a bijection on 64 bits.
    const fn connection_id(&self, id: FlowId) -> ConnectionId {
        let [offset, factor, ..] = self.settings.seed;
        ConnectionId(id.number.wrapping_mul(factor | 1).wrapping_add(offset))
    }
}
