//! Opening everything that `watch` and `compare` need, while privileges last: captures first, then the kernel half, then
//! one look at what is there already. What cannot be opened and was insisted on ends the run here.

use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use netsnoop_core::attribution::{Rung, RungSet, Way};
use netsnoop_core::namespace::Topology;
use netsnoop_core::observation::{Observation, SocketSnapshot, TranslationReport};
use netsnoop_core::reconcile::{Hooks, Reconciler, Settings};

use crate::clock;
use crate::config::SourceConfig;
use crate::counters::Counters;
use crate::failure::Failure;
use crate::hash_seed::hash_seed;
use crate::sources::capture::{self, Capture, CaptureError, CaptureSettings};
use crate::sources::conntrack::{self, Conntrack, Unavailable};
use crate::sources::ebpf::iterator::SocketIterator;
use crate::sources::ebpf::programs::Topic;
use crate::sources::ebpf::report::{Outcome, RungReport};
use crate::sources::ebpf::{Ebpf, EbpfSettings};
use crate::sources::link_events::LinkEvents;
use crate::sources::lookup::{LookupSettings, LookupTools};
use crate::sources::proc_fs::shows_initial_pids;
use crate::sources::{proc_walk, topology};

/// Where the kubelet links container logs by names that tell pod, namespace and container.
pub(crate) const KUBELET_LOGS: &str = "/var/log";

/// What was opened, and what was there already.
pub struct Opened {
    /// The captures; the kernel buffers packets for them from now on.
    pub captures: Vec<Capture>,
    /// The kernel half; its ring fills from now on.
    pub ebpf: Ebpf,
    /// The namespaces, addresses and interfaces.
    pub topology: Topology,
    /// The ways that run side by side, the main one first.
    pub ways: Vec<OpenedWay>,
    /// Whether `/proc` shows the pids that the kernel uses.
    pub initial_pids: bool,
    /// The events of connection tracking; the kernel keeps them from now on.
    pub conntrack: Result<Conntrack, Unavailable>,
    /// What was translated already.
    pub translations: Vec<TranslationReport>,
    /// Why interfaces, addresses and namespaces are not heard of as they come and go, if they are not.
    pub events_lack: Option<io::Error>,
}

/// What one way has to work with, besides packets and the kernel's events.
pub struct OpenedWay {
    /// Where and how it looks things up on demand.
    pub lookups: LookupSettings,
    /// What it looks things up with. The socket iterator is there where it alone may look sockets up: a pass over all
    /// sockets for the few that are asked for is dear, so sock_diag and `/proc` go first.
    pub tools: LookupTools,
    /// The sockets that were there already.
    pub snapshots: Vec<SocketSnapshot>,
}

impl OpenedWay {
    /// How many sockets it found there already.
    pub fn sockets(&self) -> usize {
        self.snapshots.iter().map(|snapshot| snapshot.sockets.len()).sum()
    }
}

/// Opens what `config` asks for.
pub fn open(config: &SourceConfig, counters: &Arc<Counters>) -> Result<Opened, Failure> {
    let captures = config
        .interfaces
        .iter()
        .map(|interface| capture::open(&capture_settings(config, interface)).map_err(refusal))
        .collect::<Result<Vec<_>, _>>()?;
    let mut ebpf = Ebpf::open(&EbpfSettings {
        rungs: config.rungs,
        automatic: !config.explicit_rungs,
        log: config.verbosity >= 2,
    });
    insist(config, &ebpf)?;
    // Heard before all is looked at, so that nothing falls between.
    let (mut link_events, events_lack) = subscribe(config.compared_with.iter().count() + 1);
    let topology = topology::read(&config.proc_root, counters)
        .with_context(|| format!("reading the namespaces below {}", config.proc_root.display()))?;
    // Listed before the sockets, so that what is in their tables under two names is known to be one.
    let (conntrack, translations) = open_conntrack(&config.proc_root, counters);
    let tools = LookupTools {
        iterator: ebpf.take_iterator(),
        link_events: link_events.pop(),
        ..LookupTools::default()
    };
    let mut ways = vec![open_way(config, (Way::Main, config.rungs), tools, counters)?];
    if let Some(rungs) = config.compared_with {
        let tools = LookupTools { link_events: link_events.pop(), ..LookupTools::default() };
        ways.push(open_way(config, (Way::Tables, rungs), tools, counters)?);
    }
    Ok(Opened {
        captures,
        ebpf,
        topology,
        ways,
        // Where even that is closed to us, nothing of a kernel event's process could be read either.
        initial_pids: shows_initial_pids(&config.proc_root).unwrap_or(false),
        conntrack,
        translations,
        events_lack,
    })
}

/// A subscription for each way, or why there is none. Then the topology is looked at when something in it is missed.
fn subscribe(ways: usize) -> (Vec<LinkEvents>, Option<io::Error>) {
    match iter::repeat_with(LinkEvents::subscribe).take(ways).collect::<io::Result<Vec<_>>>() {
        Ok(subscriptions) => (subscriptions, None),
        Err(error) => (Vec::new(), Some(error)),
    }
}

/// Subscribes first and lists then, so that nothing falls between. What cannot be had is no reason to end.
fn open_conntrack(
    proc_root: &Path,
    counters: &Counters,
) -> (Result<Conntrack, Unavailable>, Vec<TranslationReport>) {
    let opened = Conntrack::open(proc_root);
    let mut reports = Vec::new();
    if opened.is_ok() {
        match conntrack::list_here(counters) {
            Ok(report) => reports.push(report),
            Err(error) => log::warn!("connections translated before now are not known: {error:#}"),
        }
        match conntrack::list_elsewhere(proc_root, counters) {
            Ok(found) => reports.extend(found),
            Err(error) => log::warn!("connections translated in other namespaces are not known: {error:#}"),
        }
    }
    (opened, reports)
}

fn open_way(
    config: &SourceConfig,
    (way, rungs): (Way, RungSet),
    mut tools: LookupTools,
    counters: &Counters,
) -> anyhow::Result<OpenedWay> {
    let snapshots = read_sockets(&config.proc_root, rungs, tools.iterator.as_mut(), counters)?;
    tools.iterator = tools.iterator.filter(|_| !reads_tables(rungs));
    Ok(OpenedWay {
        lookups: LookupSettings {
            way,
            proc_root: config.proc_root.clone(),
            rungs,
            hears_exits: false,
            container_users: config.container_users,
            cgroup_root: None,
            kubelet_logs: PathBuf::from(KUBELET_LOGS),
        },
        tools,
        snapshots,
    })
}

fn capture_settings(config: &SourceConfig, interface: &str) -> CaptureSettings {
    CaptureSettings {
        interface: interface.to_owned(),
        snaplen: config.snapshot_length,
        buffer_bytes: config.buffer_bytes,
        promiscuous: config.promiscuous,
        direction: config.direction,
        expression: config.filter.clone(),
        names: config.services.name_wishes(),
    }
}

fn refusal(error: CaptureError) -> Failure {
    match error {
        CaptureError::NoSuchInterface { .. }
        | CaptureError::BadExpression { .. }
        | CaptureError::BadSetting { .. } => Failure::usage(error),
        _ => Failure::unavailable(error),
    }
}

/// A rung that was named must work; with `--ebpf require` one of them must.
fn insist(config: &SourceConfig, ebpf: &Ebpf) -> Result<(), Failure> {
    let missing = why_not(ebpf.report().iter().filter(|report| !report.works()));
    let unmet = if config.explicit_rungs {
        !missing.is_empty()
    } else {
        config.ebpf_required && ebpf.active() == RungSet::EMPTY
    };
    if unmet {
        let reasons = missing.join("; ");
        let error = anyhow!("{reasons}; `netsnoop doctor` tells what each of them takes");
        let lacking = if config.compared_with.is_some() {
            "the kernel programs that /proc is to be compared with cannot be had"
        } else {
            "what was required of the kernel is not to be had"
        };
        return Err(Failure::unavailable(error.context(lacking)));
    }
    Ok(())
}

/// One line on why rungs do not work, for each reason.
pub fn why_not<'a>(reports: impl Iterator<Item = &'a RungReport>) -> Vec<String> {
    let mut by_reason: Vec<(String, Vec<&str>)> = Vec::new();
    for report in reports {
        let reason = report.failures().next().map_or_else(String::new, |(_, failure)| failure.text.clone());
        match by_reason.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, rungs)) => rungs.push(report.rung.name()),
            None => by_reason.push((reason, vec![report.rung.name()])),
        }
    }
    by_reason.into_iter().map(|(reason, rungs)| format!("{}: {reason}", rungs.join(", "))).collect()
}

/// What is there already, by the strongest way that works.
fn read_sockets(
    proc_root: &Path,
    rungs: RungSet,
    iterator: Option<&mut SocketIterator>,
    counters: &Counters,
) -> anyhow::Result<Vec<SocketSnapshot>> {
    if let Some(iterator) = iterator {
        match iterator.read_sockets(counters) {
            Ok(snapshots) => return Ok(snapshots),
            Err(error) => log::warn!("the socket iterator failed, /proc is read instead: {error:#}"),
        }
    }
    if !reads_tables(rungs) {
        return Ok(Vec::new());
    }
    let walk = proc_walk::read_all(proc_root, rungs, counters);
    Ok(walk.with_context(|| format!("reading the sockets below {}", proc_root.display()))?.snapshots)
}

/// Whether sockets may be found through netlink or `/proc`.
const fn reads_tables(rungs: RungSet) -> bool {
    rungs.contains(Rung::SockDiag) || rungs.contains(Rung::Proc)
}

impl Opened {
    /// The rungs that work, for each way.
    pub fn rungs(&self) -> Vec<(Way, RungSet)> {
        let working = |opened: &OpenedWay| {
            let LookupSettings { way, rungs, .. } = opened.lookups;
            let mut working = if way == Way::Main { self.ebpf.active() } else { RungSet::EMPTY };
            for rung in [Rung::SockDiag, Rung::Proc].into_iter().filter(|rung| rungs.contains(*rung)) {
                working.insert(rung);
            }
            (way, working)
        };
        self.ways.iter().map(working).collect()
    }

    /// A reconciler for each way, in their order, each knowing what is there already.
    pub fn reconcilers(&mut self, config: &SourceConfig) -> anyhow::Result<Vec<Reconciler>> {
        let Self { ebpf, topology, translations, ways, initial_pids, .. } = self;
        let facts = Facts { report: ebpf.report(), topology, translations, initial_pids: *initial_pids };
        ways.iter_mut().map(|opened| reconciler(config, &facts, opened)).collect()
    }
}

/// What the ways have in common.
struct Facts<'a> {
    report: &'a [RungReport],
    topology: &'a Topology,
    translations: &'a [TranslationReport],
    initial_pids: bool,
}

fn reconciler(
    config: &SourceConfig,
    facts: &Facts<'_>,
    opened: &mut OpenedWay,
) -> anyhow::Result<Reconciler> {
    let hears_events = opened.lookups.way == Way::Main;
    let mut reconciler = Reconciler::new(Settings {
        seed: hash_seed()?,
        settle: config.settle,
        hooks: if hears_events { hooks(facts.report) } else { Hooks::default() },
        lookups: reads_tables(opened.lookups.rungs) || opened.tools.iterator.is_some(),
        topology_changes: opened.tools.link_events.is_some(),
        process_facts: facts.initial_pids,
        services: config.services.clone(),
        ..Settings::default()
    });
    let now = clock::now();
    reconciler.handle(now, Observation::Topology(facts.topology.clone()));
    for report in facts.translations {
        reconciler.handle(now, Observation::Translations(report.clone()));
    }
    for snapshot in opened.snapshots.drain(..) {
        reconciler.handle(now, Observation::Sockets(snapshot));
    }
    Ok(reconciler)
}

/// What the attached programs report.
fn hooks(report: &[RungReport]) -> Hooks {
    let tells = |topic: Topic| {
        report
            .iter()
            .flat_map(|rung| &rung.programs)
            .any(|program| program.tells == Some(topic) && program.outcome == Outcome::Attached)
    };
    Hooks {
        // Without a connect hook of its own, the state change tells of connects, a little later.
        connect: tells(Topic::Connect) || tells(Topic::State),
        accept: tells(Topic::Accept) || tells(Topic::Use),
        listen: tells(Topic::State),
        close: tells(Topic::State),
        process: tells(Topic::Process),
    }
}
