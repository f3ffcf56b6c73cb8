//! Which processes hold which sockets, from fd links.
//!
//! Left out: files in flight (SCM_RIGHTS) and io_uring's fixed files, which no directory shows, and
//! threads with a table of files of their own.

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::time::Duration;

use netsnoop_core::attribution::Reason;
use netsnoop_core::proc_text::process::UserIds;
use netsnoop_core::process::{Process, ProcessId};
use netsnoop_core::socket::SocketRow;
use netsnoop_core::time::Timestamp;

use super::namespace_index::NamespaceIndex;
use super::proc_fs::{Scratch, count_unreadable};
use super::process_start::ProcessStarts;
use crate::clock;
use crate::counters::Counters;

/// The links found so far.
pub(super) struct Holders<'a> {
    index: &'a NamespaceIndex,
    counters: &'a Counters,
    scratch: Scratch,
    processes: Vec<Holder>,
    /// Tells when holders that began lately did, where that matters and can be had.
    starts: Option<&'a mut ProcessStarts>,
    /// Socket inode and place in `processes`; sorted by [`Self::fill`].
    links: Vec<(NonZeroU64, usize)>,
    /// Why not everybody was looked at.
    lack: Option<Reason>,
    /// Whether a socket without a holder may have one among those nobody looked at.
    elsewhere: bool,
}

struct Holder {
    process: Process,
    users: UserIds,
    /// When it began, if that was lately.
    started: Option<Timestamp>,
}

/// A socket that is looked up is seconds old at most; of a process that is older no more than the tick of its
/// start need be known.
const LATELY: Duration = Duration::from_secs(5);

impl<'a> Holders<'a> {
    /// Has looked at nobody.
    pub(super) fn new(
        index: &'a NamespaceIndex,
        starts: Option<&'a mut ProcessStarts>,
        counters: &'a Counters,
    ) -> Self {
        Self {
            starts,
            index,
            counters,
            scratch: Scratch::new(),
            processes: Vec::new(),
            links: Vec::new(),
            // Of a /proc that does not show every process no list of holders is complete.
            lack: (!index.proc_root.is_whole()).then_some(Reason::Permission),
            elsewhere: false,
        }
    }

    /// Notes which of the `wanted` sockets (`None`: of all) the process holds.
    pub(super) fn look_at(&mut self, pid: u32, wanted: Option<&HashSet<NonZeroU64>>) {
        let before = self.links.len();
        if let Err(error) = self.read_links(pid, wanted) {
            self.links.truncate(before);
            if count_unreadable(self.counters, error) {
                self.lack = Some(Reason::Permission);
            }
        }
    }

    fn read_links(
        &mut self,
        pid: u32,
        wanted: Option<&HashSet<NonZeroU64>>,
    ) -> Result<(), rustix::io::Errno> {
        let process = self.index.proc_root.process(pid)?;
        let (before, place) = (self.links.len(), self.processes.len());
        let links = &mut self.links;
        process.for_each_descriptor(&mut self.scratch, |descriptor| {
            let socket = descriptor.socket;
            links.extend(
                socket
                    .filter(|inode| wanted.is_none_or(|wanted| wanted.contains(inode)))
                    .map(|inode| (inode, place)),
            );
        })?;
        if self.links.len() == before {
            return Ok(());
        }
        match process.identity(&mut self.scratch.text)? {
            Some((process, users)) => {
                let started = self.start_of(process.id);
                self.processes.push(Holder { process, users, started });
            }
            None => {
                self.counters.proc_lines_rejected.add(1);
                self.links.truncate(before);
                self.lack = Some(Reason::Lost);
            }
        }
        Ok(())
    }

    fn start_of(&mut self, process: ProcessId) -> Option<Timestamp> {
        let (_, latest) = process.started_between();
        self.starts.as_mut().filter(|_| clock::now() < latest + LATELY)?.of(process)
    }

    /// Notes that not everybody was looked at.
    pub(super) const fn cut_short(&mut self) {
        self.lack = Some(Reason::Lost);
    }

    /// Notes that processes of other namespaces were not looked at, though they may hold what nobody
    /// else does.
    pub(super) const fn spare_elsewhere(&mut self) {
        self.elsewhere = true;
    }

    /// How many processes hold a socket.
    pub(super) const fn processes(&self) -> usize {
        self.processes.len()
    }

    /// Those of `wanted` that nobody looked at so far holds.
    pub(super) fn without_holder(&self, wanted: &HashSet<NonZeroU64>) -> HashSet<NonZeroU64> {
        let held: HashSet<NonZeroU64> = self.links.iter().map(|(inode, _)| *inode).collect();
        wanted.difference(&held).copied().collect()
    }

    /// Writes the holders into the rows.
    pub(super) fn fill<'r>(&mut self, rows: impl Iterator<Item = &'r mut SocketRow>) {
        self.links.sort_unstable();
        self.links.dedup();
        for row in rows {
            row.holders_lack = self.lack;
            let Some(inode) = row.inode else { continue };
            let first = self.links.partition_point(|(linked, _)| *linked < inode);
            let links = self.links.iter().skip(first).take_while(|(linked, _)| *linked == inode);
            for holder in links.filter_map(|(_, place)| self.processes.get(*place)) {
                row.holders.push(holder.process);
                row.recent_starts.extend(holder.started.map(|started| (holder.process.id, started)));
                row.changed_user |= row.uid.is_some_and(|uid| !holder.users.contain(uid));
            }
            if self.elsewhere && row.holders.is_empty() {
                // Mostly its process had closed it by then.
                row.holders_lack = self.lack.or(Some(Reason::GoneBeforeLookup));
            }
        }
    }
}
