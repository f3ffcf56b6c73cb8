//! Names of containers, which runtimes tell later than all else.

use alloc::sync::Arc;
use alloc::vec;

use super::{
    ALL_HOOKS, DB, DB_VETH, Hooks, Socket, WEB, World, at, packet, process, snapshot, syn, syn_ack, tcp,
};
use crate::attribution::{Reason, Rung};
use crate::cluster::{ClusterChange, ClusterName, ClusterObject, ClusterService};
use crate::connection::{ConnectionRecord, RecordEvent};
use crate::observation::{Act, Observation, SnapshotScope};
use crate::process::{Container, Pod, ProcessFacts};
use crate::socket::TcpState;

fn container(name: Option<&str>) -> Container {
    Container { id: "4f9c".into(), runtime: Some("containerd"), pod: None, name: name.map(Into::into) }
}

fn name_of(record: &ConnectionRecord) -> Option<&str> {
    record.client.facts.as_ref()?.container.as_ref()?.name.as_deref()
}

/// A connection whose client's container is still to be named.
fn world() -> World {
    let mut world = World::new(ALL_HOOKS);
    world.facts =
        Some(ProcessFacts { container: Some(container(None)), names_follow: true, ..Default::default() });
    let client = Socket::new(WEB, tcp("198.18.1.10:40000", "198.18.1.13:80"), 11);
    let server = Socket::new(DB, tcp("198.18.1.13:80", "198.18.1.10:40000"), 12);
    world.see(0, client.event(0, Act::Connect, Some(7)));
    world.see(1, server.event(1, Act::Accept, Some(8)));
    world
}

#[test]
fn a_connection_waits_for_names_until_it_settles() {
    let mut world = world();
    world.wait_until(20);
    assert_eq!(world.events(), [], "both owners are known, and names may come");
    world.see(30, Observation::ContainerNames(process(7).id, Some(container(Some("app")))));
    assert_eq!(world.events(), [], "the server's may come too");
    world.see(31, Observation::ContainerNames(process(8).id, None));
    assert_eq!(world.events(), [RecordEvent::Open]);
    assert_eq!(name_of(world.last()), Some("app"));
}

#[test]
fn names_that_come_later_are_told_as_an_update() {
    let mut world = world();
    world.wait_until(500);
    assert_eq!(world.events(), [RecordEvent::Open]);
    assert_eq!(name_of(world.last()), None);
    world.see(510, Observation::ContainerNames(process(7).id, Some(container(Some("app")))));
    assert_eq!(world.events(), [RecordEvent::Open, RecordEvent::Update]);
    assert_eq!(name_of(world.last()), Some("app"));
    world.see(511, Observation::ContainerNames(process(8).id, None));
    assert_eq!(world.events().len(), 2, "that there are none changes nothing");
}

#[test]
fn a_container_that_is_known_later_is_told_as_an_update() {
    let mut world = World::new(ALL_HOOKS);
    world.facts = None;
    let client = Socket::new(WEB, tcp("198.18.1.10:40000", "203.0.113.9:443"), 11);
    world.see(0, client.event(0, Act::Connect, Some(7)));
    world.wait_until(500);
    let follows = |world: &World| world.last().client.facts.as_ref().map(|facts| facts.names_follow);
    assert_eq!((world.events().len(), follows(&world)), (1, Some(true)), "nobody has looked at it yet");
    let facts = ProcessFacts { container: Some(container(Some("app"))), ..Default::default() };
    world.see(510, Observation::Process(process(7).id, facts));
    assert_eq!(world.events(), [RecordEvent::Open, RecordEvent::Update]);
    assert_eq!((name_of(world.last()), follows(&world)), (Some("app"), Some(false)));
}

#[test]
fn the_end_of_a_connection_waits_a_second_for_names() {
    for (named_at, expected) in [(Some(900), Some("app")), (None, None)] {
        let mut world = world();
        let client = Socket::new(WEB, tcp("198.18.1.10:40000", "198.18.1.13:80"), 11);
        let server = Socket::new(DB, tcp("198.18.1.13:80", "198.18.1.10:40000"), 12);
        world.see(10, client.closed(10, TcpState::LAST_ACK, 0, (1, 2)));
        world.see(10, server.closed(10, TcpState::FIN_WAIT2, 0, (2, 1)));
        world.wait_until(899);
        assert_eq!(world.events(), [RecordEvent::Open]);
        if let Some(at) = named_at {
            for pid in [7, 8] {
                let names = Observation::ContainerNames(process(pid).id, Some(container(Some("app"))));
                world.see(at, names);
            }
        }
        world.wait_until(1_200);
        assert_eq!(world.last().event, RecordEvent::Close);
        assert_eq!(name_of(world.last()), expected);
    }
}

#[test]
fn connections_of_a_named_container_have_its_names_from_the_start() {
    let mut world = world();
    for pid in [7, 8] {
        world.see(5, Observation::ContainerNames(process(pid).id, Some(container(Some("app")))));
    }
    let client = Socket::new(WEB, tcp("198.18.1.10:40001", "198.18.1.13:80"), 13);
    let server = Socket::new(DB, tcp("198.18.1.13:80", "198.18.1.10:40001"), 14);
    world.told = vec![];
    world.see(600, client.event(600, Act::Connect, Some(7)));
    world.see(601, server.event(601, Act::Accept, Some(8)));
    assert_eq!(world.events(), [RecordEvent::Open]);
    assert_eq!(name_of(world.last()), Some("app"));
    assert_eq!(world.last().start, Some(at(600)));
}

/// Tells of a pod that has both a remote address and one of this node, and of a service at 198.19.0.1.
fn tell_of_the_cluster(world: &mut World, millis: u64) {
    let pod = Pod { uid: "p".into(), name: Some("db-1".into()), ..Pod::default() };
    let service = ClusterService { namespace: "shop".into(), name: "db".into() };
    let is = |uid: &str, addresses: &[&str], name| {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        ClusterChange::Is(ClusterObject { uid: uid.into(), since: None, addresses, name })
    };
    let changes = vec![
        is("p", &["198.18.77.1", "198.18.1.13"], ClusterName::Pod(Arc::new(pod))),
        is("s", &["198.19.0.1"], ClusterName::Service(Arc::new(service))),
    ];
    world.see(millis, Observation::Cluster(changes));
}

/// Names of the server by the cluster: of a pod, and of a service.
fn cluster_names(record: &ConnectionRecord) -> (Option<&str>, Option<&str>) {
    let names = record.server.cluster.as_deref();
    let pod = names.and_then(|names| names.pod.as_ref()?.name.as_deref());
    (pod, names.and_then(|names| Some(&*names.service.as_ref()?.name)))
}

#[test]
fn the_cluster_names_what_is_elsewhere_and_what_was_asked_for() {
    for (server, told_at, expected) in [
        ("198.18.77.1:5432", 0, (Some("db-1"), None)),
        // It may have been somebody else's when the connection began.
        ("198.18.77.1:5432", 20, (None, None)),
        ("198.18.77.2:5432", 0, (None, None)),
        // On this node: its container has the names.
        ("198.18.1.13:80", 0, (None, None)),
        ("198.19.0.1:80", 0, (None, Some("db"))),
    ] {
        let mut world = World::new(ALL_HOOKS);
        let client = Socket::new(WEB, tcp("198.18.1.10:40000", server), 11);
        if told_at < 10 {
            tell_of_the_cluster(&mut world, told_at);
        }
        world.see(10, client.event(10, Act::Connect, Some(7)));
        if told_at > 10 {
            tell_of_the_cluster(&mut world, told_at);
        }
        world.wait_until(500);
        assert_eq!(world.events(), [RecordEvent::Open]);
        assert_eq!(cluster_names(world.last()), expected, "{server} told at {told_at}");
        assert_eq!(world.last().client.cluster, None);
    }
}

#[test]
fn an_end_that_nobody_owns_is_of_the_pod_that_its_namespace_is_kept_for() {
    let mut world = World::new(Hooks::default());
    let pod = Pod { uid: "uid-1".into(), name: Some("db-1".into()), ..Pod::default() };
    let sandbox = Container { pod: Some(Arc::new(pod)), ..container(None) };
    world.facts = Some(ProcessFacts { container: Some(sandbox), ..Default::default() });
    let client = tcp("192.0.2.1:40000", "198.18.1.13:81");
    world.see(1, packet(1, DB_VETH, client, syn(5)));
    world.see(1, packet(1, DB_VETH, client.mirrored(), syn_ack(5)));
    let missing = vec![(client.mirrored(), Reason::GoneBeforeLookup)];
    let Observation::Sockets(mut look) =
        snapshot(DB, Rung::SockDiag, SnapshotScope::Wanted { missing }, vec![])
    else {
        panic!("a look is one at sockets")
    };
    look.pod_keeper = Some(process(6));
    world.see(2, Observation::Sockets(look));
    world.wait_until(1_000);
    let server = &world.last().server;
    let pod = server.cluster.as_ref().and_then(|names| names.pod.as_ref());
    assert_eq!(pod.and_then(|pod| pod.name.as_deref()), Some("db-1"));
    assert_eq!((server.attribution.reason(), &server.facts), (Some(Reason::GoneBeforeLookup), &None));
}
