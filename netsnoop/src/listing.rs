//! `netsnoop list`: look, show, and with `--watch` look again. One thread of control and no channel: beside `pipeline`
//! it alone knows sources and sinks.

use std::collections::HashMap;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow};
use netsnoop_core::inventory::Inventory;
use netsnoop_core::process::Container;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::ListConfig;
use crate::counters::Counters;
use crate::failure::Failure;
use crate::sinks::listing::{self, Listing};
use crate::sources::inventory::{self, InventorySettings, WayFails};
use crate::sources::runtimes::{self, Known, RuntimeSettings};
use crate::sources::topology;
use crate::startup::KUBELET_LOGS;

/// How long a container runtime may take that is asked for names: one that hangs is worth no longer wait.
const RUNTIME_PATIENCE: Duration = Duration::from_millis(500);
/// Moves to the top left and clears all below (ECMA-48, 8.3.21 and 8.3.39).
const NEW_PAGE: &str = "\x1b[H\x1b[J";

/// Runs `netsnoop list` to its end.
pub(crate) fn run(config: &ListConfig) -> Result<(), Failure> {
    let counters = Arc::new(Counters::default());
    let mut listing = listing::open(config, counters.clone())?;
    let mut remarks = Remarks::default();
    match config.watch {
        None => {
            look(config, &mut listing, &counters)?;
            show(&mut listing, "", &mut remarks)?;
            Ok(())
        }
        Some(pause) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .build()
                .context("starting the tokio runtime")?;
            runtime.block_on(keep_looking(config, (&mut listing, &mut remarks), &counters, pause))
        }
    }
}

async fn keep_looking(
    config: &ListConfig,
    (listing, remarks): (&mut Listing, &mut Remarks),
    counters: &Arc<Counters>,
    pause: Duration,
) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut next = tokio::time::interval(pause);
    next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before = if config.show.redraw { NEW_PAGE } else { "" };
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = next.tick() => {}
        }
        look(config, listing, counters)?;
        if !show(listing, before, remarks)? {
            return Ok(());
        }
        if !config.show.redraw {
            before = "\n";
        }
    }
}

fn look(config: &ListConfig, listing: &mut Listing, counters: &Arc<Counters>) -> Result<(), Failure> {
    let owners = &config.question.owners;
    let settings = InventorySettings {
        proc_root: config.proc_root.clone(),
        kubelet_logs: KUBELET_LOGS.into(),
        via: config.via,
        protocols: config.question.protocols,
        // What nobody holds has a user and no more.
        unheld: owners.pids.is_empty()
            && owners.comms.is_empty()
            && owners.containers.is_empty()
            && owners.pods.is_empty(),
    };
    let mut names = AskedNames::ask(&config.runtimes)?;
    let mut inventory = inventory::read(&settings, counters).map_err(failure)?;
    names.complete(&mut inventory)?;
    listing.take(inventory);
    if listing.needs_addresses() {
        let topology = topology::read(&config.proc_root, counters).with_context(|| {
            format!("reading the addresses of namespaces below {}", config.proc_root.display())
        })?;
        let namespaces = topology.namespaces.into_iter();
        let addresses: HashMap<_, _> = namespaces.map(|facts| (facts.key.inode, facts.addresses)).collect();
        listing.learn(addresses);
    }
    Ok(())
}

/// What container runtimes are asked while all else is looked at.
struct AskedNames(Option<JoinHandle<anyhow::Result<Known>>>);

impl AskedNames {
    fn ask(runtimes: &RuntimeSettings) -> anyhow::Result<Self> {
        let runtimes = runtimes.clone();
        let asking = thread::Builder::new()
            .name("runtimes".to_owned())
            .spawn(move || runtimes::ask_once(&runtimes, RUNTIME_PATIENCE))
            .context("starting a thread that asks container runtimes")?;
        Ok(Self(Some(asking)))
    }

    /// Adds the names to all containers. Nothing is waited for if there are none.
    fn complete(&mut self, inventory: &mut Inventory) -> anyhow::Result<()> {
        let are_containers = inventory.processes.iter().any(|listed| listed.container.is_some());
        let Some(asking) = self.0.take().filter(|_| are_containers) else { return Ok(()) };
        let Known { containers, amiss } =
            asking.join().map_err(|_panic| anyhow!("the runtimes thread panicked"))??;
        amiss.iter().for_each(|complaint| log::warn!("{complaint}"));
        let known: HashMap<Arc<str>, Container> =
            containers.into_iter().map(|container| (container.id.clone(), container)).collect();
        let mut named: HashMap<Arc<str>, Arc<Container>> = HashMap::new();
        for container in inventory.processes.iter_mut().filter_map(|listed| listed.container.as_mut()) {
            let Some(known) = known.get(&container.id) else { continue };
            let shared = named.entry(container.id.clone()).or_insert_with(|| {
                let mut whole = Container::clone(container);
                whole.learn_names(known);
                Arc::new(whole)
            });
            *container = shared.clone();
        }
        Ok(())
    }
}

fn failure(error: anyhow::Error) -> Failure {
    let advice = "leave --via out to use what works; `netsnoop doctor` tells what is missing";
    if error.is::<WayFails>() {
        Failure::unavailable(anyhow!("{error:#}; {advice}"))
    } else {
        Failure::from(error)
    }
}

/// Writes a page. `false`: nobody reads any more.
fn show(listing: &mut Listing, before: &str, remarks: &mut Remarks) -> Result<bool, Failure> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let written = out.write_all(before.as_bytes()).and_then(|()| listing.write(&mut out));
    match written.and_then(|said| out.flush().map(|()| said)) {
        Ok(said) => remarks.say(said).map(|()| true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::from(anyhow!(error).context("writing to standard output"))),
    }
}

/// What was said on standard error. Each remark is made once, however often is looked.
#[derive(Debug, Default)]
struct Remarks {
    said: Vec<String>,
}

impl Remarks {
    fn say(&mut self, remarks: Vec<String>) -> Result<(), Failure> {
        let mut out = io::stderr().lock();
        for remark in remarks {
            if !self.said.contains(&remark) {
                writeln!(out, "netsnoop: {remark}").context("writing to standard error")?;
                self.said.push(remark);
            }
        }
        Ok(())
    }
}
