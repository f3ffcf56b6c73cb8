//! What crosses the channels from the reconciler to the sinks. Each sink has a queue of its own: what finds no room there
//! is that sink's loss alone, counted, and holds up nobody.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use netsnoop_core::attribution::{RungSet, Way};
use netsnoop_core::connection::ConnectionRecord;

use crate::config::AgentSettings;
use crate::counters::{Counter, Counters};
use crate::intake::Report;

/// Something for a sink. A queue has room for thousands of them from the start, so what is large and rare is boxed.
#[derive(Debug)]
pub enum Told {
    /// A record.
    Record(Way, Arc<ConnectionRecord>),
    /// What a connection that lives has exchanged meanwhile.
    Progress(Arc<ConnectionRecord>),
    /// Somebody wants the metrics as they stand.
    Query(Box<MetricsQuery>),
    /// Somebody wants the counts for a later run.
    Counts(Box<CountsQuery>),
    /// The settings were read again.
    Settings(Arc<AgentSettings>),
    /// There will be no more.
    End,
}

/// Asks for the metrics.
#[derive(Debug)]
pub struct MetricsQuery {
    /// What the reconciler has to say.
    pub report: Report,
    /// The rungs that each way works with.
    pub rungs: Vec<(Way, RungSet)>,
    /// Where the text goes.
    pub answer: SyncSender<Vec<u8>>,
}

/// Asks for the counts as they are kept for a later run.
#[derive(Debug)]
pub struct CountsQuery {
    /// Whether there will be no more, so that nothing is waited for.
    pub last: bool,
    /// Where they go.
    pub answer: SyncSender<anyhow::Result<Vec<u8>>>,
}

/// The sending end of a sink's queue.
#[derive(Clone, Debug)]
pub struct Outlet {
    sender: SyncSender<Told>,
    counters: Arc<Counters>,
    lost: fn(&Counters) -> &Counter,
    wants_progress: bool,
}

impl Outlet {
    /// Wraps the sending end; records that find no room are counted by `lost`.
    pub const fn new(
        sender: SyncSender<Told>,
        counters: Arc<Counters>,
        lost: fn(&Counters) -> &Counter,
        wants_progress: bool,
    ) -> Self {
        Self { sender, counters, lost, wants_progress }
    }

    /// Hands a record over if there is room. A sink that has ended wants nothing more: that is no loss.
    pub fn offer(&self, way: Way, record: &Arc<ConnectionRecord>) {
        self.try_send(Told::Record(way, record.clone()));
    }

    /// Hands over what a living connection has exchanged, likewise, if that is wanted.
    pub fn offer_progress(&self, record: &Arc<ConnectionRecord>) {
        if self.wants_progress {
            self.try_send(Told::Progress(record.clone()));
        }
    }

    fn try_send(&self, told: Told) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(told) {
            (self.lost)(&self.counters).add(1);
        }
    }

    /// Hands over what must arrive, even if that takes waiting. `false` if the sink has ended.
    pub fn insist(&self, told: Told) -> bool {
        self.sender.send(told).is_ok()
    }
}
