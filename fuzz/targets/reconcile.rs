//! Any sequence of observations, pauses and answers: the books balance after every step, the tables keep
//! their bounds, and each connection opens once and closes at most once.
//!
//! Addresses, ports, namespaces and processes are few, so that they meet.
#![no_main]

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use netsnoop_core::attribution::{Reason, Rung};
use netsnoop_core::connection::{ConnectionId, ConnectionRecord, RecordEvent};
use netsnoop_core::five_tuple::{Endpoint, FiveTuple, Transport};
use netsnoop_core::namespace::{Interface, InterfaceKind, NamespaceFacts, NamespaceKey, Topology};
use netsnoop_core::observation::{
    Act, KernelEvent, KernelSocket, Observation, PacketSighting, Rescan, SnapshotScope, SocketClose,
    SocketSnapshot, Tracker, TranslationReport,
};
use netsnoop_core::packet::{Direction, PacketContent, PacketHeader, TcpFlags};
use netsnoop_core::process::{Comm, Process, ProcessFacts, ProcessId};
use netsnoop_core::reconcile::{Hooks, Reconciler, Settings};
use netsnoop_core::socket::{SocketRow, TcpState};
use netsnoop_core::time::Timestamp;
use netsnoop_core::translation::{Translation, TranslationChange};

const CONNECTIONS_MAX: usize = 8;
const ADDRESSES: [[u8; 4]; 6] =
    [[127, 0, 0, 1], [198, 18, 0, 1], [198, 18, 1, 10], [198, 18, 1, 13], [203, 0, 113, 5], [0, 0, 0, 0]];

#[derive(Arbitrary, Debug)]
struct Run {
    hooks: u8,
    lookups: bool,
    steps: Vec<(Step, u16)>,
}

/// What happens; the number beside it is the pause before, in milliseconds.
#[derive(Arbitrary, Debug)]
enum Step {
    Packet { interface: u8, way: u8, tuple: Tuple, content: Content },
    Kernel { rung: u8, act: KernelAct, pid: u8, socket: Option<Socket>, delay: u16 },
    Sockets { namespace: u8, whole: bool, rows: Vec<Row> },
    Answer { found: Vec<u8>, holders: u8 },
    Facts { pid: u8 },
    Topology { namespaces: u8 },
    Translations { tracker: u8, whole: bool, age: u8, changes: Vec<Change> },
}

#[derive(Arbitrary, Debug)]
struct Change {
    original: Tuple,
    reply: Tuple,
    id: u8,
    ends: bool,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
struct Tuple {
    transport: u8,
    local: (u8, u8),
    remote: (u8, u8),
}

#[derive(Arbitrary, Debug)]
enum Content {
    Tcp { flags: u8, sequence: u8, acknowledgement: u8, payload_length: u8 },
    Udp,
    Unreachable,
}

#[derive(Arbitrary, Debug)]
enum KernelAct {
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
struct Socket {
    namespace: u8,
    cookie: u8,
    address: u8,
    tuple: Tuple,
    isn: Option<u8>,
}

#[derive(Arbitrary, Debug)]
struct Row {
    tuple: Tuple,
    state: u8,
    holders: u8,
    complete: bool,
}

impl Tuple {
    fn build(self) -> FiveTuple {
        let transport = [Transport::Tcp, Transport::Udp, Transport::UdpLite][usize::from(self.transport % 3)];
        FiveTuple { transport, local: endpoint(self.local), remote: endpoint(self.remote) }
    }
}

fn endpoint((address, port): (u8, u8)) -> Endpoint {
    let place = usize::from(address) % (ADDRESSES.len() + 1);
    let address = ADDRESSES.get(place).map_or(IpAddr::from([0; 16]), |octets| IpAddr::from(*octets));
    Endpoint::new(address, u16::from(port % 4))
}

fn namespace(choice: u8) -> NamespaceKey {
    NamespaceKey { inode: 1 + u32::from(choice % 4), cookie: NonZeroU64::new(u64::from(choice / 4 % 5)) }
}

fn process(pid: u8) -> Process {
    let (pid, generation) = (u32::from(pid % 4), u64::from(pid / 4 % 2));
    Process {
        id: ProcessId { pid, start_ticks: generation * 50 },
        name: Comm::new(b"fuzz"),
        uid: pid,
        cgroup_id: None,
    }
}

/// The processes whose bit is set.
fn holders(bits: u8) -> Vec<Process> {
    (0..8).filter(|bit| bits & (1 << bit) != 0).map(process).collect()
}

fn topology(bits: u8) -> Topology {
    let present = (0..4_u8).filter(|choice| bits & (1 << choice) != 0);
    let address = |choice: u8| IpAddr::from(ADDRESSES[usize::from(choice) % ADDRESSES.len()]);
    let facts = |choice: u8| NamespaceFacts {
        key: namespace(choice + bits / 16 * 4),
        addresses: vec![address(0), address(choice + 1)],
        name: None,
        id: (choice % 2 == 0).then_some(choice.into()),
    };
    let interface = |index: u8, kind| Interface { index: index.into(), name: "if".into(), kind };
    Topology {
        capture_namespace: namespace(bits / 16 * 4),
        interfaces: vec![
            interface(1, InterfaceKind::Loopback),
            interface(2, InterfaceKind::Other),
            interface(3, InterfaceKind::VethPeer(namespace(1))),
            interface(4, InterfaceKind::VethPeer(namespace(2))),
        ],
        namespaces: present.map(facts).collect(),
    }
}

fn packet(at: Timestamp, interface: u8, way: u8, header: PacketHeader) -> Observation {
    Observation::Packet(PacketSighting {
        at,
        interface: NonZeroU32::new(u32::from(interface % 6)),
        direction: [Direction::In, Direction::Out, Direction::Unknown][usize::from(way % 3)],
        header,
    })
}

impl Content {
    fn build(self) -> PacketContent {
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
    fn build(self) -> Act {
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
                sent_bytes: 1,
                received_bytes: 2,
            }),
            Self::Exec => Act::Exec { executable: Some("/bin/true".into()) },
            Self::Exit => Act::Exit,
        }
    }
}

impl Socket {
    fn build(self) -> KernelSocket {
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
    fn build(self) -> TranslationChange {
        let original = self.original.build();
        let reply = FiveTuple { transport: original.transport, ..self.reply.build() };
        let translation = Translation { original, reply, id: u32::from(self.id % 4) };
        if self.ends { TranslationChange::Ended(translation) } else { TranslationChange::Began(translation) }
    }
}

fn tracker(choice: u8) -> Tracker {
    match choice % 4 {
        0 | 1 => Tracker::Own,
        2 => Tracker::Numbered(i32::from(choice / 4 % 4)),
        _ => Tracker::Known(namespace(choice / 4)),
    }
}

fn row(tuple: FiveTuple, state: u8, bits: u8, holders_complete: bool) -> SocketRow {
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

fn snapshot(
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
        scope,
        sockets,
        only_user: None,
        oldest_process: None,
    })
}

struct World {
    reconciler: Reconciler,
    now: Timestamp,
    asked: Vec<Rescan>,
    lives: HashMap<ConnectionId, RecordEvent>,
}

impl World {
    fn step(&mut self, step: Step) {
        let now = self.now;
        let observation = match step {
            Step::Packet { interface, way, tuple, content } => {
                packet(now, interface, way, PacketHeader { tuple: tuple.build(), content: content.build() })
            }
            Step::Kernel { rung, act, pid, socket, delay } => Observation::Kernel(KernelEvent {
                at: now - Duration::from_millis(u64::from(delay)),
                rung: Rung::ALL[usize::from(rung) % Rung::ALL.len()],
                act: act.build(),
                process: (pid % 5 != 0).then(|| process(pid)),
                socket: socket.map(Socket::build),
            }),
            Step::Sockets { namespace: choice, whole, rows } => {
                let scope =
                    if whole { SnapshotScope::Whole } else { SnapshotScope::Wanted { missing: Vec::new() } };
                let rows = rows.into_iter().take(8);
                let rows =
                    rows.map(|found| row(found.tuple.build(), found.state, found.holders, found.complete));
                snapshot(now, namespace(choice), scope, rows.collect())
            }
            Step::Answer { found, holders } => match self.asked.pop() {
                Some(rescan) => answer(now, rescan, &found, holders),
                None => return,
            },
            Step::Facts { pid } => Observation::Process(process(pid).id, ProcessFacts::default()),
            Step::Topology { namespaces } => Observation::Topology(topology(namespaces)),
            Step::Translations { tracker: choice, whole, age, changes } => {
                Observation::Translations(TranslationReport {
                    tracker: tracker(choice),
                    at: now - Duration::from_millis(u64::from(age)),
                    whole,
                    changes: changes.into_iter().take(8).map(Change::build).collect(),
                })
            }
        };
        self.reconciler.handle(now, observation);
        self.collect();
    }

    fn wait(&mut self, millis: u16) {
        let until = self.now + Duration::from_millis(u64::from(millis));
        let mut turns_at_once = 0;
        while let Some(due) = self.reconciler.poll_timeout().filter(|due| *due <= until) {
            turns_at_once = if due > self.now { 0 } else { turns_at_once + 1 };
            assert!(turns_at_once < 100, "a deadline that has passed stays due: the caller would spin");
            self.now = self.now.max(due);
            self.reconciler.handle_timeout(self.now);
            self.collect();
        }
        self.now = until;
    }

    fn collect(&mut self) {
        loop {
            while let Some(record) = self.reconciler.poll_record(self.now) {
                self.tell(&record);
            }
            let Some(rescan) = self.reconciler.poll_rescan(self.now) else { break };
            self.asked.push(rescan);
        }
        assert!(self.reconciler.ledger().balances());
        assert!(self.reconciler.connections_held() <= CONNECTIONS_MAX);
    }

    fn tell(&mut self, record: &ConnectionRecord) {
        match (self.lives.insert(record.id, record.event), record.event) {
            (None, RecordEvent::Open) => {}
            (Some(RecordEvent::Open | RecordEvent::Update), RecordEvent::Update | RecordEvent::Close) => {}
            (before, event) => panic!("{event:?} after {before:?}"),
        }
        if record.event == RecordEvent::Close {
            assert!(record.state.is_end());
        }
    }
}

fn answer(now: Timestamp, rescan: Rescan, found: &[u8], holders: u8) -> Observation {
    match rescan {
        Rescan::Topology => Observation::Topology(topology(holders)),
        Rescan::Process(process) => Observation::Process(process.id, ProcessFacts::default()),
        Rescan::Sockets { namespace, wanted } => {
            let state = |place: usize| found.get(place).copied().filter(|state| state % 2 == 0);
            let (mut rows, mut missing) = (Vec::new(), Vec::new());
            for (place, tuple) in wanted.into_iter().enumerate() {
                match state(place) {
                    Some(state) => rows.push(row(tuple, state / 2, holders, true)),
                    None => missing.push((tuple, Reason::GoneBeforeLookup)),
                }
            }
            snapshot(now, namespace, SnapshotScope::Wanted { missing }, rows)
        }
    }
}

fuzz_target!(|run: Run| {
    let hooks = Hooks {
        connect: run.hooks & 1 != 0,
        accept: run.hooks & 2 != 0,
        listen: run.hooks & 4 != 0,
        close: run.hooks & 8 != 0,
        process: run.hooks & 16 != 0,
    };
    let settings = Settings {
        hooks,
        lookups: run.lookups,
        connections_max: CONNECTIONS_MAX,
        processes_max: 4,
        questions_max: 8,
        translations_max: 4,
        ..Settings::default()
    };
    let mut world = World {
        reconciler: Reconciler::new(settings),
        now: Timestamp::from_nanos(1_000_000_000),
        asked: Vec::new(),
        lives: HashMap::new(),
    };
    world.reconciler.handle(world.now, Observation::Topology(topology(15)));
    for (step, pause) in run.steps {
        world.wait(pause);
        world.step(step);
    }
    world.reconciler.drain(world.now);
    world.collect();
    assert_eq!(world.reconciler.ledger().connections_opened, world.lives.len() as u64);
});
