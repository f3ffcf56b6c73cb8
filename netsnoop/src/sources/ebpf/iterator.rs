//! Every socket of every namespace with its holders, from one pass of the BPF iterator over all files
//! (`iter/task_file`, since Linux 5.8).
//!
//! It shows no socket without a file: not those waiting to be accepted, orphans and TIME_WAIT; nor those
//! in flight between processes or registered with io_uring. Reading blocks: it belongs on a thread.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{ErrorKind, Read};

use anyhow::{Context, Result, anyhow};
use aya::programs::Iter;
use netsnoop_core::attribution::{Reason, Rung};
use netsnoop_core::five_tuple::FiveTuple;
use netsnoop_core::kernel_record::{HELD_SOCKET_BYTES, HeldSocket, decode_held_socket};
use netsnoop_core::namespace::NamespaceKey;
use netsnoop_core::observation::{SnapshotScope, SocketSnapshot};
use netsnoop_core::process::Process;
use netsnoop_core::socket::SocketRow;
use netsnoop_core::socket_match::Rows;

use super::load::{Globals, KernelFacts, object};
use super::programs::TASK_FILE_ITER;
use super::report::{Cause, Failure};
use crate::clock;
use crate::counters::Counters;
use crate::scans::Scan;

/// What one read of an iterator's file can give at most: the kernel buffers 8 pages
/// (<https://github.com/torvalds/linux/blob/v6.12/kernel/bpf/bpf_iter.c#L92>).
const READ_BYTES: usize = 32 * 1024;

/// The iterator, loaded. It is attached anew for each pass, which costs microseconds.
#[derive(Debug)]
pub struct SocketIterator {
    object: aya::Ebpf,
}

impl SocketIterator {
    /// Loads it, from an object of its own, so that it can be read on another thread than the ring.
    pub(super) fn open(facts: &KernelFacts) -> Result<Self, Failure> {
        let globals = Globals { connect_by_state: false, accept_exit_rung: Rung::TpBtf, log: false };
        let mut this = Self { object: object(facts, globals, false)? };
        let hook = "iterator task_file";
        let loaded = this.program().map(|program| program.load("task_file", &facts.btf));
        loaded
            .map_err(|error| Failure::new(Cause::Other, &error))?
            .map_err(|error| Failure::of_program("loading for", hook, &error))?;
        let opened = this.open_file().map_err(|error| Failure::new(Cause::Other, &error))?;
        drop(opened);
        Ok(this)
    }

    /// Reads every socket that a process holds: one snapshot for each namespace that has any.
    pub fn read_sockets(&mut self, counters: &Counters) -> Result<Vec<SocketSnapshot>> {
        let _timing = counters.scans.begin(Scan::Iterator);
        let started = clock::now();
        let mut file = self.open_file()?;
        let mut rows = HeldRows::default();
        read_records(&mut file, |record| match decode_held_socket(record) {
            Ok(held) => rows.add(&held),
            Err(error) => {
                log::debug!("socket iterator: {error}");
                counters.iterator_records_rejected.add(1);
            }
        })
        .context("reading the socket iterator")?;
        let finished = clock::now();
        let snapshot = |(namespace, sockets): (NamespaceKey, HashMap<u64, SocketRow>)| SocketSnapshot {
            namespace,
            rung: Rung::Iterator,
            started,
            finished,
            searched: finished,
            scope: SnapshotScope::Whole,
            sockets: sockets.into_values().collect(),
            only_user: None,
            oldest_process: None,
            exits: None,
            pod_keeper: None,
        };
        Ok(rows.0.into_iter().map(snapshot).collect())
    }

    /// Who holds these sockets of a namespace? One pass over all sockets, whatever their number.
    pub fn answer(
        &mut self,
        namespace: NamespaceKey,
        wanted: &[FiveTuple],
        counters: &Counters,
    ) -> Result<SocketSnapshot> {
        let started = clock::now();
        let found = self.read_sockets(counters)?.into_iter().find(|snapshot| snapshot.namespace == namespace);
        let rows = found.map(|snapshot| snapshot.sockets).unwrap_or_default();
        let arranged = Rows::new(&rows);
        let mut sockets: Vec<SocketRow> = Vec::new();
        let mut taken = HashSet::new();
        let mut missing = Vec::new();
        for tuple in wanted {
            let answering = arranged.answering(tuple);
            if answering.is_empty() {
                missing.push((*tuple, Reason::GoneBeforeLookup));
            }
            sockets
                .extend(answering.into_iter().filter(|row| taken.insert(std::ptr::from_ref(*row))).cloned());
        }
        let finished = clock::now();
        Ok(SocketSnapshot {
            namespace,
            rung: Rung::Iterator,
            started,
            finished,
            searched: finished,
            scope: SnapshotScope::Wanted { missing },
            sockets,
            only_user: None,
            oldest_process: None,
            exits: None,
            pod_keeper: None,
        })
    }

    fn program(&mut self) -> Result<&mut Iter> {
        let program = self.object.program_mut(TASK_FILE_ITER);
        let program = program.ok_or_else(|| anyhow!("the kernel half has no program {TASK_FILE_ITER}"))?;
        program.try_into().with_context(|| format!("using {TASK_FILE_ITER} as an iterator"))
    }

    fn open_file(&mut self) -> Result<File> {
        let program = self.program()?;
        let link = program.attach().context("attaching the socket iterator")?;
        let link = program.take_link(link).context("taking the socket iterator's link")?;
        link.into_file().context("opening the socket iterator")
    }
}

/// Sockets by namespace, then by the address of their `struct sock`.
#[derive(Default)]
struct HeldRows(HashMap<NamespaceKey, HashMap<u64, SocketRow>>);

impl HeldRows {
    fn add(&mut self, held: &HeldSocket) {
        let sockets = self.0.entry(held.socket.namespace).or_default();
        let row = sockets.entry(held.socket.address).or_insert_with(|| SocketRow {
            tuple: held.socket.tuple,
            state: held.state,
            inode: held.inode,
            cookie: held.socket.cookie,
            uid: held.socket.uid,
            holders: Vec::new(),
            holders_lack: None,
            recent_starts: Vec::new(),
            changed_user: false,
        });
        let known = row.holders.iter().any(|holder: &Process| holder.id == held.holder.id);
        if !known {
            row.holders.push(held.holder);
            row.recent_starts.push((held.holder.id, held.holder_started));
            row.changed_user |= row.uid.is_some_and(|uid| uid != held.holder.uid);
        }
    }
}

/// Hands every record of `file` to `take`. Reads end anywhere, also within a record.
fn read_records(mut file: impl Read, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut buffer = vec![0; READ_BYTES + HELD_SOCKET_BYTES];
    let mut held = 0;
    loop {
        let space = buffer.get_mut(held..).unwrap_or_default();
        let read = match file.read(space) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            // The kernel pauses after a million files without a socket and wants to be asked again
            // (https://github.com/torvalds/linux/blob/v6.12/kernel/bpf/bpf_iter.c#L155-L163).
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
            Err(error) => return Err(error),
        };
        let filled = held + read;
        let whole = filled - (filled % HELD_SOCKET_BYTES);
        for record in buffer.get(..whole).unwrap_or_default().chunks_exact(HELD_SOCKET_BYTES) {
            take(record);
        }
        buffer.copy_within(whole..filled, 0);
        held = filled - whole;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Error, ErrorKind, Read};

    use super::{HELD_SOCKET_BYTES, read_records};

    /// Gives its bytes in pieces of one size, with a pause before each.
    struct Pieces {
        bytes: Cursor<Vec<u8>>,
        size: usize,
        paused: bool,
    }

    impl Read for Pieces {
        fn read(&mut self, space: &mut [u8]) -> std::io::Result<usize> {
            self.paused = !self.paused;
            if self.paused {
                return Err(Error::from(ErrorKind::WouldBlock));
            }
            let size = self.size.min(space.len());
            self.bytes.read(&mut space[..size])
        }
    }

    #[test]
    fn records_are_found_however_reads_are_cut() {
        let records: Vec<u8> = (0..7).flat_map(|number| [number; HELD_SOCKET_BYTES]).collect();
        for size in [1, 7, HELD_SOCKET_BYTES - 1, HELD_SOCKET_BYTES, HELD_SOCKET_BYTES + 1, 4096] {
            let mut seen = Vec::new();
            let file = Pieces { bytes: Cursor::new(records.clone()), size, paused: false };
            read_records(file, |record| seen.push(record.to_vec())).expect("a pause is no error");
            assert_eq!(seen.concat(), records, "pieces of {size} bytes");
        }
    }

    #[test]
    fn an_error_ends_the_pass() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(Error::from(ErrorKind::PermissionDenied))
            }
        }
        assert!(read_records(Broken, |_| ()).is_err());
    }
}
