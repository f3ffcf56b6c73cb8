//! Whatever arrives in whatever order: nothing panics, the books balance, tables stay bounded, each
//! connection opens once and closes at most once, and shuffling one connection's evidence changes nothing.

use super::*;
use crate::connection::Exchanged;
use crate::namespace::{TopologyChange, TopologyReport};
use crate::observation::{Tracker, TranslationReport};
use crate::translation::{Translation, TranslationChange};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let addresses =
        ["127.0.0.1", "198.18.0.1", "198.18.1.10", "198.18.1.13", "203.0.113.5", "0.0.0.0", "::1"];
    (prop::sample::select(addresses.to_vec()), 0u16..4)
        .prop_map(|(address, port)| Endpoint::new(address.parse().unwrap(), port))
}

fn any_tuple() -> impl Strategy<Value = FiveTuple> {
    let transports = vec![Transport::Tcp, Transport::Udp];
    (prop::sample::select(transports), any_endpoint(), any_endpoint())
        .prop_map(|(transport, local, remote)| FiveTuple { transport, local, remote })
}

fn any_namespace() -> impl Strategy<Value = NamespaceKey> {
    (0u32..5, prop::option::of(1u64..5)).prop_map(|(inode, cookie)| NamespaceKey {
        inode: NODE.inode + inode,
        cookie: cookie.and_then(NonZeroU64::new),
    })
}

fn any_act() -> impl Strategy<Value = Act> {
    let close = (0u8..14, 0u16..120).prop_map(|(from, error)| {
        Act::Closed(SocketClose { from: TcpState(from), error, payload: Payload { sent: 1, received: 2 } })
    });
    prop_oneof![
        Just(Act::Connect),
        Just(Act::Accept),
        Just(Act::Listen),
        Just(Act::FirstSend),
        Just(Act::FirstReceive),
        any::<bool>().prop_map(|by_client| Act::Established { by_client }),
        Just(Act::Exec { executable: Some("/bin/true".into()) }),
        Just(Act::Exit),
        close,
    ]
}

fn any_observation() -> impl Strategy<Value = Observation> {
    let event = (any_namespace(), any_tuple(), 0u64..4, any_act(), prop::option::of(1u32..4)).prop_map(
        |(namespace, tuple, cookie, act, pid)| Socket::new(namespace, tuple, cookie).event(1, act, pid),
    );
    let packet = (0u32..15, any_tuple(), any::<u8>(), 0u32..3)
        .prop_map(|(interface, tuple, flags, isn)| packet(1, interface, tuple, segment(flags, isn, isn)));
    let datagram = (0u32..15, any_tuple()).prop_map(|(interface, tuple)| {
        let unreachable = tuple.local.port == 0;
        let content =
            if unreachable { PacketContent::Unreachable } else { PacketContent::Udp { payload_length: 1 } };
        super::packet(1, interface, tuple, content)
    });
    let rows = prop::collection::vec((any_tuple(), 0u8..14, prop::collection::vec(1u32..4, 0..3)), 0..4);
    let sockets = (any_namespace(), rows, any::<bool>()).prop_map(|(namespace, rows, whole)| {
        let scope = if whole { SnapshotScope::Whole } else { SnapshotScope::Wanted { missing: vec![] } };
        let rows =
            rows.into_iter().map(|(tuple, state, holders)| row(tuple, TcpState(state), &holders)).collect();
        snapshot(namespace, Rung::Proc, scope, rows)
    });
    prop_oneof![
        4 => event,
        4 => packet,
        1 => datagram,
        1 => sockets,
        2 => any_pass(),
        2 => any_bytes(),
        1 => (0..200_u64).prop_map(|until| Observation::PacketsUntil(at(until))),
        2 => any_translations(),
        2 => any_changes(),
        1 => Just(Observation::Topology(topology()))
    ]
}

fn any_pass() -> impl Strategy<Value = Observation> {
    let states = [TcpState::ESTABLISHED, TcpState::CLOSE_WAIT, TcpState::LISTEN];
    let socket = (any_tuple(), prop::sample::select(states.to_vec()), 1..6_u64);
    let sockets = prop::collection::vec(socket, 0..4);
    (any_namespace(), 0..200_u64, sockets, any::<bool>()).prop_map(|(namespace, millis, sockets, ended)| {
        let Observation::Pass(mut seen) = pass(millis, namespace, &sockets) else { unreachable!() };
        seen.ended = ended;
        Observation::Pass(seen)
    })
}

fn any_bytes() -> impl Strategy<Value = Observation> {
    let socket = (any_tuple(), 0..4_u64, 0..9_u64, 0..9_u64);
    let look = (any_namespace(), 0..200_u64, prop::collection::vec(socket, 0..4));
    let look = look.prop_map(|(namespace, millis, sockets)| bytes::look(millis, namespace, &sockets));
    prop_oneof![3 => look, 1 => Just(Observation::BytesEnd)]
}

fn sum(exchanged: Exchanged) -> u64 {
    exchanged.sent_bytes + exchanged.received_bytes
}

fn any_changes() -> impl Strategy<Value = Observation> {
    let number = || prop::option::of(0..3_i32);
    let address = || any_endpoint().prop_map(|endpoint| endpoint.address);
    let facts = (any_namespace(), number(), prop::collection::vec(address(), 0..3));
    let found = (facts, 0..200_u64).prop_map(|((key, id, addresses), since)| TopologyChange::Found {
        facts: NamespaceFacts { key, addresses, name: None, id },
        since: at(since),
    });
    let interface = (0u32..15, number()).prop_map(|(index, id)| {
        TopologyChange::Interface(Interface { index, name: "if".into(), kind: InterfaceKind::Veth(id) })
    });
    let change = prop_oneof![
        found,
        interface,
        (0..3_i32).prop_map(TopologyChange::Ended),
        (number(), address()).prop_map(|(number, address)| TopologyChange::Given(number, address)),
        (number(), address()).prop_map(|(number, address)| TopologyChange::Taken(number, address)),
        (0u32..15).prop_map(TopologyChange::InterfaceGone),
    ];
    (prop::collection::vec(change, 0..4), 0..200_u64, 0..200_u64).prop_map(|(changes, since, lasted)| {
        let (since, until) = (at(since), at(since + lasted));
        Observation::TopologyChanges(TopologyReport { since, until, changes })
    })
}

fn any_translations() -> impl Strategy<Value = Observation> {
    let tracker = prop_oneof![
        3 => Just(Tracker::Own),
        1 => any_namespace().prop_map(Tracker::Known),
        1 => Just(Tracker::Numbered(7)),
    ];
    let change = (any_tuple(), any_endpoint(), any_endpoint(), any::<bool>()).prop_map(
        |(original, local, remote, ends)| {
            let reply = FiveTuple { transport: original.transport, local, remote };
            let translation = Translation { original, reply, id: 1 };
            if ends { TranslationChange::Ended(translation) } else { TranslationChange::Began(translation) }
        },
    );
    (tracker, any::<bool>(), prop::collection::vec(change, 0..3)).prop_map(|(tracker, whole, changes)| {
        Observation::Translations(TranslationReport { tracker, at: at(1), whole, changes })
    })
}

proptest! {
    #[test]
    fn anything_in_any_order_keeps_the_books_balanced_and_the_tables_bounded(
        steps in prop::collection::vec((any_observation(), 0u64..200), 0..80),
        hooked in any::<bool>(),
        followed in any::<bool>(),
    ) {
        let hooks = if hooked { ALL_HOOKS } else { Hooks::default() };
        let bounds = Settings { connections_max: 8, translations_max: 4, ..Settings::default() };
        let mut world = World::with(Settings { hooks, lookups: true, topology_changes: followed, ..bounds });
        let mut millis = 1;
        for (observation, pause) in steps {
            millis += pause;
            world.wait_until(millis);
            world.see(millis, observation);
            prop_assert!(world.reconciler.connections_held() <= 8);
        }
        world.reconciler.drain(at(millis));
        world.collect(millis);
        let mut lives: BTreeMap<_, Vec<RecordEvent>> = BTreeMap::new();
        for record in &world.told {
            lives.entry(record.id).or_default().push(record.event);
        }
        for life in lives.values() {
            prop_assert_eq!(life[0], RecordEvent::Open);
            prop_assert!(life[1..].iter().all(|event| *event != RecordEvent::Open));
            let closes = life.iter().filter(|event| **event == RecordEvent::Close).count();
            prop_assert!(closes == 0 || closes == 1 && life.last() == Some(&RecordEvent::Close));
        }
        let ledger = world.reconciler.ledger();
        prop_assert_eq!(ledger.connections_opened, lives.len() as u64);
        // No byte is told twice.
        let mut bytes: BTreeMap<_, (u64, u64)> = BTreeMap::new();
        for record in world.progress.iter().chain(&world.told) {
            let (told, exchanged) = bytes.entry(record.id).or_default();
            *told += sum(record.untold);
            *exchanged = record.io.map_or(0, |io| sum(io.exchanged)).max(*exchanged);
        }
        prop_assert!(bytes.values().all(|(told, exchanged)| told <= exchanged), "{:?}", bytes);
    }

    #[test]
    fn the_order_in_which_sources_report_within_the_settling_time_does_not_matter(
        order in Just((0usize..6).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let client = Socket { isn: Some(5), ..Socket::new(WEB, tcp("198.18.1.10:40000", "198.18.1.13:6379"), 100) };
        let server = Socket { isn: Some(5), ..Socket::new(DB, client.tuple.mirrored(), 200) };
        let observations = [
            client.event(1, Act::Connect, Some(7)),
            packet(1, WEB_VETH, client.tuple, syn(5)),
            packet(1, DB_VETH, client.tuple.mirrored(), syn_ack(5)),
            server.event(1, Act::Established { by_client: false }, None),
            server.event(1, Act::Accept, Some(8)),
            client.event(1, Act::Established { by_client: true }, None),
        ];
        let mut world = World::new(ALL_HOOKS);
        for index in order {
            world.see(1, observations[index].clone());
        }
        world.wait_until(500);
        prop_assert_eq!(world.opens().len(), 1);
        let last = world.last();
        prop_assert_eq!((pid_of(&last.client), pid_of(&last.server)), (Some(7), Some(8)));
        prop_assert_eq!(last.state.name(), "established");
        prop_assert_eq!(last.role.name(), "syscall");
    }

    #[test]
    fn rival_holders_never_give_a_single_owner(holders in prop::collection::vec(1u32..5, 0..6)) {
        let mut world = World::new(Hooks::default());
        let tuple = tcp("198.18.1.10:40000", "203.0.113.9:443");
        world.see(1, packet(1, UPLINK, tuple, syn(5)));
        world.answer_every_look(&found(WEB, vec![row(tuple, TcpState::ESTABLISHED, &holders)]));
        let distinct = holders.iter().collect::<std::collections::BTreeSet<_>>().len();
        match &world.last().client.attribution.owner {
            Owner::Process(_) => prop_assert_eq!(distinct, 1),
            Owner::Shared(shared) => prop_assert!(distinct > 1 && shared.len() == distinct),
            Owner::Unattributed(reason) => prop_assert!(distinct == 0 && *reason == Reason::Orphaned),
            Owner::Kernel => prop_assert!(false),
        }
    }
}
