//! The only attribution state: observations in, connection records out.
//!
//! [`Reconciler`] has one shape, without IO, clock or log:
//! - [`Reconciler::handle`] takes one observation,
//! - [`Reconciler::handle_timeout`] lets time pass,
//! - [`Reconciler::poll_record`] hands out what is to be told, [`Reconciler::poll_progress`] what those that live have
//!   exchanged meanwhile,
//! - [`Reconciler::poll_rescan`] hands out what is to be asked, [`Reconciler::poll_hearing`] whether to ask how far
//!   connection tracking has been read,
//! - [`Reconciler::poll_timeout`] says when `handle_timeout` is next worth calling.
//!
//! Call `handle` or `handle_timeout`, then the polls until they return `None`.

mod byte_counts;
mod byte_looks;
mod cluster_table;
mod end;
mod flow;
mod flow_index;
mod flow_table;
mod hearing;
mod keeper;
mod kernel_events;
mod lifecycle;
mod listener_table;
mod living_table;
mod looks;
mod matching;
mod names;
mod namespace_table;
mod packets;
mod passes;
mod path;
mod places;
mod port_reuse;
mod process_table;
mod questions;
mod records;
mod resolution_table;
mod resumed;
mod serving_table;
mod settings;
mod snapshots;
mod table_owner;
#[cfg(test)]
mod tests;
mod translation;
mod translation_table;

use ahash::RandomState;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::attribution::{Attribution, Reason, Refinement, Rung};
use crate::connection::ConnectionRecord;
use crate::ledger::Ledger;
use crate::observation::{Observation, Rescan};
use crate::service::Services;
use crate::time::Timestamp;

use cluster_table::ClusterTable;
use end::Side;
use flow::Flow;
use flow_table::{FlowId, FlowTable};
use hearing::Hearing;
use listener_table::ListenerTable;
use living_table::LivingTable;
use names::Unplaced;
use namespace_table::NamespaceTable;
use passes::Candidate;
use places::Missing;
use process_table::ProcessTable;
use questions::{Question, Questions};
use resolution_table::ResolutionTable;
use serving_table::ServingTable;
pub use settings::{Hooks, Settings};
use translation::FirstSight;
use translation_table::TranslationTable;

/// How full a bounded table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableSize {
    /// What it holds.
    pub table: &'static str,
    /// How many of them.
    pub held: usize,
    /// How many there is room for.
    pub capacity: usize,
}

/// The state machine that turns observations into attributed connections.
#[derive(Debug)]
pub struct Reconciler {
    settings: Settings,
    namespaces: NamespaceTable,
    processes: ProcessTable,
    listeners: ListenerTable,
    serving: ServingTable,
    living: LivingTable,
    /// Sockets that a pass found first, until it is known whether packets tell of their connections.
    candidates: VecDeque<Candidate>,
    flows: FlowTable,
    translations: TranslationTable,
    hearing: Hearing,
    resolutions: ResolutionTable,
    cluster: ClusterTable,
    /// Answers to lookups of somebody whose place is not known yet.
    unplaced_resolutions: VecDeque<Unplaced>,
    questions: Questions,
    /// Connections with something to tell.
    ready: VecDeque<FlowId>,
    /// Connections that may have exchanged more than has been told.
    grown: VecDeque<FlowId>,
    /// When all had been looked at last for that, if they are looked at.
    bytes_ended: Timestamp,
    /// What the last topology was found to lack.
    missing: Option<Missing>,
    /// Connections with an end that the next topology may place.
    unplaced: Vec<FlowId>,
    ledger: Ledger,
    /// The stamp of the newest kernel event.
    newest_event: Timestamp,
    /// Up to when all packets are known; `None` while no capture tells.
    packets_until: Option<Timestamp>,
    /// Connections that wait for that to go on.
    awaiting_packets: Vec<FlowId>,
    /// How far the last kernel event was behind when it arrived.
    events_behind: Duration,
    /// Whether the sources have ended, so that nothing is worth waiting for.
    draining: bool,
}

impl Reconciler {
    /// An empty one.
    pub fn new(settings: Settings) -> Self {
        let [first, second, third, fourth] = settings.seed;
        let hasher = RandomState::with_seeds(first, second, third, fourth);
        Self {
            namespaces: NamespaceTable::new(hasher.clone()),
            processes: ProcessTable::new(hasher.clone(), settings.processes_max),
            listeners: ListenerTable::new(hasher.clone()),
            serving: ServingTable::new(hasher.clone()),
            living: LivingTable::new(hasher.clone(), settings.connections_max),
            candidates: VecDeque::new(),
            flows: FlowTable::new(hasher.clone(), settings.connections_max),
            translations: TranslationTable::new(hasher.clone(), settings.translations_max),
            hearing: Hearing::default(),
            resolutions: ResolutionTable::new(hasher.clone(), settings.resolutions_max),
            unplaced_resolutions: VecDeque::new(),
            cluster: ClusterTable::new(hasher.clone(), settings.cluster_names_max),
            questions: Questions::new(hasher, settings.questions_max),
            ready: VecDeque::new(),
            grown: VecDeque::new(),
            bytes_ended: Timestamp::default(),
            missing: None,
            unplaced: Vec::new(),
            ledger: Ledger::default(),
            newest_event: Timestamp::default(),
            packets_until: None,
            awaiting_packets: Vec::new(),
            events_behind: Duration::ZERO,
            draining: false,
            settings,
        }
    }

    /// Takes one observation.
    pub fn handle(&mut self, now: Timestamp, observation: Observation) {
        match observation {
            Observation::Packet(sighting) => self.handle_packet(now, &sighting),
            Observation::Name(sighting, name) => self.handle_name(now, &sighting, name),
            Observation::Resolution(sighting, resolution) => {
                self.handle_resolution(now, &sighting, resolution);
            }
            Observation::Kernel(event) => self.handle_kernel_event(now, event),
            Observation::Sockets(snapshot) => self.handle_snapshot(now, snapshot),
            Observation::Pass(pass) => self.handle_pass(now, pass),
            Observation::Bytes(look) => self.handle_bytes(&look),
            Observation::BytesEnd => self.handle_bytes_end(now),
            Observation::PacketsUntil(until) => self.handle_packets_until(now, until),
            Observation::Process(id, facts) => {
                self.questions.process_answered();
                let is_told = facts.container.is_some();
                let waiting = self.processes.answer(id, facts);
                self.tell_again(now, waiting, is_told);
            }
            Observation::ContainerNames(id, container) => {
                let is_told = container.is_some();
                let waiting = self.processes.name_container(id, container);
                self.tell_again(now, waiting, is_told);
            }
            Observation::Cluster(changes) => {
                changes.into_iter().for_each(|change| self.cluster.learn(now, change));
            }
            Observation::Translations(report) => self.handle_translations(now, report),
            Observation::TranslationsUntil(until) => self.handle_translations_until(now, until),
            Observation::Topology(topology) => self.handle_topology(now, topology),
            Observation::TopologyChanges(report) => self.handle_topology_changes(now, report),
        }
    }

    /// More is known of an owner of these, perhaps its container; those that were told of already are told of again.
    fn tell_again(&mut self, now: Timestamp, flows: Vec<FlowId>, is_told: bool) {
        for flow in flows {
            if let Some(flow) = self.flows.get_mut(flow) {
                flow.changed |= is_told && flow.opened;
            }
            self.review(now, flow);
        }
    }

    /// The next thing to be told.
    pub fn poll_record(&mut self, now: Timestamp) -> Option<ConnectionRecord> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(record) = self.next_record(now, id) {
                return Some(record);
            }
        }
        None
    }

    /// The next connection that has exchanged more than has been told, as it stands: most of them live, and looks at the
    /// bytes of sockets told of that.
    pub fn poll_progress(&mut self, now: Timestamp) -> Option<ConnectionRecord> {
        while let Some(id) = self.grown.pop_front() {
            if let Some(record) = self.progress(now, id) {
                return Some(record);
            }
        }
        None
    }

    /// Whether [`Self::poll_progress`] may have one. There may be as many as connections: whoever asks need not take all at
    /// once.
    pub fn has_progress(&self) -> bool {
        !self.grown.is_empty()
    }

    /// The next question for the sources.
    pub fn poll_rescan(&mut self, now: Timestamp) -> Option<Rescan> {
        loop {
            match self.questions.poll(now)? {
                Question::Topology => return Some(Rescan::Topology),
                Question::TopologyChanges => return Some(Rescan::TopologyChanges),
                Question::Process(process) => return Some(Rescan::Process(process)),
                Question::Sockets(id, wanted) => match self.namespaces.key_while_there(id) {
                    Some(namespace) => return Some(Rescan::Sockets { namespace, wanted }),
                    None => self.answer_for_ended_namespace(now, id, &wanted),
                },
            }
        }
    }

    /// Whether to ask now up to when connection tracking has been read. The answer is
    /// [`Observation::TranslationsUntil`].
    pub fn poll_hearing(&mut self, now: Timestamp) -> bool {
        self.hearing.take_question(now)
    }

    /// When [`Self::handle_timeout`] is next worth calling.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let deadlines = [self.flows.next_wake(), self.questions.next_due()];
        deadlines.into_iter().flatten().min()
    }

    /// The books as they stand: held connections are entered by what is known of them now. Walks all of
    /// them.
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger {
            processes_evicted: self.processes.evicted,
            rescans_dropped: self.questions.dropped,
            listeners_dropped: self.listeners.dropped,
            translations_evicted: self.translations.evicted,
            resolutions_evicted: self.ledger.resolutions_evicted + self.resolutions.evicted,
            cluster_names_evicted: self.cluster.evicted,
            living_dropped: self.living.dropped,
            ..self.ledger.clone()
        };
        for (_, flow) in self.flows.iter() {
            enter_ends(&mut ledger, flow, flow.opened);
        }
        ledger
    }

    /// Which kernel hooks it was told report.
    pub const fn hooks(&self) -> Hooks {
        self.settings.hooks
    }

    /// Names the services anew: what is told from now on is told by these.
    pub fn name_services(&mut self, services: Services) {
        self.settings.services = services;
    }

    /// How full the tables are.
    pub fn tables(&self) -> [TableSize; 6] {
        let Settings {
            connections_max, processes_max, translations_max, resolutions_max, questions_max, ..
        } = self.settings;
        [
            TableSize { table: "connections", held: self.flows.len(), capacity: connections_max },
            TableSize { table: "living_sockets", held: self.living.len(), capacity: connections_max },
            TableSize { table: "processes", held: self.processes.len(), capacity: processes_max },
            TableSize { table: "translations", held: self.translations.len(), capacity: translations_max },
            TableSize { table: "resolutions", held: self.resolutions.len(), capacity: resolutions_max },
            TableSize { table: "questions", held: self.questions.len(), capacity: questions_max },
        ]
    }

    /// How many connections are held.
    pub fn connections_held(&self) -> usize {
        self.flows.len()
    }

    /// Adds a connection of which something was seen. Its side A is the local end.
    fn add_flow(&mut self, now: Timestamp, seen: &FirstSight) -> FlowId {
        let mut flow = self.new_flow(&FirstSight { at: seen.at.min(now), ..*seen });
        flow.lookup_at = now + self.lookup_delay();
        let (id, evicted) = self.flows.insert(flow);
        if let Some(evicted) = evicted {
            self.ledger.connections_evicted += 1;
            if evicted.opened {
                enter_ends(&mut self.ledger, &evicted, true);
            } else {
                let local = evicted.both().into_iter().filter(|(_, end)| end.is_local()).count();
                self.ledger.ends_evicted += local as u64;
            }
        }
        self.place_translated(id, seen.tuple);
        id
    }

    /// Refines an end's attribution and keeps the books on conflicts.
    fn attribute(&mut self, id: FlowId, side: Side, attribution: Attribution, rung: Option<Rung>) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        if flow.attribute(side, attribution, rung) == Refinement::Corrected {
            self.ledger.conflicts += 1;
        }
    }
}

/// Enters a connection's local ends; those of one that has not been told of yet are still open.
fn enter_ends(ledger: &mut Ledger, flow: &Flow, told: bool) {
    for (_, end) in flow.both().into_iter().filter(|(_, end)| end.is_local()) {
        match end.attribution.reason() {
            None => ledger.ends_attributed += 1,
            Some(Reason::Pending) if !flow.closed => ledger.ends_open += 1,
            Some(_) if !told => ledger.ends_open += 1,
            Some(reason) => ledger.count_unattributed(reason),
        }
    }
}
