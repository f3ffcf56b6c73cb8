//! The sinks' threads: each takes what its queue holds and hands it to its output.

use std::iter;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;

use super::spawn;
use crate::counters::Counters;
use crate::outlet::{Outlet, Told};
use crate::privileges::Job;
use crate::sinks::{Flow, Output};

/// Records that follow each other closer than this are written together: under load a wake-up and a write for
/// each would cost more than the records. The first one after a pause is not delayed.
const PACE: Duration = Duration::from_millis(5);
/// How long a sink waits for something before it lets time pass.
const IDLE: Duration = Duration::from_secs(1);

/// Starts the thread of a sink with room for `queue` records, and returns where they are put.
pub(super) fn start(
    output: Output,
    queue: usize,
    counters: Arc<Counters>,
    finished: tokio::sync::mpsc::Sender<anyhow::Result<()>>,
) -> anyhow::Result<(Outlet, JoinHandle<Output>)> {
    let (sender, told) = sync_channel(queue);
    let outlet = Outlet::new(sender, counters, output.lost(), output.wants_progress());
    let thread = spawn(output.name(), Job::Opened, move || run(&told, output, &finished))?;
    Ok((outlet, thread))
}

fn run(
    told: &Receiver<Told>,
    mut output: Output,
    finished: &tokio::sync::mpsc::Sender<anyhow::Result<()>>,
) -> Output {
    let result = hand_over(told, &mut output);
    // There is room for one of each.
    if let Err(unheard) = finished.try_send(result)
        && let TrySendError::Full(Err(error)) | TrySendError::Closed(Err(error)) = unheard
    {
        log::warn!("{error:#}");
    }
    output
}

fn hand_over(told: &Receiver<Told>, output: &mut Output) -> anyhow::Result<()> {
    loop {
        let first = match told.recv_timeout(IDLE) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        let taken_at = Instant::now();
        let mut ends = false;
        for told in first.into_iter().chain(iter::from_fn(|| told.try_recv().ok())) {
            ends |= matches!(told, Told::End);
            if output.handle(&told)? == Flow::Done {
                return Ok(());
            }
        }
        // Nothing waits: a reader at the other end should see what there is.
        if output.flush()? == Flow::Done || ends {
            return Ok(());
        }
        thread::sleep(PACE.saturating_sub(taken_at.elapsed()));
    }
}
