//! Records made by hand, for the tests of the sinks.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use netsnoop_core::attribution::{Attribution, Evidence, Owner, Reason, Rung, RungSet};
use netsnoop_core::cluster::{ClusterNames, ClusterService};
use netsnoop_core::connection::{
    ConnectionId, ConnectionRecord, ConnectionState, EndRecord, Exchanged, Io, IoSource, Nat, RecordEvent,
    Role,
};
use netsnoop_core::five_tuple::{Endpoint, Transport};
use netsnoop_core::namespace::NamespaceKey;
use netsnoop_core::process::{Comm, Container, ContainerUser, Pod, Process, ProcessFacts, ProcessId};
use netsnoop_core::service::Service;
use netsnoop_core::time::Timestamp;

use crate::clock::WallClock;

pub(super) const CONTAINER_ID: &str = "4f9c2d7e1a8b3c5d6e0f4f9c2d7e1a8b3c5d6e0f4f9c2d7e1a8b3c5d6e0f4f9c";

/// Boot was at 2026-11-21T20:00:00Z.
pub(super) const fn clock() -> WallClock {
    WallClock::booted_at(1_795_291_200_000_000_000)
}

pub(super) fn process(pid: u32, name: &str, uid: u32) -> Process {
    let id = ProcessId { pid, start_ticks: 1234 };
    Process { id, name: Comm::new(name.as_bytes()), uid, cgroup_id: None }
}

fn end(address: &str, port: u16, attribution: Attribution) -> EndRecord {
    let endpoint = Endpoint::new(address.parse().unwrap(), port);
    EndRecord { endpoint, namespace: None, attribution, named_at: None, facts: None, cluster: None }
}

fn rungs(rungs: &[Rung]) -> RungSet {
    let mut set = RungSet::EMPTY;
    rungs.iter().for_each(|rung| set.insert(*rung));
    set
}

fn record(client: EndRecord, server: EndRecord) -> ConnectionRecord {
    let start = Timestamp::from_nanos(62_123_456_789);
    ConnectionRecord {
        event: RecordEvent::Open,
        at: start,
        id: ConnectionId(0x9f3a_0000_0000_0001),
        start: Some(start),
        preexisting: false,
        state: ConnectionState::Established,
        role: Role::Syn,
        rungs: rungs(&[Rung::Sockops]),
        duration: Some(Duration::ZERO),
        transport: Transport::Tcp,
        isn: None,
        interface: None,
        client,
        server,
        nat: Nat::default(),
        service: None,
        names: Vec::new(),
        rival_names: Box::default(),
        io: None,
        untold: Exchanged::default(),
    }
}

/// A pod's curl to a redis on the same node, everything known, at its close.
pub(super) fn between_two_processes() -> ConnectionRecord {
    let pod = Pod {
        uid: "11111111-2222".into(),
        name: Some("web-1".into()),
        namespace: Some("tools".into()),
        labels: Box::new([("app.kubernetes.io/name".into(), "web".into())]),
    };
    let container = Container {
        id: CONTAINER_ID.into(),
        runtime: Some("containerd"),
        pod: Some(Arc::new(pod)),
        name: Some("app".into()),
    };
    let user = ContainerUser { uid: 10001, id: 33, name: Some("www-data".into()) };
    let facts = ProcessFacts {
        executable: Some("/usr/bin/curl".into()),
        container: Some(container),
        container_user: Some(user),
        names_follow: false,
    };
    let curl = Attribution::process(process(29786, "curl", 10001), Evidence::KernelEvent);
    let redis = Attribution::process(process(800, "redis-server", 999), Evidence::Listener);
    let client = EndRecord {
        namespace: Some(NamespaceKey { inode: 4_026_532_178, cookie: NonZeroU64::new(7) }),
        facts: Some(Arc::new(facts)),
        ..end("198.18.1.10", 54102, curl)
    };
    let mut record = record(client, end("198.18.1.13", 6379, redis));
    record.event = RecordEvent::Close;
    record.state = ConnectionState::Closed;
    record.at = Timestamp::from_nanos(63_623_456_789);
    record.duration = Some(Duration::from_millis(1500));
    record.interface = Some("veth0".into());
    record.service = Some(service("redis", "198.18.1.13:6379"));
    record.untold = Exchanged { sent_bytes: 16, received_bytes: 2048 };
    record.io = Some(Io { exchanged: record.untold, source: IoSource::KernelEvent });
    record
}

/// A service and the rule that won.
pub(super) fn service(name: &str, rule: &str) -> Service {
    Service { name: name.into(), rule: rule.into() }
}

/// Only the client is on this node.
pub(super) fn to_a_remote_server() -> ConnectionRecord {
    let curl = Attribution::process(process(29786, "curl", 10001), Evidence::KernelEvent);
    let remote = Attribution::unattributed(Reason::Remote);
    record(end("2001:db8::10", 54102, curl), end("2001:db8::13", 443, remote))
}

/// Likewise, to a service that led to a pod on another node, as the cluster tells.
pub(super) fn to_the_cluster() -> ConnectionRecord {
    let pod =
        Pod { uid: "33".into(), name: Some("db-1".into()), namespace: Some("shop".into()), ..Pod::default() };
    let service = ClusterService { namespace: "shop".into(), name: "db".into() };
    let mut record = to_a_remote_server();
    record.server.cluster =
        Some(Box::new(ClusterNames { pod: Some(Arc::new(pod)), service: Some(Arc::new(service)) }));
    record
}

/// Refused, and the client was gone before anybody could look.
pub(super) fn refused_and_gone() -> ConnectionRecord {
    let gone = Attribution::namespace(Reason::GoneBeforeLookup, Some(10001));
    let closed = Attribution::unattributed(Reason::ClosedPort);
    let client = EndRecord {
        namespace: Some(NamespaceKey { inode: 4_026_532_178, cookie: None }),
        ..end("198.18.1.10", 54103, gone)
    };
    let mut record = record(client, end("198.18.1.13", 81, closed));
    record.state = ConnectionState::Refused;
    record.rungs = rungs(&[Rung::Proc]);
    record
}

/// Older than netsnoop, both ways possible, the server's socket shared by three, the client the kernel's.
pub(super) fn shared_udp() -> ConnectionRecord {
    let holders = (11..14).map(|pid| process(pid, "worker", 33)).collect();
    let shared = Attribution::holders(holders, Evidence::SocketIterator, Some(0));
    let kernel = Attribution { owner: Owner::Kernel, evidence: Some(Evidence::SockDiag), socket_uid: None };
    let mut record = record(end("127.0.0.1", 40000, kernel), end("127.0.0.1", 53, shared));
    record.transport = Transport::Udp;
    record.start = None;
    record.preexisting = true;
    record.duration = None;
    record.role = Role::Unknown;
    record.rungs = rungs(&[Rung::Iterator, Rung::SockDiag]);
    record
}

/// A pod's curl that asked for a service address, and was given a port of the node on the way to a pod.
pub(super) fn translated() -> ConnectionRecord {
    let mut record = between_two_processes();
    record.server.endpoint = Endpoint::new("198.19.0.1".parse().unwrap(), 80);
    record.nat.client = Some(Endpoint::new("198.18.0.1".parse().unwrap(), 61000));
    record.nat.server = Some(Endpoint::new("198.18.1.13".parse().unwrap(), 6379));
    record
}

/// All of them.
pub(super) fn all() -> [ConnectionRecord; 6] {
    [
        between_two_processes(),
        to_a_remote_server(),
        to_the_cluster(),
        refused_and_gone(),
        shared_udp(),
        translated(),
    ]
}
