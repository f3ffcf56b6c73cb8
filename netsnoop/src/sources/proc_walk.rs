//! The walk over the whole node: every namespace's socket tables, then the fd links of all processes.
//!
//! Tables come first. A socket that is in them and whose holder lives is then met in the links, while
//! the other way round a socket made in between would seem to belong to nobody.
//! Left out: questions about single sockets (`lookup`).

use std::path::Path;

use netsnoop_core::attribution::{Reason, Rung, RungSet};
use netsnoop_core::diag_message::{ALL_STATES, Question};
use netsnoop_core::five_tuple::{FiveTuple, Transport};
use netsnoop_core::namespace::NamespaceKey;
use netsnoop_core::observation::{SnapshotScope, SocketSnapshot};
use netsnoop_core::proc_text::net_table::{ByteOrder, InetRow, inet_rows};
use netsnoop_core::socket::SocketRow;
use netsnoop_core::time::Timestamp;
use rustix::io::Errno;

use super::holders::Holders;
use super::namespace_index::{NamespaceIndex, NetFiles};
use super::netns::{NamespaceVisitor, on_own_thread};
use super::proc_fs::count_unreadable;
use super::sock_diag::SockDiag;
use crate::clock;
use crate::counters::Counters;
use crate::scans::Scan;

/// The byte order tables are printed in here.
pub(super) const HOST_ORDER: ByteOrder =
    if cfg!(target_endian = "little") { ByteOrder::Little } else { ByteOrder::Big };

/// The tables of sockets that connections are told of.
const TABLES: [(&str, Transport); 6] = [
    ("tcp", Transport::Tcp),
    ("tcp6", Transport::Tcp),
    ("udp", Transport::Udp),
    ("udp6", Transport::Udp),
    ("udplite", Transport::UdpLite),
    ("udplite6", Transport::UdpLite),
];

/// What the walk found.
#[derive(Debug)]
pub struct Walk {
    /// One snapshot a namespace.
    pub snapshots: Vec<SocketSnapshot>,
    /// How many processes hold a socket.
    pub processes: usize,
}

impl Walk {
    /// How many sockets were found.
    pub fn sockets(&self) -> usize {
        self.snapshots.iter().map(|snapshot| snapshot.sockets.len()).sum()
    }
}

/// Walks the `/proc` at `proc_root` once, by those of `rungs` that read tables. The caller's thread
/// stays in its namespace.
pub fn read_all(proc_root: &Path, rungs: RungSet, counters: &Counters) -> anyhow::Result<Walk> {
    let _timing = counters.scans.begin(Scan::Walk);
    on_own_thread(|visitor| walk(visitor, proc_root, rungs, counters))
}

fn walk(
    visitor: NamespaceVisitor,
    proc_root: &Path,
    rungs: RungSet,
    counters: &Counters,
) -> anyhow::Result<Walk> {
    let mut index = NamespaceIndex::new(proc_root, visitor)?;
    index.refresh(counters, clock::now())?;
    let reader = TableReader { rungs, counters };
    let mut snapshots: Vec<SocketSnapshot> =
        index.namespaces().keys().filter_map(|inode| reader.snapshot(&mut index, *inode)).collect();
    let mut holders = Holders::new(&index, None, counters);
    // Listed anew: a child that was born meanwhile may be the only one left to hold a socket.
    if let Err(error) = index.proc_root.for_each_pid(|entry| holders.look_at(entry.pid, None)) {
        count_unreadable(counters, error);
        holders.cut_short();
    }
    holders.fill(snapshots.iter_mut().flat_map(|snapshot| &mut snapshot.sockets));
    let finished = clock::now();
    for snapshot in &mut snapshots {
        (snapshot.finished, snapshot.searched) = (finished, finished);
    }
    Ok(Walk { snapshots, processes: holders.processes() })
}

/// Reads whole tables.
struct TableReader<'a> {
    rungs: RungSet,
    counters: &'a Counters,
}

impl TableReader<'_> {
    fn snapshot(&self, index: &mut NamespaceIndex, inode: u32) -> Option<SocketSnapshot> {
        let started = clock::now();
        match index.enter(inode, |key, files| self.tables(key, &files, started)) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                count_unreadable(self.counters, Errno::from(error));
                None
            }
        }
    }

    fn tables(&self, key: NamespaceKey, files: &NetFiles<'_>, started: Timestamp) -> Option<SocketSnapshot> {
        let listed = match files {
            NetFiles::Inside if self.rungs.contains(Rung::SockDiag) => list_all(),
            _ => None,
        };
        let (rung, sockets) = match listed {
            Some(rows) => (Rung::SockDiag, rows),
            None if self.rungs.contains(Rung::Proc) => (Rung::Proc, self.read_tables(files)),
            None => return None,
        };
        let scope = SnapshotScope::Whole;
        Some(SocketSnapshot {
            namespace: key,
            rung,
            started,
            finished: started,
            searched: started,
            scope,
            sockets,
            only_user: None,
            oldest_process: None,
            exits: None,
            pod_keeper: None,
        })
    }

    fn read_tables(&self, files: &NetFiles<'_>) -> Vec<SocketRow> {
        let mut rows = Vec::new();
        let mut text = Vec::new();
        for (name, transport) in TABLES {
            read_table(files, (name, transport), &mut text, self.counters, |row| rows.push(row));
        }
        rows
    }
}

/// Every socket of the namespace this thread is in; `None` if the kernel cannot list them all.
fn list_all() -> Option<Vec<SocketRow>> {
    let mut rows = Vec::new();
    let mut question = SockDiag::open().ok()?;
    for transport in [Transport::Tcp, Transport::Udp, Transport::UdpLite] {
        for ipv6 in [false, true] {
            match question.list_rows(Question::of(transport, ipv6), ALL_STATES, &mut rows) {
                Ok(()) => {}
                // UDP-Lite has no handler in many kernels, and none at all since it was removed.
                Err(Errno::NOENT) if transport == Transport::UdpLite => {}
                Err(_) => return None,
            }
        }
    }
    Some(rows)
}

/// Calls `each` for every row of one table. A table that is not there is empty: IPv6 and UDP-Lite may
/// be left out of a kernel.
pub(super) fn read_table(
    files: &NetFiles<'_>,
    (name, transport): (&str, Transport),
    text: &mut Vec<u8>,
    counters: &Counters,
    mut each: impl FnMut(SocketRow),
) {
    match files.read(name, text) {
        Ok(()) => {}
        Err(Errno::NOENT) => return,
        Err(error) => {
            count_unreadable(counters, error);
            return;
        }
    }
    let mut rows = inet_rows(text, HOST_ORDER);
    rows.by_ref().for_each(|row| each(socket_row(transport, &row)));
    counters.proc_lines_rejected.add(rows.rejected());
}

/// The tables of one protocol.
pub(super) fn tables_of(transport: Transport) -> impl Iterator<Item = (&'static str, Transport)> {
    TABLES.into_iter().filter(move |(_, of)| *of == transport)
}

fn socket_row(transport: Transport, row: &InetRow) -> SocketRow {
    SocketRow {
        tuple: FiveTuple { transport, local: row.local, remote: row.remote },
        state: row.state,
        inode: row.inode,
        cookie: None,
        // Without a file the kernel has no uid to tell and prints 0.
        uid: row.inode.map(|_| row.uid),
        holders: Vec::new(),
        holders_lack: Some(Reason::Pending),
        recent_starts: Vec::new(),
        changed_user: false,
    }
}
