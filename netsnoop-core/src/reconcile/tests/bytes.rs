//! Payload: of connections that live by looks, of those that end by their end, of datagrams by packets; each byte told once.

use alloc::vec;

use proptest::prelude::*;

use super::kernel::{CLIENT, SERVER, client, server};
use super::translation::{began, dnat};
use super::*;
use crate::connection::{Exchanged, Io, IoSource};
use crate::observation::{ByteLook, CountedSocket};

/// A look at `millis` at sockets' bytes: the addresses, cookie (0: none), what it sent and received.
pub(super) fn look(
    millis: u64,
    namespace: NamespaceKey,
    sockets: &[(FiveTuple, u64, u64, u64)],
) -> Observation {
    let counted = |&(tuple, cookie, sent, received): &(FiveTuple, u64, u64, u64)| CountedSocket {
        tuple,
        cookie: NonZeroU64::new(cookie),
        payload: Payload { sent, received },
    };
    let sockets = sockets.iter().map(counted).collect();
    Observation::Bytes(ByteLook { namespace, started: at(millis), sockets })
}

fn look_at(socket: &Socket, millis: u64, sent: u64, received: u64) -> Observation {
    look(millis, socket.namespace, &[(socket.tuple, socket.cookie, sent, received)])
}

/// Both ends are known and the connection is told of.
fn connected() -> World {
    let mut world = World::new(ALL_HOOKS);
    world.see(10, client().event(10, Act::Connect, Some(7)));
    world.see(11, server().event(11, Act::Established { by_client: false }, None));
    world.see(11, client().event(11, Act::Established { by_client: true }, None));
    world.see(12, server().event(12, Act::Accept, Some(8)));
    assert_eq!(world.events(), [RecordEvent::Open]);
    world
}

const fn exchanged(sent_bytes: u64, received_bytes: u64) -> Exchanged {
    Exchanged { sent_bytes, received_bytes }
}

/// What was told while it lived, each time for the first time.
fn progress(world: &World) -> Vec<Exchanged> {
    world.progress.iter().map(|record| record.untold).collect()
}

#[track_caller]
fn ends_with(world: &World, io: Option<Io>, untold: Exchanged) {
    assert_eq!(world.last().event, RecordEvent::Close);
    assert_eq!((world.last().io, world.last().untold), (io, untold));
}

fn io(sent: u64, received: u64, source: IoSource) -> Option<Io> {
    Some(Io { exchanged: exchanged(sent, received), source })
}

#[test]
fn a_connection_tells_its_bytes_while_it_lives_and_the_rest_at_its_end() {
    let mut world = connected();
    world.see(50, look_at(&client(), 50, 1000, 30));
    world.see(60, look_at(&client(), 60, 1000, 30));
    world.see(70, look_at(&client(), 70, 1500, 30));
    assert_eq!(progress(&world), [exchanged(1000, 30), exchanged(500, 0)]);
    assert_eq!(world.progress[1].io, io(1500, 30, IoSource::SockDiag));
    assert_eq!(pid_of(&world.progress[1].client), Some(7));
    assert_eq!(world.events(), [RecordEvent::Open], "nobody else is told");
    world.see(80, client().closed(80, TcpState::FIN_WAIT2, 0, (1600, 31)));
    world.see(80, server().closed(80, TcpState::LAST_ACK, 0, (31, 1600)));
    ends_with(&world, io(1600, 31, IoSource::KernelEvent), exchanged(100, 1));
    // A look that began before the end.
    world.see(81, look_at(&client(), 79, 1550, 30));
    assert_eq!(world.progress.len(), 2);
}

#[test]
fn an_event_that_comes_after_the_end_was_told_loses_no_byte() {
    let mut world = connected();
    for (millis, tuple) in [(20, client().tuple), (20, server().tuple)] {
        world.see(millis, packet(millis, WEB_VETH, tuple, segment(TcpFlags::FIN | TcpFlags::ACK, 76, 9)));
    }
    world.wait_until(1_500);
    ends_with(&world, None, exchanged(0, 0));
    world.see(1_600, server().closed(20, TcpState::LAST_ACK, 0, (31, 1600)));
    world.see(1_600, client().closed(20, TcpState::FIN_WAIT2, 0, (1600, 31)));
    assert_eq!(progress(&world), [exchanged(1600, 31)]);
    assert_eq!(world.told.len(), 2);
}

#[test]
fn both_ends_tell_of_the_same_bytes() {
    let mut world = connected();
    world.see(50, look_at(&client(), 50, 1000, 30));
    // It has received what the client does not know to be acknowledged.
    world.see(50, look_at(&server(), 50, 30, 1200));
    world.see(60, look_at(&server(), 60, 40, 1200));
    world.see(60, look_at(&client(), 60, 1100, 35));
    assert_eq!(progress(&world), [exchanged(1000, 30), exchanged(200, 0), exchanged(0, 10)]);
}

#[test]
fn an_end_without_bytes_leaves_what_was_seen_last() {
    let mut world = World::new(Hooks::default());
    let tuple = tcp(CLIENT, "192.0.2.1:443");
    world.see(10, packet(10, WEB_VETH, tuple, syn(5)));
    world.see(11, packet(11, WEB_VETH, tuple.mirrored(), syn_ack(5)));
    world.wait_until(200);
    assert_eq!(world.opens().len(), 1);
    world.see(300, look(300, WEB, &[(tuple, 9, 70, 7)]));
    for (millis, tuple) in [(310, tuple), (311, tuple.mirrored())] {
        world.see(millis, packet(millis, WEB_VETH, tuple, segment(TcpFlags::FIN | TcpFlags::ACK, 76, 9)));
    }
    world.wait_until(1_000);
    ends_with(&world, io(70, 7, IoSource::SockDiag), exchanged(0, 0));
    assert_eq!(progress(&world), [exchanged(70, 7)]);
}

#[test]
fn of_an_older_connection_only_what_came_after_the_first_look_is_told() {
    let of_older = |looks: &[(u64, u64)]| {
        let mut world = World::new(ALL_HOOKS);
        let sockets = vec![row(client().tuple, TcpState::ESTABLISHED, &[7])];
        let scope = SnapshotScope::Whole;
        let Observation::Sockets(mut seen) = snapshot(WEB, Rung::Iterator, scope, sockets) else {
            panic!("a snapshot is one of sockets")
        };
        (seen.started, seen.finished) = (at(1), at(1));
        world.see(1, Observation::Sockets(seen));
        world.wait_until(2_000);
        assert!(world.last().preexisting);
        for (millis, sent) in looks {
            world.see(*millis, look_at(&client(), *millis, *sent, 0));
        }
        world.see(5_000, client().closed(5_000, TcpState::FIN_WAIT2, 0, (9000, 1)));
        world.wait_until(9_000);
        world
    };
    let world = of_older(&[(3_000, 5000), (4_000, 8000)]);
    assert_eq!(progress(&world), [exchanged(3000, 0)]);
    ends_with(&world, io(9000, 1, IoSource::KernelEvent), exchanged(1000, 1));
    // How much of it is of our time nobody can tell.
    ends_with(&of_older(&[]), io(9000, 1, IoSource::KernelEvent), exchanged(0, 0));
}

#[test]
fn a_connection_that_turns_out_to_be_new_has_all_its_bytes_told() {
    let mut world = World::new(Hooks { connect: false, ..ALL_HOOKS });
    let client = Socket { isn: Some(5), ..client() };
    world.see(10, client.event(10, Act::FirstSend, Some(7)));
    world.see(11, client.closed(11, TcpState::FIN_WAIT2, 0, (16, 2)));
    // The captures are behind the kernel's events.
    world.see(12, packet(9, WEB_VETH, client.tuple, syn(5)));
    world.wait_until(2_000);
    ends_with(&world, io(16, 2, IoSource::KernelEvent), exchanged(16, 2));
}

#[test]
fn bytes_of_another_socket_are_not_those_of_the_connection() {
    let mut world = connected();
    for (millis, namespace, tuple, cookie) in [
        // Another socket has its ports by then.
        (50, WEB, client().tuple, 101),
        // One that is not held, and one of a namespace that nobody has told of.
        (50, WEB, tcp("198.18.1.10:40001", SERVER), 102),
        (50, NamespaceKey { inode: 7, cookie: None }, client().tuple, 100),
        // It had not begun when the look did.
        (9, WEB, client().tuple, 100),
    ] {
        world.see(60, look(millis, namespace, &[(tuple, cookie, 10, 10)]));
    }
    assert_eq!(progress(&world), []);
    assert_eq!(world.told.len(), 1);
}

#[test]
fn a_translated_connection_has_its_bytes_told_once() {
    let mut world = World::new(ALL_HOOKS);
    let [asked, reply] = dnat("198.18.1.10:40000", "198.18.1.13:8080");
    world.see(9, began(9, asked, reply, 1));
    let (client, server) = (Socket::new(WEB, asked, 100), Socket::new(DB, reply, 200));
    world.see(10, client.event(10, Act::Connect, Some(7)));
    world.see(11, server.event(11, Act::Established { by_client: false }, None));
    world.see(11, client.event(11, Act::Established { by_client: true }, None));
    world.see(12, server.event(12, Act::Accept, Some(8)));
    world.see(50, look_at(&client, 50, 1000, 30));
    world.see(50, look_at(&server, 50, 30, 1000));
    assert_eq!(progress(&world), [exchanged(1000, 30)]);
    world.see(80, client.closed(80, TcpState::FIN_WAIT2, 0, (1001, 30)));
    world.see(80, server.closed(80, TcpState::LAST_ACK, 0, (30, 1001)));
    ends_with(&world, io(1001, 30, IoSource::KernelEvent), exchanged(1, 0));
}

#[test]
fn a_datagram_is_counted_on_one_of_the_interfaces_that_show_it() {
    let mut world = World::new(ALL_HOOKS);
    let tuple = udp("198.18.1.10:40000", "198.18.1.13:53");
    let see = |world: &mut World, millis, interface, direction, tuple, payload_length| {
        let content = PacketContent::Udp { payload_length };
        let Observation::Packet(mut seen) = packet(millis, interface, tuple, content) else {
            panic!("a packet is one")
        };
        seen.direction = direction;
        world.see(millis, Observation::Packet(seen));
    };
    let exchange = |world: &mut World, millis| {
        see(world, millis, WEB_VETH, Direction::In, tuple, 100);
        see(world, millis, DB_VETH, Direction::Out, tuple, 100);
        see(world, millis, DB_VETH, Direction::In, tuple.mirrored(), 7);
        see(world, millis, WEB_VETH, Direction::Out, tuple.mirrored(), 7);
    };
    exchange(&mut world, 10);
    exchange(&mut world, 11);
    world.wait_until(2_000);
    world.see(2_000, Observation::BytesEnd);
    assert_eq!(progress(&world), [], "it may be over");
    exchange(&mut world, 3_000);
    world.see(4_000, Observation::BytesEnd);
    assert_eq!(progress(&world), [exchanged(300, 21)]);
    world.see(5_000, Observation::BytesEnd);
    exchange(&mut world, 5_500);
    world.wait_until(70_000);
    ends_with(&world, io(400, 28, IoSource::Packets), exchanged(100, 7));
    assert_eq!(world.progress.len(), 1);
}

proptest! {
    /// Whoever looks, and however far behind one end's counts are: what is told adds up to what was exchanged.
    #[test]
    fn what_is_told_adds_up(
        steps in prop::collection::vec((any::<bool>(), 0..100_u64, 0..100_u64, 0..50_u64), 0..20),
    ) {
        let mut world = connected();
        let (mut sent, mut received) = (0, 0);
        for (millis, (by_client, more, back, lag)) in (20_u64..).zip(&steps) {
            (sent, received) = (sent + more, received + back);
            let (socket, sent, received) = match by_client {
                true => (client(), sent.saturating_sub(*lag), received),
                false => (server(), received.saturating_sub(*lag), sent),
            };
            world.see(millis, look_at(&socket, millis, sent, received));
        }
        world.see(100, client().closed(100, TcpState::FIN_WAIT2, 0, (sent, received)));
        world.see(100, server().closed(100, TcpState::LAST_ACK, 0, (received, sent)));
        let mut told = world.last().untold;
        world.progress.iter().for_each(|record| told.add(record.untold));
        prop_assert_eq!(world.last().event, RecordEvent::Close);
        prop_assert_eq!(told, exchanged(sent, received));
    }
}
