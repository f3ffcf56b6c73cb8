//! What the fuzzer chooses, and the observations that this stands for.
//!
//! Addresses, ports, namespaces and processes are few, so that they meet.

use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use netsnoop_core::attribution::{Reason, Rung};
use netsnoop_core::five_tuple::{Endpoint, FiveTuple, Transport};
use netsnoop_core::namespace::{
    Interface, InterfaceKind, NamespaceFacts, NamespaceKey, Topology, TopologyChange, TopologyReport,
};
use netsnoop_core::observation::{
    Act, ByteLook, CountedSocket, KernelSocket, LivingSocket, Observation, PacketSighting, SnapshotScope,
    SocketClose, SocketPass, SocketSnapshot, Tracker,
};
use netsnoop_core::packet::{Direction, PacketContent, PacketHeader, TcpFlags};
use netsnoop_core::process::{Comm, Process, ProcessId};
use netsnoop_core::socket::{Payload, SocketRow, TcpState};
use netsnoop_core::time::Timestamp;
use netsnoop_core::translation::{Translation, TranslationChange};

const ADDRESSES: [[u8; 4]; 6] =
    [[127, 0, 0, 1], [198, 18, 0, 1], [198, 18, 1, 10], [198, 18, 1, 13], [203, 0, 113, 5], [0, 0, 0, 0]];

/// What the fuzzer chooses.
#[derive(Arbitrary, Debug)]
pub(crate) struct Run {
    pub(crate) hooks: u8,
    pub(crate) lookups: bool,
    pub(crate) follows: bool,
    pub(crate) steps: Vec<(Step, u16)>,
}

/// What happens; the number beside it is the pause before, in milliseconds.
#[derive(Arbitrary, Debug)]
pub(crate) enum Step {
    Packet { interface: u8, way: u8, tuple: Tuple, content: Content },
    Kernel { rung: u8, act: KernelAct, pid: u8, socket: Option<Socket>, delay: u16 },
    Sockets { namespace: u8, whole: bool, rows: Vec<Row> },
    Answer { found: Vec<u8>, holders: u8 },
    Facts { pid: u8 },
    Topology { namespaces: u8 },
    Changes { lasted: u8, changes: Vec<TopologyStep> },
    Translations { tracker: u8, whole: bool, age: u8, changes: Vec<Change> },
    Pass { namespace: u8, age: u8, ended: bool, sockets: Vec<Living> },
    Bytes { namespace: u8, age: u8, sockets: Vec<Counted> },
    BytesEnd,
    PacketsUntil { age: u8 },
}

/// A socket that a pass finds.
#[derive(Arbitrary, Debug)]
pub(crate) struct Living {
    pub(crate) tuple: Tuple,
    pub(crate) state: u8,
    pub(crate) inode: u8,
}

/// A socket that is counted.
#[derive(Arbitrary, Debug)]
pub(crate) struct Counted {
    pub(crate) tuple: Tuple,
    pub(crate) cookie: u8,
    pub(crate) sent: u16,
    pub(crate) received: u16,
}

/// A change of the topology: which, of which namespace or interface, with which address.
#[derive(Arbitrary, Debug)]
pub(crate) struct TopologyStep {
    pub(crate) kind: u8,
    pub(crate) which: u8,
    pub(crate) address: u8,
}

#[derive(Arbitrary, Debug)]
pub(crate) struct Change {
    pub(crate) original: Tuple,
    pub(crate) reply: Tuple,
    pub(crate) id: u8,
    pub(crate) ends: bool,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
pub(crate) struct Tuple {
    pub(crate) transport: u8,
    pub(crate) local: (u8, u8),
    pub(crate) remote: (u8, u8),
}

#[derive(Arbitrary, Debug)]
pub(crate) enum Content {
    Tcp { flags: u8, sequence: u8, acknowledgement: u8, payload_length: u8 },
    Udp,
    Unreachable,
}

#[derive(Arbitrary, Debug)]
pub(crate) enum KernelAct {
    Connect,
    Accept,
    Listen,
    FirstSend,
    FirstReceive,
    Established { by_client: bool },
    Closed { from: u8, error: u8 },
    Exec,
    Exit,
}

#[derive(Arbitrary, Debug)]
pub(crate) struct Socket {
    pub(crate) namespace: u8,
    pub(crate) cookie: u8,
    pub(crate) address: u8,
    pub(crate) tuple: Tuple,
    pub(crate) isn: Option<u8>,
}

#[derive(Arbitrary, Debug)]
pub(crate) struct Row {
    pub(crate) tuple: Tuple,
    pub(crate) state: u8,
    pub(crate) holders: u8,
    pub(crate) complete: bool,
}

impl Tuple {
    pub(crate) fn build(self) -> FiveTuple {
        let transport = [Transport::Tcp, Transport::Udp, Transport::UdpLite][usize::from(self.transport % 3)];
        FiveTuple { transport, local: endpoint(self.local), remote: endpoint(self.remote) }
    }
}

pub(crate) fn endpoint((address, port): (u8, u8)) -> Endpoint {
    let place = usize::from(address) % (ADDRESSES.len() + 1);
    let address = ADDRESSES.get(place).map_or(IpAddr::from([0; 16]), |octets| IpAddr::from(*octets));
    Endpoint::new(address, u16::from(port % 4))
}

pub(crate) fn namespace(choice: u8) -> NamespaceKey {
    NamespaceKey { inode: 1 + u32::from(choice % 4), cookie: NonZeroU64::new(u64::from(choice / 4 % 5)) }
}

pub(crate) fn process(pid: u8) -> Process {
    let (pid, generation) = (u32::from(pid % 4), u64::from(pid / 4 % 2));
    Process {
        id: ProcessId { pid, start_ticks: generation * 50 },
        name: Comm::new(b"fuzz"),
        uid: pid,
        cgroup_id: None,
    }
}

/// The processes whose bit is set.
pub(crate) fn holders(bits: u8) -> Vec<Process> {
    (0..8).filter(|bit| bits & (1 << bit) != 0).map(process).collect()
}

pub(crate) fn topology(now: Timestamp, bits: u8) -> Topology {
    let present = (0..4_u8).filter(|choice| bits & (1 << choice) != 0);
    let facts = |choice: u8| {
        let id = (choice % 2 == 0).then_some(choice.into());
        NamespaceFacts { id, ..facts(choice + bits / 16 * 4, choice + 1) }
    };
    Topology {
        began: now,
        capture_namespace: namespace(bits / 16 * 4),
        interfaces: vec![
            interface(1, InterfaceKind::Loopback),
            interface(2, InterfaceKind::Other),
            interface(3, InterfaceKind::Veth(Some(0))),
            interface(4, InterfaceKind::Veth(Some(2))),
        ],
        namespaces: present.map(facts).collect(),
    }
}

fn address(choice: u8) -> IpAddr {
    IpAddr::from(ADDRESSES[usize::from(choice) % ADDRESSES.len()])
}

fn facts(choice: u8, own: u8) -> NamespaceFacts {
    NamespaceFacts { key: namespace(choice), addresses: vec![address(0), address(own)], name: None, id: None }
}

fn interface(index: u8, kind: InterfaceKind) -> Interface {
    Interface { index: index.into(), name: "if".into(), kind }
}

pub(crate) fn changes(now: Timestamp, lasted: u8, steps: Vec<TopologyStep>) -> TopologyReport {
    let since = now - Duration::from_millis(lasted.into());
    let changes = steps.into_iter().take(8).map(|step| step.build(since)).collect();
    TopologyReport { since, until: now, changes }
}

impl TopologyStep {
    fn build(self, since: Timestamp) -> TopologyChange {
        let id = i32::from(self.which % 4);
        let whose = (self.which % 5 != 4).then_some(id);
        match self.kind % 6 {
            0 => {
                let facts = NamespaceFacts { id: Some(id), ..facts(self.which, self.address) };
                TopologyChange::Found { facts, since }
            }
            1 => TopologyChange::Ended(id),
            2 => TopologyChange::Given(whose, address(self.address)),
            3 => TopologyChange::Taken(whose, address(self.address)),
            4 => TopologyChange::Interface(interface(self.which % 6, InterfaceKind::Veth(whose))),
            _ => TopologyChange::InterfaceGone(u32::from(self.which % 6)),
        }
    }
}

pub(crate) fn packet(at: Timestamp, interface: u8, way: u8, header: PacketHeader) -> Observation {
    Observation::Packet(PacketSighting {
        at,
        interface: NonZeroU32::new(u32::from(interface % 6)),
        direction: [Direction::In, Direction::Out, Direction::Unknown][usize::from(way % 3)],
        header,
    })
}

impl Content {
    pub(crate) fn build(self) -> PacketContent {
        match self {
            Self::Tcp { flags, sequence, acknowledgement, payload_length } => PacketContent::Tcp {
                flags: TcpFlags(flags),
                sequence: u32::from(sequence % 4),
                acknowledgement: u32::from(acknowledgement % 4),
                payload_length: payload_length.into(),
            },
            Self::Udp => PacketContent::Udp { payload_length: 1 },
            Self::Unreachable => PacketContent::Unreachable,
        }
    }
}

impl KernelAct {
    pub(crate) fn build(self) -> Act {
        match self {
            Self::Connect => Act::Connect,
            Self::Accept => Act::Accept,
            Self::Listen => Act::Listen,
            Self::FirstSend => Act::FirstSend,
            Self::FirstReceive => Act::FirstReceive,
            Self::Established { by_client } => Act::Established { by_client },
            Self::Closed { from, error } => Act::Closed(SocketClose {
                from: TcpState(from % 14),
                error: error.into(),
                payload: Payload { sent: 1, received: 2 },
            }),
            Self::Exec => Act::Exec { executable: Some("/bin/true".into()) },
            Self::Exit => Act::Exit,
        }
    }
}

impl Socket {
    pub(crate) fn build(self) -> KernelSocket {
        KernelSocket {
            namespace: namespace(self.namespace),
            cookie: NonZeroU64::new(u64::from(self.cookie % 6)),
            address: u64::from(self.address % 6),
            tuple: self.tuple.build(),
            client_isn: self.isn.map(|isn| u32::from(isn % 4)),
            uid: None,
            cgroup_id: None,
        }
    }
}

impl Change {
    pub(crate) fn build(self) -> TranslationChange {
        let original = self.original.build();
        let reply = FiveTuple { transport: original.transport, ..self.reply.build() };
        let translation = Translation { original, reply, id: u32::from(self.id % 4) };
        if self.ends { TranslationChange::Ended(translation) } else { TranslationChange::Began(translation) }
    }
}

pub(crate) fn tracker(choice: u8) -> Tracker {
    match choice % 4 {
        0 | 1 => Tracker::Own,
        2 => Tracker::Numbered(i32::from(choice / 4 % 4)),
        _ => Tracker::Known(namespace(choice / 4)),
    }
}

impl Living {
    fn build(self) -> LivingSocket {
        // Inodes are never 0.
        let inode = NonZeroU64::MIN.saturating_add(u64::from(self.inode % 6));
        let cookie = NonZeroU64::new(u64::from(self.inode / 6 % 6));
        let state = TcpState(self.state % 14);
        LivingSocket { tuple: self.tuple.build(), state, inode, cookie, uid: Some(7) }
    }
}

impl Counted {
    fn build(self) -> CountedSocket {
        CountedSocket {
            tuple: self.tuple.build(),
            cookie: NonZeroU64::new(u64::from(self.cookie % 6)),
            payload: Payload { sent: self.sent.into(), received: self.received.into() },
        }
    }
}

pub(crate) fn pass(at: Timestamp, namespace: NamespaceKey, ended: bool, sockets: Vec<Living>) -> Observation {
    let sockets = sockets.into_iter().take(8).map(Living::build).collect();
    let rung = Rung::SockDiag;
    Observation::Pass(SocketPass { namespace, rung, started: at, finished: at, ended, sockets })
}

pub(crate) fn bytes(started: Timestamp, namespace: NamespaceKey, sockets: Vec<Counted>) -> Observation {
    let sockets = sockets.into_iter().take(8).map(Counted::build).collect();
    Observation::Bytes(ByteLook { namespace, started, sockets })
}

pub(crate) fn row(tuple: FiveTuple, state: u8, bits: u8, holders_complete: bool) -> SocketRow {
    SocketRow {
        tuple,
        state: TcpState(state % 14),
        inode: NonZeroU64::new(u64::from(state)),
        cookie: None,
        uid: Some(7),
        holders: holders(bits),
        holders_lack: (!holders_complete).then_some(Reason::Permission),
        recent_starts: holders(bits / 4)
            .into_iter()
            .map(|holder| (holder.id, Timestamp::from_nanos(u64::from(bits))))
            .collect(),
        changed_user: bits % 5 == 0,
    }
}

pub(crate) fn snapshot(
    now: Timestamp,
    namespace: NamespaceKey,
    scope: SnapshotScope,
    sockets: Vec<SocketRow>,
) -> Observation {
    let rung = Rung::SockDiag;
    Observation::Sockets(SocketSnapshot {
        namespace,
        rung,
        started: now,
        finished: now,
        searched: now,
        scope,
        sockets,
        only_user: None,
        oldest_process: None,
        exits: None,
        pod_keeper: None,
    })
}
