use alloc::vec;

use super::*;
use crate::observation::Exits;

const PORT: &str = "0.0.0.0:6379";

/// What a look at [`DB`] found that ended at `millis`.
fn looked(millis: u64, rows: Vec<SocketRow>) -> Observation {
    let Observation::Sockets(mut snapshot) = found(DB, rows) else { panic!("a look is one at sockets") };
    snapshot.searched = at(millis);
    Observation::Sockets(snapshot)
}

fn listener(holders: &[u32]) -> SocketRow {
    row(tcp(PORT, "0.0.0.0:0"), TcpState::LISTEN, holders)
}

/// The server's owner of a connection that began at 100 and was looked up until `searched`, after it was known at
/// `before` that `known` listen.
fn check(before: u64, known: &[u32], searched: u64, holders: &[u32], expected: Result<Option<u32>, Reason>) {
    let client = tcp("192.0.2.1:40000", "198.18.1.13:6379");
    let mut world = World::new(Hooks::default());
    let whole = snapshot(DB, Rung::SockDiag, SnapshotScope::Whole, vec![listener(known)]);
    let Observation::Sockets(mut whole) = whole else { panic!("a look is one at sockets") };
    whole.searched = at(before);
    world.see(before.min(99), Observation::Sockets(whole));
    world.see(100, packet(100, DB_VETH, client, syn(5)));
    world.see(100, packet(100, DB_VETH, client.mirrored(), syn_ack(5)));
    world.see(101, looked(searched, vec![listener(holders)]));
    world.wait_until(1_000);
    let server = &world.last().server;
    let found = server.attribution.reason().map_or(Ok(pid_of(server)), Err);
    assert_eq!(found, expected, "{before} {known:?} {searched} {holders:?}");
}

#[test]
fn who_listens_is_the_owner_if_they_did_when_the_connection_began() {
    // A look at once.
    check(50, &[], 102, &[8], Ok(Some(8)));
    check(50, &[], 102, &[8, 9], Err(Reason::Ambiguous));
    // A late one: a worker may have left that had accepted.
    check(50, &[], 150, &[8], Err(Reason::Ambiguous));
    check(50, &[8, 9], 150, &[8], Err(Reason::Ambiguous));
    check(50, &[], 150, &[8, 9], Err(Reason::Ambiguous));
    // Unless the same were known before.
    check(50, &[8], 150, &[8], Ok(Some(8)));
    check(50, &[8, 9], 150, &[8, 9], Ok(None));
    check(120, &[8], 150, &[8], Err(Reason::Ambiguous));
}

#[test]
fn where_exits_are_heard_of_only_they_make_a_look_late() {
    let client = tcp("192.0.2.1:40000", "198.18.1.13:6379");
    let check = |known_since: u64, ended: Option<(u32, u64)>, searched: u64, expected: Option<u32>| {
        let mut world = World::new(Hooks::default());
        world.see(100, packet(100, DB_VETH, client, syn(5)));
        world.see(100, packet(100, DB_VETH, client.mirrored(), syn_ack(5)));
        let Observation::Sockets(mut snapshot) = looked(searched, vec![listener(&[8])]) else {
            panic!("a look is one at sockets")
        };
        let relatives = ended.map(|(holder, millis)| (process(holder).id, at(millis))).into_iter().collect();
        snapshot.exits = Some(Exits { known_since: at(known_since), relatives, children: vec![] });
        world.see(101, Observation::Sockets(snapshot));
        world.wait_until(1_000);
        assert_eq!(pid_of(&world.last().server), expected, "{known_since} {ended:?} {searched}");
    };
    check(50, None, 120, Some(8));
    check(50, None, 121, None);
    check(50, Some((8, 99)), 115, Some(8));
    check(50, Some((9, 101)), 115, Some(8));
    check(50, Some((8, 101)), 102, None);
    // Exits before that are not known.
    check(101, None, 106, None);
    check(101, None, 102, Some(8));
}

#[test]
fn a_child_that_has_ended_may_have_served_though_its_parent_was_known_to() {
    for (ended, expected) in [(99, Some(8)), (101, None)] {
        let client = tcp("192.0.2.1:40000", "198.18.1.13:6379");
        let mut world = World::new(Hooks::default());
        let whole = snapshot(DB, Rung::SockDiag, SnapshotScope::Whole, vec![listener(&[8])]);
        world.see(50, whole);
        world.see(100, packet(100, DB_VETH, client, syn(5)));
        world.see(100, packet(100, DB_VETH, client.mirrored(), syn_ack(5)));
        let Observation::Sockets(mut snapshot) = looked(105, vec![listener(&[8])]) else {
            panic!("a look is one at sockets")
        };
        let child = vec![(process(8).id, at(ended))];
        snapshot.exits = Some(Exits { known_since: at(50), relatives: child.clone(), children: child });
        world.see(106, Observation::Sockets(snapshot));
        world.wait_until(1_000);
        assert_eq!(pid_of(&world.last().server), expected, "{ended}");
    }
}

#[test]
fn a_child_may_have_left_where_exits_of_that_time_are_not_known_any_more() {
    for (known_since, expected) in [(100, Some(8)), (101, None)] {
        let client = tcp("192.0.2.1:40000", "198.18.1.13:6379");
        let mut world = World::new(Hooks::default());
        world.see(50, snapshot(DB, Rung::SockDiag, SnapshotScope::Whole, vec![listener(&[8])]));
        world.see(100, packet(100, DB_VETH, client, syn(5)));
        world.see(100, packet(100, DB_VETH, client.mirrored(), syn_ack(5)));
        let Observation::Sockets(mut snapshot) = looked(150, vec![listener(&[8])]) else {
            panic!("a look is one at sockets")
        };
        snapshot.exits = Some(Exits { known_since: at(known_since), relatives: vec![], children: vec![] });
        world.see(151, Observation::Sockets(snapshot));
        world.wait_until(1_000);
        assert_eq!(pid_of(&world.last().server), expected, "{known_since}");
    }
}

#[test]
fn whom_a_search_found_that_was_cut_short_need_not_be_the_only_one() {
    let client = tcp("192.0.2.1:40000", "198.18.1.13:6379");
    let cut_short = || {
        let mut row = listener(&[8]);
        row.holders_lack = Some(Reason::Lost);
        row
    };
    let mut world = World::new(Hooks::default());
    world.see(50, snapshot(DB, Rung::SockDiag, SnapshotScope::Whole, vec![cut_short()]));
    for (millis, port) in [(100, 40_000), (200, 40_001)] {
        let client = FiveTuple { local: Endpoint { port, ..client.local }, ..client };
        world.see(millis, packet(millis, DB_VETH, client, syn(5)));
        world.see(millis, packet(millis, DB_VETH, client.mirrored(), syn_ack(5)));
        world.see(millis + 1, looked(millis + 2, vec![cut_short()]));
        world.wait_until(millis + 99);
    }
    world.wait_until(1_000);
    let told = world.told.iter().filter_map(|record| pid_of(&record.server)).collect::<Vec<_>>();
    assert!(world.told.len() >= 2 && told.is_empty(), "{told:?}");
}
