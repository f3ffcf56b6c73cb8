//! Kernel events: who connects, accepts, sends; one record whatever the order and however many sources.

use super::*;

pub(super) const CLIENT: &str = "198.18.1.10:40000";
pub(super) const SERVER: &str = "198.18.1.13:6379";

pub(super) fn client() -> Socket {
    Socket::new(WEB, tcp(CLIENT, SERVER), 100)
}

pub(super) fn server() -> Socket {
    Socket::new(DB, tcp(SERVER, CLIENT), 200)
}

#[test]
fn a_connection_between_two_pods_is_one_record_with_both_owners_and_its_bytes() {
    let mut world = World::new(ALL_HOOKS);
    world.see(10, client().event(10, Act::Connect, Some(7)));
    world.see(10, packet(10, WEB_VETH, client().tuple, syn(5)));
    world.see(10, packet(10, DB_VETH, client().tuple, syn(5)));
    world.see(11, server().event(11, Act::Established { by_client: false }, None));
    world.see(11, packet(11, DB_VETH, server().tuple, syn_ack(5)));
    world.see(11, client().event(11, Act::Established { by_client: true }, None));
    assert_eq!(world.events(), [], "the accept is still awaited");
    world.see(12, server().event(12, Act::Accept, Some(8)));
    assert_eq!(world.events(), [RecordEvent::Open]);
    let open = world.last();
    assert_eq!((pid_of(&open.client), pid_of(&open.server)), (Some(7), Some(8)));
    assert_eq!(open.client.attribution.evidence, Some(Evidence::KernelEvent));
    assert_eq!(open.interface.as_deref(), Some("veth-web"), "the one nearest to the client");
    assert_eq!(open.client.namespace, Some(WEB));

    world.see(20, client().closed(20, TcpState::FIN_WAIT2, 0, (16, 2)));
    world.see(20, server().closed(20, TcpState::LAST_ACK, 0, (2, 16)));
    assert_eq!(world.events(), [RecordEvent::Open, RecordEvent::Close]);
    assert_eq!(world.last().state.name(), "closed");
    assert_eq!(
        world.last().io.map(|io| (io.exchanged.sent_bytes, io.exchanged.received_bytes)),
        Some((16, 2))
    );
    assert_eq!(world.last().duration, Some(Duration::from_millis(10)));
    world.wait_until(60_000);
    assert_eq!(world.reconciler.connections_held(), 0);
    assert_eq!(world.reconciler.ledger().ends_attributed, 2);
}

#[test]
fn a_socket_with_an_address_that_no_interface_has_is_known_by_its_event() {
    for heard in [11, 60] {
        let mut world = World::new(ALL_HOOKS);
        let proxy = Socket::new(NODE, tcp("203.0.113.7:40000", "203.0.113.9:80"), 100);
        world.see(10, packet(10, UPLINK, proxy.tuple, syn(5)));
        world.see(10, packet(10, UPLINK, proxy.tuple.mirrored(), syn_ack(5)));
        world.wait_until(heard);
        assert_eq!(world.events(), [], "the event may be on its way");
        world.see(heard, proxy.event(10, Act::Connect, Some(7)));
        world.wait_until(2_000);
        assert_eq!(world.opens().len(), 1);
        assert_eq!(pid_of(&world.opens()[0].client), Some(7));
    }
    // Another's event of a later time shows that there is none.
    let mut world = World::new(ALL_HOOKS);
    let passing = tcp("203.0.113.7:40000", "203.0.113.9:80");
    world.see(10, packet(10, UPLINK, passing, syn(5)));
    world.see(11, client().event(11, Act::Connect, Some(7)));
    world.see(12, packet(12, UPLINK, passing.mirrored(), syn_ack(5)));
    assert_eq!(world.opens().len(), 1);
    assert_eq!(world.last().client.attribution.reason(), Some(Reason::Remote));
}

#[test]
fn the_same_loopback_five_tuple_in_two_pods_is_two_connections() {
    let mut world = World::new(ALL_HOOKS);
    let tuple = tcp("127.0.0.1:40000", "127.0.0.1:6379");
    for (namespace, base, pids) in [(WEB, 100, [7, 8]), (DB, 300, [9, 10])] {
        let client = Socket::new(namespace, tuple, base);
        let server = Socket::new(namespace, tuple.mirrored(), base + 1);
        world.see(10, client.event(10, Act::Connect, Some(pids[0])));
        world.see(10, server.event(10, Act::Established { by_client: false }, None));
        world.see(10, server.event(10, Act::Accept, Some(pids[1])));
    }
    let owners: Vec<_> =
        world.opens().iter().map(|open| (pid_of(&open.client), pid_of(&open.server))).collect();
    assert_eq!(owners, [(Some(7), Some(8)), (Some(9), Some(10))]);
}

#[test]
fn a_port_that_another_process_uses_again_at_once_is_a_new_connection() {
    let mut world = World::new(ALL_HOOKS);
    let second = Socket { cookie: 101, ..client() };
    world.see(10, client().event(10, Act::Connect, Some(7)));
    world.see(10, packet(10, WEB_VETH, client().tuple, syn(5)));
    world.see(11, client().closed(11, TcpState::SYN_SENT, 111, (0, 0)));
    world.see(12, packet(12, WEB_VETH, client().tuple, syn(6)));
    world.see(12, second.event(12, Act::Connect, Some(8)));
    world.wait_until(300);
    let owners: Vec<_> = world.opens().iter().map(|open| pid_of(&open.client)).collect();
    assert_eq!(owners, [Some(7), Some(8)]);
}

#[test]
fn a_refused_connection_has_its_client_and_says_that_nothing_listens() {
    let mut world = World::new(ALL_HOOKS);
    world.see(10, client().event(10, Act::Connect, Some(7)));
    world.see(10, client().closed(10, TcpState::SYN_SENT, 111, (0, 0)));
    // Whose namespace it is, is asked once.
    let asked = server().tuple;
    assert_eq!((world.events().len(), world.sockets_asked()), (0, vec![(DB, asked)]));
    let missing = vec![(asked, Reason::GoneBeforeLookup)];
    world.see(12, snapshot(DB, Rung::SockDiag, SnapshotScope::Wanted { missing }, vec![]));
    assert_eq!(world.events(), [RecordEvent::Open, RecordEvent::Close]);
    assert_eq!(world.last().state.name(), "refused");
    assert_eq!(world.last().server.attribution.reason(), Some(Reason::ClosedPort));
    let again = Socket::new(WEB, tcp("198.18.1.10:40001", "198.18.1.13:6379"), 21);
    world.see(20, again.event(20, Act::Connect, Some(7)));
    world.see(20, again.closed(20, TcpState::SYN_SENT, 111, (0, 0)));
    assert_eq!((world.events().len(), world.sockets_asked()), (4, vec![]));
}

#[test]
fn a_connection_nobody_accepts_belongs_to_who_listens() {
    let mut world = World::new(ALL_HOOKS);
    let listener = Socket::new(DB, tcp("0.0.0.0:6379", "0.0.0.0:0"), 1);
    world.see(1, listener.event(1, Act::Listen, Some(8)));
    world.see(10, client().event(10, Act::Connect, Some(7)));
    world.see(10, server().event(10, Act::Established { by_client: false }, None));
    world.wait_until(200);
    assert_eq!(pid_of(&world.last().server), Some(8));
    assert_eq!(world.last().server.attribution.evidence, Some(Evidence::Listener));
    // The worker that accepts it in the end is the owner; that contradicts what was told.
    world.see(300, server().event(300, Act::Accept, Some(9)));
    assert_eq!(world.events(), [RecordEvent::Open, RecordEvent::Update]);
    assert_eq!(pid_of(&world.last().server), Some(9));
    assert_eq!(world.reconciler.ledger().conflicts, 1);
    // A later user of the same socket is not.
    world.see(301, server().event(301, Act::FirstSend, Some(10)));
    assert_eq!(world.events().len(), 2);
}

#[test]
fn who_called_listen_is_not_taken_for_who_accepts_where_no_hook_tells_of_accepts() {
    let mut world = World::new(Hooks { accept: false, ..ALL_HOOKS });
    let listener = Socket::new(DB, tcp("0.0.0.0:6379", "0.0.0.0:0"), 1);
    world.see(1, listener.event(1, Act::Listen, Some(8)));
    world.see(10, client().event(10, Act::Connect, Some(7)));
    world.see(10, server().event(10, Act::Established { by_client: false }, None));
    world.wait_until(200);
    assert_eq!(pid_of(&world.last().server), None);
    world.see(300, server().event(300, Act::FirstReceive, Some(9)));
    assert_eq!(pid_of(&world.last().server), Some(9));
    assert_eq!(world.reconciler.ledger().conflicts, 0);
}

#[test]
fn a_connection_that_is_reset_long_before_its_server_accepts_it_is_one() {
    let mut world = World::new(ALL_HOOKS);
    world.see(10, client().event(10, Act::Connect, Some(7)));
    world.see(10, server().event(10, Act::Established { by_client: false }, None));
    world.see(11, client().closed(11, TcpState::ESTABLISHED, 0, (0, 0)));
    world.see(11, server().closed(11, TcpState::ESTABLISHED, 104, (0, 0)));
    world.wait_until(30_000);
    world.see(30_000, server().event(30_000, Act::Accept, Some(8)));
    world.wait_until(31_000);
    assert_eq!(world.events(), [RecordEvent::Open, RecordEvent::Close]);
    assert_eq!(world.last().state.name(), "reset");
    world.wait_until(100_000);
    assert_eq!(world.reconciler.connections_held(), 0);
}

#[test]
fn a_socket_address_used_again_by_the_next_connection_does_not_join_it_to_the_last() {
    // Raw tracepoints cannot make cookies, and the port is used again too: the next accepted socket lies where
    // the last one lay and has the same peer.
    let mut world = World::new(ALL_HOOKS);
    let no_cookie = |observation| match observation {
        Observation::Kernel(mut event) => {
            if let Some(socket) = &mut event.socket {
                socket.cookie = None;
            }
            Observation::Kernel(event)
        }
        other => other,
    };
    for (millis, isn, pid) in [(10, 5, 8), (20, 6, 9)] {
        let client = Socket { isn: Some(isn), ..client() };
        let server = Socket { isn: Some(isn), ..server() };
        world.see(millis, no_cookie(client.event(millis, Act::Connect, Some(7))));
        world.see(millis + 1, no_cookie(server.event(millis + 1, Act::Accept, Some(pid))));
        world.see(millis + 2, no_cookie(client.closed(millis + 2, TcpState::ESTABLISHED, 104, (0, 0))));
        world.see(millis + 2, no_cookie(server.closed(millis + 2, TcpState::ESTABLISHED, 0, (0, 0))));
    }
    let owners: Vec<_> = world.opens().iter().map(|open| pid_of(&open.server)).collect();
    assert_eq!(owners, [Some(8), Some(9)]);
}

#[test]
fn a_listener_whose_process_has_ended_is_looked_up_instead() {
    let mut world = World::new(ALL_HOOKS);
    let listener = Socket::new(DB, tcp("0.0.0.0:6379", "0.0.0.0:0"), 1);
    world.see(1, listener.event(1, Act::Listen, Some(8)));
    let exit =
        KernelEvent { at: at(2), rung: Rung::TpBtf, act: Act::Exit, process: Some(process(8)), socket: None };
    world.see(2, Observation::Kernel(exit));
    world.see(10, client().event(10, Act::Connect, Some(7)));
    world.see(10, server().event(10, Act::Established { by_client: false }, None));
    world.wait_until(50);
    assert_eq!(world.sockets_asked(), [(DB, server().tuple)]);
}

#[test]
fn datagrams_of_an_unconnected_socket_and_their_packets_are_one_flow() {
    let mut world = World::new(ALL_HOOKS);
    let wildcard = Socket::new(WEB, udp("0.0.0.0:5000", "198.18.1.13:53"), 100);
    let packets = udp("198.18.1.10:5000", "198.18.1.13:53");
    let answering = Socket::new(DB, udp("0.0.0.0:53", "198.18.1.10:5000"), 200);
    let datagram = PacketContent::Udp { payload_length: 30 };
    let mut orders = vec![
        wildcard.event(10, Act::FirstSend, Some(7)),
        packet(10, WEB_VETH, packets, datagram),
        answering.event(10, Act::FirstReceive, Some(8)),
    ];
    for _ in 0..orders.len() {
        orders.rotate_left(1);
        let mut world_of_order = World::new(ALL_HOOKS);
        orders.iter().for_each(|observation| world_of_order.see(10, observation.clone()));
        world_of_order.wait_until(200);
        let opens = world_of_order.opens();
        assert_eq!(opens.len(), 1, "{opens:#?}");
        assert_eq!((pid_of(&opens[0].client), pid_of(&opens[0].server)), (Some(7), Some(8)));
        assert_eq!(opens[0].client.endpoint, packets.local);
        assert_eq!(opens[0].server.endpoint, packets.remote);
    }
    world.see(10, orders.remove(0));
    world.wait_until(100_000);
    assert_eq!(world.last().event, RecordEvent::Close, "silence ends a flow");
}

#[test]
fn a_socket_bound_to_no_address_is_not_reached_by_that_of_another_namespace() {
    // One client port, two servers: each of them sees the same peer.
    let mut world = World::new(ALL_HOOKS);
    let to_db = udp("198.18.1.10:5000", "198.18.1.13:53");
    let to_node = Socket::new(NODE, udp("0.0.0.0:53", "198.18.1.10:5000"), 300);
    world.see(10, packet(10, WEB_VETH, to_db, PacketContent::Udp { payload_length: 30 }));
    world.see(10, to_node.event(10, Act::FirstReceive, Some(9)));
    world.wait_until(2000);
    let server_of = |record: &&&ConnectionRecord| record.server.endpoint == to_db.remote;
    let opens = world.opens();
    assert_eq!(opens.len(), 2, "{opens:#?}");
    let server = &opens.iter().find(server_of).unwrap().server;
    assert_eq!((server.namespace, pid_of(server)), (Some(DB), None));
}

#[test]
fn an_inode_given_to_a_new_namespace_does_not_join_it_to_the_old_one() {
    let reused = NamespaceKey { inode: WEB.inode, cookie: NonZeroU64::new(99) };
    let mut world = World::new(ALL_HOOKS);
    let tuple = tcp("127.0.0.1:40000", "127.0.0.1:6379");
    world.see(10, Socket::new(WEB, tuple, 100).event(10, Act::Connect, Some(7)));
    world.see(11, Socket::new(reused, tuple.mirrored(), 200).event(11, Act::Accept, Some(8)));
    world.wait_until(300);
    assert_eq!(world.opens().len(), 2);
    assert!(
        world.opens().iter().all(|open| pid_of(&open.client).is_none() || pid_of(&open.server).is_none())
    );
}

#[test]
fn events_that_are_behind_their_packets_are_waited_for() {
    let mut world = World::new(ALL_HOOKS);
    let reset = segment(TcpFlags::RST, 6, 6);
    world.see(10, packet(10, WEB_VETH, client().tuple, syn(5)));
    world.see(10, packet(10, DB_VETH, server().tuple, syn_ack(5)));
    world.see(11, packet(11, WEB_VETH, client().tuple, reset));
    world.wait_until(500);
    assert_eq!(world.events(), [], "nothing has been heard of that moment");
    world.see(510, client().event(10, Act::Connect, Some(7)));
    world.see(510, server().event(10, Act::Established { by_client: false }, None));
    world.see(510, server().event(10, Act::Accept, Some(8)));
    world.see(510, client().closed(11, TcpState::ESTABLISHED, 0, (0, 0)));
    world.see(510, server().closed(11, TcpState::ESTABLISHED, 104, (0, 0)));
    assert_eq!(world.events(), [RecordEvent::Open, RecordEvent::Close]);
    assert_eq!((pid_of(&world.last().client), pid_of(&world.last().server)), (Some(7), Some(8)));
}

#[test]
fn an_event_that_comes_after_the_packet_it_tells_of_is_of_the_same_connection() {
    let mut world = World::new(ALL_HOOKS);
    let datagram = packet(
        10,
        WEB_VETH,
        udp("198.18.1.10:5000", "198.18.1.13:53"),
        PacketContent::Udp { payload_length: 1 },
    );
    let sender = Socket::new(WEB, udp("198.18.1.10:5000", "198.18.1.13:53"), 100);
    world.see(15, sender.event(15, Act::FirstSend, Some(7)));
    world.see(15, datagram);
    let accepted = Socket { isn: Some(5), ..server() };
    world.see(25, accepted.event(25, Act::Accept, Some(8)));
    world.see(25, packet(20, WEB_VETH, client().tuple, syn(5)));
    world.wait_until(2_000);
    assert_eq!(world.opens().len(), 2);
}
