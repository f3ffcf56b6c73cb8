//! The channel from the reconciler to a lookup thread, which waits for questions and for the kernel's events at once:
//! so each question that is put also makes a descriptor readable.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

use anyhow::Context;
use netsnoop_core::observation::Rescan;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::counters::Counter;
use crate::intake::Bell;

/// Where questions are put. Dropping it ends the thread that answers them.
#[derive(Debug)]
pub struct RescanSender {
    /// `None` once it is being dropped.
    questions: Option<SyncSender<Rescan>>,
    bell: Bell,
}

/// Where they are taken.
#[derive(Debug)]
pub struct RescanReceiver {
    questions: Receiver<Rescan>,
    bell: Bell,
}

/// Both ends, with room for `bound` questions.
pub fn channel(bound: usize) -> anyhow::Result<(RescanSender, RescanReceiver)> {
    let bell = Bell::new().context("make an event descriptor for lookups")?;
    let (sender, questions) = sync_channel(bound);
    Ok((RescanSender { questions: Some(sender), bell: bell.clone() }, RescanReceiver { questions, bell }))
}

impl RescanSender {
    /// Puts a question, or counts it lost if there is no room. Who has ended wants none: that is no loss.
    pub fn offer(&self, rescan: Rescan, lost: &Counter) {
        if let Some(Err(TrySendError::Full(_))) = self.questions.as_ref().map(|to| to.try_send(rescan)) {
            lost.add(1);
        }
        self.bell.ring();
    }
}

impl Drop for RescanSender {
    fn drop(&mut self) {
        self.questions = None;
        self.bell.ring();
    }
}

impl RescanReceiver {
    /// The next question, if one waits; an error once there will be none.
    pub fn try_next(&self) -> Result<Option<Rescan>, TryRecvError> {
        match self.questions.try_recv() {
            Ok(rescan) => Ok(Some(rescan)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(ended) => Err(ended),
        }
    }

    /// What wakes whoever waits here.
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Waits for a question, for `events` to become readable, or for `patience` to end, whichever comes first.
    pub fn wait(&self, events: Option<BorrowedFd<'_>>, patience: Duration) -> anyhow::Result<()> {
        let mut descriptors = vec![PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN)];
        descriptors.extend(events.map(|events| PollFd::from_borrowed_fd(events, PollFlags::IN)));
        let patience = Timespec::try_from(patience).context("wait for so long")?;
        match poll(&mut descriptors, Some(&patience)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for questions about owners"),
        }
        // What was put before this is taken after it; what is put later rings again.
        self.bell.take();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_question_an_end_and_other_events_wake_whoever_waits() {
        let (sender, receiver) = channel(1).unwrap();
        let lost = Counter::default();
        assert_eq!(receiver.try_next(), Ok(None));
        sender.offer(Rescan::Topology, &lost);
        sender.offer(Rescan::Topology, &lost);
        assert_eq!(lost.get(), 1);
        receiver.wait(None, LONG).unwrap();
        assert_eq!(receiver.try_next(), Ok(Some(Rescan::Topology)));
        assert_eq!(receiver.try_next(), Ok(None));
        let events = eventfd(1, EventfdFlags::CLOEXEC).unwrap();
        receiver.wait(Some(events.as_fd()), LONG).unwrap();
        receiver.wait(None, Duration::from_nanos(1)).unwrap();
        drop(sender);
        receiver.wait(None, LONG).unwrap();
        assert_eq!(receiver.try_next(), Err(TryRecvError::Disconnected));
    }
}
