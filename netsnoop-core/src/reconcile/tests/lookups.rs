//! Socket tables: the way without kernel events, and connections older than netsnoop.

use super::*;

fn client() -> FiveTuple {
    tcp("198.18.1.10:40000", "198.18.1.13:6379")
}

fn proc_only() -> World {
    World::new(Hooks::default())
}

#[test]
fn a_syn_asks_in_both_namespaces_and_the_answers_open_the_connection() {
    let mut world = proc_only();
    let listening = row(tcp("0.0.0.0:6379", "0.0.0.0:0"), TcpState::LISTEN, &[8, 9]);
    world.see(0, snapshot(DB, Rung::SockDiag, SnapshotScope::Whole, vec![listening]));
    world.see(1, packet(1, WEB_VETH, client(), syn(5)));
    let mut asked = world.sockets_asked();
    asked.sort();
    assert_eq!(asked, [(WEB, client()), (DB, client().mirrored())]);
    world.see(2, found(WEB, vec![row(client(), TcpState::SYN_SENT, &[7])]));
    assert_eq!(world.events(), []);
    world.see(2, found(DB, vec![row(tcp("0.0.0.0:6379", "0.0.0.0:0"), TcpState::LISTEN, &[8, 9])]));
    world.see(2, packet(2, DB_VETH, client().mirrored(), syn_ack(5)));
    world.wait_until(110);
    assert_eq!(world.events(), [RecordEvent::Open]);
    let open = world.last();
    assert_eq!(pid_of(&open.client), Some(7));
    assert_eq!(open.client.attribution.evidence, Some(Evidence::SockDiag));
    assert!(matches!(&open.server.attribution.owner, Owner::Shared(holders) if holders.len() == 2));
    assert_eq!(open.server.attribution.evidence, Some(Evidence::Listener));
}

#[test]
fn what_was_not_found_says_why() {
    let mut world = proc_only();
    world.see(1, packet(1, UPLINK, tcp("198.18.1.10:40000", "203.0.113.9:443"), syn(5)));
    let missing = vec![(tcp("198.18.1.10:40000", "203.0.113.9:443"), Reason::GoneBeforeLookup)];
    world.see(2, snapshot(WEB, Rung::SockDiag, SnapshotScope::Wanted { missing }, vec![]));
    world.wait_until(150);
    assert_eq!(world.last().client.attribution.reason(), Some(Reason::GoneBeforeLookup));
    assert_eq!(world.last().client.attribution.level().name(), "namespace");
    assert_eq!(world.last().server.attribution.reason(), Some(Reason::Remote));
}

#[test]
fn a_connection_that_is_over_waits_for_no_answer() {
    let mut world = proc_only();
    let tuple = tcp("198.18.1.10:40000", "203.0.113.9:443");
    world.see(1, packet(1, UPLINK, tuple, syn(5)));
    world.see(5, packet(5, UPLINK, tuple.mirrored(), segment(TcpFlags::RST, 0, 6)));
    world.wait_until(1_000);
    assert_eq!(world.last().event, RecordEvent::Close);
    assert_eq!(world.last().client.attribution.reason(), Some(Reason::GoneBeforeLookup));
}

#[test]
fn an_owner_is_of_the_connection_that_the_port_served_while_the_tables_were_read() {
    let tuple = tcp("198.18.1.10:40000", "203.0.113.9:443");
    let answer_of = |millis, holders: &[u32]| {
        Observation::Sockets(SocketSnapshot {
            namespace: WEB,
            rung: Rung::SockDiag,
            started: at(millis),
            finished: at(millis),
            searched: at(millis),
            scope: SnapshotScope::Wanted { missing: vec![] },
            sockets: vec![row(tuple, TcpState::ESTABLISHED, holders)],
            only_user: None,
            oldest_process: None,
            exits: None,
            pod_keeper: None,
        })
    };
    let answer = |millis| answer_of(millis, &[9]);
    let orphan = |millis| answer_of(millis, &[]);
    let first = || packet(1, UPLINK, tuple, syn(5));
    let second = || packet(10, UPLINK, tuple, syn(6));
    let reset = || packet(3, UPLINK, tuple.mirrored(), segment(TcpFlags::RST, 0, 6));
    let cases = [
        // Read when the first connection had ended; it is told of before the second SYN could take anything back.
        (vec![first(), reset(), answer(15), second(), answer(16)], [None, Some(9)]),
        // Read in time.
        (vec![first(), answer(5), second(), answer(15)], [Some(9), Some(9)]),
        // Read too late, and both SYNs are known by then.
        (vec![first(), second(), answer(15), answer(16)], [None, Some(9)]),
        // Read too late, and the second SYN is still on its way.
        (vec![first(), answer(15), second(), answer(16)], [None, Some(9)]),
        // Read before the second SYN: an answer to the first question alone.
        (vec![first(), second(), answer(5), answer(15)], [Some(9), Some(9)]),
    ];
    for (observations, expected) in cases {
        let mut world = proc_only();
        observations.into_iter().for_each(|observation| world.see(20, observation));
        world.wait_until(400);
        let owner_in = |id| world.told.iter().rfind(|told| told.id == id).map(|told| pid_of(&told.client));
        let mut opens = world.opens();
        opens.sort_by_key(|open| open.start);
        let owners: Vec<_> = opens.iter().map(|open| owner_in(open.id)).collect();
        assert_eq!(owners, expected.map(Some));
    }
    // Nor is the user of a socket without a holder.
    for observations in [
        vec![first(), reset(), orphan(15), second(), answer(16)],
        vec![first(), second(), orphan(15), answer(16)],
        vec![first(), orphan(15), second(), answer(16)],
    ] {
        let mut world = proc_only();
        observations.into_iter().for_each(|observation| world.see(20, observation));
        world.wait_until(400);
        let first = world.opens().into_iter().min_by_key(|open| open.start).map(|open| open.id);
        let told = world.told.iter().rfind(|told| Some(told.id) == first);
        assert_eq!(told.and_then(|told| told.client.attribution.socket_uid), None, "{told:#?}");
    }
}

#[test]
fn a_process_younger_than_the_syn_did_not_send_it() {
    let mut world = proc_only();
    world.see(1, packet(1, UPLINK, tcp("198.18.1.10:40000", "203.0.113.9:443"), syn(5)));
    let mut young = row(tcp("198.18.1.10:40000", "203.0.113.9:443"), TcpState::ESTABLISHED, &[7]);
    young.holders[0].id = ProcessId::from_boot_nanos(7, at(20).as_nanos());
    world.see(600, found(WEB, vec![young]));
    assert_eq!(pid_of(&world.last().client), None);
    assert_eq!(world.last().client.attribution.reason(), Some(Reason::GoneBeforeLookup));
}

#[test]
fn holders_that_could_not_be_read_are_a_matter_of_permission() {
    let mut world = proc_only();
    world.see(1, packet(1, UPLINK, tcp("198.18.1.10:40000", "203.0.113.9:443"), syn(5)));
    let mut unread = row(tcp("198.18.1.10:40000", "203.0.113.9:443"), TcpState::ESTABLISHED, &[]);
    unread.holders_lack = Some(Reason::Permission);
    world.answer_every_look(&found(WEB, vec![unread]));
    assert_eq!(world.last().client.attribution.reason(), Some(Reason::Permission));
    assert_eq!(world.last().client.attribution.socket_uid, Some(10_001));
}

#[test]
fn holders_that_nobody_looked_for_everywhere_are_no_matter_of_permission() {
    let mut world = proc_only();
    world.see(1, packet(1, UPLINK, tcp("198.18.1.10:40000", "203.0.113.9:443"), syn(5)));
    let mut unread = row(tcp("198.18.1.10:40000", "203.0.113.9:443"), TcpState::ESTABLISHED, &[]);
    unread.holders_lack = Some(Reason::GoneBeforeLookup);
    world.answer_every_look(&found(WEB, vec![unread]));
    assert_eq!(world.last().client.attribution.reason(), Some(Reason::GoneBeforeLookup));
}

#[test]
fn who_accepts_is_looked_for_until_somebody_did() {
    let mut world = proc_only();
    let listener = || row(tcp("0.0.0.0:6379", "0.0.0.0:0"), TcpState::LISTEN, &[8, 9]);
    world.see(1, packet(1, WEB_VETH, client(), syn(5)));
    world.see(1, packet(1, WEB_VETH, client().mirrored(), syn_ack(5)));
    let asked_for_listener = world.asked.iter().any(|rescan| {
        matches!(rescan, Rescan::Sockets { namespace, wanted }
            if *namespace == DB && wanted.contains(&client().mirrored().listening()))
    });
    assert!(asked_for_listener, "{:?}", world.asked);
    world.sockets_asked();
    world.see(2, found(WEB, vec![row(client(), TcpState::ESTABLISHED, &[7])]));
    world.see(2, found(DB, vec![listener()]));
    assert_eq!(world.events(), [], "one of two will accept");
    world.wait_until(4);
    assert_eq!(world.sockets_asked(), [(DB, client().mirrored())]);
    // Accepted, but the file is not in the worker's table yet.
    world.see(5, found(DB, vec![listener(), row(client().mirrored(), TcpState::ESTABLISHED, &[])]));
    world.wait_until(15);
    assert_eq!(world.sockets_asked(), [(DB, client().mirrored())]);
    world.see(16, found(DB, vec![listener(), row(client().mirrored(), TcpState::ESTABLISHED, &[9])]));
    assert_eq!(world.events(), [RecordEvent::Open]);
    assert_eq!(pid_of(&world.last().server), Some(9));
    assert_eq!(world.last().server.attribution.evidence, Some(Evidence::SockDiag));
}

#[test]
fn a_connection_handed_over_after_its_accept_stays_the_listeners() {
    let mut world = proc_only();
    let listener = || row(tcp("0.0.0.0:6379", "0.0.0.0:0"), TcpState::LISTEN, &[8]);
    world.see(1, packet(1, WEB_VETH, client(), syn(5)));
    world.see(2, found(WEB, vec![row(client(), TcpState::ESTABLISHED, &[7])]));
    world.see(2, found(DB, vec![listener()]));
    world.see(3, packet(3, WEB_VETH, client().mirrored(), syn_ack(5)));
    assert_eq!(pid_of(&world.last().server), Some(8));
    world.see(4, found(DB, vec![listener(), row(client().mirrored(), TcpState::ESTABLISHED, &[9])]));
    world.wait_until(500);
    assert_eq!(pid_of(&world.last().server), Some(8));
    assert_eq!(world.reconciler.ledger().conflicts, 0);
}

#[test]
fn an_owner_is_told_once_no_packet_on_its_way_can_take_it_back() {
    let tuple = tcp("198.18.1.10:40000", "203.0.113.9:443");
    let mut world = proc_only();
    world.see(0, Observation::PacketsUntil(at(0)));
    world.see(1, packet(1, UPLINK, tuple, syn(5)));
    world.see(2, packet(2, UPLINK, tuple.mirrored(), segment(TcpFlags::RST, 0, 6)));
    let answer = Observation::Sockets(SocketSnapshot {
        namespace: WEB,
        rung: Rung::SockDiag,
        started: at(2),
        finished: at(3),
        searched: at(3),
        scope: SnapshotScope::Wanted { missing: vec![] },
        sockets: vec![row(tuple, TcpState::ESTABLISHED, &[9])],
        only_user: None,
        oldest_process: None,
        exits: None,
        pod_keeper: None,
    });
    world.see(4, answer);
    assert_eq!(world.events(), []);
    // The port served another connection when the tables were read.
    world.see(5, packet(3, UPLINK, tuple, syn(6)));
    world.see(6, Observation::PacketsUntil(at(5)));
    world.wait_until(400);
    let first = world.opens().into_iter().find(|open| open.start == Some(at(1))).unwrap();
    assert_eq!(pid_of(&first.client), None);

    let mut world = proc_only();
    world.see(0, Observation::PacketsUntil(at(0)));
    world.see(1, packet(1, UPLINK, tuple, syn(5)));
    world.see(1, packet(1, UPLINK, tuple.mirrored(), syn_ack(5)));
    let answer = found(WEB, vec![row(tuple, TcpState::ESTABLISHED, &[9])]);
    world.see(3, answer);
    world.see(4, Observation::PacketsUntil(at(u64::from(u32::MAX) + 1)));
    assert_eq!(world.events(), [RecordEvent::Open]);
    assert_eq!(pid_of(&world.last().client), Some(9));
}

#[test]
fn questions_of_one_namespace_wait_for_its_answer_and_then_go_out_together() {
    let mut world = proc_only();
    let tuple = |port: u32| tcp(&alloc::format!("198.18.1.10:{port}"), "203.0.113.9:443");
    for port in 40_000..40_010 {
        world.see(1, packet(1, UPLINK, tuple(port), syn(port)));
    }
    assert_eq!(world.sockets_asked().len(), 1);
    world.see(2, found(WEB, vec![row(tuple(40_000), TcpState::ESTABLISHED, &[7])]));
    assert_eq!(world.sockets_asked().len(), 9);
}

#[test]
fn connections_older_than_netsnoop_are_one_record_with_both_owners_and_no_start() {
    let mut world = proc_only();
    let whole = |namespace, rows| snapshot(namespace, Rung::Iterator, SnapshotScope::Whole, rows);
    let listening = row(tcp("0.0.0.0:6379", "0.0.0.0:0"), TcpState::LISTEN, &[8]);
    world.see(1, whole(WEB, vec![row(client(), TcpState::ESTABLISHED, &[7])]));
    world.see(1, whole(DB, vec![listening, row(client().mirrored(), TcpState::ESTABLISHED, &[8])]));
    assert_eq!(world.events(), [RecordEvent::Open]);
    let open = world.last();
    assert!(open.start.is_none() && open.duration.is_none());
    assert_eq!(open.role.name(), "listener");
    assert_eq!((pid_of(&open.client), pid_of(&open.server)), (Some(7), Some(8)));
}

#[test]
fn a_use_of_a_connection_older_than_netsnoop_does_not_make_the_user_its_owner() {
    for (holders, expected) in [(&[7, 9][..], None), (&[7][..], Some(7))] {
        let mut world = World::new(ALL_HOOKS);
        let rows = vec![row(client(), TcpState::ESTABLISHED, holders)];
        world.see(1, snapshot(WEB, Rung::Iterator, SnapshotScope::Whole, rows));
        let socket = Socket::new(WEB, client(), 100);
        world.see(5, socket.event(5, Act::FirstSend, Some(9)));
        world.wait_until(500);
        assert_eq!(pid_of(&world.last().client), expected, "{holders:?}");
    }
}

#[test]
fn a_connection_nothing_is_heard_of_is_probed_and_closed_when_it_is_gone() {
    let mut world = proc_only();
    let tuple = tcp("198.18.1.10:40000", "203.0.113.9:443");
    world.see(1, packet(1, UPLINK, tuple, syn(5)));
    world.see(2, found(WEB, vec![row(tuple, TcpState::ESTABLISHED, &[7])]));
    world.see(3, packet(3, UPLINK, tuple.mirrored(), syn_ack(5)));
    world.sockets_asked();
    world.wait_until(400_000);
    assert_eq!(world.sockets_asked(), [(WEB, tuple)]);
    let missing = vec![(tuple, Reason::GoneBeforeLookup)];
    world.see(400_001, snapshot(WEB, Rung::SockDiag, SnapshotScope::Wanted { missing }, vec![]));
    world.wait_until(400_500);
    assert_eq!(world.last().event, RecordEvent::Close);
    assert_eq!(pid_of(&world.last().client), Some(7), "what was known stays known");
}

#[test]
fn a_port_that_another_process_holds_after_a_silence_begins_a_new_flow() {
    let tuple = udp("198.18.1.10:5353", "203.0.113.9:53");
    let at_millis = |millis| packet(millis, UPLINK, tuple, PacketContent::Udp { payload_length: 9 });
    let answers = [
        (found(WEB, vec![row(tuple, TcpState::CLOSE, &[7])]), None),
        (found(WEB, vec![row(tuple, TcpState::CLOSE, &[9])]), Some(Some(9))),
        (found(WEB, vec![row(tuple, TcpState::CLOSE, &[])]), Some(None)),
        (
            snapshot(
                WEB,
                Rung::SockDiag,
                SnapshotScope::Wanted { missing: vec![(tuple, Reason::GoneBeforeLookup)] },
                vec![],
            ),
            Some(None),
        ),
    ];
    for (answer, expected) in answers {
        let mut world = proc_only();
        world.see(1, at_millis(1));
        world.see(2, found(WEB, vec![row(tuple, TcpState::CLOSE, &[7])]));
        world.see(2, at_millis(1));
        assert_eq!(world.sockets_asked(), [(WEB, tuple)], "without a pause nothing more is asked");
        world.see(5_000, at_millis(5_000));
        assert_eq!(world.sockets_asked(), [(WEB, tuple)]);
        world.see(5_001, answer);
        world.see(5_002, at_millis(5_002));
        world.wait_until(5_200);
        let owners: Vec<_> = world.opens().iter().map(|open| pid_of(&open.client)).collect();
        let mut all = vec![Some(7)];
        all.extend(expected);
        assert_eq!(owners, all);
        let closes = world.told.iter().filter(|record| record.event == RecordEvent::Close);
        assert_eq!(closes.map(|close| close.at).collect::<Vec<_>>(), vec![at(1); all.len() - 1]);
    }
}

#[test]
fn a_socket_that_was_left_to_a_child_goes_on_with_its_flow() {
    let tuple = udp("198.18.1.10:5353", "203.0.113.9:53");
    let at_millis = |millis| packet(millis, UPLINK, tuple, PacketContent::Udp { payload_length: 9 });
    let held_by = |holder, cookie| {
        let held = row(tuple, TcpState::CLOSE, &[holder]);
        found(WEB, vec![SocketRow { cookie: NonZeroU64::new(cookie), ..held }])
    };
    for (cookie, expected) in [(5, vec![Some(7)]), (6, vec![Some(7), Some(9)])] {
        let mut world = proc_only();
        world.see(1, at_millis(1));
        world.see(2, held_by(7, 5));
        world.see(5_000, at_millis(5_000));
        world.see(5_001, held_by(9, cookie));
        world.wait_until(5_200);
        let owners: Vec<_> = world.opens().iter().map(|open| pid_of(&open.client)).collect();
        assert_eq!(owners, expected, "cookie {cookie}");
    }
}

#[test]
fn the_longer_a_flow_lasts_the_longer_a_pause_must_be_to_be_doubted() {
    let tuple = udp("198.18.1.10:5353", "203.0.113.9:53");
    let mut world = proc_only();
    let mut doubted = Vec::new();
    for millis in (1..1_000).step_by(5) {
        world.see(millis, packet(millis, UPLINK, tuple, PacketContent::Udp { payload_length: 9 }));
        if !world.sockets_asked().is_empty() {
            doubted.push(millis);
            world.see(millis, found(WEB, vec![row(tuple, TcpState::CLOSE, &[7])]));
        }
    }
    assert_eq!(doubted, [1, 6, 11, 16]);
}

#[test]
fn a_hook_that_misses_a_connection_is_made_up_for_by_a_lookup() {
    let mut world = World::new(ALL_HOOKS);
    world.see(1, packet(1, UPLINK, tcp("198.18.1.10:40000", "203.0.113.9:443"), syn(5)));
    assert_eq!(world.sockets_asked(), [], "the event may still come");
    world.wait_until(60);
    assert_eq!(world.sockets_asked().len(), 1);
}
