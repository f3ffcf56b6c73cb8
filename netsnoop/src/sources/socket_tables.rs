//! The rows of one namespace's tables that may answer for certain sockets, by the best way there is.
//!
//! Left out: who holds them (`socket_lookup`, `holders`), and which row fits which end
//! (`netsnoop_core::socket_match`).

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;

use netsnoop_core::attribution::{Reason, Rung, RungSet};
use netsnoop_core::diag_message::{ALL_STATES, Question};
use netsnoop_core::five_tuple::{FiveTuple, Transport};
use netsnoop_core::namespace::NamespaceKey;
use netsnoop_core::socket::{SocketRow, TcpState};
use netsnoop_core::socket_match::{Rows, awaits_accept};
use netsnoop_core::time::Timestamp;
use rustix::fs::CWD;
use rustix::io::Errno;

use super::namespace_index::NetFiles;
use super::proc_fs::read_file_at;
use super::proc_walk::{read_table, tables_of};
use super::sock_diag::{LISTENING, SockDiag};
use crate::clock;
use crate::counters::Counters;

/// What the kernel picks client ports from unless told otherwise (`ip_local_port_range` in
/// <https://github.com/torvalds/linux/blob/v6.12/Documentation/networking/ip-sysctl.rst>).
const EPHEMERAL_PORTS: RangeInclusive<u16> = 32768..=60999;

/// Ways to the rows of a namespace.
#[derive(Debug)]
pub(super) struct Tables {
    rungs: RungSet,
    /// Protocols that sock_diag is known to answer for here.
    proven: HashSet<Transport>,
}

/// Rows that may answer, read in the namespace.
pub(super) struct Found {
    pub(super) key: NamespaceKey,
    pub(super) rung: Rung,
    pub(super) rows: Vec<SocketRow>,
    pub(super) missing: Vec<(FiveTuple, Reason)>,
    /// When they had been read.
    pub(super) finished: Timestamp,
}

impl Tables {
    /// Uses those of `rungs` that it can.
    pub(super) fn new(rungs: RungSet) -> Self {
        Self { rungs, proven: HashSet::new() }
    }

    /// The best way that may be used.
    pub(super) const fn rung(&self) -> Rung {
        if self.rungs.contains(Rung::SockDiag) { Rung::SockDiag } else { Rung::Proc }
    }

    pub(super) fn read(
        &mut self,
        (key, files): (NamespaceKey, &NetFiles<'_>),
        wanted: &[FiveTuple],
        counters: &Counters,
    ) -> Result<Found, Reason> {
        let (rung, rows) = self.rows(files, wanted, counters)?;
        let finished = clock::now();
        let arranged = Rows::new(&rows);
        let unanswered: Vec<&FiveTuple> =
            wanted.iter().filter(|tuple| arranged.answering(tuple).is_empty()).collect();
        let ephemeral = if unanswered.is_empty() { EPHEMERAL_PORTS } else { ephemeral_ports(files) };
        let why = |tuple: &FiveTuple| {
            // No socket has this port. Where the kernel gives client ports the client is gone;
            // elsewhere it is a server's, and nothing listens there.
            let clients = ephemeral.contains(&tuple.local.port);
            if clients { Reason::GoneBeforeLookup } else { Reason::ClosedPort }
        };
        let missing = unanswered.into_iter().map(|tuple| (*tuple, why(tuple))).collect();
        Ok(Found { key, rung, rows, missing, finished })
    }

    fn rows(
        &mut self,
        files: &NetFiles<'_>,
        wanted: &[FiveTuple],
        counters: &Counters,
    ) -> Result<(Rung, Vec<SocketRow>), Reason> {
        let inside = matches!(files, NetFiles::Inside);
        if inside && self.rungs.contains(Rung::SockDiag) {
            match self.ask_sock_diag(wanted) {
                Ok(rows) => return Ok((Rung::SockDiag, rows)),
                // A kernel without the handlers; the tables tell the same.
                Err(Errno::NOENT) => {}
                Err(_) => counters.proc_failed.add(1),
            }
        }
        if self.rungs.contains(Rung::Proc) {
            Ok((Rung::Proc, read_rows(files, wanted, counters)))
        } else if self.rungs.contains(Rung::SockDiag) {
            Err(if inside { Reason::NotEnabled } else { Reason::Permission })
        } else {
            Err(Reason::NotEnabled)
        }
    }

    fn ask_sock_diag(&mut self, wanted: &[FiveTuple]) -> Result<Vec<SocketRow>, Errno> {
        let mut question = SockDiag::open()?;
        let mut rows = DistinctRows::default();
        let mut listed = HashSet::new();
        for tuple in wanted {
            if !self.proven.contains(&tuple.transport) {
                if !question.answers_for(tuple.transport) {
                    return Err(Errno::NOENT);
                }
                self.proven.insert(tuple.transport);
            }
            let Some(row) = question.find(tuple)? else { continue };
            let is_tcp = tuple.transport == Transport::Tcp;
            let is_final = if is_tcp {
                row.state != TcpState::LISTEN && !awaits_accept(&row)
            } else {
                row.tuple.remote.port != 0
            };
            rows.push(row);
            let port = (tuple.transport, tuple.remote.address.is_ipv4(), tuple.local.port);
            if !is_final && listed.insert(port) {
                list_port(&mut question, tuple, &mut rows)?;
            }
        }
        Ok(rows.rows)
    }
}

/// Rows without repetitions: the kernel names a listener once for each connection that is asked about.
#[derive(Default)]
struct DistinctRows {
    rows: Vec<SocketRow>,
    known: HashSet<(FiveTuple, Option<NonZeroU64>, u8)>,
}

impl DistinctRows {
    fn push(&mut self, row: SocketRow) {
        if self.known.insert((row.tuple, row.cookie.or(row.inode), row.state.0)) {
            self.rows.push(row);
        }
    }
}

/// Adds every socket that may share the port: the kernel named one of a group, or a child.
fn list_port(question: &mut SockDiag, tuple: &FiveTuple, rows: &mut DistinctRows) -> Result<(), Errno> {
    let states = if tuple.transport == Transport::Tcp { LISTENING } else { ALL_STATES };
    let mut found = Vec::new();
    // IPv6 sockets may serve IPv4 too, never the other way round.
    for ipv6 in [false, true].into_iter().filter(|ipv6| *ipv6 || tuple.remote.address.is_ipv4()) {
        let at_port = Question::of(tuple.transport, ipv6).at_port(tuple.local.port);
        question.list_rows(at_port, states, &mut found)?;
    }
    found.into_iter().for_each(|row| rows.push(row));
    Ok(())
}

/// The rows of the tables that may answer for one of `wanted`.
fn read_rows(files: &NetFiles<'_>, wanted: &[FiveTuple], counters: &Counters) -> Vec<SocketRow> {
    let exact: HashSet<&FiveTuple> = wanted.iter().collect();
    let ports: HashSet<(Transport, u16)> =
        wanted.iter().map(|tuple| (tuple.transport, tuple.local.port)).collect();
    let transports: HashSet<Transport> = wanted.iter().map(|tuple| tuple.transport).collect();
    let mut rows = Vec::new();
    let mut text = Vec::new();
    for table in transports.into_iter().flat_map(tables_of) {
        read_table(files, table, &mut text, counters, |row| {
            let serves_any = row.tuple.remote.port == 0 || row.tuple.transport != Transport::Tcp;
            let on_port = ports.contains(&(row.tuple.transport, row.tuple.local.port));
            if exact.contains(&row.tuple) || (serves_any && on_port) {
                rows.push(row);
            }
        });
    }
    rows
}

/// The namespace's range of client ports. `/proc/sys/net` shows that of the thread that reads it.
fn ephemeral_ports(files: &NetFiles<'_>) -> RangeInclusive<u16> {
    let read = || {
        let mut text = Vec::new();
        read_file_at(CWD, "/proc/sys/net/ipv4/ip_local_port_range", &mut text).ok()?;
        let text = String::from_utf8(text).ok()?;
        let (first, last) = text.trim().split_once(char::is_whitespace)?;
        Some(first.parse().ok()?..=last.trim().parse().ok()?)
    };
    match files {
        NetFiles::Inside => read().unwrap_or(EPHEMERAL_PORTS),
        NetFiles::Through(_) => EPHEMERAL_PORTS,
    }
}
