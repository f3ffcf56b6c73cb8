//! What the ring of kernel programs holds: read without blocking the runtime, handed over in batches.
//!
//! Records stay bytes here; decoding is the reconciler thread's, which has the time. Readers of the ring
//! must only be quick: what the ring has no room for is lost, and the kernel half counts it.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::{MapData, PerCpuArray};
use bytes::{Bytes, BytesMut};
use netsnoop_common::limits::RING_BYTES;
use netsnoop_common::programs::{EVENTS, LOST};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::ring::Ring;
use crate::counters::Counters;
use crate::intake::{Input, Intake};

/// Records handed over at once at most. One hand-over costs two allocations and a wake-up.
const BATCH_RECORDS: usize = 512;

/// Room for a batch of the usual records (160 bytes); a batch of longer ones grows it.
const BATCH_BYTES: usize = 96 * 1024;

/// After a drain there is a pause: the kernel wakes us at each record that finds us idle, and at tens of
/// thousands a second waking would be most of the work.
const PAUSE: Duration = Duration::from_millis(1);

/// The pause after a drain of at least [`BUSY_RECORDS`]. The ring has room for half a second.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// So many records at once are many.
const BUSY_RECORDS: usize = 64;

/// How often the kernel's count of lost records is read.
const LOST_EVERY: Duration = Duration::from_secs(1);

/// The reading end of the ring, and the kernel's count of what it had no room for.
pub struct EventStream {
    ring: Ring,
    lost: PerCpuArray<MapData, u64>,
}

impl EventStream {
    /// Takes both out of a loaded object.
    pub(super) fn take(object: &mut aya::Ebpf) -> Result<Self> {
        let map = |object: &mut aya::Ebpf, name| {
            object.take_map(name).with_context(|| format!("the kernel half has no map {name}"))
        };
        let ring = Ring::open(map(object, EVENTS)?, RING_BYTES as usize)
            .with_context(|| format!("using map {EVENTS} as a ring"))?;
        let lost = map(object, LOST)?.try_into().with_context(|| format!("using map {LOST} as a counter"))?;
        Ok(Self { ring, lost })
    }
}

fn read_lost(lost: &PerCpuArray<MapData, u64>, counters: &Counters) -> Result<()> {
    let by_cpu = lost.get(&0, 0).context("reading the kernel's count of lost events")?;
    counters.events_lost_in_ring.set(by_cpu.iter().sum());
    Ok(())
}

/// Hands records of the ring to `intake` until `stop` resolves or nobody listens any more. What is in the
/// ring when `stop` resolves is still handed over; detach the programs (drop the [`super::Ebpf`]) before
/// stopping, if the count of records must be final.
pub async fn pump(stream: EventStream, intake: Intake, stop: impl Future<Output = ()>) -> Result<()> {
    let EventStream { ring, lost } = stream;
    // SAFETY: the ring owns its descriptor, tells the same one whenever asked, and keeps it open until it
    // is dropped, which is after the registration ends.
    let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    let mut ring = ring.context("waiting for kernel events")?;
    let mut stop = pin!(stop);
    let mut tick = interval(LOST_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Batch::new();
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            _ = tick.tick() => read_lost(&lost, intake.counters())?,
            ready = ring.readable_mut() => {
                let mut ready = ready.context("waiting for kernel events")?;
                let drained = batch.drain(ready.get_inner_mut(), &intake);
                ready.clear_ready();
                if !drained.somebody_listens {
                    break;
                }
                sleep(if drained.records >= BUSY_RECORDS { BUSY_PAUSE } else { PAUSE }).await;
            }
        }
    }
    batch.drain(ring.get_mut(), &intake);
    read_lost(&lost, intake.counters())
}

struct Drained {
    records: usize,
    somebody_listens: bool,
}

/// Records on their way: one buffer, cut into them when it is handed over.
struct Batch {
    buffer: BytesMut,
    lengths: Vec<usize>,
}

impl Batch {
    fn new() -> Self {
        Self { buffer: BytesMut::with_capacity(BATCH_BYTES), lengths: Vec::with_capacity(BATCH_RECORDS) }
    }

    /// Empties `ring`. A kernel that writes faster than we read would keep us here, so the last round is
    /// the one that has read as much as the ring holds; the rest waits for the next time.
    fn drain(&mut self, ring: &mut Ring, intake: &Intake) -> Drained {
        let mut drained = Drained { records: 0, somebody_listens: true };
        let mut bytes_left = RING_BYTES as usize;
        while let Some(length) = ring.next(|piece| self.buffer.extend_from_slice(piece)) {
            drained.records += 1;
            bytes_left = bytes_left.saturating_sub(length);
            if self.end_record(length) || bytes_left == 0 {
                drained.somebody_listens &= self.hand_over(intake);
                if !drained.somebody_listens || bytes_left == 0 {
                    return drained;
                }
            }
        }
        drained.somebody_listens &= self.hand_over(intake);
        drained
    }

    /// A record of this length is complete. Whether it is time to hand over.
    fn end_record(&mut self, length: usize) -> bool {
        self.lengths.push(length);
        self.lengths.len() >= BATCH_RECORDS
    }

    fn hand_over(&mut self, intake: &Intake) -> bool {
        if self.lengths.is_empty() {
            return true;
        }
        intake.counters().events_read.add(self.lengths.len() as u64);
        intake.offer(Input::KernelRecords(self.cut()))
    }

    fn cut(&mut self) -> Vec<Bytes> {
        let mut rest = self.buffer.split().freeze();
        self.buffer.reserve(BATCH_BYTES);
        self.lengths.drain(..).map(|length| rest.split_to(length)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::sync_channel;

    use super::{BATCH_RECORDS, Batch};
    use crate::counters::Counters;
    use crate::intake::{Input, Intake};

    fn push(batch: &mut Batch, record: &[u8]) -> bool {
        batch.buffer.extend_from_slice(record);
        batch.end_record(record.len())
    }

    #[test]
    fn a_batch_is_cut_where_its_records_were() {
        let records: Vec<Vec<u8>> = (0..40_u8).map(|number| vec![number; usize::from(number)]).collect();
        let mut batch = Batch::new();
        for _ in 0..3 {
            assert!(!records.iter().any(|record| push(&mut batch, record)), "too few to be handed over");
            assert_eq!(batch.cut(), records);
        }
    }

    #[test]
    fn a_full_batch_asks_to_be_handed_over_and_is_counted() {
        let counters = Arc::new(Counters::default());
        let (sender, receiver) = sync_channel(1);
        let intake = Intake::new(sender, Arc::clone(&counters));
        let mut batch = Batch::new();
        let asked = (0..BATCH_RECORDS).filter(|_| push(&mut batch, b"record")).count();
        assert_eq!(asked, 1);
        assert!(batch.hand_over(&intake));
        assert!(batch.hand_over(&intake), "nothing to hand over is no reason to end");
        assert!(
            matches!(receiver.try_recv(), Ok(Input::KernelRecords(records)) if records.len() == BATCH_RECORDS)
        );
        assert_eq!(counters.events_read.get(), BATCH_RECORDS as u64);
        drop(receiver);
        push(&mut batch, b"record");
        assert!(!batch.hand_over(&intake), "nobody listens");
    }
}
