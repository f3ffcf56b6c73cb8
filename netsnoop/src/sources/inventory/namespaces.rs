//! The sockets of every namespace, by sock_diag or from tables. A look at a namespace is a walk over tables that all of them
//! share, so many are looked at side by side.

use anyhow::Result;
use netsnoop_core::attribution::Rung;
use netsnoop_core::inventory::{ProtocolSet, UnseenThing};
use netsnoop_core::namespace::NamespaceKey;
use rustix::io::Errno;

use super::census::Census;
use super::diag::DiagRows;
use super::draft::Draft;
use super::side_by_side::side_by_side;
use super::tables::{TableRows, read_tables, read_waiting_unix};
use crate::counters::Counters;
use crate::sources::namespace_index::{NamespaceIndex, NetFiles};
use crate::sources::netns::{NamespaceVisitor, VisitError};

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
    let start = || {
        let mut own = NamespaceIndex::new(proc_root, NamespaceVisitor::new()?)?;
        own.adopt(members.iter().copied(), counters);
        Ok(own)
    };
    let found =
        side_by_side(&places, NAMESPACES_PER_THREAD, start, |own, place| look(own, *place, (rung, wanted)))?;
    for Found { place, rows } in found {
        match rows {
            Ok((key, asked, read)) => {
                draft.identify(place, key);
                asked.hand_over(draft, place);
                read.into_iter().for_each(|rows| rows.hand_over(draft, place));
            }
            Err(error) => draft.miss_for(UnseenThing::Namespaces, Errno::from(error)),
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
