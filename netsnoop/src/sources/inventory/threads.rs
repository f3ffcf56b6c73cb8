//! Namespaces that no process is in but one of its threads, found through the sockets that it holds there.
//!
//! Left out: the threads of processes without such a socket, as looking at all threads of a node would cost more than
//! all else, and namespaces that nobody is in any more and only a socket keeps alive.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU64;

use anyhow::Result;
use netsnoop_core::attribution::Rung;
use netsnoop_core::inventory::{ListedSocket, ProtocolSet};
use rustix::io::Errno;

use super::draft::Draft;
use super::namespaces;
use crate::counters::Counters;
use crate::sources::namespace_index::NamespaceIndex;
use crate::sources::proc_fs::count_unreadable;

/// Reads the tables of those namespaces, and tells the sockets from there that so far only a descriptor showed.
pub(super) fn read_tables(
    index: &mut NamespaceIndex,
    draft: &mut Draft,
    (rung, wanted): (Rung, ProtocolSet),
    counters: &Counters,
) -> Result<()> {
    let before = index.namespaces();
    let found = find(index, draft, |socket| socket.namespace.is_none(), counters);
    let new = found.into_iter().filter(|inode| !before.contains_key(inode));
    let places: Vec<u32> = new.map(|inode| draft.add_inode(inode)).collect();
    if places.is_empty() {
        return Ok(());
    }
    let before = draft.sockets.len();
    namespaces::read(index, draft, &places, (rung, wanted), counters)?;
    take_over(&mut draft.sockets, before);
    Ok(())
}

/// Makes the namespaces of held sockets that no process is in known to `index`.
pub(super) fn adopt(index: &mut NamespaceIndex, draft: &Draft, counters: &Counters) {
    let known = index.namespaces();
    let is_new = |place| draft.inode_of(place).is_some_and(|inode| !known.contains_key(&inode));
    let new: BTreeSet<u32> = draft.places().filter(|place| is_new(*place)).collect();
    if new.is_empty() {
        return;
    }
    let is_elsewhere = |socket: &ListedSocket| socket.namespace.is_some_and(|place| new.contains(&place));
    find(index, draft, is_elsewhere, counters);
}

/// All namespaces that are known after a look at the threads of processes with a socket like this.
fn find(
    index: &mut NamespaceIndex,
    draft: &Draft,
    is_meant: impl Fn(&ListedSocket) -> bool,
    counters: &Counters,
) -> BTreeSet<u32> {
    let mut known: BTreeSet<u32> = index.namespaces().into_keys().collect();
    let meant = draft.sockets.iter().filter(|socket| is_meant(socket));
    let holders: BTreeSet<u32> =
        meant.flat_map(|socket| &socket.holders).map(|holder| holder.process).collect();
    for listed in holders.iter().filter_map(|place| draft.processes.get(*place as usize)) {
        match index.adopt_threads(listed.process.id.pid, &mut known) {
            // It ended meanwhile, and its sockets with it.
            Ok(()) | Err(Errno::NOENT | Errno::SRCH) => {}
            Err(error) => {
                count_unreadable(counters, error);
            }
        }
    }
    known
}

/// Gives the sockets from `first` on the holders of those before that have no namespace, whose place they take.
fn take_over(sockets: &mut Vec<ListedSocket>, first: usize) {
    let mut found = sockets.split_off(first);
    let mut holders: HashMap<NonZeroU64, _> = sockets
        .iter_mut()
        .filter(|socket| socket.namespace.is_none())
        .filter_map(|socket| Some((socket.inode?, std::mem::take(&mut socket.holders))))
        .collect();
    for socket in &mut found {
        if let Some(holders) = socket.inode.and_then(|inode| holders.remove(&inode)) {
            socket.holders = holders;
        }
    }
    // What was not found there stays as it was.
    sockets.retain_mut(|socket| {
        let (None, Some(inode)) = (socket.namespace, socket.inode) else { return true };
        holders.remove(&inode).is_some_and(|own| {
            socket.holders = own;
            true
        })
    });
    sockets.append(&mut found);
}

#[cfg(test)]
mod tests {
    use super::*;
    use netsnoop_core::inventory::{Addresses, Holder, Protocol};
    use netsnoop_core::socket::TcpState;

    fn socket(namespace: Option<u32>, inode: u64, holders: &[u32]) -> ListedSocket {
        let holders = holders.iter().map(|process| Holder { process: *process, fd: 3 }).collect();
        let inode = NonZeroU64::new(inode);
        let plain = ListedSocket::new(Protocol::Tcp, TcpState::LISTEN, Addresses::Unknown);
        ListedSocket { namespace, inode, holders, ..plain }
    }

    #[test]
    fn each_socket_stays_one() {
        let mut sockets = vec![
            socket(Some(0), 1, &[7]),
            socket(None, 2, &[8, 9]),
            socket(None, 3, &[8]),
            socket(Some(1), 2, &[]),
            socket(Some(1), 4, &[]),
        ];
        take_over(&mut sockets, 3);
        let expected = [
            socket(Some(0), 1, &[7]),
            socket(None, 3, &[8]),
            socket(Some(1), 2, &[8, 9]),
            socket(Some(1), 4, &[]),
        ];
        assert_eq!(sockets, expected);
    }
}
