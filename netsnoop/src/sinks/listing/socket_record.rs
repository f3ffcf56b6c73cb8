//! A socket as machines read it: docs/schema/socket-v1.schema.json, key by key. These types exist for serialising alone.
//! What is unknown is absent; nothing is ever `null`, and bytes that are no text are kept in base64.

use std::borrow::Cow;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use netsnoop_core::inventory::{
    Addresses, Holder as Descriptor, ListedProcess, Protocol, SocketKind, UnixPath, VsockEnd,
};
use netsnoop_core::socket::TcpState;
use serde::Serialize;

use super::Users;
use super::ends::netlink_family_name;
use super::look::Seen;
use super::order::Row;
use crate::clock::WallClock;
use crate::sinks::kubernetes_keys::Kubernetes;
use crate::sinks::schema::{ContainerKeys, Moment, User};

/// The version every record carries.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// What names and times are taken from.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) users: &'a Users,
    pub(super) clock: WallClock,
}

/// A socket.
#[derive(Serialize)]
pub(super) struct Socket<'a> {
    schema_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<&'static str>,
    network: Network<'a>,
    socket: SocketKeys,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<Netns<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
    holders: Vec<Holder<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unheld: Option<&'static str>,
}

#[derive(Serialize)]
struct Network<'a> {
    transport: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<Interface<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<End<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<End<'a>>,
}

#[derive(Serialize)]
struct Interface<'a> {
    index: NonZeroU32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

/// An end of a socket. Which keys there are depends on the transport.
#[derive(Serialize, Default)]
struct End<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Address<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inode: Option<NonZeroU64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vsock: Option<VsockKeys>,
}

#[derive(Serialize)]
struct VsockKeys {
    cid: u32,
    port: u32,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Address<'a> {
    Ip(IpAddr),
    Path(Cow<'a, str>),
}

#[derive(Serialize)]
struct SocketKeys {
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receive_queue: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_queue: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inode: Option<NonZeroU64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cookie: Option<NonZeroU64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    netlink_family: Option<&'static str>,
}

/// A network namespace.
#[derive(Serialize)]
pub(super) struct Netns<'a> {
    pub(super) inode: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cookie: Option<NonZeroU64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Holder<'a> {
    process: Process,
    fds: Vec<u32>,
    user: User<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<ContainerKeys<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k8s: Option<Kubernetes<'a>>,
}

#[derive(Serialize)]
struct Process {
    pid: u32,
    start_time: Moment,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_base64: Option<String>,
}

impl<'a> Socket<'a> {
    /// Of a socket.
    pub(super) fn new(row: &Row<'a>, facts: Facts<'a>) -> Self {
        let seen = row.seen;
        Self {
            schema_version: SCHEMA_VERSION,
            change: row.change.name(),
            network: Network::new(seen),
            socket: SocketKeys::new(seen),
            netns: seen.namespace().map(|namespace| Netns {
                inode: namespace.key.inode,
                cookie: namespace.key.cookie,
                name: seen.namespace_name(),
            }),
            user: seen.uid().map(|id| facts.user(id)),
            holders: seen.holders().map(|(listed, fds)| Holder::new(listed, fds, facts)).collect(),
            unheld: seen.socket.unheld.map(|unheld| unheld.name()),
        }
    }
}

impl<'a> Facts<'a> {
    /// A user and the name.
    pub(super) fn user(self, id: u32) -> User<'a> {
        User { id, name: self.users.get(&id).map(|name| &**name) }
    }
}

impl<'a> Network<'a> {
    fn new(seen: Seen<'a>) -> Self {
        let internet = seen.internet_ends();
        let (local, peer) = ends(seen);
        Self {
            transport: transport(seen.socket.protocol),
            r#type: internet.map(|(local, _)| if local.address.is_ipv4() { "ipv4" } else { "ipv6" }),
            interface: seen.interface().map(|(index, name)| Interface { index, name }),
            local,
            peer,
        }
    }
}

fn ends<'a>(seen: Seen<'a>) -> (Option<End<'a>>, Option<End<'a>>) {
    match &seen.socket.addresses {
        Addresses::Internet { .. } => {
            let is_raw = seen.socket.protocol == Protocol::Raw;
            let end = |address: IpAddr, number: u16| End {
                address: Some(Address::Ip(address)),
                port: (!is_raw).then_some(number),
                protocol: is_raw.then_some(number),
                ..End::default()
            };
            let Some((local, remote)) = seen.internet_ends() else { return (None, None) };
            let peer = remote.map(|remote| End { protocol: None, ..end(remote.address, remote.port) });
            (Some(end(local.address, local.port)), peer)
        }
        Addresses::Unix { peer, .. } => {
            let (own, peer_path) = seen.unix_paths().unwrap_or_default();
            let peer_end =
                |inode| End { inode: Some(inode), ..peer_path.map(End::of_path).unwrap_or_default() };
            (own.map(End::of_path), peer.map(peer_end))
        }
        Addresses::Packet { protocol, .. } => {
            (Some(End { protocol: Some(*protocol), ..End::default() }), None)
        }
        Addresses::Netlink { port_id } => (Some(End { port_id: Some(*port_id), ..End::default() }), None),
        Addresses::Vsock { local, remote } => (End::of_vsock(*local), End::of_vsock(*remote)),
        Addresses::Unknown => (None, None),
    }
}

impl<'a> End<'a> {
    fn of_path(path: &'a UnixPath) -> Self {
        let text = String::from_utf8_lossy(&path.0);
        let is_exact = matches!(text, Cow::Borrowed(_));
        Self {
            address: Some(Address::Path(text)),
            address_base64: (!is_exact).then(|| STANDARD.encode(&path.0)),
            ..Self::default()
        }
    }

    fn of_vsock(end: VsockEnd) -> Option<Self> {
        let keys = VsockKeys { cid: end.cid, port: end.port };
        (end != VsockEnd::ANY).then(|| Self { vsock: Some(keys), ..Self::default() })
    }
}

impl SocketKeys {
    fn new(seen: Seen<'_>) -> Self {
        let socket = seen.socket;
        let (family, protocol) = match socket.protocol {
            Protocol::Other { family, protocol } => (Some(family), Some(protocol)),
            Protocol::Netlink(family) => (None, family),
            _ => (None, None),
        };
        Self {
            r#type: kind_of(socket.protocol).and_then(kind_name),
            state: state_name(socket.protocol, socket.state),
            receive_queue: socket.receive_queue,
            send_queue: socket.send_queue,
            inode: socket.inode,
            cookie: socket.cookie,
            uid: socket.uid,
            family: family.filter(|family| *family != 0),
            protocol: protocol.filter(|_| family != Some(0)),
            netlink_family: match socket.protocol {
                Protocol::Netlink(Some(family)) => netlink_family_name(family),
                _ => None,
            },
        }
    }
}

impl<'a> Holder<'a> {
    fn new(listed: &'a ListedProcess, fds: &[Descriptor], facts: Facts<'a>) -> Self {
        let process = &listed.process;
        let container = listed.container.as_deref();
        let name = process.name.as_bytes();
        let is_text = str::from_utf8(name).is_ok();
        Self {
            process: Process {
                pid: process.id.pid,
                start_time: Moment::new(process.id.started_at(), facts.clock),
                name: process.name.to_text(),
                name_base64: (!is_text).then(|| STANDARD.encode(name)),
            },
            fds: fds.iter().map(|holder| holder.fd).collect(),
            user: facts.user(process.uid),
            container: container.map(ContainerKeys::new),
            k8s: container.and_then(Kubernetes::new),
        }
    }
}

const fn transport(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Unix(_) => "unix",
        Protocol::Packet(_) => "packet",
        Protocol::Netlink(_) => "netlink",
        Protocol::Vsock(_) => "vsock",
        other => other.name(),
    }
}

const fn kind_of(protocol: Protocol) -> Option<SocketKind> {
    match protocol {
        Protocol::Unix(kind) | Protocol::Packet(kind) | Protocol::Vsock(kind) => Some(kind),
        _ => None,
    }
}

const fn kind_name(kind: SocketKind) -> Option<&'static str> {
    match kind {
        SocketKind::STREAM => Some("stream"),
        SocketKind::DATAGRAM => Some("datagram"),
        SocketKind::RAW => Some("raw"),
        SocketKind::SEQUENCED => Some("seqpacket"),
        _ => None,
    }
}

/// TCP calls closed what others call unconnected.
fn state_name(protocol: Protocol, state: TcpState) -> Option<Cow<'static, str>> {
    match state {
        TcpState::CLOSE if protocol != Protocol::Tcp => Some(Cow::Borrowed("unconnected")),
        other => plain_state_name(other),
    }
}

/// The name that filters take; a state that is not known here keeps its number.
pub(super) fn plain_state_name(state: TcpState) -> Option<Cow<'static, str>> {
    match (state.name(), state.0) {
        (Some(name), _) => Some(Cow::Borrowed(name)),
        (None, 0) => None,
        (None, number) => Some(Cow::Owned(format!("state-{number}"))),
    }
}
