//! Connections that are translated on their way: one record each, in whatever order it is learnt of.

use super::{
    ALL_HOOKS, DB, DB_VETH, NODE, Socket, UPLINK, WEB, WEB_VETH, World, at, packet, pid_of, row, snapshot,
    syn, syn_ack, tcp, udp,
};
use crate::attribution::{Evidence, Reason, Rung};
use crate::connection::{ConnectionRecord, EndRecord, Nat, RecordEvent};
use crate::five_tuple::{FiveTuple, Transport};
use crate::namespace::NamespaceKey;
use crate::observation::{Act, Observation, Rescan, SnapshotScope, Tracker, TranslationReport};
use crate::packet::PacketContent;
use crate::reconcile::{Hooks, Settings};
use crate::socket::TcpState;
use crate::translation::{Translation, TranslationChange};

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};
use core::ops::Range;

const CLIENT: u32 = 1;
const SERVER: u32 = 2;

/// A kind of translation: the client's name for the connection, and the server's, each with its own end first.
struct Class {
    name: &'static str,
    asked: FiveTuple,
    answered: FiveTuple,
    /// Where the two sockets are, if they are on this node.
    client: Option<NamespaceKey>,
    server: Option<NamespaceKey>,
    /// On which interfaces it passes before and after; none before if the node itself asks.
    interfaces: [Option<u32>; 2],
}

fn class(
    name: &'static str,
    asked: FiveTuple,
    answered: FiveTuple,
    [client, server]: [Option<NamespaceKey>; 2],
    interfaces: [Option<u32>; 2],
) -> Class {
    Class { name, asked, answered, client, server, interfaces }
}

fn classes(transport: Transport) -> Vec<Class> {
    let all = vec![
        class(
            "the node to a service",
            tcp("198.18.0.1:40000", "198.19.0.1:80"),
            tcp("198.18.1.13:8080", "198.18.0.1:40000"),
            [Some(NODE), Some(DB)],
            [None, Some(DB_VETH)],
        ),
        class(
            "behind the node",
            tcp("198.18.1.10:40000", "192.0.2.1:443"),
            tcp("192.0.2.1:443", "198.18.0.1:61000"),
            [Some(WEB), None],
            [Some(WEB_VETH), Some(UPLINK)],
        ),
        class(
            "behind the node, to another pod",
            tcp("198.18.1.10:40000", "198.18.1.13:443"),
            tcp("198.18.1.13:443", "198.18.0.1:40000"),
            [Some(WEB), Some(DB)],
            [Some(WEB_VETH), Some(DB_VETH)],
        ),
        class(
            "a service address",
            tcp("198.18.1.10:40000", "198.19.0.1:80"),
            tcp("198.18.1.13:8080", "198.18.1.10:40000"),
            [Some(WEB), Some(DB)],
            [Some(WEB_VETH), Some(DB_VETH)],
        ),
        class(
            "a service address, behind the node",
            tcp("198.18.1.10:40000", "198.19.0.1:80"),
            tcp("198.18.1.13:8080", "198.18.0.1:40000"),
            [Some(WEB), Some(DB)],
            [Some(WEB_VETH), Some(DB_VETH)],
        ),
        class(
            "the service that it is itself",
            tcp("198.18.1.10:40000", "198.19.0.1:80"),
            tcp("198.18.1.10:8080", "198.18.0.1:61000"),
            [Some(WEB), Some(WEB)],
            [Some(WEB_VETH), Some(WEB_VETH)],
        ),
        class(
            "from outside to a port of the node",
            tcp("192.0.2.1:40000", "198.18.0.1:30080"),
            tcp("198.18.1.13:8080", "192.0.2.1:40000"),
            [None, Some(DB)],
            [Some(UPLINK), Some(DB_VETH)],
        ),
        class(
            "the node to a port of its own",
            tcp("198.18.0.1:40000", "198.18.0.1:30080"),
            tcp("198.18.1.13:8080", "198.18.0.1:61000"),
            [Some(NODE), Some(DB)],
            [Some(1), Some(DB_VETH)],
        ),
    ];
    let of_transport = |class| {
        let Class { asked, answered, .. } = class;
        let [asked, answered] = [asked, answered].map(|tuple| FiveTuple { transport, ..tuple });
        Class { asked, answered, ..class }
    };
    all.into_iter().map(of_transport).collect()
}

pub(super) fn report(millis: u64, whole: bool, changes: Vec<TranslationChange>) -> Observation {
    Observation::Translations(TranslationReport { tracker: Tracker::Own, at: at(millis), whole, changes })
}

pub(super) fn began(millis: u64, original: FiveTuple, reply: FiveTuple, id: u32) -> Observation {
    report(millis, false, vec![TranslationChange::Began(Translation { original, reply, id })])
}

fn ended(millis: u64, original: FiveTuple, reply: FiveTuple, id: u32) -> Observation {
    report(millis, false, vec![TranslationChange::Ended(Translation { original, reply, id })])
}

impl Class {
    /// The packets that interfaces show.
    fn packets(&self) -> impl Iterator<Item = Observation> {
        (0..4).filter_map(|index| self.packet(index))
    }

    fn packet(&self, index: usize) -> Option<Observation> {
        let (asks, answers) = match self.asked.transport {
            Transport::Tcp => (syn(7), syn_ack(7)),
            Transport::Udp | Transport::UdpLite => {
                (PacketContent::Udp { payload_length: 1 }, PacketContent::Udp { payload_length: 1 })
            }
        };
        let millis = index as u64;
        let [before, after] = self.interfaces;
        Some(match index {
            0 => packet(millis, before?, self.asked, asks),
            1 => packet(millis, after?, self.answered.mirrored(), asks),
            2 => packet(millis, after?, self.answered, answers),
            _ => packet(millis, before?, self.asked.mirrored(), answers),
        })
    }

    fn sockets(&self) -> [Option<Socket>; 2] {
        let isn = (self.asked.transport == Transport::Tcp).then_some(7);
        let bound = |mut tuple: FiveTuple| {
            // Mostly datagrams are sent and received by sockets that are bound to no address.
            if tuple.transport != Transport::Tcp {
                tuple.local.address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            }
            tuple
        };
        [(self.client, self.asked, 21), (self.server, self.answered, 22)].map(|(namespace, tuple, cookie)| {
            Some(Socket { isn, ..Socket::new(namespace?, bound(tuple), cookie) })
        })
    }

    /// What there is to learn: the entry, the packets, and with hooks the events.
    fn lessons(&self, hooks: bool) -> Vec<Observation> {
        let mut lessons = vec![began(4, self.asked, self.answered, 9)];
        lessons.extend(self.packets());
        let [client, server] = self.sockets();
        let (begins, takes) = match self.asked.transport {
            Transport::Tcp => (Act::Connect, Act::Accept),
            Transport::Udp | Transport::UdpLite => (Act::FirstSend, Act::FirstReceive),
        };
        if hooks {
            lessons.extend(client.map(|socket| socket.event(0, begins, Some(CLIENT))));
            lessons.extend(server.map(|socket| socket.event(2, takes, Some(SERVER))));
        }
        lessons
    }

    /// Answers what was asked as the two sockets are.
    fn answer(&self, world: &mut World, millis: u64) {
        let sockets = [(self.client, self.asked, CLIENT), (self.server, self.answered, SERVER)];
        for rescan in core::mem::take(&mut world.asked) {
            let Rescan::Sockets { namespace, wanted } = rescan else { continue };
            let mut rows = Vec::new();
            let mut missing = Vec::new();
            for tuple in wanted {
                match sockets.iter().find(|(there, own, _)| *there == Some(namespace) && *own == tuple) {
                    Some((.., pid)) => rows.push(row(tuple, TcpState::ESTABLISHED, &[*pid])),
                    None => missing.push((tuple, Reason::GoneBeforeLookup)),
                }
            }
            world.see(millis, snapshot(namespace, Rung::SockDiag, SnapshotScope::Wanted { missing }, rows));
        }
    }

    /// One record, both owners, and both names.
    fn check(&self, world: &World, context: &str) {
        let context = [self.name, self.asked.transport.name(), context].join(", ");
        let opens: Vec<String> = world.opens().iter().map(|record| ends_of(record)).collect();
        assert_eq!(opens.len(), 1, "{context}: {opens:?}");
        let last = world.last();
        assert_eq!(last.client.endpoint, self.asked.local, "{context}");
        assert_eq!(last.server.endpoint, self.asked.remote, "{context}");
        let given = |own, seen| (own != seen).then_some(seen);
        assert_eq!(last.nat.client, given(self.asked.local, self.answered.remote), "{context}");
        assert_eq!(last.nat.server, given(self.asked.remote, self.answered.local), "{context}");
        assert_eq!(pid_of(&last.client), self.client.map(|_| CLIENT), "{context}: {last:?}");
        assert_eq!(pid_of(&last.server), self.server.map(|_| SERVER), "{context}: {last:?}");
        assert_eq!(last.client.namespace, self.client, "{context}");
        assert_eq!(last.server.namespace, self.server, "{context}");
        let ledger = world.reconciler.ledger();
        assert_eq!(
            ledger.ends_attributed,
            u64::from(self.client.is_some()) + u64::from(self.server.is_some())
        );
        assert_eq!(world.reconciler.connections_held(), 1, "{context}");
    }
}

fn ends_of(record: &ConnectionRecord) -> String {
    [record.client.endpoint.to_string(), record.server.endpoint.to_string()].join(" > ")
}

/// Every order of `count` things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![vec![]];
    for next in 0..count {
        orders = orders
            .iter()
            .flat_map(|order: &Vec<usize>| {
                (0..=order.len()).map(move |at| {
                    let mut longer = order.clone();
                    longer.insert(at, next);
                    longer
                })
            })
            .collect();
    }
    orders
}

/// Plays all that is to be learnt in every order that keeps packets among themselves and events in theirs.
fn check_all_orders(hooks: Hooks) {
    for transport in [Transport::Tcp, Transport::Udp] {
        for class in classes(transport) {
            let count = class.lessons(hooks.connect).len();
            let first_event = 1 + class.packets().count();
            for order in orders(count) {
                let place = |lesson: usize| order.iter().position(|known| *known == lesson).unwrap();
                let in_order = |lessons: Range<usize>| lessons.map(place).is_sorted();
                let (packets_in_order, events_in_order) =
                    (in_order(1..first_event), in_order(first_event..count));
                if !packets_in_order || !events_in_order {
                    continue;
                }
                let mut world = World::new(hooks);
                world.see(0, report(0, true, vec![]));
                let lessons = class.lessons(hooks.connect);
                for lesson in &order {
                    // The entry, which is the first lesson, is told of before it is said that all have been.
                    world.hears = place(0) <= place(*lesson);
                    world.see(5, lessons[*lesson].clone());
                    class.answer(&mut world, 5);
                }
                for millis in (10..400).step_by(10) {
                    world.wait_until(millis);
                    class.answer(&mut world, millis);
                }
                class.check(&world, &alloc::format!("{order:?}"));
                let last = world.last();
                let by_event = |end: &EndRecord| end.attribution.evidence >= Some(Evidence::KernelFirstUse);
                let local = [(&last.client, class.client), (&last.server, class.server)];
                assert!(
                    !hooks.connect || local.iter().all(|(end, at)| at.is_none() || by_event(end)),
                    "{}, {order:?}: what an event told is lost: {last:?}",
                    class.name
                );
            }
        }
    }
}

#[test]
fn one_record_with_hooks_in_whatever_order_it_is_learnt_of() {
    check_all_orders(ALL_HOOKS);
}

#[test]
fn one_record_by_lookups_in_whatever_order_it_is_learnt_of() {
    check_all_orders(Hooks::default());
}

const SERVICE: &str = "198.19.0.1:80";

pub(super) fn dnat(client: &str, server: &str) -> [FiveTuple; 2] {
    [tcp(client, SERVICE), tcp(server, client)]
}

fn connect(world: &mut World, millis: u64, tuple: FiveTuple, (cookie, isn, pid): (u64, u32, u32)) {
    let socket = Socket { isn: Some(isn), ..Socket::new(WEB, tuple, cookie) };
    world.see(millis, socket.event(millis, Act::Connect, Some(pid)));
}

pub(super) fn names(record: &ConnectionRecord) -> (String, Option<String>) {
    (ends_of(record), record.nat.server.map(|server| server.to_string()))
}

#[test]
fn a_port_that_is_used_again_goes_where_its_new_entry_leads() {
    let mut world = World::new(ALL_HOOKS);
    let [asked, first] = dnat("198.18.1.10:40000", "198.18.1.13:8080");
    let [_, second] = dnat("198.18.1.10:40000", "198.18.1.13:8081");
    world.see(1, began(1, asked, first, 1));
    connect(&mut world, 2, asked, (31, 7, 1));
    world.wait_until(300);
    let ended_at = 1000;
    let socket = Socket { isn: Some(7), ..Socket::new(WEB, asked, 31) };
    world.see(ended_at, socket.closed(ended_at, TcpState::ESTABLISHED, 104, (0, 0)));
    // The kernel gives the entry up when it sees the new SYN, and both is told at once, before the connect event.
    world.see(1001, ended(1001, asked, first, 1));
    world.see(1001, began(1001, asked, second, 2));
    connect(&mut world, 1001, asked, (32, 8, 2));
    world.see(1001, packet(1001, DB_VETH, second.mirrored(), syn(8)));
    world.wait_until(1500);
    let opens: Vec<_> = world.opens().iter().map(|record| (names(record), pid_of(&record.client))).collect();
    let called = "198.18.1.10:40000 > 198.19.0.1:80".to_string();
    assert_eq!(
        opens,
        [
            ((called.clone(), Some("198.18.1.13:8080".to_string())), Some(1)),
            ((called, Some("198.18.1.13:8081".to_string())), Some(2))
        ]
    );
}

#[test]
fn an_entry_that_has_ended_is_for_what_was_seen_before_and_for_nothing_after() {
    let [asked, answered] = dnat("198.18.1.10:40000", "198.18.1.13:8080");
    let check = |seen_at: u64, expected: Option<&str>| {
        let mut world = World::new(ALL_HOOKS);
        world.see(100, began(100, asked, answered, 1));
        world.see(500, ended(500, asked, answered, 1));
        world.see(501, packet(seen_at, WEB_VETH, asked, syn(7)));
        world.wait_until(1900);
        assert_eq!(names(world.last()).1, expected.map(str::to_string), "seen at {seen_at}");
    };
    check(99, Some("198.18.1.13:8080"));
    check(499, Some("198.18.1.13:8080"));
    check(501, None);
}

#[test]
fn a_listing_ends_what_it_lacks_and_brings_what_was_lost() {
    let mut world = World::new(ALL_HOOKS);
    let [old, old_reply] = dnat("198.18.1.10:40000", "198.18.1.13:8080");
    let [new, new_reply] = dnat("198.18.1.10:40001", "198.18.1.13:8080");
    world.see(1, began(1, old, old_reply, 1));
    connect(&mut world, 2, new, (31, 7, 1));
    world.wait_until(300);
    assert_eq!(names(world.last()).1, None, "its entry was lost");
    let listed = Translation { original: new, reply: new_reply, id: 2 };
    world.see(400, report(400, true, vec![TranslationChange::Began(listed)]));
    assert_eq!(world.events(), [RecordEvent::Open, RecordEvent::Update]);
    assert_eq!(names(world.last()).1, Some("198.18.1.13:8080".to_string()));
    connect(&mut world, 500, old, (32, 8, 1));
    world.wait_until(900);
    assert_eq!(names(world.last()), ("198.18.1.10:40000 > 198.19.0.1:80".to_string(), None));
}

#[test]
fn a_client_socket_is_never_known_by_a_name_that_was_given() {
    let mut world = World::new(ALL_HOOKS);
    // An entry whose end nobody told, and then a process of the node that uses the port it had given.
    let original = tcp("198.18.1.10:40000", "192.0.2.1:443");
    world.see(1, began(1, original, tcp("192.0.2.1:443", "198.18.0.1:40000"), 1));
    let own = Socket { isn: Some(7), ..Socket::new(NODE, tcp("198.18.0.1:40000", "192.0.2.1:443"), 31) };
    world.see(2, own.event(2, Act::Connect, Some(1)));
    world.wait_until(300);
    assert_eq!(names(world.last()), ("198.18.0.1:40000 > 192.0.2.1:443".to_string(), None));
    assert_eq!(world.last().client.namespace, Some(NODE));
    assert_eq!(world.last().nat, Nat::default());
}

#[test]
fn what_is_translated_twice_is_one_connection() {
    let original = tcp("198.18.1.10:40000", "192.0.2.1:443");
    let inner = tcp("192.0.2.1:443", "198.18.1.13:40000");
    let outer = tcp("192.0.2.1:443", "198.18.0.1:40000");
    let entries = [
        began(3, inner.mirrored(), outer, 2),
        Observation::Translations(TranslationReport {
            tracker: Tracker::Known(DB),
            at: at(3),
            whole: false,
            changes: vec![TranslationChange::Began(Translation { original, reply: inner, id: 1 })],
        }),
    ];
    let packets = [original, inner.mirrored(), outer.mirrored()]
        .map(|name| packet(2, UPLINK, FiveTuple { transport: Transport::Tcp, ..name }, syn(7)));
    for order in orders(5) {
        let mut world = World::new(ALL_HOOKS);
        world.see(0, report(0, true, vec![]));
        let all: Vec<&Observation> = entries.iter().chain(&packets).collect();
        order.iter().for_each(|index| world.see(4, all[*index].clone()));
        connect(&mut world, 5, original, (31, 7, 1));
        world.wait_until(500);
        let opens: Vec<_> = world.opens().iter().map(|record| ends_of(record)).collect();
        assert_eq!(opens, ["198.18.1.10:40000 > 192.0.2.1:443"], "{order:?}");
        assert_eq!(world.last().nat.client, Some(outer.remote), "{order:?}");
    }
}

#[test]
fn loopback_is_translated_in_its_own_namespace_only() {
    let mut world = World::new(ALL_HOOKS);
    let (asked, answered) =
        (tcp("127.0.0.1:40000", "127.0.0.1:80"), tcp("127.0.0.1:8080", "127.0.0.1:40000"));
    world.see(1, began(1, asked, answered, 1));
    for (namespace, cookie) in [(WEB, 31), (NODE, 32)] {
        let socket = Socket { isn: Some(7), ..Socket::new(namespace, asked, cookie) };
        world.see(2, socket.event(2, Act::Connect, Some(1)));
    }
    world.wait_until(300);
    let told: Vec<_> =
        world.opens().iter().map(|record| (record.client.namespace, names(record).1)).collect();
    assert_eq!(told, [(Some(WEB), None), (Some(NODE), Some("127.0.0.1:8080".to_string()))]);
}

#[test]
fn a_datagram_flow_that_outlives_its_entry_takes_the_next_one() {
    let mut world = World::new(ALL_HOOKS);
    let asked = udp("198.18.1.10:40000", "192.0.2.1:53");
    let [first, second] = ["198.18.0.1:1", "198.18.0.1:2"].map(|given| udp("192.0.2.1:53", given));
    world.see(1, began(1, asked, first, 1));
    // A socket that is bound to no address.
    let socket = Socket::new(WEB, udp("0.0.0.0:40000", "192.0.2.1:53"), 31);
    world.see(2, socket.event(2, Act::FirstSend, Some(1)));
    world.wait_until(300);
    assert_eq!(world.last().client.endpoint, asked.local);
    world.see(40_000, ended(40_000, asked, first, 1));
    world.see(40_001, began(40_001, asked, second, 2));
    let answer = PacketContent::Udp { payload_length: 1 };
    world.see(40_002, packet(40_002, UPLINK, second, answer));
    assert_eq!(world.events(), [RecordEvent::Open, RecordEvent::Update]);
    assert_eq!(world.last().nat.client, Some(second.remote));
    assert_eq!(world.reconciler.connections_held(), 1);
}

#[test]
fn entries_that_find_no_room_are_counted() {
    let mut world = World::with(Settings { hooks: ALL_HOOKS, translations_max: 1, ..Settings::default() });
    for port in [40_000, 40_001, 40_002] {
        let [asked, answered] = dnat(&alloc::format!("198.18.1.10:{port}"), "198.18.1.13:8080");
        world.see(1, began(1, asked, answered, port));
    }
    assert_eq!(world.reconciler.ledger().translations_evicted, 2);
}

#[test]
fn one_that_was_seen_under_three_names_before_its_entry_is_told_of_once() {
    // A bridge that calls netfilter shows the answer between the two steps as well.
    let asked = tcp("198.18.1.10:40000", SERVICE);
    let answered = tcp("198.18.1.13:8080", "198.18.0.1:40000");
    let between = tcp("198.18.1.10:40000", "198.18.1.13:8080");
    for order in orders(3) {
        let mut world = World::new(Hooks::default());
        world.see(0, report(0, true, vec![]));
        let names = [(WEB_VETH, asked), (DB_VETH, answered.mirrored()), (DB_VETH, between)];
        for (interface, name) in order.iter().map(|index| names[*index]) {
            world.see(1, packet(1, interface, name, syn(7)));
        }
        world.see(2, began(2, asked, answered, 1));
        world.wait_until(500);
        let opens: Vec<_> = world.opens().iter().map(|record| ends_of(record)).collect();
        assert_eq!(opens, ["198.18.1.10:40000 > 198.19.0.1:80"], "{order:?}");
        assert_eq!(world.reconciler.connections_held(), 1, "{order:?}");
    }
}

#[test]
fn who_asked_is_known_by_the_entry_though_the_answer_was_seen_first() {
    for class in classes(Transport::Udp) {
        let mut world = World::new(Hooks::default());
        world.see(0, report(0, true, vec![]));
        world.see(1, class.packet(2).unwrap());
        world.wait_until(500);
        let mistaken = world.last().client.endpoint;
        assert_eq!(mistaken, class.answered.local, "{}", class.name);
        world.see(600, began(600, class.asked, class.answered, 1));
        let last = world.last();
        let ends = [last.client.endpoint, last.server.endpoint];
        assert_eq!(ends, [class.asked.local, class.asked.remote], "{}: {last:?}", class.name);
    }
}

#[test]
fn two_that_were_told_before_their_entry_are_counted_and_the_second_is_ended() {
    let mut world = World::new(Hooks::default());
    let [asked, answered] = dnat("192.0.2.1:40000", "198.18.1.13:8080");
    world.see(1, packet(1, UPLINK, asked, syn(7)));
    world.see(1, packet(1, DB_VETH, answered.mirrored(), syn(7)));
    world.wait_until(500);
    assert_eq!(world.opens().len(), 2);
    world.see(600, began(600, asked, answered, 1));
    assert_eq!(world.reconciler.ledger().connections_told_twice, 1);
    world.wait_until(2000);
    let closed: Vec<_> =
        world.told.iter().filter(|told| told.event == RecordEvent::Close).map(names).collect();
    assert_eq!(closed, [("192.0.2.1:40000 > 198.18.1.13:8080".to_string(), None)]);
}

#[test]
fn a_service_is_found_by_the_address_that_was_meant_and_else_by_where_it_led() {
    let rule = |name: &str, port| crate::service::ServiceRule {
        service: crate::service::ServiceName::Given(name.into()),
        place: crate::service::Where::Anywhere,
        ports: Some(port..=port),
        transport: None,
    };
    let check = |rules: Vec<crate::service::ServiceRule>, expected: &str| {
        let services = crate::service::Services::new(rules);
        let mut world = World::with(Settings { hooks: ALL_HOOKS, services, ..Settings::default() });
        let [asked, answered] = dnat("198.18.1.10:40000", "198.18.1.13:8080");
        world.see(1, began(1, asked, answered, 1));
        connect(&mut world, 2, asked, (31, 7, 1));
        world.wait_until(300);
        assert_eq!(world.last().service.as_ref().map(|service| &*service.name), Some(expected));
    };
    check(vec![rule("pod", 8080), rule("meant", 80)], "meant");
    check(vec![rule("pod", 8080)], "pod");
}

#[test]
fn an_end_that_was_looked_for_by_a_given_name_is_looked_for_again_by_its_own() {
    let class = &classes(Transport::Tcp)[0];
    assert_eq!(class.name, "the node to a service");
    for answered_before in [true, false] {
        let mut world = World::new(Hooks::default());
        world.see(0, report(0, true, vec![]));
        world.hears = false;
        world.see(1, class.packet(1).unwrap());
        world.wait_until(5);
        assert!(!world.asked.is_empty());
        if answered_before {
            class.answer(&mut world, 5);
        }
        world.hears = true;
        world.see(6, began(6, class.asked, class.answered, 9));
        for millis in (10..400).step_by(10) {
            class.answer(&mut world, millis);
            world.wait_until(millis);
        }
        class.check(&world, if answered_before { "looked for before" } else { "being looked for" });
    }
}
