//! A pass over the TCP sockets of all namespaces now and then, on a thread of its own that runs after all others: it
//! finds connections that cross no captured interface, tells how much those that live have exchanged, and nobody waits
//! for it.
//!
//! Left out: who holds a socket, which is looked up for those that turn out to be of interest, and what a socket means.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use netsnoop_core::attribution::{Rung, RungSet, Way};
use netsnoop_core::diag_message::Question;
use netsnoop_core::five_tuple::Transport;
use netsnoop_core::namespace::NamespaceKey;
use netsnoop_core::observation::{ByteLook, CountedSocket, LivingSocket, Observation, SocketPass};
use netsnoop_core::socket::{SocketRow, TcpState};
use netsnoop_core::time::Timestamp;
use rustix::io::Errno;
use rustix::process::nice;

use super::namespace_index::{NamespaceIndex, NetFiles};
use super::netns::{NamespaceVisitor, VisitError};
use super::proc_fs::count_unreadable;
use super::proc_walk::{read_table, tables_of};
use super::sock_diag::{LISTENING, SockDiag};
use crate::clock;
use crate::counters::Counters;
use crate::intake::{Input, Intake};
use crate::scans::Scan;

/// A pass begins no sooner than this after the one before ended.
const REST_MIN: Duration = Duration::from_secs(1);
/// Nor sooner than this many times as long as that kept a core at work: it is a fiftieth of one that may be spent. How
/// long it took says nothing of that where others let it wait.
const REST_SHARE: u32 = 49;
/// How nice it is to lookups and all else (man 2 nice; on Linux it is the thread's own).
const NICENESS: i32 = 10;
/// States in which a socket may have a file and be of a connection.
const CONNECTED: u32 = bit(TcpState::ESTABLISHED)
    | bit(TcpState::FIN_WAIT1)
    | bit(TcpState::FIN_WAIT2)
    | bit(TcpState::CLOSE_WAIT);
/// Counted sockets that are told of at once.
const COUNTED_AT_ONCE: usize = 512;

/// Where to look, and for whom.
#[derive(Clone, Debug)]
pub struct PassSettings {
    /// Who is told.
    pub way: Way,
    /// The `/proc` to look in.
    pub proc_root: PathBuf,
    /// Which ways may be used; only `sock_diag` and `proc` matter here.
    pub rungs: RungSet,
    /// What is wanted of them.
    pub aims: Aims,
}

/// What passes are made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Aims {
    /// To find connections, as often as may be.
    pub finds: bool,
    /// To tell what connections have exchanged, this often at most. Only `sock_diag` can.
    pub counts_every: Option<Duration>,
}

/// Passes over all sockets until nobody listens any more. Call it on a thread of its own.
pub fn run(intake: &Intake, settings: PassSettings) -> anyhow::Result<()> {
    if let Err(error) = nice(NICENESS) {
        log::debug!("passes over all sockets run as everything else does: {error}");
    }
    let PassSettings { way, proc_root, rungs, aims } = settings;
    let index = NamespaceIndex::new(&proc_root, NamespaceVisitor::new()?)?;
    let mut passes = Passes { index, rungs, known: BTreeMap::new() };
    let mut counted_at = None;
    let mut rest = REST_MIN;
    loop {
        thread::sleep(rest);
        let (began, spent_before) = (Instant::now(), clock::spent_by_thread());
        let counts = aims.are_counts_due(counted_at.map(|at| began - at));
        let tell = |observation| intake.offer(Input::Answer(way, observation));
        if !passes.pass((aims.finds, counts), tell, intake.counters())? {
            return Ok(());
        }
        if counts {
            counted_at = Some(began);
        }
        rest = aims.rest_min().max((clock::spent_by_thread() - spent_before) * REST_SHARE);
    }
}

impl Aims {
    /// Whether there is anything to pass over sockets for.
    pub const fn are_any(&self) -> bool {
        self.finds || self.counts_every.is_some()
    }

    fn are_counts_due(&self, since: Option<Duration>) -> bool {
        self.counts_every.is_some_and(|every| since.is_none_or(|since| since >= every))
    }

    /// How long the shortest pause is.
    fn rest_min(&self) -> Duration {
        self.counts_every.filter(|_| !self.finds).unwrap_or(REST_MIN)
    }
}

struct Passes {
    index: NamespaceIndex,
    rungs: RungSet,
    /// The namespaces that were looked at before and may be there yet.
    known: BTreeMap<u32, NamespaceKey>,
}

impl Passes {
    /// Tells what is in each namespace, and which have ended; `false` once nobody listens. What is wanted: to find
    /// connections, to count what they exchanged.
    fn pass(
        &mut self,
        (finds, counts): (bool, bool),
        tell: impl Fn(Observation) -> bool,
        counters: &Counters,
    ) -> anyhow::Result<bool> {
        self.index.refresh(counters, clock::now())?;
        let there: BTreeSet<u32> = self.index.namespaces().into_keys().collect();
        let before = self.known.clone();
        for inode in &there {
            let looks = Looks { finds, counts: counts.then_some(&tell), counters };
            let Some((namespace, pass)) = self.read(*inode, looks) else { continue };
            self.known.insert(*inode, namespace);
            if !pass.is_none_or(|pass| tell(Observation::Pass(pass))) {
                return Ok(false);
            }
        }
        if counts && !tell(Observation::BytesEnd) {
            return Ok(false);
        }
        if NamespaceIndex::may_ask_all() {
            self.known.retain(|inode, _| there.contains(inode));
        }
        // Another one has its inode, or none.
        let differs = |one: &NamespaceKey, other: &NamespaceKey| {
            one.cookie.zip(other.cookie).is_some_and(|(one, other)| one != other)
        };
        let ended = before
            .into_iter()
            .filter(|(inode, key)| finds && self.known.get(inode).is_none_or(|now| differs(now, key)));
        for (_, namespace) in ended {
            let (started, rung) = (clock::now(), Rung::SockDiag);
            let ended =
                SocketPass { namespace, rung, started, finished: started, ended: true, sockets: Vec::new() };
            if !tell(Observation::Pass(ended)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Looks at one namespace, if that can be done.
    fn read<T: Fn(Observation) -> bool>(
        &mut self,
        inode: u32,
        looks: Looks<'_, T>,
    ) -> Option<(NamespaceKey, Option<SocketPass>)> {
        let counters = looks.counters;
        let _timing = counters.scans.begin(Scan::Pass);
        let rungs = self.rungs;
        let read = self.index.enter(inode, |namespace, files| {
            let started = clock::now();
            let (rung, sockets) = looks.sockets(rungs, (namespace, started), &files)?;
            let finished = clock::now();
            let pass = SocketPass { namespace, rung, started, finished, ended: false, sockets };
            Some((namespace, looks.finds.then_some(pass)))
        });
        match read {
            Ok(pass) => pass,
            Err(VisitError::Gone) => None,
            Err(error) => {
                count_unreadable(counters, Errno::from(error));
                None
            }
        }
    }
}

/// What is wanted of the sockets of a namespace.
struct Looks<'a, T> {
    finds: bool,
    /// Who is told what they have exchanged.
    counts: Option<&'a T>,
    counters: &'a Counters,
}

impl<T: Fn(Observation) -> bool> Looks<'_, T> {
    /// The sockets of the namespace at hand, and the rung that told; `None` if no rung can.
    fn sockets(
        &self,
        rungs: RungSet,
        namespace: (NamespaceKey, Timestamp),
        files: &NetFiles<'_>,
    ) -> Option<(Rung, Vec<LivingSocket>)> {
        if matches!(files, NetFiles::Inside) && rungs.contains(Rung::SockDiag) {
            match self.ask_sock_diag(namespace) {
                Ok(sockets) => return Some((Rung::SockDiag, sockets)),
                // A kernel without the handler; the tables tell the same.
                Err(Errno::NOENT) => {}
                Err(_) => self.counters.proc_failed.add(1),
            }
        }
        let reads = self.finds && rungs.contains(Rung::Proc);
        reads.then(|| (Rung::Proc, read_tables(files, self.counters)))
    }

    fn ask_sock_diag(
        &self,
        (namespace, started): (NamespaceKey, Timestamp),
    ) -> Result<Vec<LivingSocket>, Errno> {
        let states = if self.finds { CONNECTED | LISTENING } else { CONNECTED };
        let mut found = Vec::new();
        let mut diag = SockDiag::open()?;
        let Some(tell) = self.counts else {
            diag.each_row(Question::TCP_OF_BOTH_FAMILIES, states, |row| found.extend(living(&row)))?;
            return Ok(found);
        };
        let mut counted = Vec::new();
        let told = |sockets| tell(Observation::Bytes(ByteLook { namespace, started, sockets }));
        diag.each_counted(states, |row, payload| {
            let SocketRow { tuple, cookie, .. } = row;
            counted.extend(payload.map(|payload| CountedSocket { tuple, cookie, payload }));
            if counted.len() >= COUNTED_AT_ONCE {
                told(mem::take(&mut counted));
            }
            if self.finds {
                found.extend(living(&row));
            }
        })?;
        if !counted.is_empty() {
            told(counted);
        }
        Ok(found)
    }
}

fn read_tables(files: &NetFiles<'_>, counters: &Counters) -> Vec<LivingSocket> {
    let mut sockets = Vec::new();
    let mut text = Vec::new();
    for table in tables_of(Transport::Tcp) {
        read_table(files, table, &mut text, counters, |row| {
            let is_wanted = bit(row.state) & (CONNECTED | LISTENING) != 0;
            sockets.extend(living(&row).filter(|_| is_wanted));
        });
    }
    sockets
}

/// As questions have states.
const fn bit(state: TcpState) -> u32 {
    1_u32.wrapping_shl(state.0 as u32)
}

/// A row that a file refers to.
fn living(row: &SocketRow) -> Option<LivingSocket> {
    let SocketRow { tuple, state, cookie, uid, .. } = *row;
    Some(LivingSocket { tuple, state, inode: row.inode?, cookie, uid })
}
