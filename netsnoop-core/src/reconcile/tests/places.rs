//! Where ends are, when pods come and go and their addresses pass from one to the next.

use super::*;
use crate::namespace::{TopologyChange, TopologyReport};

const NEXT: NamespaceKey = key(4);
const NEXT_VETH: u32 = 14;
/// The id that the next pod is given.
const NEXT_ID: i32 = 2;

/// From the pod that has WEB's address, or had.
fn client() -> FiveTuple {
    tcp("198.18.1.10:40000", "203.0.113.9:443")
}

fn world() -> World {
    let mut world = World::with(Settings { topology_changes: true, lookups: true, ..Settings::default() });
    // The first question, which is asked anyhow.
    world.see(1, Observation::Topology(topology()));
    world
}

fn seen(millis: u64, interface: u32, direction: Direction) -> Observation {
    Observation::Packet(PacketSighting {
        at: at(millis),
        interface: NonZeroU32::new(interface),
        direction,
        header: PacketHeader { tuple: client(), content: syn(5) },
    })
}

/// What changed after `since`, told of at `until`.
fn changes(since: u64, until: u64, changes: Vec<TopologyChange>) -> Observation {
    Observation::TopologyChanges(TopologyReport { since: at(since), until: at(until), changes })
}

fn found(since: u64, addresses: &[&str]) -> TopologyChange {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    let facts = NamespaceFacts { key: NEXT, addresses, name: None, id: Some(NEXT_ID) };
    TopologyChange::Found { facts, since: at(since) }
}

fn next_veth() -> TopologyChange {
    let kind = InterfaceKind::Veth(Some(NEXT_ID));
    TopologyChange::Interface(Interface { index: NEXT_VETH, name: "veth-next".into(), kind })
}

fn given() -> TopologyChange {
    TopologyChange::Given(Some(NEXT_ID), client().local.address)
}

/// Where the client is told to be in the end, and why it is nowhere, after `told` in this order; the number is when.
fn check(told: Vec<(u64, Observation)>, expected: Result<NamespaceKey, Reason>) {
    let mut world = world();
    let what = alloc::format!("{told:?}");
    for (millis, observation) in told {
        world.see(millis, observation);
    }
    world.wait_until(500);
    let client = &world.last().client;
    let place = client.namespace.ok_or_else(|| client.attribution.reason().unwrap());
    assert_eq!(place, expected, "{what}");
    assert!(world.reconciler.ledger().balances());
}

#[test]
fn an_address_is_whose_it_was_when_the_packet_passed() {
    let passes = || {
        vec![
            (100, changes(10, 100, vec![TopologyChange::Ended(0)])),
            (200, changes(190, 200, vec![found(190, &[]), next_veth(), given()])),
        ]
    };
    // Packets wait in libpcap's buffer while events overtake them.
    let late = |millis| passes().into_iter().chain([(300, seen(millis, UPLINK, Direction::Out))]).collect();
    check(late(5), Ok(WEB));
    check(late(100), Ok(WEB));
    check(late(150), Err(Reason::Remote));
    check(late(200), Ok(NEXT));
    // Both may have had it, for all that is known.
    let told = vec![
        (100, changes(10, 100, vec![found(20, &["198.18.1.10"]), TopologyChange::Ended(0)])),
        (300, seen(50, UPLINK, Direction::Out)),
    ];
    check(told, Err(Reason::Ambiguous));
}

#[test]
fn what_was_concluded_from_an_address_is_taken_back_if_it_had_passed_on() {
    check(
        vec![
            (201, seen(200, UPLINK, Direction::Out)),
            (210, changes(20, 205, vec![TopologyChange::Ended(0), found(20, &["198.18.1.10"])])),
        ],
        Err(Reason::Ambiguous),
    );
    check(
        vec![
            (201, seen(200, UPLINK, Direction::Out)),
            (205, changes(90, 100, vec![TopologyChange::Taken(Some(0), client().local.address)])),
            (210, changes(100, 205, vec![found(100, &["198.18.1.10"])])),
        ],
        Ok(NEXT),
    );
}

#[test]
fn an_interface_shows_where_a_packet_is_from_whoever_else_has_the_address() {
    let told = |changed: Vec<TopologyChange>| {
        vec![(100, changes(10, 100, changed)), (150, seen(150, NEXT_VETH, Direction::In))]
    };
    check(told(vec![found(20, &["198.18.1.10"]), next_veth()]), Ok(NEXT));
    // It may have come by the address since, and then by an event that is still to be read.
    let mut late = told(vec![found(20, &[]), next_veth()]);
    late.push((151, changes(100, 151, vec![given()])));
    check(late, Ok(NEXT));
    // Nothing but an id is known of where it leads.
    let mut never = told(vec![next_veth()]);
    never.push((151, changes(100, 151, vec![])));
    check(never.clone(), Err(Reason::Ambiguous));
    never.push((160, changes(151, 160, vec![found(90, &["198.18.1.10"])])));
    check(never, Ok(NEXT));
    // A pod may forward for others that are in no other way reached.
    let mut forwards = told(vec![found(20, &[]), next_veth()]);
    forwards.push((151, changes(100, 151, vec![])));
    check(forwards, Ok(WEB));
}

#[test]
fn a_packet_on_an_interface_nobody_told_of_asks_what_has_changed_and_waits() {
    let mut world = world();
    world.see(50, seen(50, NEXT_VETH, Direction::In));
    assert_eq!(world.asked, [Rescan::TopologyChanges]);
    world.asked.clear();
    world.see(51, changes(10, 51, vec![found(10, &["198.18.1.10"]), next_veth()]));
    assert_eq!(world.sockets_asked(), [(NEXT, client())]);
    // What no event tells of, a whole look does.
    world.see(60, seen(60, 99, Direction::In));
    world.see(61, changes(51, 61, vec![]));
    world.wait_until(100);
    assert_eq!(world.asked, [Rescan::TopologyChanges, Rescan::Topology]);
}

#[test]
fn an_answer_about_a_namespace_that_has_ended_leaves_the_place_that_is_sure() {
    let ended = snapshot(NEXT, Rung::SockDiag, SnapshotScope::Ended, vec![]);
    check(
        vec![
            (100, changes(10, 100, vec![found(20, &["198.18.1.10"]), next_veth()])),
            (150, seen(150, NEXT_VETH, Direction::In)),
            (
                160,
                changes(
                    100,
                    160,
                    vec![TopologyChange::Ended(NEXT_ID), TopologyChange::InterfaceGone(NEXT_VETH)],
                ),
            ),
            (161, ended),
        ],
        Ok(NEXT),
    );
}
