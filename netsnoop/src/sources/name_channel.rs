//! Between those who want to know containers and those who ask runtimes for their names or see their cgroups come.
//!
//! Wishes go to every runtime that answers, and names come back to everybody. Neither side ever waits for the other: a wish
//! that a runtime is too busy for is overwritten, names that find no room are counted, and both are told of again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use netsnoop_core::process::Container;
use tokio::sync::broadcast;

use crate::counters::Counters;
use crate::intake::Bell;

/// Wishes that wait for a runtime.
const WISHES: usize = 1024;
/// Answers that wait to be taken; one of them may have all containers of the node.
const ANSWERS: usize = 256;

/// What is told of containers.
#[derive(Clone, Debug)]
pub enum Told {
    /// Their names.
    Names(Arc<[Container]>),
    /// Their cgroups, by the ids of these.
    Cgroups(Arc<[(u64, Container)]>),
}

/// Where wishes are put, for all runtimes.
#[derive(Clone, Debug)]
pub struct Wishes(broadcast::Sender<Arc<str>>);

/// Where somebody puts wishes and takes names.
#[derive(Debug)]
pub struct NameAsker {
    wishes: Wishes,
    told: Receiver<Told>,
}

/// Where names are put for one of those who ask.
#[derive(Clone, Debug)]
pub struct NameTeller {
    told: SyncSender<Told>,
    bell: Bell,
}

impl Default for Wishes {
    /// With no runtime there yet that would answer them.
    fn default() -> Self {
        Self(broadcast::channel(WISHES).0)
    }
}

impl Wishes {
    /// Those that are put from now on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<str>> {
        self.0.subscribe()
    }

    /// Somebody who puts wishes; `bell` is rung when names have come.
    pub fn asker(&self, bell: Bell) -> (NameAsker, NameTeller) {
        let (told_in, told) = sync_channel(ANSWERS);
        (NameAsker { wishes: self.clone(), told }, NameTeller { told: told_in, bell })
    }
}

impl NameAsker {
    /// Asks for the names of the container with this id; `false` if there is nobody who could tell.
    pub(super) fn ask(&self, id: &Arc<str>) -> bool {
        self.wishes.0.send(id.clone()).is_ok()
    }

    /// Whether there is anybody who could tell.
    pub(super) fn is_heard(&self) -> bool {
        self.wishes.0.receiver_count() > 0
    }

    /// What has come.
    pub(super) fn take(&self) -> impl Iterator<Item = Told> + '_ {
        self.told.try_iter()
    }
}

impl NameTeller {
    /// Puts names, or counts them lost: the next look at all containers brings them again.
    pub(super) fn tell(&self, names: &Arc<[Container]>, counters: &Counters) {
        self.put(Told::Names(names.clone()), counters);
    }

    /// Puts cgroups, or counts them lost: those that stay are found in the tree when they are asked about.
    pub(super) fn tell_cgroups(&self, cgroups: &Arc<[(u64, Container)]>, counters: &Counters) {
        self.put(Told::Cgroups(cgroups.clone()), counters);
    }

    fn put(&self, told: Told, counters: &Counters) {
        if let Err(TrySendError::Full(_)) = self.told.try_send(told) {
            counters.container_names_lost.add(1);
        }
        self.bell.ring();
    }
}
