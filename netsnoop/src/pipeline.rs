//! Sources -> reconciler -> sinks: the only file that makes channels and starts threads and tasks.
//!
//! ```text
//! capture threads --+                              +-> records (bounded) -> sink thread -> stdout
//! ring task --------+-> intake (bounded) -> reconciler thread
//! conntrack thread -+        ^                     +-> rescans (bounded) -+
//! lookup thread ----+                                                     |
//!        ^-----------------------------------------------------------------+
//! ```
//! What ends, in this order: sources, reconciler (drained), lookups, sink (flushed).

use std::future;
use std::iter;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use netsnoop_core::attribution::{RungSet, Way};
use netsnoop_core::connection::ConnectionRecord;
use netsnoop_core::ledger::Ledger;
use netsnoop_core::observation::Rescan;
use netsnoop_core::reconcile::Reconciler;
use tokio::sync::{oneshot, watch};

use crate::announcement;
use crate::config::{CompareConfig, SourceConfig, WatchConfig};
use crate::counters::Counters;
use crate::failure::Failure;
use crate::intake::{Input, Intake};
use crate::memory;
use crate::privileges::{Job, renounce};
use crate::reconciling::{self, Outlets, Track};
use crate::signals::{Signals, exit_at_second_signal};
use crate::sinks::{self, Books, Flow, Output, ledger_text};
use crate::sources::capture::{Capture, CaptureError, Progress};
use crate::sources::conntrack::{self, Conntrack, Unavailable};
use crate::sources::ebpf::Ebpf;
use crate::sources::ebpf::ring_buffer;
use crate::sources::lookup;
use crate::startup::{self, Opened, OpenedWay};

/// Batches waiting for the reconciler. A batch holds up to 256 frames or one reading of the ring, so this
/// is seconds of the heaviest load; memory is used only while they wait.
const INTAKE_BATCHES: usize = 4096;
/// Records waiting for the sink: two seconds of 15,000 connections a second with two lines each, and what a
/// large node opens at the start.
const RECORDS: usize = 65_536;
/// Questions waiting for the lookup thread; one covers up to 1,024 sockets.
const RESCANS: usize = 4096;
/// Records that follow each other closer than this are written together: under load a wake-up and a write for
/// each would cost more than the records. The first one after a pause is not delayed.
const PACE: Duration = Duration::from_millis(5);
/// How long the end may take before the rest is given up.
const GRACE: Duration = Duration::from_secs(5);
/// After this long without a packet or event `watch` says why that may be.
const SILENCE: Duration = Duration::from_secs(5);

/// The threads and what tells them to end.
struct Running {
    captures: Vec<JoinHandle<()>>,
    reconciler: JoinHandle<Vec<(Way, Ledger)>>,
    sink: JoinHandle<Output>,
    stop_captures: Arc<AtomicBool>,
    intake: Intake,
    counters: Arc<Counters>,
    /// How the sink ended.
    finished: oneshot::Receiver<anyhow::Result<()>>,
    /// How each capture ended that ended by itself.
    ended_captures: tokio::sync::mpsc::Receiver<CaptureError>,
    span: Span,
    began: Instant,
    /// The rungs that each way works with.
    rungs: Vec<(Way, RungSet)>,
}

/// How long it goes on.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// After this long it ends by itself.
    duration: Option<Duration>,
    /// How long the last questions are waited for before all is told.
    patience: Duration,
}

/// Runs `netsnoop watch` to its end.
pub fn watch(config: &WatchConfig) -> Result<(), Failure> {
    let counters = Arc::new(Counters::default());
    let output = sinks::watch(config, counters.clone())?;
    run(&config.sources, (output, counters), Span { duration: None, patience: Duration::ZERO })
}

/// Runs `netsnoop compare` to its end.
pub fn compare(config: &CompareConfig) -> Result<(), Failure> {
    let counters = Arc::new(Counters::default());
    let output = sinks::compare(config, counters.clone())?;
    // An end whose answer is on its way when the time is over is none that nobody could name.
    let span = Span { duration: Some(config.duration), patience: config.sources.settle };
    run(&config.sources, (output, counters), span)
}

fn run(
    config: &SourceConfig,
    (output, counters): (Output, Arc<Counters>),
    span: Span,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("starting the tokio runtime")?;
    let mut opened = runtime.block_on(async { startup::open(config, &counters) })?;
    // Heard from before the first words on: who reads them may answer at once.
    let signals = runtime.block_on(async { Signals::listen() })?;
    announcement::write(config, &opened)?;
    renounce(Job::Starter)?;
    let (reconcilers, rungs) = (opened.reconcilers(config)?, opened.rungs());
    let Opened { captures, ebpf, ways, conntrack, .. } = opened;
    memory::give_back();
    let ways = ways.into_iter().zip(reconcilers).collect();
    let running = start(captures, ways, (output, counters), (span, rungs))?;
    start_conntrack(conntrack, config.proc_root.clone(), running.intake.clone())?;
    // Every thread has started: what is left to this one is the ring.
    renounce(Job::KernelEvents)?;
    runtime.block_on(supervise(running, ebpf, signals))
}

fn start(
    captures: Vec<Capture>,
    ways: Vec<(OpenedWay, Reconciler)>,
    (output, counters): (Output, Arc<Counters>),
    (span, rungs): (Span, Vec<(Way, RungSet)>),
) -> anyhow::Result<Running> {
    let (inputs_in, inputs) = sync_channel(INTAKE_BATCHES);
    let (records_in, records) = sync_channel(RECORDS);
    let (finished_in, finished) = oneshot::channel();
    let (ended_in, ended_captures) = tokio::sync::mpsc::channel(captures.len().max(1));
    let intake = Intake::new(inputs_in, counters.clone());
    let stop_captures = Arc::new(AtomicBool::new(false));

    let sink = spawn("sink", Job::Opened, move || run_sink(&records, output, finished_in))?;
    // Where a hook tells who connects, nothing waits for packets.
    let waits = ways.iter().any(|(_, reconciler)| !reconciler.hooks().connect);
    let progress = Progress::of(captures.len()).into_iter().map(|own| waits.then_some(own));
    let captures = captures
        .into_iter()
        .zip(progress)
        .map(|capture| start_capture(capture, intake.clone(), stop_captures.clone(), ended_in.clone()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut tracks = Vec::new();
    for (opened, reconciler) in ways {
        let way = opened.lookups.way;
        let outlets = Outlets {
            records: records_in.clone(),
            rescans: start_lookups(opened, intake.clone())?,
            counters: counters.clone(),
        };
        tracks.push(Track { way, reconciler, outlets });
    }
    // The sink ends when the last sender does, and that is the reconciler's.
    drop(records_in);
    let reconciler = spawn("reconciler", Job::Opened, move || reconciling::run(tracks, &inputs))?;
    let began = Instant::now();
    Ok(Running {
        captures,
        reconciler,
        sink,
        stop_captures,
        intake,
        counters,
        finished,
        ended_captures,
        span,
        began,
        rungs,
    })
}

fn spawn<T: Send + 'static>(
    name: &str,
    job: Job,
    run: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    let named = name.to_owned();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            if let Err(error) = renounce(job) {
                log::warn!("the {named} thread keeps more privileges than it needs: {error:#}");
            }
            run()
        })
        .with_context(|| format!("starting the {name} thread"))
}

fn start_capture(
    (capture, progress): (Capture, Option<Progress>),
    intake: Intake,
    stop: Arc<AtomicBool>,
    ended: tokio::sync::mpsc::Sender<CaptureError>,
) -> anyhow::Result<JoinHandle<()>> {
    spawn(&format!("capture-{}", capture.interface()), Job::Opened, move || {
        if let Err(error) = capture.run(&intake, progress.as_ref(), &stop)
            && let Err(unheard) = ended.try_send(error)
        {
            log::warn!("{unheard}");
        }
    })
}

/// Starts the thread that hears what is translated, if the kernel lets it or may come to.
fn start_conntrack(
    opened: Result<Conntrack, Unavailable>,
    proc_root: PathBuf,
    intake: Intake,
) -> anyhow::Result<()> {
    if matches!(opened, Err(Unavailable::Refused(_))) {
        return Ok(());
    }
    // Not joined: it waits for events, and there is nothing in it to be handed over at the end.
    spawn("conntrack", Job::Conntrack, move || {
        let ended = match opened {
            Ok(conntrack) => conntrack.run(&intake),
            Err(_) => conntrack::run_once_loaded(&proc_root, &intake),
        };
        if let Err(error) = ended {
            log::warn!("new translations (NAT) are no longer known: {error:#}");
        }
    })?;
    Ok(())
}

/// Starts the thread that answers a way's questions; returns where they are put.
fn start_lookups(
    OpenedWay { lookups, iterator, .. }: OpenedWay,
    intake: Intake,
) -> anyhow::Result<SyncSender<Rescan>> {
    let (rescans_in, rescans) = sync_channel(RESCANS);
    // Not joined: it ends when the reconciler does, and an answer nobody waits for may take its time.
    spawn("lookup", Job::Lookup, move || {
        if let Err(error) = lookup::run(rescans, intake, lookups, iterator) {
            log::warn!("owners can no longer be looked up: {error:#}");
        }
    })?;
    Ok(rescans_in)
}

fn run_sink(
    records: &Receiver<(Way, Box<ConnectionRecord>)>,
    mut output: Output,
    finished: oneshot::Sender<anyhow::Result<()>>,
) -> Output {
    let result = write_records(records, &mut output);
    if let Err(Err(error)) = finished.send(result) {
        log::warn!("{error:#}");
    }
    output
}

fn write_records(
    records: &Receiver<(Way, Box<ConnectionRecord>)>,
    output: &mut Output,
) -> anyhow::Result<()> {
    while let Ok(first) = records.recv() {
        let taken_at = Instant::now();
        for (way, record) in iter::once(first).chain(records.try_iter()) {
            if output.handle(way, &record)? == Flow::Done {
                return Ok(());
            }
        }
        // Nothing waits: a reader at the other end should see what there is.
        if output.flush()? == Flow::Done {
            return Ok(());
        }
        thread::sleep(PACE.saturating_sub(taken_at.elapsed()));
    }
    Ok(())
}

/// Waits for a reason to end, then ends in order.
async fn supervise(mut running: Running, mut ebpf: Ebpf, signals: Signals) -> Result<(), Failure> {
    let (stop_ring, ring_stopped) = watch::channel(false);
    let ring = ebpf.take_events().map(|events| {
        let mut stopped = ring_stopped.clone();
        tokio::spawn(ring_buffer::pump(events, running.intake.clone(), async move {
            if stopped.wait_for(|stop| *stop).await.is_err() {
                log::debug!("the ring's reader ends, as nobody is left who could stop it");
            }
        }))
    });
    if let Some(log) = ebpf.take_log() {
        tokio::spawn(log.pump());
    }
    let outcome = wait_for_end(&mut running, signals).await;
    tokio::spawn(exit_at_second_signal());

    running.stop_captures.store(true, Ordering::Relaxed);
    // Detached first, so that what the ring holds is all there will be.
    drop(ebpf);
    stop_ring.send_replace(true);
    if let Some(ring) = ring {
        ring.await.context("the ring's task failed")?.context("reading the kernel half's ring")?;
    }
    let grace = GRACE + running.span.patience;
    let finished = tokio::task::spawn_blocking(move || finish(running));
    let outcome = match (outcome, tokio::time::timeout(grace, finished).await) {
        (Err(error), _) => Err(error),
        (Ok(()), Ok(joined)) => joined.context("the end failed")?,
        (Ok(()), Err(_)) => Err(anyhow!("the end took longer than {grace:?}: records may be missing")),
    };
    outcome.map_err(Failure::from)
}

async fn wait_for_end(running: &mut Running, mut signals: Signals) -> anyhow::Result<()> {
    let silence = tokio::time::sleep(SILENCE);
    tokio::pin!(silence);
    let mut silent = true;
    let over = elapse(running.span.duration);
    tokio::pin!(over);
    let mut captures_left = running.captures.len();
    loop {
        tokio::select! {
            _ = signals.interrupted.recv() => return Ok(()),
            _ = signals.terminated.recv() => return Ok(()),
            () = &mut over => return Ok(()),
            result = &mut running.finished => return result.unwrap_or_else(|_| Err(anyhow!("the sink failed"))),
            _ = signals.statistics.recv() => report(running)?,
            () = &mut silence, if silent => {
                silent = false;
                announcement::explain_silence(&running.counters)?;
            }
            Some(error) = running.ended_captures.recv() => {
                captures_left = captures_left.saturating_sub(1);
                if captures_left == 0 {
                    return Err(error).context("no capture is left");
                }
                log::warn!("{:#}; the other captures go on", anyhow!(error));
            }
        }
    }
}

/// Waits for `duration`; without one, for ever.
async fn elapse(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => future::pending().await,
    }
}

/// Has the reconciler write the ledger as it stands.
fn report(running: &Running) -> anyhow::Result<()> {
    let (ledgers_in, ledgers) = sync_channel(1);
    running.intake.insist(Input::Report(ledgers_in));
    let ledgers = ledgers.recv_timeout(GRACE).context("asking the reconciler for its ledger")?;
    write_ledgers(&ledgers, &running.counters)
}

/// Ends what is left, in the order in which it feeds what follows, and prints the ledger.
fn finish(running: Running) -> anyhow::Result<()> {
    let lasted = running.began.elapsed();
    for capture in running.captures {
        join(capture)?;
    }
    thread::sleep(running.span.patience);
    running.intake.insist(Input::SourcesEnded);
    let ledgers = join(running.reconciler)?;
    let output = join(running.sink)?;
    let Running { rungs, counters, .. } = running;
    let books = Books { ledgers, rungs, counters, lasted };
    output.conclude(&books)?;
    write_ledgers(&books.ledgers, &books.counters)
}

fn join<T>(thread: JoinHandle<T>) -> anyhow::Result<T> {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    // The panic itself has been printed by the thread.
    thread.join().map_err(|_panic| anyhow!("the {name} thread panicked: this is a bug in netsnoop"))
}

fn write_ledgers(ledgers: &[(Way, Ledger)], counters: &Counters) -> anyhow::Result<()> {
    let mut text = Vec::new();
    ledger_text::write(&mut text, ledgers, counters).context("rendering the ledger")?;
    announcement::say(&text)
}
