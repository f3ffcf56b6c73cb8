//! What crosses the channel from the sources to the reconciler, and what happens when it is full:
//! the loss is counted, and the source goes on.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use netsnoop_core::attribution::Way;
use netsnoop_core::ledger::Ledger;
use netsnoop_core::observation::Observation;
use netsnoop_core::packet::{Direction, LinkType};
use netsnoop_core::reconcile::TableSize;
use netsnoop_core::service::Services;
use netsnoop_core::time::Timestamp;
use rustix::event::{EventfdFlags, eventfd};

use crate::counters::Counters;

/// Who may have asked for the books before one of them is answered.
const ASKERS: usize = 16;

/// Something for the reconciler's thread.
#[derive(Debug)]
pub enum Input {
    /// Frames, not yet decoded.
    Frames(FrameBatch),
    /// Records of kernel programs, not yet decoded.
    KernelRecords(Vec<Bytes>),
    /// What every way should know.
    Observation(Observation),
    /// What one way asked for.
    Answer(Way, Observation),
    /// Somebody has asked for the books, see [`Inquiry`].
    Asked,
    /// The services were named anew.
    Services(Services),
    /// There will be no more: drain.
    SourcesEnded,
}

/// The reconcilers' books.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Of each way.
    pub ledgers: Vec<(Way, Ledger)>,
    /// How full the tables of each way are.
    pub tables: Vec<(Way, [TableSize; 6])>,
}

/// Frames of one capture.
#[derive(Debug)]
pub struct FrameBatch {
    /// How they begin.
    pub link_type: LinkType,
    /// The interface all of them were seen on; `None` if each says so itself (Linux cooked v2).
    pub interface: Option<NonZeroU32>,
    /// The frames.
    pub frames: Vec<Frame>,
}

/// One frame.
#[derive(Debug)]
pub struct Frame {
    /// When the kernel stamped it.
    pub at: Timestamp,
    /// Which way, where the capture knows it apart from the frame's own header.
    pub direction: Direction,
    /// What was captured of it.
    pub data: Bytes,
}

/// Asks a thread something that waits for the kernel meanwhile, so it is woken by a descriptor.
#[derive(Clone, Debug)]
pub struct Bell(Arc<OwnedFd>);

impl Bell {
    /// A new one (eventfd(2)).
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Asks. Asked twice before an answer is asked once.
    pub fn ring(&self) {
        if let Err(error) = rustix::io::write(&self.0, &1_u64.to_ne_bytes()) {
            log::debug!("waking a thread that waits for the kernel: {error}");
        }
    }

    /// Whether it was asked since the last time.
    pub fn take(&self) -> bool {
        rustix::io::read(&self.0, &mut [0; 8]).is_ok()
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The sources' end of the channel.
#[derive(Clone, Debug)]
pub struct Intake {
    sender: SyncSender<Input>,
    counters: Arc<Counters>,
}

impl Intake {
    /// Wraps the sending end.
    pub const fn new(sender: SyncSender<Input>, counters: Arc<Counters>) -> Self {
        Self { sender, counters }
    }

    /// The shared counts.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Hands `input` over if there is room, else counts it lost. `false` once nobody listens any more:
    /// the source should end.
    pub fn offer(&self, input: Input) -> bool {
        match self.sender.try_send(input) {
            Ok(()) => true,
            Err(TrySendError::Full(lost)) => {
                self.count_lost(&lost);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }

    /// Hands `input` over even if that takes waiting. `false` once nobody listens any more.
    pub fn insist(&self, input: Input) -> bool {
        let is_heard = self.sender.send(input).is_ok();
        if !is_heard {
            log::debug!("the reconciler has ended before its sources");
        }
        is_heard
    }

    /// As [`Self::offer`], of what is no loss if there is no room for it.
    fn hint(&self, input: Input) {
        if self.sender.try_send(input).is_err() {
            log::debug!("the reconciler has enough to do, or has ended");
        }
    }

    fn count_lost(&self, lost: &Input) {
        match lost {
            Input::Frames(batch) => self.counters.packets_lost_in_channel.add(batch.frames.len() as u64),
            Input::KernelRecords(records) => self.counters.events_lost_in_channel.add(records.len() as u64),
            Input::Observation(_) | Input::Answer(..) => self.counters.observations_lost_in_channel.add(1),
            Input::Asked | Input::Services(_) | Input::SourcesEnded => {}
        }
    }
}

/// Asks the reconciler for its books, past everything that waits to be entered in them: on a busy node that takes seconds.
#[derive(Clone, Debug)]
pub struct Inquiry {
    askers: SyncSender<SyncSender<Report>>,
    intake: Intake,
}

impl Inquiry {
    /// Both ends. It is woken through `intake`.
    pub fn new(intake: Intake) -> (Self, Receiver<SyncSender<Report>>) {
        let (askers, asked) = sync_channel(ASKERS);
        (Self { askers, intake }, asked)
    }

    /// The books as they stand. Blocks until there is an answer, for `patience` at most.
    pub fn report(&self, patience: Duration) -> anyhow::Result<Report> {
        let (asker, answer) = sync_channel(1);
        ensure!(self.askers.send(asker).is_ok(), "the reconciler has ended");
        self.intake.hint(Input::Asked);
        answer.recv_timeout(patience).context("asking the reconciler for its books")
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_books_are_asked_for_past_all_that_waits() {
        let (sender, waiting) = sync_channel(1);
        let intake = Intake::new(sender, Arc::new(Counters::default()));
        assert!(intake.offer(Input::SourcesEnded), "now it is full");
        let (inquiry, askers) = Inquiry::new(intake);
        let asking = thread::spawn(move || inquiry.report(Duration::from_secs(60)));
        askers.recv().unwrap().send(Report::default()).unwrap();
        assert!(asking.join().unwrap().is_ok());
        assert!(matches!(waiting.try_recv(), Ok(Input::SourcesEnded)));
        assert!(waiting.try_recv().is_err());
    }
}
