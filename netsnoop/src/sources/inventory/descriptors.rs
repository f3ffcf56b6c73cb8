//! Which processes hold which sockets, from the fd links of all processes, and the join with the rows of tables.
//!
//! Left out: files in flight (man 7 unix, SCM_RIGHTS) and io_uring's fixed files, which no directory shows, and threads
//! with a table of files of their own.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use anyhow::Result;
use netsnoop_core::inventory::{
    Addresses, Holder, ListedProcess, ListedSocket, Protocol, ProtocolSet, UnseenReason, UnseenThing,
};
use netsnoop_core::process::{Container, Process};
use netsnoop_core::socket::TcpState;
use rustix::io::Errno;

use super::containers::Containers;
use super::draft::{Draft, reason_of};
use super::side_by_side::side_by_side;
use crate::sources::namespace_index::NamespaceIndex;
use crate::sources::proc_fs::{ProcRoot, ProcessDir, Scratch};

/// A thread is worth its start from this many processes on.
const PROCESSES_PER_THREAD: usize = 64;

/// One descriptor that refers to a socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Link {
    inode: NonZeroU64,
    holder: Holder,
}

/// What processes hold.
#[derive(Debug)]
pub(super) struct Descriptors<'a> {
    proc_root: &'a ProcRoot,
    /// By inode.
    links: Vec<Link>,
}

/// A process and its links; the holders' places are not set yet.
struct Found {
    process: Process,
    namespace: Option<u32>,
    /// The text of `/proc/<pid>/cgroup`.
    cgroups: Vec<u8>,
    links: Vec<(NonZeroU64, u32)>,
}

impl<'a> Descriptors<'a> {
    /// Looks at every process, and adds those with an open file to `draft`.
    pub(super) fn read(
        index: &'a NamespaceIndex,
        draft: &mut Draft,
        containers: &mut Containers<'_>,
    ) -> Result<Self> {
        let proc_root = &index.proc_root;
        let known: HashMap<u32, u32> = index.members().into_iter().collect();
        let mut pids = Vec::new();
        proc_root.for_each_pid(|entry| pids.push(entry.pid))?;
        if !proc_root.is_whole() {
            draft.miss_some(UnseenThing::Processes, UnseenReason::Hidden);
        }
        let mut links = Vec::new();
        let start = || Ok(Scratch::new());
        let looked = side_by_side(&pids, PROCESSES_PER_THREAD, start, |scratch, pid| {
            look_at(&proc_root.process(*pid)?, known.get(pid).copied(), scratch)
        })?;
        for found in looked {
            match found {
                Ok(Some(found)) => {
                    let container = containers.of_text(&found.cgroups);
                    add(found, container, (draft, &mut links));
                }
                Ok(None) => {}
                Err(error) => draft.miss(UnseenThing::Processes, reason_of(error), 1),
            }
        }
        links.sort_unstable();
        Ok(Self { proc_root, links })
    }

    /// Writes the holders into the rows, and adds rows for held sockets that no table showed.
    pub(super) fn join(self, draft: &mut Draft, wanted: ProtocolSet) {
        let mut met = vec![false; self.links.len()];
        for socket in &mut draft.sockets {
            let Some(inode) = socket.inode else { continue };
            let first = self.links.partition_point(|link| link.inode < inode);
            let links = self.links.iter().zip(&mut met).skip(first);
            for (link, met) in links.take_while(|(link, _)| link.inode == inode) {
                socket.holders.push(link.holder);
                *met = true;
            }
        }
        self.add_unmet(draft, met, wanted);
    }

    /// Sockets that are bound to nothing are in no table, nor are those of families without one, nor those that were
    /// made after it was read. What they are can be asked of a descriptor.
    fn add_unmet(&self, draft: &mut Draft, met: Vec<bool>, wanted: ProtocolSet) {
        let mut unmet = self.links.iter().zip(met).filter(|(_, met)| !met).map(|(link, _)| *link).peekable();
        while let Some(link) = unmet.next() {
            let mut holders = vec![link.holder];
            while let Some(next) = unmet.next_if(|next| next.inode == link.inode) {
                holders.push(next.holder);
            }
            let pid = draft.processes.get(link.holder.process as usize).map(|listed| listed.process.id.pid);
            let Some(pid) = pid else { continue };
            match self.proc_root.socket_behind(pid, link.holder.fd, link.inode) {
                Ok((name, uid)) => {
                    let protocol = Protocol::of_kernel_name(&name);
                    if wanted.contains(protocol.group()) {
                        let socket = ListedSocket::new(protocol, TcpState(0), Addresses::Unknown);
                        let inode = Some(link.inode);
                        draft.sockets.push(ListedSocket {
                            inode,
                            uid: Some(uid),
                            holders: holders.into(),
                            ..socket
                        });
                    }
                }
                Err(error) => draft.miss(UnseenThing::Sockets, reason_of(error), 1),
            }
        }
    }
}

fn add(found: Found, container: Option<Arc<Container>>, (draft, links): (&mut Draft, &mut Vec<Link>)) {
    // Pids are 22 bits wide.
    let process = u32::try_from(draft.processes.len()).unwrap_or(u32::MAX);
    let namespace = found.namespace.and_then(|inode| draft.place_of(inode));
    draft.processes.push(ListedProcess { process: found.process, namespace, container });
    let own = found.links.into_iter();
    links.extend(own.map(|(inode, fd)| Link { inode, holder: Holder { process, fd } }));
}

/// `None` if it has no open file: kernel threads, and what has just ended.
fn look_at(
    dir: &ProcessDir,
    known_namespace: Option<u32>,
    scratch: &mut Scratch,
) -> Result<Option<Found>, Errno> {
    let mut files = 0_usize;
    let mut links = Vec::new();
    dir.for_each_descriptor(scratch, |descriptor| {
        files += 1;
        links.extend(descriptor.socket.map(|inode| (inode, descriptor.number)));
    })?;
    if files == 0 {
        return Ok(None);
    }
    // What cannot be understood was written while the process changed.
    let (process, _) = dir.identity(&mut scratch.text)?.ok_or(Errno::BADMSG)?;
    let namespace = match known_namespace.map_or_else(|| dir.namespace_inode(), Ok) {
        Ok(inode) => Some(inode),
        Err(Errno::ACCESS | Errno::PERM) => None,
        Err(error) => return Err(error),
    };
    dir.read("cgroup", &mut scratch.text)?;
    Ok(Some(Found { process, namespace, cgroups: scratch.text.clone(), links }))
}
