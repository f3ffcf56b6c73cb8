//! Any sequence of observations, pauses and answers: the books balance after every step, the tables keep
//! their bounds, each connection opens once and closes at most once, and no byte is told twice.
#![no_main]

mod choices;

use std::collections::HashMap;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use netsnoop_core::attribution::{Reason, Rung};
use netsnoop_core::connection::{ConnectionId, ConnectionRecord, Exchanged, RecordEvent};
use netsnoop_core::observation::{KernelEvent, Observation, Rescan, SnapshotScope, TranslationReport};
use netsnoop_core::packet::PacketHeader;
use netsnoop_core::process::ProcessFacts;
use netsnoop_core::reconcile::{Hooks, Reconciler, Settings};
use netsnoop_core::time::Timestamp;

use choices::{
    Change, Run, Socket, Step, bytes, changes, namespace, packet, pass, process, row, snapshot, topology,
    tracker,
};

const CONNECTIONS_MAX: usize = 8;

struct World {
    reconciler: Reconciler,
    now: Timestamp,
    asked: Vec<Rescan>,
    lives: HashMap<ConnectionId, RecordEvent>,
    /// Bytes told of each.
    told: HashMap<ConnectionId, u64>,
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
            Step::Topology { namespaces } => Observation::Topology(topology(now, namespaces)),
            Step::Changes { lasted, changes: steps } => {
                Observation::TopologyChanges(changes(now, lasted, steps))
            }
            Step::Translations { tracker: choice, whole, age, changes } => {
                Observation::Translations(TranslationReport {
                    tracker: tracker(choice),
                    at: now - Duration::from_millis(u64::from(age)),
                    whole,
                    changes: changes.into_iter().take(8).map(Change::build).collect(),
                })
            }
            Step::Pass { namespace: choice, age, ended, sockets } => {
                pass(now - Duration::from_millis(age.into()), namespace(choice), ended, sockets)
            }
            Step::Bytes { namespace: choice, age, sockets } => {
                bytes(now - Duration::from_millis(age.into()), namespace(choice), sockets)
            }
            Step::BytesEnd => Observation::BytesEnd,
            Step::PacketsUntil { age } => Observation::PacketsUntil(now - Duration::from_millis(age.into())),
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
            while let Some(record) = self.reconciler.poll_progress(self.now) {
                assert!(self.lives.contains_key(&record.id) && record.untold != Exchanged::default());
                self.tell_bytes(&record);
            }
            assert!(!self.reconciler.has_progress());
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
            self.tell_bytes(record);
        }
    }

    fn tell_bytes(&mut self, record: &ConnectionRecord) {
        let sum = |exchanged: Exchanged| exchanged.sent_bytes + exchanged.received_bytes;
        let told = self.told.entry(record.id).or_default();
        *told += sum(record.untold);
        assert!(*told <= record.io.map_or(0, |io| sum(io.exchanged)), "{told} told of {record:?}");
    }
}

fn answer(now: Timestamp, rescan: Rescan, found: &[u8], holders: u8) -> Observation {
    match rescan {
        Rescan::Topology => Observation::Topology(topology(now, holders)),
        Rescan::TopologyChanges => Observation::TopologyChanges(changes(now, holders, Vec::new())),
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
        topology_changes: run.follows,
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
        told: HashMap::new(),
    };
    world.reconciler.handle(world.now, Observation::Topology(topology(world.now, 15)));
    for (step, pause) in run.steps {
        world.wait(pause);
        world.step(step);
    }
    world.reconciler.drain(world.now);
    world.collect();
    assert_eq!(world.reconciler.ledger().connections_opened, world.lives.len() as u64);
});
