//! What is known of processes, for as long as connections may still need it, and which have ended.

use ahash::RandomState;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hashbrown::HashMap;

use super::flow_table::FlowId;
use crate::process::{Comm, Container, Process, ProcessFacts, ProcessId};

/// Most connections that wait for one process's facts.
const WAITING_MAX: usize = 64;

#[derive(Debug)]
struct Entry {
    /// The name the facts belong to: another one means the process has run a new program since.
    name: Comm,
    facts: Arc<ProcessFacts>,
    /// Whether its facts were asked for: an exec event alone does not tell of the container.
    asked: bool,
    answered: bool,
    ended: bool,
    /// Connections that are told of once the facts are there.
    waiting: Vec<FlowId>,
}

/// A bounded table; the processes seen first go first.
#[derive(Debug)]
pub(super) struct ProcessTable {
    entries: HashMap<ProcessId, Entry, RandomState>,
    oldest_first: VecDeque<ProcessId>,
    capacity: usize,
    pub(super) evicted: u64,
}

impl ProcessTable {
    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn new(hasher: RandomState, capacity: usize) -> Self {
        Self { entries: HashMap::with_hasher(hasher), oldest_first: VecDeque::new(), capacity, evicted: 0 }
    }

    /// Notes that `process` owns something; `true` if its facts should be asked for.
    pub(super) fn note(&mut self, process: &Process) -> bool {
        let entry = match self.entries.get_mut(&process.id) {
            Some(entry) => entry,
            None => self.insert(process.id, process.name),
        };
        if entry.asked && entry.name == process.name {
            return false;
        }
        entry.name = process.name;
        entry.asked = true;
        entry.answered = false;
        true
    }

    fn insert(&mut self, id: ProcessId, name: Comm) -> &mut Entry {
        while self.entries.len() >= self.capacity
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.evicted += u64::from(self.entries.remove(&oldest).is_some());
        }
        self.oldest_first.push_back(id);
        self.entries
            .entry(id)
            .insert(Entry {
                name,
                facts: Arc::new(ProcessFacts { names_follow: true, ..ProcessFacts::default() }),
                asked: false,
                answered: false,
                ended: false,
                waiting: Vec::new(),
            })
            .into_mut()
    }

    /// Takes what a lookup found, and hands out who waited for it. What an exec event told stays where
    /// the lookup came too late.
    pub(super) fn answer(&mut self, id: ProcessId, mut facts: ProcessFacts) -> Vec<FlowId> {
        let Some(entry) = self.entries.get_mut(&id) else { return Vec::new() };
        if facts.executable.is_none() {
            facts.executable.clone_from(&entry.facts.executable);
        }
        entry.answered = !facts.names_follow;
        entry.facts = Arc::new(facts);
        if entry.answered { core::mem::take(&mut entry.waiting) } else { Vec::new() }
    }

    /// Takes the container with its names, or that none will be told; hands out who waited for them.
    pub(super) fn name_container(&mut self, id: ProcessId, container: Option<Container>) -> Vec<FlowId> {
        let Some(entry) = self.entries.get_mut(&id) else { return Vec::new() };
        let container = container.or_else(|| entry.facts.container.clone());
        entry.facts = Arc::new(ProcessFacts { container, names_follow: false, ..(*entry.facts).clone() });
        entry.answered = true;
        core::mem::take(&mut entry.waiting)
    }

    /// Has `flow` handed out when the facts of `id` arrive, unless they are there or too many wait:
    /// those are told of when they have settled anyway.
    pub(super) fn wait_for(&mut self, id: ProcessId, flow: FlowId) {
        if let Some(entry) = self.entries.get_mut(&id)
            && !entry.answered
            && entry.waiting.len() < WAITING_MAX
            && entry.waiting.last() != Some(&flow)
        {
            entry.waiting.push(flow);
        }
    }

    /// The process runs a new program. Its container stays the same.
    pub(super) fn exec(&mut self, process: &Process, executable: Option<Arc<str>>) {
        let entry = match self.entries.get_mut(&process.id) {
            Some(entry) => entry,
            None => self.insert(process.id, process.name),
        };
        entry.name = process.name;
        entry.facts = Arc::new(ProcessFacts { executable, ..(*entry.facts).clone() });
    }

    /// The process has ended.
    pub(super) fn exit(&mut self, process: &Process) {
        match self.entries.get_mut(&process.id) {
            Some(entry) => entry.ended = true,
            None => self.insert(process.id, process.name).ended = true,
        }
    }

    /// Whether the process is known to have ended.
    pub(super) fn has_ended(&self, id: ProcessId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.ended)
    }

    /// Whether nothing more is to be expected about the process.
    pub(super) fn is_answered(&self, id: ProcessId) -> bool {
        self.entries.get(&id).is_none_or(|entry| entry.answered)
    }

    /// What is known of it.
    pub(super) fn facts(&self, id: ProcessId) -> Option<&Arc<ProcessFacts>> {
        self.entries.get(&id).map(|entry| &entry.facts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_an_exec_event_told_of_is_still_asked_about_once() {
        let name = Comm::new(b"curl");
        let process = Process { id: ProcessId { pid: 7, start_ticks: 1 }, name, uid: 0, cgroup_id: None };
        let mut table = ProcessTable::new(RandomState::with_seeds(1, 2, 3, 4), 8);
        table.exec(&process, Some("/usr/bin/curl".into()));
        assert!(table.note(&process), "its container is not known");
        assert!(!table.note(&process), "asked already");
        table.answer(process.id, ProcessFacts::default());
        let executable = table.facts(process.id).and_then(|facts| facts.executable.clone());
        assert_eq!(executable.as_deref(), Some("/usr/bin/curl"), "what the event told stays");
        table.exec(&Process { name: Comm::new(b"sh"), ..process }, Some("/bin/sh".into()));
        assert!(!table.note(&Process { name: Comm::new(b"sh"), ..process }), "the container stays the same");
    }
}
