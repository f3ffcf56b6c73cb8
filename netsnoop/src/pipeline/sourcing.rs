//! The sources' threads: captures, connection tracking, lookups. What drains the ring is a task of the main thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::spawn;
use crate::counters::Counters;
use crate::intake::{Bell, Intake};
use crate::privileges::Job;
use crate::rescans::{self, RescanSender};
use crate::sources::capture::{Capture, CaptureError, Progress, Stop};
use crate::sources::cgroup_watch;
use crate::sources::cluster::{self, ClusterSettings};
use crate::sources::conntrack::{self, Conntrack, Unavailable};
use crate::sources::container_users::{self, ContainerUsers};
use crate::sources::lookup::{self, LookupSettings};
use crate::sources::name_channel::{NameTeller, Wishes};
use crate::sources::process_facts::cgroup2_root;
use crate::sources::runtimes::{self, RuntimeSettings};
use crate::sources::socket_pass::{self, Aims, PassSettings};
use crate::startup::OpenedWay;

/// Questions waiting for the lookup thread; one covers up to 1,024 sockets.
const RESCANS: usize = 4096;

/// Starts a capture's thread.
pub(super) fn start_capture(
    (capture, progress): (Capture, Option<Progress>),
    intake: Intake,
    stop: Stop,
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
pub(super) fn start_conntrack(
    opened: Result<Conntrack, Unavailable>,
    proc_root: PathBuf,
    (intake, bell): (Intake, Bell),
) -> anyhow::Result<()> {
    if matches!(opened, Err(Unavailable::Refused(_))) {
        return Ok(());
    }
    // Not joined: it waits for events, and there is nothing in it to be handed over at the end.
    spawn("conntrack", Job::Conntrack, move || {
        let ended = match opened {
            Ok(conntrack) => conntrack.run(&intake, &bell),
            Err(_) => conntrack::run_once_loaded(&proc_root, &intake, &bell),
        };
        if let Err(error) = ended {
            log::warn!("new translations (NAT) are no longer known: {error:#}");
        }
    })?;
    Ok(())
}

/// Starts the thread that passes over all sockets now and then, if anything is wanted of that: connections that neither hook
/// nor capture sees, what connections exchange while they live.
pub(super) fn start_passes(lookups: &LookupSettings, aims: Aims, intake: Intake) -> anyhow::Result<()> {
    if !aims.are_any() {
        return Ok(());
    }
    let LookupSettings { way, proc_root, rungs, .. } = lookups.clone();
    // Not joined: it sleeps most of the time, and ends when nobody listens any more.
    spawn("passes", Job::Passes, move || {
        if let Err(error) = socket_pass::run(&intake, PassSettings { way, proc_root, rungs, aims }) {
            log::warn!(
                "sockets are no longer passed over, for connections that no capture sees and for bytes: {error:#}"
            );
        }
    })?;
    Ok(())
}

/// Starts the thread that answers a way's questions; returns where they are put, and where names of containers.
pub(super) fn start_lookups(
    OpenedWay { lookups, mut tools, .. }: OpenedWay,
    intake: Intake,
    wishes: &Wishes,
) -> anyhow::Result<(RescanSender, NameTeller)> {
    if lookups.container_users {
        tools.container_users = Some(start_container_users()?);
    }
    let (rescans_in, rescans) = rescans::channel(RESCANS)?;
    let (names, teller) = wishes.asker(rescans.bell());
    tools.names = Some(names);
    // Not joined: it ends when the reconciler does, and an answer nobody waits for may take its time.
    spawn("lookup", Job::Lookup, move || {
        if let Err(error) = lookup::run(&rescans, intake, lookups, tools) {
            log::warn!("owners can no longer be looked up: {error:#}");
        }
    })?;
    Ok((rescans_in, teller))
}

/// Who tells of containers.
pub(super) struct ContainerSources {
    /// Runtimes, which tell names.
    pub(super) runtimes: RuntimeSettings,
    /// The node's proc file system, by which the cgroups are found.
    pub(super) proc_root: PathBuf,
}

/// Starts the threads that ask container runtimes for names and see cgroups come.
pub(super) fn start_containers(
    sources: ContainerSources,
    wishes: Wishes,
    tellers: Vec<NameTeller>,
    counters: Arc<Counters>,
) -> anyhow::Result<()> {
    let ContainerSources { runtimes: settings, proc_root } = sources;
    if let Some(root) = cgroup2_root(&proc_root)? {
        let (tellers, counters) = (tellers.clone(), counters.clone());
        // Not joined: it waits for the kernel for ever.
        spawn("cgroups", Job::Opened, move || {
            if let Err(error) = cgroup_watch::run(&root, &tellers, &counters) {
                log::warn!("containers that live for a moment may not be known: {error:#}");
            }
        })?;
    }
    // Not joined: it asks as long as there are runtimes, and nobody waits for what they say.
    spawn("runtimes", Job::Runtimes, move || {
        if let Err(error) = runtimes::run(&settings, &wishes, tellers, counters) {
            log::warn!("containers and pods have no names: {error:#}");
        }
    })?;
    Ok(())
}

/// Starts the thread that hears what the cluster calls addresses of others, if that is asked for.
pub(super) fn start_cluster(settings: Option<ClusterSettings>, intake: Intake) -> anyhow::Result<()> {
    let Some(settings) = settings else { return Ok(()) };
    // Not joined: it waits for the API server for ever.
    spawn("cluster", Job::Opened, move || {
        if let Err(error) = cluster::run(&settings, &intake) {
            log::warn!("pods and services elsewhere have no names: {error:#}");
        }
    })?;
    Ok(())
}

/// Starts the thread that reads what containers call their users; returns where it is asked.
fn start_container_users() -> anyhow::Result<ContainerUsers> {
    let (users, reader) = container_users::channel();
    // Not joined: a file of a container's may keep it for ever.
    spawn("container-users", Job::ContainerUsers, move || reader.run())?;
    Ok(users)
}
