//! Sources -> reconciler -> sinks: the only file that makes channels and starts threads and tasks.
//!
//! ```text
//! capture threads --+                              +-> records (bounded, each) -> sink threads -> stdout, metrics, JSONL
//! ring task --------+-> intake (bounded) -> reconciler thread
//! conntrack thread -+        ^                     +-> rescans (bounded) -+
//! lookups, passes --+   <- links, addresses                               |
//!   ^     ^----------------------------------------------------------------+
//!   +--> runtimes thread: wishes (bounded), names of containers (bounded); cgroups thread: those of containers
//! ```
//! What ends, in this order: sources, reconciler (drained), lookups, sinks (flushed).

mod serving;
mod sinking;
mod sourcing;

use std::future;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use netsnoop_core::attribution::{RungSet, Way};
use netsnoop_core::ledger::Ledger;
use netsnoop_core::reconcile::Reconciler;
use tokio::signal::unix::Signal;
use tokio::sync::watch;

use crate::announcement;
use crate::config::{AgentConfig, CompareConfig, SourceConfig, WatchConfig};
use crate::counters::Counters;
use crate::failure::Failure;
use crate::hash_seed::hash_seed;
use crate::intake::{Bell, Input, Inquiry, Intake};
use crate::memory;
use crate::naming::Naming;
use crate::outlet::{Outlet, Told};
use crate::privileges::{Job, renounce};
use crate::reconciling::{self, Outlets, Track};
use crate::signals::{Signals, exit_at_second_signal};
use crate::sinks::{self, Books, Output, ledger_text};
use crate::sources::capture::{Capture, CaptureError, Progress, Stop};
use crate::sources::ebpf::{Ebpf, ring_buffer};
use crate::sources::name_channel::Wishes;
use crate::sources::socket_pass::Aims;
use crate::startup::{self, Opened, OpenedWay};
use serving::{Served, Serving, Surroundings};
use sourcing::ContainerSources;

/// Batches waiting for the reconciler. A batch holds up to 256 frames or one reading of the ring, so this
/// is seconds of the heaviest load; memory is used only while they wait.
const INTAKE_BATCHES: usize = 4096;
/// Records waiting for the sink: two seconds of 15,000 connections a second with two lines each, and what a
/// large node opens at the start.
const RECORDS: usize = 65_536;
/// How long the end may take before the rest is given up.
const GRACE: Duration = Duration::from_secs(5);
/// After this long without a packet or event `watch` says why that may be.
const SILENCE: Duration = Duration::from_secs(5);

/// The threads and what tells them to end.
struct Running {
    captures: Vec<JoinHandle<()>>,
    reconciler: JoinHandle<Vec<(Way, Ledger)>>,
    sinks: Vec<JoinHandle<Output>>,
    /// Of the sinks, in their order.
    outlets: Vec<Outlet>,
    stop_captures: Stop,
    intake: Intake,
    inquiry: Inquiry,
    counters: Arc<Counters>,
    /// How each sink ended that ended by itself.
    finished: tokio::sync::mpsc::Receiver<anyhow::Result<()>>,
    /// How each capture ended that ended by itself.
    ended_captures: tokio::sync::mpsc::Receiver<CaptureError>,
    span: Span,
    began: Instant,
    /// The rungs that each way works with.
    rungs: Vec<(Way, RungSet)>,
    /// What only the agent has.
    served: Option<Served>,
}

/// What is written, and what besides the records it takes.
struct Plan {
    outputs: Vec<Output>,
    /// Records that may wait for each.
    queue: usize,
    counters: Arc<Counters>,
    span: Span,
    serving: Option<Serving>,
    naming: Naming,
    /// Who tells of containers.
    containers: ContainerSources,
    /// How often is told what connections exchange while they live.
    counts_every: Option<Duration>,
}

/// How long it goes on.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    /// After this long it ends by itself.
    duration: Option<Duration>,
    /// How long the last questions are waited for before all is told.
    patience: Duration,
}

impl Plan {
    /// What most commands do.
    fn of(outputs: Vec<Output>, counters: Arc<Counters>, config: &SourceConfig) -> Self {
        Self {
            outputs,
            queue: RECORDS,
            counters,
            span: Span::default(),
            serving: None,
            naming: Naming::default(),
            containers: ContainerSources {
                runtimes: config.runtimes.clone(),
                proc_root: config.proc_root.clone(),
            },
            counts_every: None,
        }
    }
}

/// Runs `netsnoop watch` to its end.
pub fn watch(config: &WatchConfig) -> Result<(), Failure> {
    let counters = Arc::new(Counters::default());
    let outputs = vec![sinks::watch(config, counters.clone())?];
    run(&config.sources, Plan::of(outputs, counters, &config.sources))
}

/// Runs `netsnoop agent` to its end.
pub fn agent(config: &AgentConfig) -> Result<(), Failure> {
    let counters = Arc::new(Counters::default());
    let (outputs, state) = sinks::agent(config, &counters)?;
    let settings = &config.settings;
    let plan = Plan {
        queue: settings.limits.queue,
        serving: Some(Serving::open(config, state)?),
        naming: Naming::new(&settings.services.name_wishes(), hash_seed()?, counters.clone()),
        counts_every: Some(settings.bytes_every),
        ..Plan::of(outputs, counters, &config.sources)
    };
    run(&config.sources, plan)
}

/// Runs `netsnoop compare` to its end.
pub fn compare(config: &CompareConfig) -> Result<(), Failure> {
    let counters = Arc::new(Counters::default());
    let outputs = vec![sinks::compare(config, counters.clone())?];
    // An end whose answer is on its way when the time is over is none that nobody could name.
    let span = Span { duration: Some(config.duration), patience: config.sources.settle };
    run(&config.sources, Plan { span, ..Plan::of(outputs, counters, &config.sources) })
}

fn run(config: &SourceConfig, plan: Plan) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("starting the tokio runtime")?;
    let mut opened = runtime.block_on(async { startup::open(config, &plan.counters) })?;
    // Heard from before the first words on: who reads them may answer at once.
    let signals = runtime.block_on(async { Signals::listen(plan.serving.is_some()) })?;
    announcement::write(config, &opened)?;
    renounce(Job::Starter)?;
    let (reconcilers, rungs) = (opened.reconcilers(config)?, opened.rungs());
    let Opened { captures, ebpf, ways, conntrack, .. } = opened;
    memory::give_back();
    let ways = ways.into_iter().zip(reconcilers).collect();
    let bell = Bell::new().context("opening an eventfd")?;
    let running = start(captures, ways, plan, (rungs, bell.clone()))?;
    sourcing::start_cluster(config.cluster.clone(), running.intake.clone())?;
    sourcing::start_conntrack(conntrack, config.proc_root.clone(), (running.intake.clone(), bell))?;
    // Every thread has started: what is left to this one is the ring.
    renounce(Job::KernelEvents)?;
    runtime.block_on(supervise(running, ebpf, signals))
}

fn start(
    captures: Vec<Capture>,
    ways: Vec<(OpenedWay, Reconciler)>,
    plan: Plan,
    (rungs, hearing): (Vec<(Way, RungSet)>, Bell),
) -> anyhow::Result<Running> {
    let Plan { outputs, queue, counters, span, serving, naming, containers, counts_every } = plan;
    let (inputs_in, inputs) = sync_channel(INTAKE_BATCHES);
    let (finished_in, finished) = tokio::sync::mpsc::channel(outputs.len().max(1));
    let (ended_in, ended_captures) = tokio::sync::mpsc::channel(captures.len().max(1));
    let intake = Intake::new(inputs_in, counters.clone());
    let (inquiry, askers) = Inquiry::new(intake.clone());
    let stop_captures = Stop::new().context("opening an eventfd")?;

    let (mut outlets, mut sinks) = (Vec::new(), Vec::new());
    for output in outputs {
        let (outlet, sink) = sinking::start(output, queue, counters.clone(), finished_in.clone())?;
        outlets.push(outlet);
        sinks.push(sink);
    }
    // Where a hook tells who connects, nothing waits for packets but the names that were looked up.
    let waits = naming.reads_answers() || ways.iter().any(|(_, reconciler)| !reconciler.hooks().connect);
    let progress = Progress::of(captures.len()).into_iter().map(|own| waits.then_some(own));
    let captures = captures
        .into_iter()
        .zip(progress)
        .map(|capture| {
            sourcing::start_capture(capture, intake.clone(), stop_captures.clone(), ended_in.clone())
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (mut tracks, mut tellers, wishes) = (Vec::new(), Vec::new(), Wishes::default());
    for (mut opened, reconciler) in ways {
        opened.lookups.hears_exits = !reconciler.hooks().process;
        let finds = !reconciler.hooks().connect && opened.tools.iterator.is_none();
        sourcing::start_passes(&opened.lookups, Aims { finds, counts_every }, intake.clone())?;
        let way = opened.lookups.way;
        let (rescans, teller) = sourcing::start_lookups(opened, intake.clone(), &wishes)?;
        tellers.push(teller);
        let outlets = Outlets {
            records: outlets.clone(),
            rescans,
            hearing: hearing.clone(),
            counters: counters.clone(),
        };
        tracks.push(Track { way, reconciler, outlets });
    }
    sourcing::start_containers(containers, wishes, tellers, counters.clone())?;
    let run = move || reconciling::run(tracks, &inputs, askers, naming);
    let reconciler = spawn("reconciler", Job::Opened, run)?;
    let around = || Surroundings {
        intake: intake.clone(),
        inquiry: inquiry.clone(),
        outlets: outlets.clone(),
        rungs: rungs.clone(),
        counters: counters.clone(),
    };
    let served = serving.map(|serving| serving.start(around())).transpose()?;
    let began = Instant::now();
    Ok(Running {
        captures,
        reconciler,
        sinks,
        outlets,
        stop_captures,
        intake,
        inquiry,
        counters,
        finished,
        ended_captures,
        span,
        began,
        rungs,
        served,
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
    running.served.iter().for_each(Served::end);
    tokio::spawn(exit_at_second_signal());

    running.stop_captures.ask();
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
    // An agent is watched by others.
    let mut silent = running.served.is_none();
    let over = elapse(running.span.duration);
    tokio::pin!(over);
    let mut captures_left = running.captures.len();
    loop {
        tokio::select! {
            _ = signals.interrupted.recv() => return Ok(()),
            _ = signals.terminated.recv() => return Ok(()),
            () = &mut over => return Ok(()),
            result = running.finished.recv() => {
                return result.unwrap_or_else(|| Err(anyhow!("the sinks failed")));
            }
            _ = signals.statistics.recv() => report(running)?,
            () = hung_up(&mut signals.hangup) => running.served.iter().for_each(Served::reload),
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

/// Waits for the wish to read the settings anew; without any, for ever.
async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => {
            hangup.recv().await;
        }
        None => future::pending().await,
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
    write_ledgers(&running.inquiry.report(GRACE)?.ledgers, &running.counters)
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
    let Running { rungs, counters, outlets, sinks, served, .. } = running;
    // All records have been put in the sinks' queues, and what is asked for now is told after them.
    served.map_or(Ok(()), Served::finish)?;
    let books = Books { ledgers, rungs, counters, lasted };
    for (outlet, sink) in outlets.iter().zip(sinks) {
        if !outlet.insist(Told::End) {
            log::debug!("a sink has ended before the end");
        }
        join(sink)?.conclude(&books)?;
    }
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
