//! A pass over the TCP sockets of all namespaces now and then, on a thread of its own that runs after all others: it
//! finds connections that cross no captured interface, and nobody waits for it.
//!
//! Left out: who holds a socket, which is looked up for those that turn out to be of interest, and what a socket means.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use netsnoop_core::attribution::{Rung, RungSet, Way};
use netsnoop_core::diag_message::Question;
use netsnoop_core::five_tuple::Transport;
use netsnoop_core::namespace::NamespaceKey;
use netsnoop_core::observation::{LivingSocket, Observation, SocketPass};
use netsnoop_core::socket::{SocketRow, TcpState};
use rustix::io::Errno;
use rustix::process::nice;

use super::namespace_index::{NamespaceIndex, NetFiles};
use super::netns::{NamespaceVisitor, VisitError};
use super::proc_fs::count_unreadable;
use super::proc_walk::{read_table, tables_of};
use super::sock_diag::SockDiag;
use crate::clock;
use crate::counters::Counters;
use crate::intake::{Input, Intake};
use crate::scans::Scan;

/// A pass begins no sooner than this after the one before ended.
const REST_MIN: Duration = Duration::from_secs(1);
/// Nor sooner than this many times as long as that took: it is a fiftieth of one core that may be spent.
const REST_SHARE: u32 = 49;
/// How nice it is to lookups and all else (man 2 nice; on Linux it is the thread's own).
const NICENESS: i32 = 10;
/// States in which a socket may have a file and be of a connection, or listen.
const STATES: [TcpState; 5] =
    [TcpState::ESTABLISHED, TcpState::FIN_WAIT1, TcpState::FIN_WAIT2, TcpState::CLOSE_WAIT, TcpState::LISTEN];

/// Where to look, and for whom.
#[derive(Clone, Debug)]
pub struct PassSettings {
    /// Who is told.
    pub way: Way,
    /// The `/proc` to look in.
    pub proc_root: PathBuf,
    /// Which ways may be used; only `sock_diag` and `proc` matter here.
    pub rungs: RungSet,
}

/// Passes over all sockets until nobody listens any more. Call it on a thread of its own.
pub fn run(intake: &Intake, settings: PassSettings) -> anyhow::Result<()> {
    if let Err(error) = nice(NICENESS) {
        log::debug!("passes over all sockets run as everything else does: {error}");
    }
    let index = NamespaceIndex::new(&settings.proc_root, NamespaceVisitor::new()?)?;
    let mut passes = Passes { index, rungs: settings.rungs, known: BTreeMap::new() };
    let mut rest = REST_MIN;
    loop {
        thread::sleep(rest);
        let began = Instant::now();
        let tell = |pass| intake.offer(Input::Answer(settings.way, Observation::Pass(pass)));
        if !passes.pass(tell, intake.counters())? {
            return Ok(());
        }
        rest = REST_MIN.max(began.elapsed() * REST_SHARE);
    }
}

struct Passes {
    index: NamespaceIndex,
    rungs: RungSet,
    /// The namespaces that were looked at before and may be there yet.
    known: BTreeMap<u32, NamespaceKey>,
}

impl Passes {
    /// Tells what is in each namespace, and which have ended; `false` once nobody listens.
    fn pass(&mut self, tell: impl Fn(SocketPass) -> bool, counters: &Counters) -> anyhow::Result<bool> {
        self.index.refresh(counters, clock::now())?;
        let there: BTreeSet<u32> = self.index.namespaces().into_keys().collect();
        let before = self.known.clone();
        for inode in &there {
            let Some(pass) = self.read(*inode, counters) else { continue };
            self.known.insert(*inode, pass.namespace);
            if !tell(pass) {
                return Ok(false);
            }
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
            .filter(|(inode, key)| self.known.get(inode).is_none_or(|now| differs(now, key)));
        for (_, namespace) in ended {
            let (started, rung) = (clock::now(), Rung::SockDiag);
            let ended =
                SocketPass { namespace, rung, started, finished: started, ended: true, sockets: Vec::new() };
            if !tell(ended) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Looks at one namespace, if that can be done.
    fn read(&mut self, inode: u32, counters: &Counters) -> Option<SocketPass> {
        let _timing = counters.scans.begin(Scan::Pass);
        let rungs = self.rungs;
        let read = self.index.enter(inode, |namespace, files| {
            let started = clock::now();
            let (rung, sockets) = sockets(rungs, &files, counters)?;
            let finished = clock::now();
            Some(SocketPass { namespace, rung, started, finished, ended: false, sockets })
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

/// The sockets of the namespace at hand, and the rung that told; `None` if no rung can.
fn sockets(rungs: RungSet, files: &NetFiles<'_>, counters: &Counters) -> Option<(Rung, Vec<LivingSocket>)> {
    if matches!(files, NetFiles::Inside) && rungs.contains(Rung::SockDiag) {
        match ask_sock_diag() {
            Ok(sockets) => return Some((Rung::SockDiag, sockets)),
            // A kernel without the handler; the tables tell the same.
            Err(Errno::NOENT) => {}
            Err(_) => counters.proc_failed.add(1),
        }
    }
    rungs.contains(Rung::Proc).then(|| (Rung::Proc, read_tables(files, counters)))
}

fn ask_sock_diag() -> Result<Vec<LivingSocket>, Errno> {
    let states = STATES.iter().fold(0, |states, state| states | (1_u32 << state.0));
    let mut sockets = Vec::new();
    SockDiag::open()?.each_row(Question::TCP_OF_BOTH_FAMILIES, states, |row| sockets.extend(living(&row)))?;
    Ok(sockets)
}

fn read_tables(files: &NetFiles<'_>, counters: &Counters) -> Vec<LivingSocket> {
    let mut sockets = Vec::new();
    let mut text = Vec::new();
    for table in tables_of(Transport::Tcp) {
        read_table(files, table, &mut text, counters, |row| {
            sockets.extend(living(&row).filter(|socket| STATES.contains(&socket.state)));
        });
    }
    sockets
}

/// A row that a file refers to.
fn living(row: &SocketRow) -> Option<LivingSocket> {
    let SocketRow { tuple, state, cookie, uid, .. } = *row;
    Some(LivingSocket { tuple, state, inode: row.inode?, cookie, uid })
}
