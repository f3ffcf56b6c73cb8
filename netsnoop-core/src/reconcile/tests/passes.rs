use alloc::vec;

use super::*;
use crate::observation::{Tracker, TranslationReport};
use crate::translation::{Translation, TranslationChange};

const UP: TcpState = TcpState::ESTABLISHED;
/// Both ends of a connection on [`WEB`]'s loopback, the server's first, and where it listens.
const SERVER_INODE: u64 = 80;
const CLIENT_INODE: u64 = 81;
const LISTENER_INODE: u64 = 82;

fn client() -> FiveTuple {
    tcp("127.0.0.1:40000", "127.0.0.1:6379")
}

fn listener() -> FiveTuple {
    tcp("127.0.0.1:6379", "0.0.0.0:0")
}

fn loopback() -> [(FiveTuple, TcpState, u64); 3] {
    [
        (client().mirrored(), UP, SERVER_INODE),
        (client(), UP, CLIENT_INODE),
        (listener(), TcpState::LISTEN, LISTENER_INODE),
    ]
}

fn world() -> World {
    World::new(Hooks::default())
}

fn read_until(millis: u64) -> Observation {
    Observation::PacketsUntil(at(millis))
}

/// A look at `millis` for sockets that were asked for.
fn looked(millis: u64, namespace: NamespaceKey, sockets: Vec<SocketRow>) -> Observation {
    let Observation::Sockets(mut snapshot) = found(namespace, sockets) else {
        panic!("a look is one at sockets")
    };
    (snapshot.started, snapshot.finished) = (at(millis), at(millis));
    Observation::Sockets(snapshot)
}

/// Who holds the sockets of [`loopback`].
fn holders(millis: u64) -> Observation {
    let rows = vec![
        row(client(), UP, &[7]),
        row(client().mirrored(), UP, &[8]),
        row(listener(), TcpState::LISTEN, &[8]),
    ];
    looked(millis, WEB, rows)
}

#[test]
fn a_connection_that_no_packet_tells_of_is_one_record_with_both_owners() {
    let mut world = world();
    world.see(10, pass(10, WEB, &loopback()));
    assert_eq!(world.sockets_asked(), [], "a packet on its way may tell of it");
    world.see(12, read_until(11));
    assert_eq!(world.sockets_asked(), [(WEB, client().mirrored()), (WEB, client())]);
    world.see(13, holders(13));
    world.wait_until(400);
    assert_eq!(world.events(), [RecordEvent::Open]);
    let open = world.last();
    assert_eq!((pid_of(&open.client), pid_of(&open.server)), (Some(7), Some(8)));
    assert_eq!((open.start, open.duration, open.preexisting), (None, None, false));
    assert_eq!((open.role.name(), open.state.name()), ("listener", "established"));
    assert_eq!(open.client.namespace, Some(WEB));
    // What is known is found again and told of no more.
    world.see(1_000, pass(1_000, WEB, &loopback()));
    world.see(1_001, read_until(1_001));
    world.wait_until(1_200);
    assert_eq!(world.events(), [RecordEvent::Open]);
}

#[test]
fn it_is_over_once_two_passes_miss_both_sockets() {
    let mut world = world();
    world.see(10, pass(10, WEB, &loopback()));
    world.see(12, read_until(11));
    world.see(13, holders(13));
    world.see(14, holders(14));
    world.wait_until(400);
    let server_alone = &[(client().mirrored(), TcpState::CLOSE_WAIT, SERVER_INODE)];
    let steps: [(u64, &[_]); 6] = [
        (1_000, &[]),
        (2_000, &loopback()),
        (3_000, server_alone),
        (4_000, server_alone),
        (5_000, &[]),
        (6_000, &[]),
    ];
    for (millis, sockets) in steps {
        assert_eq!(world.events(), [RecordEvent::Open], "{millis}");
        world.see(millis, pass(millis, WEB, sockets));
        world.see(millis + 1, read_until(millis + 1));
        world.wait_until(millis + 900);
    }
    assert_eq!(world.events(), [RecordEvent::Open, RecordEvent::Close]);
    assert_eq!((world.last().at, world.last().state.name()), (at(5_000), "closed"));
}

#[test]
fn it_is_over_with_its_namespace() {
    let mut world = world();
    world.see(10, pass(10, WEB, &loopback()));
    world.see(12, read_until(11));
    let Observation::Pass(mut ended) = pass(1_000, WEB, &[]) else { panic!("it is a pass") };
    ended.ended = true;
    world.see(1_000, Observation::Pass(ended));
    world.wait_until(2_000);
    assert_eq!(world.events(), [RecordEvent::Open, RecordEvent::Close]);
}

/// What is told of a connection from [`WEB`] to elsewhere that a pass finds at 10, among other `observations`.
fn check(observations: &[(u64, Observation)], expected: &[(RecordEvent, Option<Timestamp>)]) -> World {
    let tuple = tcp("198.18.1.10:40000", "203.0.113.9:443");
    let mut world = world();
    let mut told = vec![(10, pass(10, WEB, &[(tuple, UP, CLIENT_INODE)]))];
    told.extend_from_slice(observations);
    told.sort_by_key(|(millis, _)| *millis);
    for (millis, observation) in told {
        world.wait_until(millis);
        world.see(millis, observation);
        if !world.sockets_asked().is_empty() {
            world.see(millis, looked(millis, WEB, vec![row(tuple, UP, &[7])]));
        }
    }
    world.wait_until(3_000);
    let found: Vec<_> = world.told.iter().map(|record| (record.event, record.start)).collect();
    assert_eq!(found, expected, "{observations:?}");
    world
}

#[test]
fn one_whose_packets_are_on_their_way_stays_one_record() {
    let tuple = tcp("198.18.1.10:40000", "203.0.113.9:443");
    let syn_at_5 = packet(5, UPLINK, tuple, syn(5));
    let answer = packet(6, UPLINK, tuple.mirrored(), syn_ack(5));
    let open = (RecordEvent::Open, Some(at(5)));
    // Before the pass, after it, and later than all that was said to have been read.
    check(&[(6, syn_at_5.clone()), (7, answer.clone()), (12, read_until(12))], &[open]);
    check(&[(20, syn_at_5.clone()), (21, answer.clone()), (22, read_until(22))], &[open]);
    let world = check(&[(12, read_until(12)), (20, syn_at_5.clone()), (21, answer.clone())], &[open]);
    assert_eq!(world.last().isn, Some(5));
    // It was closed and forgotten by the time the pass is judged.
    let fins =
        [tuple, tuple.mirrored()].map(|tuple| (11, packet(11, UPLINK, tuple, segment(TcpFlags::FIN, 6, 6))));
    let [one, other] = fins;
    let close = (RecordEvent::Close, Some(at(5)));
    check(&[(5, syn_at_5), (6, answer), one, other, (400, read_until(400))], &[open, close]);
}

#[test]
fn one_whose_packets_nobody_captured_is_told_of_when_that_is_known() {
    check(&[], &[]);
    check(&[(11, read_until(9))], &[]);
    let world = check(&[(11, read_until(9)), (20, read_until(12))], &[(RecordEvent::Open, None)]);
    assert_eq!(pid_of(&world.last().client), Some(7));
    assert_eq!(world.last().server.attribution.reason(), Some(Reason::Remote));
}

#[test]
fn the_next_connection_of_its_ports_is_another_one() {
    let tuple = tcp("198.18.1.10:40000", "203.0.113.9:443");
    let opens = [(RecordEvent::Open, None), (RecordEvent::Open, Some(at(900)))];
    check(&[(12, read_until(12)), (901, packet(900, UPLINK, tuple, syn(9)))], &opens);
}

#[test]
fn a_socket_that_packets_told_of_is_no_new_connection_when_those_have_ended() {
    let tuple = tcp("198.18.1.10:40000", "203.0.113.9:443");
    let reset = packet(20, UPLINK, tuple.mirrored(), segment(TcpFlags::RST, 6, 6));
    let again = |millis| (millis, pass(millis, WEB, &[(tuple, UP, CLIENT_INODE)]));
    let observations = [
        (5, packet(5, UPLINK, tuple, syn(5))),
        (6, packet(6, UPLINK, tuple.mirrored(), syn_ack(5))),
        (12, read_until(12)),
        (20, reset),
        again(1_000),
        (1_001, read_until(1_001)),
        again(2_900),
        (2_901, read_until(2_901)),
    ];
    let start = Some(at(5));
    check(&observations, &[(RecordEvent::Open, start), (RecordEvent::Close, start)]);
}

#[test]
fn one_that_was_over_when_its_pass_was_judged_is_no_new_connection() {
    let tuple = tcp("198.18.1.10:40000", "203.0.113.9:443");
    let mut world = world();
    let older = vec![row(tuple, UP, &[7])];
    world.see(1, snapshot(WEB, Rung::SockDiag, SnapshotScope::Whole, older));
    world.see(10, pass(10, WEB, &[(tuple, UP, CLIENT_INODE)]));
    for tuple in [tuple, tuple.mirrored()] {
        world.see(13, packet(12, UPLINK, tuple, segment(TcpFlags::FIN, 6, 6)));
    }
    world.see(14, read_until(14));
    world.wait_until(1_000);
    assert_eq!(world.events(), [RecordEvent::Open, RecordEvent::Close]);
}

#[test]
fn two_sockets_of_a_translated_connection_are_one_record_once_translations_are_known() {
    let (asked, answered) =
        (tcp("198.18.1.10:40000", "198.18.9.9:80"), tcp("198.18.1.13:8080", "198.18.1.10:40000"));
    for knows_first in [true, false] {
        let mut world = world();
        world.hears = false;
        let translations = |changes| {
            Observation::Translations(TranslationReport {
                tracker: Tracker::Own,
                at: at(5),
                whole: false,
                changes,
            })
        };
        let entry = vec![TranslationChange::Began(Translation { original: asked, reply: answered, id: 1 })];
        world.see(1, translations(if knows_first { entry.clone() } else { vec![] }));
        world.see(10, pass(10, WEB, &[(asked, UP, 1)]));
        world.see(10, pass(10, DB, &[(answered, UP, 2)]));
        world.see(12, read_until(12));
        assert_eq!(world.sockets_asked(), []);
        world.see(13, translations(if knows_first { vec![] } else { entry }));
        world.see(14, Observation::TranslationsUntil(at(14)));
        world.hears = true;
        world.see(15, looked(15, WEB, vec![row(asked, UP, &[7])]));
        let listening = tcp("0.0.0.0:8080", "0.0.0.0:0");
        let server = vec![row(answered, UP, &[8]), row(listening, TcpState::LISTEN, &[8])];
        world.see(15, looked(15, DB, server));
        world.wait_until(500);
        assert_eq!(world.opens().len(), 1, "{knows_first}");
        let open = world.last();
        assert_eq!((pid_of(&open.client), pid_of(&open.server)), (Some(7), Some(8)), "{knows_first}");
        assert_eq!(open.server.endpoint, asked.remote);
    }
}

#[test]
fn twins_in_two_namespaces_are_two_records() {
    let mut world = world();
    let of_db = loopback().map(|(tuple, state, inode)| (tuple, state, inode + 100));
    world.see(10, pass(10, WEB, &loopback()));
    world.see(10, pass(10, DB, &of_db));
    world.see(12, read_until(12));
    world.wait_until(400);
    let places: Vec<_> =
        world.opens().iter().map(|open| (open.client.namespace, open.server.namespace)).collect();
    assert_eq!(places, [(Some(WEB), Some(WEB)), (Some(DB), Some(DB))]);
}

#[test]
fn a_worker_that_was_handed_an_accepted_socket_is_not_named_alone() {
    for (listening, holder, expected) in [(&[8][..], 8, Some(8)), (&[8, 9], 9, None), (&[8], 9, None)] {
        let mut world = world();
        world.see(10, pass(10, WEB, &loopback()));
        world.see(12, read_until(12));
        let rows = || {
            let server = row(client().mirrored(), UP, &[holder]);
            vec![row(client(), UP, &[7]), server, row(listener(), TcpState::LISTEN, listening)]
        };
        (13..16).for_each(|millis| world.see(millis, looked(millis, WEB, rows())));
        world.wait_until(400);
        assert_eq!(pid_of(&world.last().server), expected, "{listening:?} {holder}");
    }
}

#[test]
fn with_a_hook_for_connects_a_pass_tells_nothing() {
    let mut world = World::new(ALL_HOOKS);
    world.see(10, pass(10, WEB, &loopback()));
    world.see(12, read_until(12));
    world.wait_until(500);
    assert!(world.told.is_empty() && world.asked.is_empty());
}
