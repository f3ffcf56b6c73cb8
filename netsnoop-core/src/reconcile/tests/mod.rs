//! Tests of the reconciler: a small world of two pods, a node and somebody outside, told of by hand-made
//! observations. No clock, no sleep: time is what each test says it is.

mod bytes;
mod hearing;
mod kernel;
mod lookups;
mod names;
mod packets;
mod passes;
mod places;
mod properties;
mod resolutions;
mod serving;
mod translation;

use core::net::IpAddr;
use core::num::{NonZeroU32, NonZeroU64};
use core::time::Duration;

use alloc::vec;
use alloc::vec::Vec;

use super::{Hooks, Reconciler, Settings};
use crate::attribution::{Evidence, Owner, Reason, Rung};
use crate::connection::{ConnectionRecord, EndRecord, RecordEvent};
use crate::five_tuple::{Endpoint, FiveTuple, Transport};
use crate::namespace::{Interface, InterfaceKind, NamespaceFacts, NamespaceKey, Topology};
use crate::observation::{
    Act, KernelEvent, KernelSocket, LivingSocket, Observation, PacketSighting, Rescan, SnapshotScope,
    SocketClose, SocketPass, SocketSnapshot,
};
use crate::packet::{Direction, PacketContent, PacketHeader, TcpFlags};
use crate::process::{Comm, Process, ProcessFacts, ProcessId};
use crate::socket::{Payload, SocketRow, TcpState};
use crate::time::Timestamp;

pub(super) const NODE: NamespaceKey = key(1);
pub(super) const WEB: NamespaceKey = key(2);
pub(super) const DB: NamespaceKey = key(3);
pub(super) const WEB_VETH: u32 = 12;
pub(super) const DB_VETH: u32 = 13;
pub(super) const UPLINK: u32 = 2;

const fn key(number: u32) -> NamespaceKey {
    NamespaceKey { inode: 4_026_532_000 + number, cookie: NonZeroU64::new(number as u64) }
}

pub(super) const ALL_HOOKS: Hooks =
    Hooks { connect: true, accept: true, listen: true, close: true, process: true };

pub(super) fn process(pid: u32) -> Process {
    Process {
        id: ProcessId { pid, start_ticks: 50 },
        name: Comm::new(b"test"),
        uid: 10_000 + pid,
        cgroup_id: None,
    }
}

pub(super) fn endpoint(text: &str) -> Endpoint {
    let (address, port) = text.rsplit_once(':').unwrap();
    let address: IpAddr = address.trim_matches(['[', ']']).parse().unwrap();
    Endpoint::new(address, port.parse().unwrap())
}

pub(super) fn tcp(local: &str, remote: &str) -> FiveTuple {
    FiveTuple { transport: Transport::Tcp, local: endpoint(local), remote: endpoint(remote) }
}

pub(super) fn udp(local: &str, remote: &str) -> FiveTuple {
    FiveTuple { transport: Transport::Udp, ..tcp(local, remote) }
}

pub(super) fn at(millis: u64) -> Timestamp {
    Timestamp::from_nanos((1_000 + millis) * 1_000_000)
}

/// A reconciler, what it has told, and what it has asked.
pub(super) struct World {
    pub(super) reconciler: Reconciler,
    pub(super) told: Vec<ConnectionRecord>,
    /// What was told of connections that live, besides.
    pub(super) progress: Vec<ConnectionRecord>,
    pub(super) asked: Vec<Rescan>,
    /// Whether connection tracking is said to have been read up to now when that is asked.
    pub(super) hears: bool,
    /// What is answered to each question about a process, if anything is.
    pub(super) facts: Option<ProcessFacts>,
}

impl World {
    pub(super) fn new(hooks: Hooks) -> Self {
        Self::with(Settings { hooks, lookups: true, ..Settings::default() })
    }

    pub(super) fn with(settings: Settings) -> Self {
        let reconciler = Reconciler::new(settings);
        let mut world = Self {
            reconciler,
            told: Vec::new(),
            progress: Vec::new(),
            asked: Vec::new(),
            hears: true,
            facts: Some(ProcessFacts::default()),
        };
        world.see(0, Observation::Topology(topology()));
        world.asked.clear();
        world
    }

    pub(super) fn see(&mut self, millis: u64, observation: Observation) {
        self.reconciler.handle(at(millis), observation);
        self.collect(millis);
    }

    /// Lets time pass up to `millis`, stopping at each deadline.
    pub(super) fn wait_until(&mut self, millis: u64) {
        while let Some(due) = self.reconciler.poll_timeout().filter(|due| *due <= at(millis)) {
            self.reconciler.handle_timeout(due);
            let since_start = (due.as_nanos() / 1_000_000).saturating_sub(1_000);
            self.collect(since_start);
        }
        self.reconciler.handle_timeout(at(millis));
        self.collect(millis);
    }

    fn collect(&mut self, millis: u64) {
        loop {
            while let Some(record) = self.reconciler.poll_record(at(millis)) {
                self.told.push(record);
            }
            while let Some(record) = self.reconciler.poll_progress(at(millis)) {
                self.progress.push(record);
            }
            if self.hears && self.reconciler.poll_hearing(at(millis)) {
                self.reconciler.handle(at(millis), Observation::TranslationsUntil(at(millis)));
                continue;
            }
            let Some(rescan) = self.reconciler.poll_rescan(at(millis)) else { break };
            if let (Rescan::Process(process), Some(facts)) = (&rescan, &self.facts) {
                self.reconciler.handle(at(millis), Observation::Process(process.id, facts.clone()));
            }
            self.asked.push(rescan);
        }
        assert!(self.reconciler.ledger().balances(), "{:?}", self.reconciler.ledger());
    }

    /// The sockets asked for since the last call.
    /// Connections that were asked about; the listeners they may have come from are asked about with them.
    pub(super) fn sockets_asked(&mut self) -> Vec<(NamespaceKey, FiveTuple)> {
        let mut asked = Vec::new();
        for rescan in self.asked.drain(..) {
            if let Rescan::Sockets { namespace, wanted } = rescan {
                let connections = wanted.into_iter().filter(|tuple| tuple.remote.port != 0);
                asked.extend(connections.map(|tuple| (namespace, tuple)));
            }
        }
        asked
    }

    /// Gives the same answer to every question until the last look was taken.
    pub(super) fn answer_every_look(&mut self, answer: &Observation) {
        for millis in 2..=300 {
            self.wait_until(millis);
            if !self.sockets_asked().is_empty() {
                self.see(millis, answer.clone());
            }
        }
    }

    pub(super) fn events(&self) -> Vec<RecordEvent> {
        self.told.iter().map(|record| record.event).collect()
    }

    pub(super) fn opens(&self) -> Vec<&ConnectionRecord> {
        self.told.iter().filter(|record| record.event == RecordEvent::Open).collect()
    }

    pub(super) fn last(&self) -> &ConnectionRecord {
        self.told.last().unwrap()
    }
}

pub(super) fn pid_of(end: &EndRecord) -> Option<u32> {
    end.attribution.owning_process().map(|process| process.id.pid)
}

pub(super) fn topology() -> Topology {
    let facts = |key, id, addresses: &[&str]| NamespaceFacts {
        key,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        name: None,
        id,
    };
    let interface = |index, name: &str, kind| Interface { index, name: name.into(), kind };
    Topology {
        began: at(0),
        capture_namespace: NODE,
        interfaces: vec![
            interface(1, "lo", InterfaceKind::Loopback),
            interface(UPLINK, "eth0", InterfaceKind::Other),
            interface(WEB_VETH, "veth-web", InterfaceKind::Veth(Some(0))),
            interface(DB_VETH, "veth-db", InterfaceKind::Veth(Some(1))),
        ],
        namespaces: vec![
            facts(NODE, None, &["127.0.0.1", "198.18.0.1"]),
            facts(WEB, Some(0), &["127.0.0.1", "198.18.1.10"]),
            facts(DB, Some(1), &["127.0.0.1", "198.18.1.13"]),
        ],
    }
}

pub(super) fn packet(millis: u64, interface: u32, tuple: FiveTuple, content: PacketContent) -> Observation {
    Observation::Packet(PacketSighting {
        at: at(millis),
        interface: NonZeroU32::new(interface),
        direction: Direction::Unknown,
        header: PacketHeader { tuple, content },
    })
}

pub(super) const fn segment(flags: u8, sequence: u32, acknowledgement: u32) -> PacketContent {
    PacketContent::Tcp { flags: TcpFlags(flags), sequence, acknowledgement, payload_length: 0 }
}

pub(super) const fn syn(isn: u32) -> PacketContent {
    segment(TcpFlags::SYN, isn, 0)
}

pub(super) const fn syn_ack(isn: u32) -> PacketContent {
    segment(TcpFlags::SYN | TcpFlags::ACK, 77, isn.wrapping_add(1))
}

/// A socket as events tell of it; its cookie is also the address of its `struct sock`.
#[derive(Clone, Copy)]
pub(super) struct Socket {
    pub(super) namespace: NamespaceKey,
    pub(super) tuple: FiveTuple,
    pub(super) cookie: u64,
    pub(super) isn: Option<u32>,
}

impl Socket {
    pub(super) const fn new(namespace: NamespaceKey, tuple: FiveTuple, cookie: u64) -> Self {
        Self { namespace, tuple, cookie, isn: None }
    }

    pub(super) fn event(&self, millis: u64, act: Act, pid: Option<u32>) -> Observation {
        Observation::Kernel(KernelEvent {
            at: at(millis),
            rung: Rung::Sockops,
            act,
            process: pid.map(process),
            socket: Some(KernelSocket {
                namespace: self.namespace,
                cookie: NonZeroU64::new(self.cookie),
                address: self.cookie,
                tuple: self.tuple,
                client_isn: self.isn,
                uid: None,
                cgroup_id: None,
            }),
        })
    }

    pub(super) fn closed(&self, millis: u64, from: TcpState, error: u16, bytes: (u64, u64)) -> Observation {
        let close = SocketClose { from, error, payload: Payload { sent: bytes.0, received: bytes.1 } };
        self.event(millis, Act::Closed(close), None)
    }
}

pub(super) fn row(tuple: FiveTuple, state: TcpState, holders: &[u32]) -> SocketRow {
    SocketRow {
        tuple,
        state,
        inode: NonZeroU64::new(4711),
        cookie: None,
        uid: Some(10_001),
        holders: holders.iter().map(|pid| process(*pid)).collect(),
        holders_lack: None,
        recent_starts: vec![],
        changed_user: false,
    }
}

pub(super) fn snapshot(
    namespace: NamespaceKey,
    rung: Rung,
    scope: SnapshotScope,
    sockets: Vec<SocketRow>,
) -> Observation {
    // After all that the test has told so far.
    let read_at = at(u64::from(u32::MAX));
    Observation::Sockets(SocketSnapshot {
        namespace,
        rung,
        started: read_at,
        finished: read_at,
        // So soon that nobody had left.
        searched: Timestamp::default(),
        scope,
        sockets,
        only_user: None,
        oldest_process: None,
        exits: None,
        pod_keeper: None,
    })
}

/// A pass over a namespace's sockets at `millis`: the addresses, state and inode of each.
pub(super) fn pass(
    millis: u64,
    namespace: NamespaceKey,
    sockets: &[(FiveTuple, TcpState, u64)],
) -> Observation {
    let living = |&(tuple, state, inode): &(FiveTuple, TcpState, u64)| LivingSocket {
        tuple,
        state,
        inode: NonZeroU64::new(inode).unwrap(),
        cookie: NonZeroU64::new(inode),
        uid: Some(10_001),
    };
    Observation::Pass(SocketPass {
        namespace,
        rung: Rung::SockDiag,
        started: at(millis),
        finished: at(millis),
        ended: false,
        sockets: sockets.iter().map(living).collect(),
    })
}

pub(super) fn found(namespace: NamespaceKey, sockets: Vec<SocketRow>) -> Observation {
    snapshot(namespace, Rung::SockDiag, SnapshotScope::Wanted { missing: vec![] }, sockets)
}
