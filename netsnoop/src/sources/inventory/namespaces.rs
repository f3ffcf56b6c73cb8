//! The sockets of every namespace, by sock_diag or from tables. A look at a namespace is a walk over tables that all of them
//! share, so many are looked at side by side.

use std::thread;

use anyhow::Result;
use netsnoop_core::attribution::Rung;
use netsnoop_core::inventory::{ProtocolSet, UnseenThing};
use netsnoop_core::namespace::NamespaceKey;
use rustix::io::Errno;

use super::census::Census;
use super::diag::DiagRows;
use super::draft::Draft;
use super::tables::{TableRows, read_tables, read_waiting_unix};
use crate::counters::Counters;
use crate::sources::namespace_index::{NamespaceIndex, NetFiles};
use crate::sources::netns::{NamespaceVisitor, VisitError};

/// More threads than this gain little: the kernel's tables have locks.
const THREADS_MAX: usize = 4;
/// A thread is worth its start from this many namespaces on.
const NAMESPACES_PER_THREAD: usize = 4;

/// What was found in the namespace at a place of the draft.
struct Found {
    place: u32,
    rows: Result<(NamespaceKey, DiagRows, [TableRows; 2]), VisitError>,
}

/// Adds the `wanted` sockets of the namespaces at these places of `draft`.
pub(super) fn read(
    index: &NamespaceIndex,
    draft: &mut Draft,
    places: &[u32],
    (rung, wanted): (Rung, ProtocolSet),
    counters: &Counters,
) -> Result<()> {
    let places: Vec<(u32, u32)> =
        places.iter().filter_map(|place| Some((*place, draft.inode_of(*place)?))).collect();
    let (members, proc_root) = (index.members(), index.proc_root.path());
    let processors = thread::available_parallelism().map_or(1, |count| count.get().min(THREADS_MAX));
    let threads = places.len().div_ceil(NAMESPACES_PER_THREAD).clamp(1, processors);
    let work = |share: usize| -> Result<Vec<Found>> {
        let mut own = NamespaceIndex::new(proc_root, NamespaceVisitor::new()?)?;
        own.adopt(members.iter().copied(), counters);
        // In turns, as neighbours are often alike.
        let mine = places.iter().skip(share).step_by(threads);
        Ok(mine.map(|(place, inode)| look(&mut own, (*place, *inode), (rung, wanted))).collect())
    };
    let found: Vec<Result<Vec<Found>>> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|share| {
                scope.spawn({
                    let work = &work;
                    move || work(share)
                })
            })
            .collect();
        let ended = running.into_iter().map(thread::ScopedJoinHandle::join);
        ended.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    for found in found {
        for Found { place, rows } in found? {
            match rows {
                Ok((key, asked, read)) => {
                    draft.identify(place, key);
                    asked.hand_over(draft, place);
                    read.into_iter().for_each(|rows| rows.hand_over(draft, place));
                }
                Err(error) => draft.miss_for(UnseenThing::Namespaces, Errno::from(error)),
            }
        }
    }
    Ok(())
}

fn look(
    index: &mut NamespaceIndex,
    (place, inode): (u32, u32),
    (rung, wanted): (Rung, ProtocolSet),
) -> Found {
    let read = |key: NamespaceKey, files: NetFiles<'_>| {
        let census = Census::read(&files);
        let asked = match files {
            NetFiles::Inside if rung == Rung::SockDiag => DiagRows::read(wanted, &census),
            _ => Ok(DiagRows::nothing(wanted)),
        };
        // What cannot be asked for is in the tables.
        let asked = asked.unwrap_or_else(|_| DiagRows::nothing(wanted));
        let left = asked.left;
        let waiting = read_waiting_unix(&files, &asked.sockets, &census);
        (key, asked, [read_tables(&files, left, &census), waiting])
    };
    Found { place, rows: index.enter(inode, read) }
}
