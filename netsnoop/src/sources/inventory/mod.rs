//! One look at the node: every socket of every network namespace with whoever holds it.
//!
//! Three ways give the same rows: the BPF iterator over all files (`held`), sock_diag in each namespace, and the
//! text of `/proc`; the last two join what they read with the fd links of all processes (`descriptors`). What a way
//! cannot see is told with the reason. Left out: choosing and showing rows.

mod containers;
mod descriptors;
mod draft;
mod tables;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use netsnoop_core::attribution::Rung;
use netsnoop_core::inventory::{Inventory, ProtocolSet, Unheld, UnseenReason, UnseenThing};

use self::containers::Containers;
use self::descriptors::Descriptors;
use self::draft::Draft;
use super::namespace_index::NamespaceIndex;
use super::netns::{NamespaceVisitor, on_own_thread};
use crate::clock;
use crate::counters::Counters;

/// What is wanted of a look.
#[derive(Clone, Debug)]
pub struct InventorySettings {
    /// The node's proc file system.
    pub proc_root: PathBuf,
    /// The kubelet's directory of log links, whose names tell pods (`/var/log/containers`).
    pub container_logs: PathBuf,
    /// The way to use: [`Rung::Iterator`], [`Rung::SockDiag`] or [`Rung::Proc`]; `None` is the first that works.
    pub via: Option<Rung>,
    /// Which sockets are wanted: the fewer, the faster.
    pub protocols: ProtocolSet,
    /// Whether sockets that nobody holds are wanted too.
    pub unheld: bool,
}

/// Looks once. The caller's thread stays in its namespace.
///
/// # Errors
///
/// If the way that was asked for does not work here, with the reason.
pub fn read(settings: &InventorySettings, counters: &Counters) -> Result<Inventory> {
    match settings.via {
        Some(rung @ (Rung::Iterator | Rung::SockDiag)) => bail!("{} is not there yet", rung.name()),
        Some(Rung::Proc) | None => on_own_thread(|visitor| by_tables(visitor, settings, counters)),
        Some(other) => bail!("{} tells of events, not of all sockets there are", other.name()),
    }
}

/// Tables first: a socket that is in them and whose holder lives is then met in the links, while the other way
/// round a socket made in between would seem to belong to nobody.
fn by_tables(
    visitor: NamespaceVisitor,
    settings: &InventorySettings,
    counters: &Counters,
) -> Result<Inventory> {
    let started = clock::now();
    let mut index = NamespaceIndex::new(&settings.proc_root, visitor)?;
    index.refresh(counters, started)?;
    let mut draft = Draft::new(&index);
    for place in 0..draft.namespaces.len() {
        tables::read_namespace(&mut index, &mut draft, place, settings.protocols);
    }
    let descriptors =
        Descriptors::read(&index.proc_root, &mut draft).context("list the processes and what they hold")?;
    descriptors.join(&mut draft, settings.protocols);
    Containers::new(&settings.container_logs).complete(&mut draft, &index.proc_root, counters);
    if !settings.unheld {
        draft.sockets.retain(|socket| !socket.holders.is_empty());
    }
    Ok(draft.finish(Rung::Proc, started))
}

/// Says of every socket without a holder why it has none.
fn mark_unheld(draft: &mut Draft) {
    let blind = draft.counts(UnseenThing::Processes, &[UnseenReason::Permission, UnseenReason::Hidden]) > 0;
    for socket in draft.sockets.iter_mut().filter(|socket| socket.holders.is_empty()) {
        socket.unheld = Some(match Unheld::of(socket) {
            Unheld::NoDescriptor if blind => Unheld::Unseen,
            plain => plain,
        });
    }
}
