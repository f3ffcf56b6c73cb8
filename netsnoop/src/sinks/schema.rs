//! The record as machines read it: schema version 1, documented key by key in docs/schema/connection-v1.schema.json.
//! These types exist for serialising alone. What is unknown is absent; nothing is ever `null`.

use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;

use jiff::Timestamp as WallTime;
use netsnoop_core::attribution::{Owner, Rung};
use netsnoop_core::connection::{ConnectionRecord, EndRecord, Exchanged, Io, Nat};
use netsnoop_core::five_tuple::Endpoint;
use netsnoop_core::namespace::NamespaceKey;
use netsnoop_core::process::{Container, Process, ProcessFacts};
use netsnoop_core::service::{NameKind, Service};
use netsnoop_core::time::Timestamp;
use serde::{Serialize, Serializer};

use crate::clock::WallClock;
use crate::sinks::community_id::community_id;
use crate::sinks::kubernetes_keys::Kubernetes;
use crate::sinks::user_names::UserNames;

/// The version every record carries.
const SCHEMA_VERSION: u32 = 1;

/// The user names of a record's ends.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct EndUsers {
    /// Of the client's user.
    pub(super) client: Option<Arc<str>>,
    /// Of the server's user.
    pub(super) server: Option<Arc<str>>,
}

impl EndUsers {
    /// Looks both up.
    pub(super) fn of(record: &ConnectionRecord, names: &mut UserNames) -> Self {
        let mut name = |end| end_uid(end).and_then(|uid| names.name(uid, record.at));
        Self { client: name(&record.client), server: name(&record.server) }
    }
}

/// A moment as RFC 3339 in UTC with nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(WallTime);

impl Moment {
    /// Of a time since boot.
    pub(super) fn new(at: Timestamp, clock: WallClock) -> Self {
        // 64 bits of nanoseconds end in the year 2554, well inside of what the type holds.
        Self(WallTime::from_nanosecond(i128::from(clock.to_unix_nanos(at))).unwrap_or(WallTime::MAX))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.9}", self.0))
    }
}

/// A record.
#[derive(Serialize, Debug)]
pub(super) struct Record<'a> {
    schema_version: u32,
    event: &'static str,
    timestamp: Moment,
    connection: Connection,
    network: Network<'a>,
    client: End<'a>,
    server: End<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<ServiceKeys<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nat: Option<NatKeys>,
    #[serde(skip_serializing_if = "Option::is_none")]
    io: Option<IoBytes>,
}

#[derive(Serialize, Debug)]
struct Connection {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preexisting: Option<bool>,
    state: &'static str,
    role: &'static str,
    rungs: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ns: Option<u64>,
}

#[derive(Serialize, Debug)]
struct Network<'a> {
    transport: &'static str,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    community_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<&'a str>,
}

#[derive(Serialize, Debug)]
struct End<'a> {
    address: IpAddr,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain_source: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    domain_rivals: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<Netns>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<ProcessKeys<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<ContainerKeys<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k8s: Option<Kubernetes<'a>>,
    attribution: AttributionKeys,
}

/// A namespace.
#[derive(Serialize, Debug)]
pub(super) struct Netns {
    inode: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cookie: Option<u64>,
}

/// A process.
#[derive(Serialize, Debug)]
pub(super) struct ProcessKeys<'a> {
    pid: u32,
    start_time: Moment,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<Executable<'a>>,
}

#[derive(Serialize, Debug)]
struct Executable<'a> {
    path: &'a str,
}

/// A user.
#[derive(Serialize, Debug)]
pub(super) struct User<'a> {
    pub(super) id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
}

/// A container.
#[derive(Serialize, Debug)]
pub(super) struct ContainerKeys<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<&'static str>,
    /// Only outside Kubernetes, which has a place of its own for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
}

#[derive(Serialize, Debug)]
struct ServiceKeys<'a> {
    name: &'a str,
    rule: &'a str,
}

#[derive(Serialize, Debug)]
struct AttributionKeys {
    level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shared_with: Vec<ProcessKeys<'static>>,
}

#[derive(Serialize, Debug)]
struct NatKeys {
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Address>,
}

#[derive(Serialize, Debug)]
struct Address {
    address: IpAddr,
    port: u16,
}

#[derive(Serialize, Debug)]
struct IoBytes {
    sent_bytes: u64,
    received_bytes: u64,
    source: &'static str,
}

impl<'a> Record<'a> {
    /// Turns a record of the core into its serialised shape.
    pub(super) fn new(record: &'a ConnectionRecord, users: &'a EndUsers, clock: WallClock) -> Self {
        let called = record.names.iter().max_by_key(|name| name.kind);
        let is_resolved = called.is_some_and(|name| name.kind == NameKind::Dns);
        let rivals = record.rival_names.iter().filter(|_| is_resolved);
        Self {
            schema_version: SCHEMA_VERSION,
            event: record.event.name(),
            timestamp: Moment::new(record.at, clock),
            connection: Connection::new(record, clock),
            network: Network::new(record),
            client: End::new(&record.client, users.client.as_deref(), clock),
            server: End {
                domain: called.map(|name| &*name.text),
                domain_source: called.map(|name| name.kind.name()),
                domain_rivals: rivals.map(|name| &**name).collect(),
                ..End::new(&record.server, users.server.as_deref(), clock)
            },
            service: record.service.as_ref().map(ServiceKeys::from),
            nat: NatKeys::new(record.nat),
            io: record.io.map(IoBytes::from),
        }
    }
}

impl NatKeys {
    fn new(nat: Nat) -> Option<Self> {
        let address = |given: Endpoint| Address { address: given.address, port: given.port };
        (nat != Nat::default())
            .then(|| Self { client: nat.client.map(address), server: nat.server.map(address) })
    }
}

impl Connection {
    fn new(record: &ConnectionRecord, clock: WallClock) -> Self {
        Self {
            id: format!("{:016x}", record.id.0),
            start: record.start.map(|start| Moment::new(start, clock)),
            preexisting: record.preexisting.then_some(true),
            state: record.state.name(),
            role: record.role.name(),
            rungs: record.rungs.iter().map(Rung::name).collect(),
            duration_ns: record.duration.map(|lasted| u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX)),
        }
    }
}

impl<'a> Network<'a> {
    fn new(record: &'a ConnectionRecord) -> Self {
        Self {
            transport: record.transport.name(),
            r#type: if record.server.endpoint.address.is_ipv4() { "ipv4" } else { "ipv6" },
            community_id: community_id(record.transport, record.client.endpoint, record.server.endpoint),
            interface: record.interface.as_deref(),
        }
    }
}

impl<'a> End<'a> {
    fn new(end: &'a EndRecord, user_name: Option<&'a str>, clock: WallClock) -> Self {
        let facts = end.facts.as_deref();
        let container = facts.and_then(|facts| facts.container.as_ref());
        Self {
            address: end.endpoint.address,
            port: end.endpoint.port,
            domain: None,
            domain_source: None,
            domain_rivals: Vec::new(),
            netns: end.namespace.map(Netns::from),
            process: end.attribution.owning_process().map(|process| ProcessKeys::new(process, facts, clock)),
            user: end_uid(end).map(|id| User { id, name: user_name }),
            container: container.map(|container| ContainerKeys {
                user: container_user(end),
                ..ContainerKeys::new(container)
            }),
            k8s: Kubernetes::of_end(container, end.cluster.as_deref()),
            attribution: AttributionKeys::new(end, clock),
        }
    }
}

impl<'a> ProcessKeys<'a> {
    /// Of a process and what is known of it.
    pub(super) fn new(process: &Process, facts: Option<&'a ProcessFacts>, clock: WallClock) -> Self {
        let path = facts.and_then(|facts| facts.executable.as_deref());
        Self {
            pid: process.id.pid,
            start_time: Moment::new(process.id.started_at(), clock),
            name: process.name.to_text(),
            executable: path.map(|path| Executable { path }),
        }
    }
}

impl<'a> ContainerKeys<'a> {
    /// Of a container.
    pub(super) fn new(container: &'a Container) -> Self {
        let name = container.name.as_deref().filter(|_| container.pod.is_none());
        Self { id: &container.id, runtime: container.runtime, name, user: None }
    }
}

impl AttributionKeys {
    fn new(end: &EndRecord, clock: WallClock) -> Self {
        let sharers = match &end.attribution.owner {
            Owner::Shared(sharers) => sharers.as_slice(),
            Owner::Process(_) | Owner::Kernel | Owner::Unattributed(_) => &[],
        };
        Self {
            level: end.attribution.level().name(),
            evidence: end.attribution.evidence.map(|evidence| evidence.name()),
            reason: end.attribution.reason().map(|reason| reason.name()),
            shared_with: sharers.iter().map(|sharer| ProcessKeys::new(sharer, None, clock)).collect(),
        }
    }
}

impl From<NamespaceKey> for Netns {
    fn from(key: NamespaceKey) -> Self {
        Self { inode: key.inode, cookie: key.cookie.map(NonZeroU64::get) }
    }
}

impl<'a> From<&'a Service> for ServiceKeys<'a> {
    fn from(service: &'a Service) -> Self {
        Self { name: &service.name, rule: &service.rule }
    }
}

impl From<Io> for IoBytes {
    fn from(io: Io) -> Self {
        let Exchanged { sent_bytes, received_bytes } = io.exchanged;
        Self { sent_bytes, received_bytes, source: io.source.name() }
    }
}

/// Who an end's user is inside of its container, if that is known of this very user.
fn container_user(end: &EndRecord) -> Option<User<'_>> {
    let user = end.facts.as_deref()?.container_user.as_ref()?;
    (end_uid(end) == Some(user.uid)).then_some(User { id: user.id, name: user.name.as_deref() })
}

/// The uid of an end: its process's, or that of all processes that share it, else its socket's.
pub(super) fn end_uid(end: &EndRecord) -> Option<u32> {
    match &end.attribution.owner {
        Owner::Process(process) => Some(process.uid),
        Owner::Shared(sharers) => match sharers.as_slice() {
            [first, rest @ ..] if rest.iter().all(|sharer| sharer.uid == first.uid) => Some(first.uid),
            _ => end.attribution.socket_uid,
        },
        Owner::Unattributed(_) => end.attribution.socket_uid,
        Owner::Kernel => None,
    }
}
