//! One look at the node: every socket of every network namespace with whoever holds it.
//!
//! Three ways give the same rows: the BPF iterator over all files (`held`), sock_diag in each namespace, and the
//! text of `/proc`; the last two join what they read with the fd links of all processes (`descriptors`). What a way
//! cannot see is told with the reason. Left out: choosing and showing rows.

mod census;
mod containers;
mod descriptors;
mod diag;
mod draft;
mod held;
mod interfaces;
mod namespaces;
mod sctp;
mod side_by_side;
mod tables;
mod threads;
mod unheld;

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use netsnoop_core::attribution::Rung;
use netsnoop_core::inventory::{Inventory, ProtocolSet, Unheld, UnseenReason, UnseenThing};
use thiserror::Error;

use self::containers::Containers;
use self::descriptors::Descriptors;
use self::draft::Draft;
use self::held::Held;
use super::ebpf::inventory_program::InventoryProgram;
use super::namespace_index::NamespaceIndex;
use super::netns::{NamespaceVisitor, on_own_thread};
use super::proc_fs::shows_initial_pids;
use super::sock_diag::SockDiag;
use crate::clock;
use crate::counters::Counters;

/// What is wanted of a look.
#[derive(Clone, Debug)]
pub struct InventorySettings {
    /// The node's proc file system.
    pub proc_root: PathBuf,
    /// Where the kubelet keeps logs of pods and links to them, whose names tell pods (`/var/log`).
    pub kubelet_logs: PathBuf,
    /// The way to use: [`Rung::Iterator`], [`Rung::SockDiag`] or [`Rung::Proc`]; `None` is the first that works.
    pub via: Option<Rung>,
    /// Which sockets are wanted: the fewer, the faster.
    pub protocols: ProtocolSet,
    /// Whether sockets that nobody holds are wanted too.
    pub unheld: bool,
}

/// The way that was asked for cannot be used here.
#[derive(Debug, Error)]
#[error("{} cannot list sockets here: {reason}", way.name())]
pub struct WayFails {
    /// The way.
    pub way: Rung,
    /// Why not.
    pub reason: String,
}

/// Looks once. The caller's thread stays in its namespace.
///
/// # Errors
///
/// [`WayFails`] if the way that was asked for does not work here; anything else if nothing can be read at all.
pub fn read(settings: &InventorySettings, counters: &Counters) -> Result<Inventory> {
    match way(settings)? {
        Way::Iterator(program) => {
            on_own_thread(|visitor| by_iterator(visitor, &program, (settings, counters)))
        }
        Way::Tables(rung) => on_own_thread(|visitor| by_tables(visitor, rung, (settings, counters))),
    }
}

enum Way {
    Iterator(InventoryProgram),
    Tables(Rung),
}

/// The way that was asked for, or the first that works.
fn way(settings: &InventorySettings) -> Result<Way> {
    let iterator = || InventoryProgram::load().map(Way::Iterator).map_err(|failure| failure.text);
    let sock_diag = || {
        SockDiag::open().map(|_| Way::Tables(Rung::SockDiag)).map_err(|error| format!("opening it: {error}"))
    };
    let fails = |way| move |reason| anyhow!(WayFails { way, reason });
    match settings.via {
        Some(Rung::Iterator) => iterator().map_err(fails(Rung::Iterator)),
        Some(Rung::SockDiag) => sock_diag().map_err(fails(Rung::SockDiag)),
        Some(Rung::Proc) => Ok(Way::Tables(Rung::Proc)),
        Some(way) => Err(fails(way)("it tells of events, not of the sockets there are".to_owned())),
        None => {
            let told = |way: Rung| move |reason: &String| log::info!("not by {}: {reason}", way.name());
            let found = iterator().inspect_err(told(Rung::Iterator));
            let found = found.or_else(|_| sock_diag().inspect_err(told(Rung::SockDiag)));
            Ok(found.unwrap_or(Way::Tables(Rung::Proc)))
        }
    }
}

fn by_iterator(
    visitor: NamespaceVisitor,
    program: &InventoryProgram,
    (settings, counters): (&InventorySettings, &Counters),
) -> Result<Inventory> {
    let started = clock::now();
    let mut draft = Draft::new();
    let held = Held::read(program, &mut draft, settings.protocols)?;
    let mut index = NamespaceIndex::new(&settings.proc_root, visitor)?;
    // Elsewhere the pids that programs tell are not those of /proc.
    let pids_are_known = shows_initial_pids(&settings.proc_root)
        .with_context(|| format!("see which pids {} shows", settings.proc_root.display()))?;
    if pids_are_known {
        let members = draft
            .processes
            .iter()
            .filter_map(|listed| Some((listed.process.id.pid, draft.inode_of(listed.namespace?)?)));
        index.adopt(members, counters);
        threads::adopt(&mut index, &draft, counters);
    } else {
        draft.miss_some(UnseenThing::Processes, UnseenReason::Hidden);
        index.refresh(counters, started)?;
    }
    draft.add_known(&index);
    if settings.unheld {
        unheld::add(&mut index, &mut draft, &held, settings.protocols);
    }
    if pids_are_known {
        let mut containers = Containers::new(&settings.kubelet_logs, counters);
        containers.complete(&mut draft, &index.proc_root, &held.cgroups);
    }
    interfaces::name(&mut index, &mut draft);
    mark_unheld(&mut draft);
    Ok(draft.finish(Rung::Iterator, started))
}

/// Tables first: a socket that is in them and whose holder lives is then met in the links, while the other way
/// round a socket made in between would seem to belong to nobody.
fn by_tables(
    visitor: NamespaceVisitor,
    rung: Rung,
    (settings, counters): (&InventorySettings, &Counters),
) -> Result<Inventory> {
    let started = clock::now();
    let mut index = NamespaceIndex::new(&settings.proc_root, visitor)?;
    index.refresh(counters, started)?;
    let mut draft = Draft::new();
    draft.add_known(&index);
    let places: Vec<u32> = draft.places().collect();
    namespaces::read(&index, &mut draft, &places, (rung, settings.protocols), counters)?;
    let mut containers = Containers::new(&settings.kubelet_logs, counters);
    let descriptors = Descriptors::read(&index, &mut draft, &mut containers)
        .context("list the processes and what they hold")?;
    descriptors.join(&mut draft, settings.protocols);
    threads::read_tables(&mut index, &mut draft, (rung, settings.protocols), counters)?;
    if !settings.unheld {
        draft.sockets.retain(|socket| !socket.holders.is_empty());
    }
    interfaces::name(&mut index, &mut draft);
    mark_unheld(&mut draft);
    Ok(draft.finish(rung, started))
}

/// Says of every socket without a holder why it has none.
fn mark_unheld(draft: &mut Draft) {
    let blind = draft.misses(UnseenThing::Processes, &[UnseenReason::Permission, UnseenReason::Hidden]);
    for socket in draft.sockets.iter_mut().filter(|socket| socket.holders.is_empty()) {
        socket.unheld = Some(match Unheld::of(socket) {
            Unheld::NoDescriptor if blind => Unheld::Unseen,
            plain => plain,
        });
    }
}
