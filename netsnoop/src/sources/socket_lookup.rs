//! Who holds these sockets of this namespace? The answer to one question about a few sockets, at a
//! cost that the rest of the node does not add to.
//!
//! Left out: the thread and channel around it (`lookup`), reading the tables (`socket_tables`), and which row fits
//! which end, which is `netsnoop_core::socket_match`.

use std::collections::{HashSet, VecDeque};
use std::num::NonZeroU64;
use std::time::Duration;

use netsnoop_core::attribution::{Reason, RungSet};
use netsnoop_core::five_tuple::FiveTuple;
use netsnoop_core::namespace::NamespaceKey;
use netsnoop_core::observation::{Exits, SnapshotScope, SocketSnapshot};
use netsnoop_core::process::{Process, ProcessId};
use netsnoop_core::socket::SocketRow;
use netsnoop_core::socket_match::{Rows, serves_anybody};
use netsnoop_core::time::Timestamp;
use rustix::io::Errno;

use super::holders::Holders;
use super::namespace_index::NamespaceIndex;
use super::netns::VisitError;
use super::proc_fs::count_unreadable;
use super::process_exits::ProcessExits;
use super::process_start::ProcessStarts;
use super::socket_tables::{Found, Tables};
use crate::clock;
use crate::counters::Counters;
use crate::scans::Scan;

/// Longest search for the holders of one question's sockets.
const SEARCH_MAX: Duration = Duration::from_millis(500);
/// After a search of the processes of other namespaces the next one waits this many times as long as it took: mostly
/// the socket was just closed.
const REST_AFTER_ELSEWHERE: u32 = 9;
/// Only in namespaces of at most this many processes all are asked for their user.
const SMALL_NAMESPACE: usize = 64;
/// The process that does nothing but hold a Kubernetes pod's namespaces, as a user of its own
/// (<https://github.com/kubernetes/kubernetes/blob/v1.31.0/build/pause/linux/pause.c>): no connection is its own.
const POD_HOLDER: &[u8] = b"pause";
/// How many processes that held a wanted socket are remembered, to be looked at first.
const RECENT_MAX: usize = 64;
/// Answers questions about sockets.
#[derive(Debug)]
pub(super) struct SocketLookup {
    pub(super) index: NamespaceIndex,
    tables: Tables,
    recent: VecDeque<u32>,
    starts: Option<ProcessStarts>,
    exits: Option<ProcessExits>,
    /// Space for what is read of processes.
    text: Vec<u8>,
    elsewhere_from: Timestamp,
}

/// Who else is in a namespace.
#[derive(Default)]
struct Company {
    /// The user of all.
    only_user: Option<u32>,
    /// When the oldest process started.
    oldest: Option<Timestamp>,
    /// Who keeps the namespace for a pod.
    pod_keeper: Option<Process>,
}

impl SocketLookup {
    /// Uses those of `rungs` that it can. `hears_exits`: whether no hook tells of processes that end.
    pub(super) fn new(index: NamespaceIndex, rungs: RungSet, hears_exits: bool) -> Self {
        let tables = Tables::new(rungs);
        let starts = ProcessStarts::open();
        let exits = if hears_exits { ProcessExits::open(&index.proc_root) } else { None };
        Self {
            index,
            tables,
            recent: VecDeque::new(),
            starts,
            exits,
            text: Vec::new(),
            elsewhere_from: Timestamp::default(),
        }
    }

    /// Looks for every one of `wanted`, each with its own end first.
    pub(super) fn answer(
        &mut self,
        namespace: NamespaceKey,
        wanted: &[FiveTuple],
        counters: &Counters,
    ) -> SocketSnapshot {
        let _timing = counters.scans.begin(Scan::Lookup);
        let started = clock::now();
        // First the sockets, as they vanish first; who is there is looked at once they are known.
        let mut read = self.read(namespace, wanted, counters);
        self.refresh(counters);
        if matches!(read, Err(VisitError::Gone)) {
            // Unless it had come into being since the last look at who is there.
            read = self.read(namespace, wanted, counters);
        }
        let has_ended = match &read {
            Ok(Ok(_)) => false,
            // Another namespace has its inode now.
            Ok(Err(reason)) => *reason == Reason::GoneBeforeLookup,
            Err(error) => matches!(error, VisitError::Gone) && NamespaceIndex::may_ask_all(),
        };
        if has_ended {
            return self.ended(namespace, started);
        }
        let found = read.unwrap_or_else(|error| Err(Self::reason_of(error, counters)));
        let found = found.unwrap_or_else(|reason| Found {
            key: namespace,
            rung: self.tables.rung(),
            rows: Vec::new(),
            missing: wanted.iter().map(|tuple| (*tuple, reason)).collect(),
            finished: clock::now(),
        });
        self.snapshot(found, (started, wanted), counters)
    }

    fn read(
        &mut self,
        namespace: NamespaceKey,
        wanted: &[FiveTuple],
        counters: &Counters,
    ) -> Result<Result<Found, Reason>, VisitError> {
        let tables = &mut self.tables;
        self.index.enter(namespace.inode, |key, files| {
            let is_another = key.cookie.zip(namespace.cookie).is_some_and(|(now, then)| now != then);
            if is_another {
                Err(Reason::GoneBeforeLookup)
            } else {
                tables.read((key, &files), wanted, counters)
            }
        })
    }

    /// Who is in a small namespace, where the owner of a socket is gone: a pod mostly has but one user.
    fn company(&mut self, found: &Found) -> Company {
        let is_gone = !found.missing.is_empty() || found.rows.iter().any(|row| row.holders.is_empty());
        let pids = self.index.known_inside(found.key.inode);
        let mut company = Company::default();
        if !is_gone || pids.is_empty() || pids.len() > SMALL_NAMESPACE {
            return company;
        }
        // Who has left may be the owner, so all count who were there lately.
        company.only_user = self.index.only_user_lately(found.key.inode);
        let (mut has_others, mut holders) = (false, Vec::new());
        for pid in pids {
            let process = self.index.proc_root.process(pid);
            let (user, started) = match process.and_then(|process| process.identity(&mut self.text)) {
                Ok(Some((process, _))) => {
                    if process.name.as_bytes() == POD_HOLDER {
                        holders.push(process);
                    } else {
                        has_others = true;
                    }
                    (Some(process.uid), Some(process.id.started_at()))
                }
                // Who has ended meanwhile is nobody's user; who cannot be read is a user that is not known.
                Err(Errno::NOENT | Errno::SRCH) => continue,
                Ok(None) | Err(_) => (None, None),
            };
            company.only_user = company.only_user.filter(|only| Some(*only) == user);
            company.oldest = company.oldest.into_iter().chain(started).min();
        }
        if !holders.is_empty() && !has_others {
            company.only_user = None;
        }
        // Pods that share the node's network keep nothing.
        if let [holder] = *holders
            && found.key.inode != self.index.home_inode()
        {
            company.pod_keeper = Some(holder);
        }
        company
    }

    /// A socket without a holder was mostly closed while its holder was looked for: then it has no file any more.
    fn look_again_for_the_unheld(&mut self, found: &mut Found, counters: &Counters) {
        let is_unheld = |row: &SocketRow| row.inode.is_some() && row.holders.is_empty();
        let unheld: Vec<FiveTuple> =
            found.rows.iter().filter(|row| is_unheld(row)).map(|row| row.tuple).collect();
        if unheld.is_empty() {
            return;
        }
        let Ok(Ok(now)) = self.read(found.key, &unheld, counters) else { return };
        let still: HashSet<_> = now.rows.iter().filter_map(|row| row.inode).collect();
        for row in found.rows.iter_mut().filter(|row| is_unheld(row)) {
            if row.inode.is_some_and(|inode| !still.contains(&inode)) {
                (row.inode, row.holders_lack) = (None, None);
            }
        }
    }

    fn refresh(&mut self, counters: &Counters) {
        if let Err(error) = self.index.refresh(counters, clock::now()) {
            log::warn!("owner lookup: {error:#}");
        }
    }

    fn ended(&self, namespace: NamespaceKey, started: Timestamp) -> SocketSnapshot {
        SocketSnapshot {
            namespace,
            rung: self.tables.rung(),
            started,
            finished: clock::now(),
            searched: clock::now(),
            scope: SnapshotScope::Ended,
            sockets: Vec::new(),
            only_user: None,
            oldest_process: None,
            exits: None,
            pod_keeper: None,
        }
    }

    fn reason_of(error: VisitError, counters: &Counters) -> Reason {
        match error {
            VisitError::Gone if NamespaceIndex::may_ask_all() => Reason::GoneBeforeLookup,
            VisitError::Gone | VisitError::Denied => Reason::Permission,
            VisitError::Failed(errno) => {
                count_unreadable(counters, errno);
                Reason::Lost
            }
        }
    }

    fn snapshot(
        &mut self,
        mut found: Found,
        (started, wanted): (Timestamp, &[FiveTuple]),
        counters: &Counters,
    ) -> SocketSnapshot {
        self.search_holders(&mut found, started, counters);
        let searched = clock::now();
        let exits = self.exits_beside(&found, counters);
        self.look_again_for_the_unheld(&mut found, counters);
        let Company { only_user, oldest, pod_keeper } = self.company(&found);
        let (count, took) = (wanted.len(), clock::now().since(started));
        log::debug!("{count} sockets of namespace {} were looked up in {took:?}", found.key.inode);
        let rows = Rows::new(&found.rows);
        let mut taken = HashSet::new();
        let mut sockets: Vec<SocketRow> = Vec::new();
        for tuple in wanted {
            let answering = rows.answering(tuple);
            // Many connections to one listener are answered by one row.
            let is_new = answering.first().is_some_and(|row| taken.insert(std::ptr::from_ref(*row)));
            if is_new {
                sockets.extend(as_one(&answering));
            }
        }
        SocketSnapshot {
            namespace: found.key,
            rung: found.rung,
            started,
            finished: found.finished,
            searched,
            scope: SnapshotScope::Wanted { missing: found.missing },
            sockets,
            only_user,
            oldest_process: oldest,
            exits,
            pod_keeper,
        }
    }

    /// Reads what waits to be read while nobody asks.
    pub(super) fn keep_up(&mut self, counters: &Counters) {
        if let Some(exits) = &mut self.exits {
            exits.read(counters);
        }
    }

    /// Who has ended that may have held a socket that serves a port, too.
    fn exits_beside(&mut self, found: &Found, counters: &Counters) -> Option<Exits> {
        let exits = self.exits.as_mut()?;
        exits.read(counters);
        let serving = found.rows.iter().filter(|row| serves_anybody(row));
        let mut holders: Vec<ProcessId> =
            serving.flat_map(|row| &row.holders).map(|holder| holder.id).collect();
        holders.sort_unstable();
        holders.dedup();
        let (root, text) = (&self.index.proc_root, &mut self.text);
        let children =
            holders.iter().filter_map(|holder| Some((*holder, exits.last_child(*holder)?))).collect();
        let relatives = holders
            .into_iter()
            .filter_map(|holder| Some((holder, exits.last_relative(root, holder, text)?)))
            .collect();
        Some(Exits { known_since: exits.known_since(), relatives, children })
    }

    fn search_holders(&mut self, found: &mut Found, started: Timestamp, counters: &Counters) {
        let inodes: HashSet<NonZeroU64> = found.rows.iter().filter_map(|row| row.inode).collect();
        let mut holders = Holders::new(&self.index, self.starts.as_mut(), counters);
        if !inodes.is_empty() {
            let (mut inside, outside) = self.index.processes_by(found.key.inode);
            inside.sort_by_key(|pid| !self.recent.contains(pid));
            look_at_all(&mut holders, &inside, (&inodes, started), counters);
            let unheld = holders.without_holder(&inodes);
            let from = clock::now();
            if !unheld.is_empty() && from >= self.elsewhere_from {
                look_at_all(&mut holders, &outside, (&unheld, started), counters);
                let until = clock::now();
                self.elsewhere_from = until + until.since(from) * REST_AFTER_ELSEWHERE;
            } else if !unheld.is_empty() {
                holders.spare_elsewhere();
            }
        }
        holders.fill(found.rows.iter_mut());
        for holder in found.rows.iter().flat_map(|row| &row.holders) {
            if !self.recent.contains(&holder.id.pid) {
                self.recent.push_front(holder.id.pid);
                self.recent.truncate(RECENT_MAX);
            }
        }
    }
}

fn look_at_all(
    holders: &mut Holders<'_>,
    pids: &[u32],
    (inodes, started): (&HashSet<NonZeroU64>, Timestamp),
    counters: &Counters,
) {
    for pid in pids {
        if clock::now().since(started) > SEARCH_MAX {
            counters.lookups_cut_short.add(1);
            holders.cut_short();
            return;
        }
        holders.look_at(*pid, Some(inodes));
    }
}

/// Several rows that answer alike are one answer with the holders of all: any of them may be the one.
fn as_one(rows: &[&SocketRow]) -> Option<SocketRow> {
    let (first, others) = rows.split_first()?;
    let mut row = SocketRow::clone(first);
    for other in others {
        row.holders.extend(other.holders.iter().filter(|holder| !first.holders.contains(holder)));
        row.holders_lack = row.holders_lack.or(other.holders_lack);
        row.uid = row.uid.filter(|uid| Some(*uid) == other.uid);
        row.recent_starts.extend_from_slice(&other.recent_starts);
        row.changed_user |= other.changed_user;
        row.inode = row.inode.filter(|inode| Some(*inode) == other.inode);
        row.cookie = row.cookie.filter(|cookie| Some(*cookie) == other.cookie);
    }
    row.holders.sort_unstable_by_key(|holder| holder.id);
    row.holders.dedup_by_key(|holder| holder.id);
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netsnoop_core::five_tuple::{Endpoint, Transport};
    use netsnoop_core::process::{Comm, Process, ProcessId};
    use netsnoop_core::socket::TcpState;

    fn row(inode: u64, holders: &[u32], uid: u32) -> SocketRow {
        let process = |pid: &u32| Process {
            id: ProcessId { pid: *pid, start_ticks: 1 },
            name: Comm::new(b"x"),
            uid: 0,
            cgroup_id: None,
        };
        SocketRow {
            tuple: FiveTuple {
                transport: Transport::Tcp,
                local: Endpoint::UNSPECIFIED_V4,
                remote: Endpoint::UNSPECIFIED_V4,
            },
            state: TcpState::LISTEN,
            inode: NonZeroU64::new(inode),
            cookie: None,
            uid: Some(uid),
            holders: holders.iter().map(process).collect(),
            holders_lack: None,
            recent_starts: Vec::new(),
            changed_user: false,
        }
    }

    #[test]
    fn twins_are_one_answer_with_all_holders() {
        let (one, two) = (row(1, &[7, 3], 5), row(2, &[3, 9], 6));
        let merged = as_one(&[&one, &two]).unwrap();
        assert_eq!(merged.holders.iter().map(|holder| holder.id.pid).collect::<Vec<_>>(), [3, 7, 9]);
        assert_eq!((merged.inode, merged.uid), (None, None));
        assert_eq!(as_one(&[&one]).unwrap().inode, one.inode);
        assert_eq!(as_one(&[]), None);
    }
}
