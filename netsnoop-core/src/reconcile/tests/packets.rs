//! Packets alone: one record for many sightings, places, states.

use super::*;

fn client() -> FiveTuple {
    tcp("198.18.1.10:40000", "198.18.1.13:6379")
}

fn no_sources() -> World {
    World::with(Settings::default())
}

#[test]
fn sightings_on_several_interfaces_are_one_connection() {
    let mut world = no_sources();
    for interface in [WEB_VETH, DB_VETH] {
        world.see(1, packet(1, interface, client(), syn(5)));
        world.see(2, packet(2, interface, client().mirrored(), syn_ack(5)));
    }
    world.wait_until(200);
    assert_eq!(world.events(), [RecordEvent::Open]);
    let open = world.last();
    assert_eq!((open.client.namespace, open.server.namespace), (Some(WEB), Some(DB)));
    assert_eq!(open.state.name(), "established");
    assert_eq!(open.role.name(), "syn");
    assert_eq!(open.client.attribution.reason(), Some(Reason::NotEnabled), "no way of knowing is enabled");
}

#[test]
fn a_name_makes_a_connection_another_services_also_after_it_was_told() {
    use crate::service::{LearntName, NameKind, NamePattern, ServiceName, ServiceRule, Services, Where};
    let rule = ServiceRule {
        service: ServiceName::Given("api".into()),
        place: Where::Named(NameKind::Sni, NamePattern::parse("api.example").unwrap()),
        ports: None,
        transport: None,
    };
    let mut world = World::with(Settings { services: Services::new(vec![rule]), ..Settings::default() });
    world.see(1, packet(1, WEB_VETH, client(), syn(5)));
    world.wait_until(200);
    assert_eq!(world.last().service, None);
    let name = |tuple| match packet(201, WEB_VETH, tuple, segment(TcpFlags::ACK, 6, 1)) {
        Observation::Packet(sighting) => {
            Observation::Name(sighting, LearntName::new(NameKind::Sni, "api.example"))
        }
        other => panic!("{other:?}"),
    };
    // The same by two interfaces, and one of nothing that is held.
    for _ in 0..2 {
        world.see(201, name(client()));
    }
    world.see(201, name(tcp("198.18.1.10:40001", "198.18.1.13:6379")));
    world.wait_until(300);
    assert_eq!(world.events(), [RecordEvent::Open, RecordEvent::Update]);
    let told = world.last();
    assert_eq!(told.service.as_ref().map(|service| &*service.rule), Some("sni api.example"));
    assert_eq!(told.names.len(), 1);
    assert_eq!(world.reconciler.ledger().names_unmatched, 1);
}

#[test]
fn the_end_waits_for_a_name_that_packets_may_tell_yet() {
    use crate::service::{LearntName, NameKind, NamePattern, ServiceName, ServiceRule, Services, Where};
    let check = |kind, named: bool, expected: (bool, Option<&str>)| {
        let rule = ServiceRule {
            service: ServiceName::Given("api".into()),
            place: Where::Named(kind, NamePattern::parse("api.example").unwrap()),
            ports: Some(6379..=6379),
            transport: None,
        };
        let mut world = World::with(Settings { services: Services::new(vec![rule]), ..Settings::default() });
        world.see(1, packet(1, WEB_VETH, client(), syn(5)));
        world.see(2, packet(2, WEB_VETH, client().mirrored(), syn_ack(5)));
        for tuple in [client(), client().mirrored()] {
            world.see(3, packet(3, WEB_VETH, tuple, segment(TcpFlags::FIN, 6, 6)));
        }
        world.wait_until(800);
        assert_eq!(world.events(), [RecordEvent::Open]);
        if named {
            let Observation::Packet(sighting) = packet(3, WEB_VETH, client(), segment(TcpFlags::ACK, 6, 6))
            else {
                panic!("a packet is a packet");
            };
            world.see(801, Observation::Name(sighting, LearntName::new(NameKind::Sni, "api.example")));
        }
        world.wait_until(900);
        let closed = world.last().event == RecordEvent::Close;
        let service = world.last().service.as_ref().map(|service| &*service.name);
        assert_eq!((closed, service), expected);
        world.wait_until(1_100);
        assert_eq!(world.last().event, RecordEvent::Close);
    };
    check(NameKind::Sni, true, (true, Some("api")));
    check(NameKind::Sni, false, (false, None));
}

#[test]
fn a_new_initial_sequence_number_is_a_new_connection_and_a_retransmission_is_not() {
    let mut world = no_sources();
    world.see(1, packet(1, WEB_VETH, client(), syn(5)));
    world.see(2, packet(2, WEB_VETH, client(), syn(5)));
    world.see(3, packet(3, WEB_VETH, client(), syn(6)));
    world.wait_until(200);
    assert_eq!(world.opens().len(), 2);
}

#[test]
fn flags_end_a_connection() {
    let check = |packets: &[(bool, u8)], expected: &str| {
        let mut world = no_sources();
        world.see(1, packet(1, WEB_VETH, client(), syn(5)));
        for (by_client, flags) in packets {
            let tuple = if *by_client { client() } else { client().mirrored() };
            world.see(2, packet(2, WEB_VETH, tuple, segment(*flags, 6, 6)));
        }
        world.wait_until(1_000);
        assert_eq!(world.last().event, RecordEvent::Close, "{expected}");
        assert_eq!(world.last().state.name(), expected);
    };
    let (syn_ack, fin, rst) = (TcpFlags::SYN | TcpFlags::ACK, TcpFlags::FIN, TcpFlags::RST);
    check(&[(false, syn_ack), (true, fin), (false, fin)], "closed");
    check(&[(false, syn_ack), (false, rst)], "reset");
    check(&[(false, rst | TcpFlags::ACK)], "refused");
    check(&[(true, rst)], "reset");
}

#[test]
fn a_syn_that_nobody_answers_times_out() {
    let mut world = no_sources();
    world.see(1, packet(1, WEB_VETH, client(), syn(5)));
    world.wait_until(200_000);
    assert_eq!(world.events(), [RecordEvent::Open, RecordEvent::Close]);
    assert_eq!(world.last().state.name(), "timeout");
}

#[test]
fn an_icmp_error_refuses_a_datagram() {
    let mut world = no_sources();
    let tuple = udp("198.18.1.10:5000", "198.18.1.13:53");
    world.see(1, packet(1, WEB_VETH, tuple, PacketContent::Udp { payload_length: 1 }));
    world.see(1, packet(1, WEB_VETH, tuple, PacketContent::Unreachable));
    world.wait_until(500);
    assert_eq!(world.last().state.name(), "refused");
    assert_eq!(world.last().server.attribution.reason(), Some(Reason::ClosedPort));
}

#[test]
fn somebody_outside_is_remote_and_a_foreign_pair_has_no_local_end() {
    let mut world = no_sources();
    world.see(1, packet(1, UPLINK, tcp("203.0.113.5:50000", "198.18.0.1:22"), syn(1)));
    world.see(1, packet(1, UPLINK, tcp("203.0.113.5:50000", "203.0.113.9:22"), syn(1)));
    world.wait_until(200);
    let reasons: Vec<_> = world
        .opens()
        .iter()
        .map(|open| (open.client.attribution.reason(), open.server.attribution.reason()))
        .collect();
    let remote = Some(Reason::Remote);
    assert!(reasons.contains(&(remote, remote)));
    assert!(reasons.contains(&(remote, Some(Reason::NotEnabled))));
    assert_eq!(world.reconciler.ledger().ends_seen, 1);
}

#[test]
fn a_full_table_evicts_the_oldest_and_counts_it() {
    let mut world = World::with(Settings { connections_max: 10, ..Settings::default() });
    for port in 0..100 {
        let tuple = tcp(&alloc::format!("198.18.1.10:{}", 40_000 + port), "198.18.1.13:6379");
        world.see(1, packet(1, WEB_VETH, tuple, syn(port)));
    }
    assert_eq!(world.reconciler.connections_held(), 10);
    let ledger = world.reconciler.ledger();
    assert_eq!((ledger.connections_evicted, ledger.ends_evicted, ledger.ends_open), (90, 180, 20));
}

#[test]
fn an_unknown_interface_asks_for_the_topology_but_not_at_every_packet() {
    let mut world = no_sources();
    world.see(1, Observation::Topology(topology()));
    for millis in 300..400 {
        world.see(millis, packet(millis, 99, client(), syn(5)));
    }
    let topologies = world.asked.iter().filter(|rescan| **rescan == Rescan::Topology).count();
    assert_eq!(topologies, 1);
}

#[test]
fn a_packet_on_an_interface_younger_than_the_topology_waits_for_the_next_one() {
    let mut world = no_sources();
    let tuple = tcp("198.18.1.77:40000", "203.0.113.9:443");
    world.see(300, packet(300, 99, tuple, syn(5)));
    world.see(301, packet(301, 99, tuple.mirrored(), syn_ack(5)));
    let mut grown = topology();
    let key = NamespaceKey { inode: 9, cookie: None };
    grown.interfaces.push(Interface { index: 99, name: "new".into(), kind: InterfaceKind::Veth(Some(9)) });
    let addresses = vec!["198.18.1.77".parse().unwrap()];
    grown.namespaces.push(NamespaceFacts { key, addresses, name: None, id: Some(9) });
    world.see(350, Observation::Topology(grown));
    world.wait_until(500);
    assert_eq!(world.opens().len(), 1);
    assert_eq!(world.last().client.namespace, Some(key));
    assert_eq!(world.last().server.attribution.reason(), Some(Reason::Remote));
}

#[test]
fn a_late_reset_of_the_connection_before_does_not_end_the_one_that_has_its_port_now() {
    let mut world = no_sources();
    world.see(1, packet(1, WEB_VETH, client(), syn(5)));
    world.see(50, packet(50, WEB_VETH, client(), syn(6)));
    world.see(50, packet(50, WEB_VETH, client().mirrored(), syn_ack(6)));
    world.see(51, packet(3, WEB_VETH, client().mirrored(), segment(TcpFlags::RST, 9, 6)));
    world.wait_until(500);
    let mut states: Vec<_> = world.told.iter().map(|record| (record.at, record.state.name())).collect();
    states.sort_unstable();
    states.dedup_by_key(|(at, _)| *at);
    assert!(states.contains(&(at(50), "established")), "{states:?}");
    assert!(states.contains(&(at(3), "refused")), "{states:?}");
}
