//! The reconciler's thread: decodes what the sources hand over, feeds the [`Reconciler`], and passes on
//! what it tells and asks. A full outlet loses that one thing, counted, and never holds up the rest.
//!
//! There may be two reconcilers side by side: they see the very same packets, decoded once, at the same
//! time; what kernel programs tell is for [`Way::Main`] alone, and each gets its own answers.

use std::iter;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use bytes::Bytes;
use netsnoop_core::attribution::Way;
use netsnoop_core::kernel_record;
use netsnoop_core::ledger::Ledger;
use netsnoop_core::observation::{Observation, PacketSighting};
use netsnoop_core::packet::{self, Decoded, Direction};
use netsnoop_core::reconcile::Reconciler;
use netsnoop_core::time::Timestamp;

use crate::clock;
use crate::counters::Counters;
use crate::intake::{Bell, Frame, FrameBatch, Input, Report};
use crate::naming::Naming;
use crate::outlet::Outlet;
use crate::rescans::RescanSender;

/// How long the thread sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(1);
/// How late a timer may be. Under load there is one for each connection, and each would wake the thread.
const TIMER_GRAIN: Duration = Duration::from_millis(5);
/// Batches taken before time is allowed to pass and outlets are served, so that neither waits for an
/// intake that never runs empty.
const BATCHES_AT_ONCE: usize = 64;

/// Connections whose bytes are told while they live before the next inputs are looked at. All may have some, and what is told
/// waits in the sink's queue.
const PROGRESS_AT_ONCE: usize = 256;

/// Where the reconcilers' answers and questions go.
pub struct Outlets {
    /// To the sinks.
    pub records: Vec<Outlet>,
    /// To the lookup thread.
    pub rescans: RescanSender,
    /// To the conntrack thread.
    pub hearing: Bell,
    /// For what finds no room there.
    pub counters: Arc<Counters>,
}

/// One reconciler, and where its answers and questions go.
pub struct Track {
    /// Which.
    pub way: Way,
    /// It.
    pub reconciler: Reconciler,
    /// Its outlets.
    pub outlets: Outlets,
}

struct Reconciling {
    tracks: Vec<Track>,
    /// What decoding adds to the reconcilers' own books.
    decoded: Ledger,
    naming: Naming,
    /// Who asks for the books.
    askers: Receiver<SyncSender<Report>>,
}

/// Runs until [`Input::SourcesEnded`] arrives or nobody can send any more. Returns the final books.
pub fn run(
    tracks: Vec<Track>,
    inputs: &Receiver<Input>,
    askers: Receiver<SyncSender<Report>>,
    naming: Naming,
) -> Vec<(Way, Ledger)> {
    let mut this = Reconciling { tracks, decoded: Ledger::default(), naming, askers };
    while this.take(inputs) {
        this.tracks.iter_mut().for_each(|track| track.reconciler.handle_timeout(clock::now()));
        this.serve_outlets(PROGRESS_AT_ONCE);
    }
    this.tracks.iter_mut().for_each(|track| track.reconciler.drain(clock::now()));
    this.serve_outlets(usize::MAX);
    this.ledgers()
}

impl Reconciling {
    /// Takes what waits, or waits for something. `false`: there will be no more.
    fn take(&mut self, inputs: &Receiver<Input>) -> bool {
        let due = self.tracks.iter().filter_map(|track| track.reconciler.poll_timeout()).min();
        let has_progress = self.tracks.iter().any(|track| track.reconciler.has_progress());
        let longest = if has_progress { TIMER_GRAIN } else { IDLE };
        let patience = due.map_or(longest, |due| due.since(clock::now()).clamp(TIMER_GRAIN, longest));
        let first = match inputs.recv_timeout(patience) {
            Ok(input) => input,
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        // Lazy: what is taken off the channel is handled, or it would be lost without being counted.
        iter::once(first).chain(inputs.try_iter()).take(BATCHES_AT_ONCE).all(|input| {
            self.answer();
            self.handle(input)
        })
    }

    /// Answers who asks for the books.
    fn answer(&self) {
        for asker in self.askers.try_iter() {
            if asker.try_send(self.report()).is_err() {
                log::debug!("nobody waits for the ledger any more");
            }
        }
    }

    fn handle(&mut self, input: Input) -> bool {
        match input {
            Input::Frames(batch) => self.handle_frames(batch),
            Input::KernelRecords(records) => self.handle_kernel_records(&records),
            Input::Observation(observation) => self.hand_to_all(clock::now(), &observation),
            Input::Answer(way, observation) => self.hand_to(way, clock::now(), observation),
            Input::Asked => {}
            Input::Services(services) => {
                self.tracks.iter_mut().for_each(|track| track.reconciler.name_services(services.clone()));
            }
            Input::SourcesEnded => return false,
        }
        true
    }

    fn hand_to_all(&mut self, now: Timestamp, observation: &Observation) {
        for track in &mut self.tracks {
            track.reconciler.handle(now, observation.clone());
        }
    }

    fn hand_to(&mut self, way: Way, now: Timestamp, observation: Observation) {
        if let Some(track) = self.tracks.iter_mut().find(|track| track.way == way) {
            track.reconciler.handle(now, observation);
        }
    }

    fn handle_kernel_records(&mut self, records: &[Bytes]) {
        let now = clock::now();
        for record in records {
            match kernel_record::decode(record) {
                Ok(event) => {
                    self.decoded.events_consumed += 1;
                    self.hand_to(Way::Main, now, Observation::Kernel(event));
                }
                Err(error) => {
                    self.decoded.events_rejected += 1;
                    log::debug!("kernel record: {error}");
                }
            }
        }
    }

    fn handle_frames(&mut self, batch: FrameBatch) {
        let now = clock::now();
        for frame in &batch.frames {
            match packet::decode(batch.link_type, &frame.data) {
                Ok(Decoded::Header { interface, direction, header }) => {
                    self.decoded.packets_decoded += 1;
                    let interface = interface.or(batch.interface);
                    let direction = known_direction(direction, frame);
                    let sighting = PacketSighting { at: frame.at, interface, direction, header };
                    for told in self.naming.read(batch.link_type, &sighting, &frame.data) {
                        self.hand_to_all(now, &told);
                    }
                    self.hand_to_all(now, &Observation::Packet(sighting));
                }
                Ok(Decoded::Ignored(_)) => self.decoded.packets_ignored += 1,
                Err(error) => {
                    self.decoded.packets_rejected += 1;
                    log::debug!("frame: {error}");
                }
            }
        }
    }

    /// Hands out what is to be told and asked; of what living connections have exchanged, `progress_max` of each.
    fn serve_outlets(&mut self, progress_max: usize) {
        let now = clock::now();
        for Track { way, reconciler, outlets } in &mut self.tracks {
            while let Some(record) = reconciler.poll_record(now) {
                let record = Arc::new(record);
                outlets.records.iter().for_each(|outlet| outlet.offer(*way, &record));
            }
            let progress = iter::from_fn(|| reconciler.poll_progress(now)).take(progress_max);
            for record in progress.map(Arc::new) {
                outlets.records.iter().for_each(|outlet| outlet.offer_progress(&record));
            }
            if reconciler.poll_hearing(now) {
                outlets.hearing.ring();
            }
            while let Some(rescan) = reconciler.poll_rescan(now) {
                outlets.rescans.offer(rescan, &outlets.counters.lookups_lost_in_channel);
            }
        }
    }

    fn report(&self) -> Report {
        let tables = self.tracks.iter().map(|track| (track.way, track.reconciler.tables())).collect();
        Report { ledgers: self.ledgers(), tables }
    }

    fn ledgers(&self) -> Vec<(Way, Ledger)> {
        self.tracks.iter().map(|track| (track.way, self.ledger(track))).collect()
    }

    fn ledger(&self, track: &Track) -> Ledger {
        let hears_events = track.way == Way::Main;
        Ledger {
            packets_decoded: self.decoded.packets_decoded,
            packets_ignored: self.decoded.packets_ignored,
            packets_rejected: self.decoded.packets_rejected,
            events_consumed: if hears_events { self.decoded.events_consumed } else { 0 },
            events_rejected: if hears_events { self.decoded.events_rejected } else { 0 },
            ..track.reconciler.ledger()
        }
    }
}

fn known_direction(told: Direction, frame: &Frame) -> Direction {
    if told == Direction::Unknown { frame.direction } else { told }
}
