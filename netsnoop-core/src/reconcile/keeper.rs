//! Who keeps a namespace for a Kubernetes pod: the process of its sandbox, there for as long as the pod. Where nobody can say
//! who owns an end in there, it is that pod's all the same.
//!
//! Left out: what the pod is called, which is asked as of any other process, and how its keeper is told from others: it is
//! the only one in a small namespace, not the node's, that is called `pause`. A runtime that does without one tells nothing.

use core::time::Duration;

use alloc::vec;
use alloc::vec::Vec;

use super::Reconciler;
use super::end::{End, Side};
use super::flow::Flow;
use super::flow_table::FlowId;
use super::namespace_table::NamespaceId;
use crate::attribution::Reason;
use crate::observation::SocketSnapshot;
use crate::process::Process;
use crate::time::Timestamp;

/// An answer that takes longer is lost.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Where nobody was found, somebody may be later: a namespace is there before its sandbox.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// Connections that wait for one answer.
const WAITING_MAX: usize = 64;

/// What is known of a namespace's keeper.
#[derive(Debug)]
pub(super) enum Keeper {
    /// Nothing, as nothing was asked.
    NotAsked,
    /// Nothing yet.
    Asked(Timestamp, Vec<FlowId>),
    /// That nobody did then.
    Nobody(Timestamp),
    /// Who it is.
    Known(Process),
}

impl Keeper {
    /// Whether it is to be asked now, for the connection `asker`.
    fn wants_asking(&mut self, now: Timestamp, asker: FlowId) -> bool {
        match self {
            Self::Known(_) => return false,
            Self::Nobody(then) if now.since(*then) < ASK_EVERY => return false,
            Self::Asked(then, waiting) if now.since(*then) < ANSWER_MAX => {
                if waiting.len() < WAITING_MAX && waiting.last() != Some(&asker) {
                    waiting.push(asker);
                }
                return false;
            }
            Self::NotAsked | Self::Nobody(_) | Self::Asked(..) => {}
        }
        *self = Self::Asked(now, vec![asker]);
        true
    }

    /// Takes what a look that began at `started` found; those that waited for it are handed out.
    fn learn(&mut self, now: Timestamp, started: Timestamp, found: Option<Process>) -> Vec<FlowId> {
        let is_answer = matches!(self, Self::Asked(then, _) if *then <= started);
        let next = match found {
            Some(keeper) => Self::Known(keeper),
            None if is_answer => Self::Nobody(now),
            None => return Vec::new(),
        };
        match core::mem::replace(self, next) {
            Self::Asked(_, waiting) => waiting,
            _ => Vec::new(),
        }
    }
}

impl Reconciler {
    /// Asks who keeps the namespaces of ends that nobody can be named for.
    pub(super) fn ask_for_keepers(&mut self, now: Timestamp, id: FlowId) {
        if !self.settings.lookups || self.draining {
            return;
        }
        for side in [Side::A, Side::B] {
            let Some(flow) = self.flows.get(id).filter(|flow| !flow.closed) else { return };
            let (end, tuple) = (flow.end(side), flow.tuple(side));
            let is_nobodys = end.attribution.reason().is_some_and(|reason| reason != Reason::Pending);
            if let Some(namespace) = end.namespace_id().filter(|_| is_nobodys)
                && self.namespaces.keeper_mut(namespace).is_some_and(|keeper| keeper.wants_asking(now, id))
            {
                // Any look there tells who is there. If there is no room for the question, it is as if its answer were lost.
                self.questions.want_socket(now, namespace, tuple);
            }
        }
    }

    /// Takes what a look told of the namespace's keeper.
    pub(super) fn learn_keeper(&mut self, now: Timestamp, namespace: NamespaceId, look: &SocketSnapshot) {
        let Some(keeper) = self.namespaces.keeper_mut(namespace) else { return };
        for id in keeper.learn(now, look.started, look.pod_keeper) {
            self.review(now, id);
        }
    }

    /// Who keeps the namespaces of this connection's ends that no process is known of.
    pub(super) fn keepers(&self, flow: &Flow) -> impl Iterator<Item = Process> {
        flow.both().into_iter().filter_map(|(_, end)| self.keeper_of(end))
    }

    /// Who keeps the namespace of an end for a pod, if no process is known of the end.
    pub(super) fn keeper_of(&self, end: &End) -> Option<Process> {
        match self.keeper_beside(end)? {
            Keeper::Known(keeper) => Some(*keeper),
            _ => None,
        }
    }

    /// Whether nothing more will be known soon of the pod of an end that no process is known of.
    pub(super) fn is_pod_told(&self, now: Timestamp, end: &End) -> bool {
        match self.keeper_beside(end) {
            Some(Keeper::Known(keeper)) => self.processes.is_answered(keeper.id),
            Some(Keeper::Asked(then, _)) => now.since(*then) >= ANSWER_MAX,
            Some(Keeper::NotAsked | Keeper::Nobody(_)) | None => true,
        }
    }

    fn keeper_beside(&self, end: &End) -> Option<&Keeper> {
        let namespace = end.namespace_id().filter(|_| end.attribution.owning_process().is_none());
        self.namespaces.keeper(namespace?)
    }
}
