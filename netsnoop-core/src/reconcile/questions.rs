//! What the sources should be asked: sockets grouped by namespace, one question a namespace at a time,
//! so that all that gathers meanwhile shares one pass.

use core::time::Duration;

use ahash::RandomState;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use hashbrown::HashMap;

use super::namespace_table::NamespaceId;
use crate::five_tuple::FiveTuple;
use crate::process::Process;
use crate::time::Timestamp;

/// Most sockets in one question.
const BATCH_MAX: usize = 1024;
/// Most questions about processes that are out at once.
const PROCESSES_MAX: usize = 16;
/// An answer that takes longer was lost; the next question may go out.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Topologies are not asked for more often than this. A pod may live for a tenth of a second.
const TOPOLOGY_PERIOD_MIN: Duration = Duration::from_millis(20);
/// Nor is more than this part of the time spent on them.
const TOPOLOGY_SHARE: u32 = 5;
/// Topologies are asked for at least this often, to learn of namespaces that nothing was seen in.
const TOPOLOGY_PERIOD_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct Waiting {
    sockets: Vec<FiveTuple>,
    /// Sockets that accepted some of `sockets`, each once.
    listeners: Vec<FiveTuple>,
    /// The question that is out.
    asked: Vec<FiveTuple>,
    asked_at: Option<Timestamp>,
}

/// A question that is due.
#[derive(Debug)]
pub(super) enum Question {
    Sockets(NamespaceId, Vec<FiveTuple>),
    Process(Process),
    Topology,
    TopologyChanges,
}

#[derive(Debug)]
pub(super) struct Questions {
    sockets: HashMap<NamespaceId, Waiting, RandomState>,
    /// Namespaces with sockets waiting and no question out.
    ready: VecDeque<NamespaceId>,
    processes: VecDeque<Process>,
    /// Questions about processes that are out, and when the last one went.
    processes_asked: usize,
    process_asked_at: Option<Timestamp>,
    topology_wanted: bool,
    topology_asked_at: Option<Timestamp>,
    /// How long the last one took.
    topology_cost: Duration,
    topology_answered: bool,
    changes_wanted: bool,
    changes_asked_at: Option<Timestamp>,
    waiting: usize,
    capacity: usize,
    pub(super) dropped: u64,
}

impl Questions {
    pub(super) fn new(hasher: RandomState, capacity: usize) -> Self {
        Self {
            sockets: HashMap::with_hasher(hasher),
            ready: VecDeque::new(),
            processes: VecDeque::new(),
            processes_asked: 0,
            process_asked_at: None,
            topology_wanted: false,
            topology_asked_at: None,
            topology_cost: Duration::ZERO,
            topology_answered: true,
            changes_wanted: false,
            changes_asked_at: None,
            waiting: 0,
            capacity,
            dropped: 0,
        }
    }

    /// How many sockets wait for an answer.
    pub(super) const fn len(&self) -> usize {
        self.waiting
    }

    /// Asks who holds a socket; `false` if too many are waiting.
    pub(super) fn want_socket(&mut self, now: Timestamp, namespace: NamespaceId, socket: FiveTuple) -> bool {
        if self.waiting >= self.capacity {
            self.dropped += 1;
            return false;
        }
        self.waiting += 1;
        let waiting = self.sockets.entry(namespace).or_default();
        waiting.sockets.push(socket);
        let blocked = waiting.asked_at.is_some_and(|asked| now.since(asked) < ANSWER_TIMEOUT);
        if !blocked && !self.ready.contains(&namespace) {
            self.ready.push_back(namespace);
        }
        true
    }

    /// Asks, together with the next question, who may accept connections to `server`'s own end.
    pub(super) fn want_listener(&mut self, namespace: NamespaceId, server: FiveTuple) {
        let listener = server.listening();
        let waiting = self.sockets.entry(namespace).or_default();
        if !waiting.listeners.contains(&listener) {
            waiting.listeners.push(listener);
        }
    }

    /// Takes the question that is out for `namespace`.
    pub(super) fn outstanding(&mut self, namespace: NamespaceId) -> Vec<FiveTuple> {
        self.sockets
            .get_mut(&namespace)
            .map(|waiting| core::mem::take(&mut waiting.asked))
            .unwrap_or_default()
    }

    /// The answer to the question about `namespace` has come.
    pub(super) fn answered(&mut self, namespace: NamespaceId) {
        let Some(waiting) = self.sockets.get_mut(&namespace) else { return };
        waiting.asked_at = None;
        if waiting.sockets.is_empty() {
            self.sockets.remove(&namespace);
        } else if !self.ready.contains(&namespace) {
            self.ready.push_back(namespace);
        }
    }

    /// Asks for a process's facts; `false` if too many are waiting.
    pub(super) fn want_process(&mut self, process: Process) -> bool {
        let room = self.processes.len() < self.capacity;
        if room {
            self.processes.push_back(process);
        } else {
            self.dropped += 1;
        }
        room
    }

    /// Asks for the topology.
    pub(super) const fn want_topology(&mut self) {
        self.topology_wanted = true;
    }

    /// Asks for what has changed in the topology.
    pub(super) const fn want_changes(&mut self) {
        self.changes_wanted = true;
    }

    /// What has changed up to now was told, asked or not.
    pub(super) const fn changes_told(&mut self) {
        self.changes_asked_at = None;
    }

    /// A question about a process was answered.
    pub(super) const fn process_answered(&mut self) {
        self.processes_asked = self.processes_asked.saturating_sub(1);
    }

    /// A topology has come; `again` if it misses what it was asked for.
    pub(super) fn topology_answered(&mut self, now: Timestamp, again: bool) {
        if let Some(asked) = self.topology_asked_at.filter(|_| !self.topology_answered) {
            self.topology_cost = now.since(asked);
        }
        self.topology_answered = true;
        self.topology_wanted = again;
    }

    /// Whether what is known of the topology may be out of date.
    pub(super) const fn topology_is_pending(&self) -> bool {
        self.topology_wanted || !self.topology_answered
    }

    /// The next question that is due. Sockets come first: they vanish, while a process or a namespace that
    /// is gone leaves its connection attributed all the same.
    pub(super) fn poll(&mut self, now: Timestamp) -> Option<Question> {
        let is_out = self.changes_asked_at.is_some_and(|asked| now.since(asked) < ANSWER_TIMEOUT);
        if self.changes_wanted && !is_out {
            self.changes_wanted = false;
            self.changes_asked_at = Some(now);
            return Some(Question::TopologyChanges);
        }
        if self.topology_is_due(now) {
            self.topology_wanted = false;
            self.topology_answered = false;
            self.topology_asked_at = Some(now);
            return Some(Question::Topology);
        }
        if let Some(namespace) = self.ready.pop_front() {
            let waiting = self.sockets.get_mut(&namespace)?;
            let batch = waiting.sockets.drain(..waiting.sockets.len().min(BATCH_MAX)).collect::<Vec<_>>();
            waiting.asked_at = Some(now);
            waiting.asked.clone_from(&batch);
            self.waiting -= batch.len();
            let question = batch.into_iter().chain(waiting.listeners.drain(..)).collect();
            return Some(Question::Sockets(namespace, question));
        }
        self.poll_process(now).map(Question::Process)
    }

    /// Few at a time, so that a crowd of them never stands before a socket that must be looked up now.
    fn poll_process(&mut self, now: Timestamp) -> Option<Process> {
        if self.process_asked_at.is_some_and(|asked| now.since(asked) >= ANSWER_TIMEOUT) {
            self.processes_asked = 0;
        }
        if self.processes_asked >= PROCESSES_MAX {
            return None;
        }
        let process = self.processes.pop_front()?;
        self.processes_asked += 1;
        self.process_asked_at = Some(now);
        Some(process)
    }

    fn topology_is_due(&self, now: Timestamp) -> bool {
        let Some(asked) = self.topology_asked_at else { return true };
        let age = now.since(asked);
        if !self.topology_answered {
            return age >= ANSWER_TIMEOUT;
        }
        age >= TOPOLOGY_PERIOD_MAX || self.topology_wanted && age >= self.topology_period()
    }

    fn topology_period(&self) -> Duration {
        TOPOLOGY_PERIOD_MIN.max(self.topology_cost * TOPOLOGY_SHARE)
    }

    /// When a question that must wait becomes due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let period = match (self.topology_answered, self.topology_wanted) {
            (false, _) => ANSWER_TIMEOUT,
            (true, true) => self.topology_period(),
            (true, false) => TOPOLOGY_PERIOD_MAX,
        };
        self.topology_asked_at.map(|asked| asked + period)
    }
}
