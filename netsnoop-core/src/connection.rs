//! The output: one connection, both ends, their owners, the evidence.

use core::time::Duration;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::attribution::{Attribution, RungSet};
use crate::cluster::ClusterNames;
use crate::five_tuple::{Endpoint, Transport};
use crate::namespace::NamespaceKey;
use crate::process::ProcessFacts;
use crate::service::{LearntName, Service};
use crate::time::Timestamp;

/// Names a connection in all its records. Unique within a run; the seed makes two runs differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

/// Which line of a connection's life a record is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RecordEvent {
    /// The first: both local ends have owners, or the settling time is over.
    Open,
    /// Something said before has changed.
    Update,
    /// The last.
    Close,
}

impl RecordEvent {
    /// All events.
    pub const ALL: [Self; 3] = [Self::Open, Self::Update, Self::Close];

    /// The name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Update => "update",
            Self::Close => "close",
        }
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ConnectionState {
    /// The client asked, nobody has answered.
    Connecting,
    /// Both sides talk (UDP: a datagram was seen).
    Established,
    /// Ended in order.
    Closed,
    /// Ended by a reset after it was established.
    Reset,
    /// The server said no.
    Refused,
    /// Nobody answered in time.
    Timeout,
}

impl ConnectionState {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Connecting, Self::Established, Self::Closed, Self::Reset, Self::Refused, Self::Timeout];

    /// The name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Established => "established",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
        }
    }

    /// Whether nothing more is to come.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Closed | Self::Reset | Self::Refused | Self::Timeout)
    }
}

/// How it is known which end is the client, weakest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// It is not: the client shown is the end on this node, or else the higher port.
    Unknown,
    /// The end that sent the first datagram seen.
    FirstDatagram,
    /// The other end is a configured service.
    Service,
    /// The other end is a listening socket's.
    Listener,
    /// A SYN was seen.
    Syn,
    /// The connect or accept call was seen.
    Syscall,
}

impl Role {
    /// All ways, weakest first.
    pub const ALL: [Self; 6] =
        [Self::Unknown, Self::FirstDatagram, Self::Service, Self::Listener, Self::Syn, Self::Syscall];

    /// The name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::FirstDatagram => "first_datagram",
            Self::Service => "service",
            Self::Listener => "listener",
            Self::Syn => "syn",
            Self::Syscall => "syscall",
        }
    }
}

/// One end of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndRecord {
    /// Its address and port.
    pub endpoint: Endpoint,
    /// The namespace of its socket, if it is on this node and known.
    pub namespace: Option<NamespaceKey>,
    /// Who owns it.
    pub attribution: Attribution,
    /// Since when the owner is known, if one is.
    pub named_at: Option<Timestamp>,
    /// What is known of the owning process.
    pub facts: Option<Arc<ProcessFacts>>,
    /// What the cluster calls it, if that was asked; its pod where no owner tells that.
    pub cluster: Option<Box<ClusterNames>>,
}

/// The addresses that the ends were given on the way (NAT).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Nat {
    /// Where the server saw the client.
    pub client: Option<Endpoint>,
    /// Where the connection of the client really went.
    pub server: Option<Endpoint>,
}

/// How payload bytes were counted, weakest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum IoSource {
    /// By the lengths of the datagrams that were captured: those that were not are missing.
    Packets,
    /// By the kernel, as told by the last look at its sockets: what came after that is missing.
    SockDiag,
    /// By the kernel, as told when the socket was closed: all of them.
    KernelEvent,
}

impl IoSource {
    /// All ways, weakest first.
    pub const ALL: [Self; 3] = [Self::Packets, Self::SockDiag, Self::KernelEvent];

    /// The name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::SockDiag => "sock_diag",
            Self::KernelEvent => "kernel_event",
        }
    }
}

/// Payload bytes that went both ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Exchanged {
    /// From client to server.
    pub sent_bytes: u64,
    /// From server to client.
    pub received_bytes: u64,
}

impl Exchanged {
    /// Adds `more`.
    pub fn add(&mut self, more: Self) {
        self.sent_bytes = self.sent_bytes.saturating_add(more.sent_bytes);
        self.received_bytes = self.received_bytes.saturating_add(more.received_bytes);
    }
}

/// Payload bytes of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Io {
    /// How many.
    pub exchanged: Exchanged,
    /// How they were counted.
    pub source: IoSource,
}

/// One line of a connection's life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectionRecord {
    /// Which line.
    pub event: RecordEvent,
    /// When what it tells happened.
    pub at: Timestamp,
    /// Which connection.
    pub id: ConnectionId,
    /// When it began; `None` if it is older than netsnoop, or was found in socket tables some time after it began.
    pub start: Option<Timestamp>,
    /// Whether it is older than netsnoop.
    pub preexisting: bool,
    /// Where it stands.
    pub state: ConnectionState,
    /// How the client end is known.
    pub role: Role,
    /// Which ways of knowing contributed.
    pub rungs: RungSet,
    /// How long it lasted so far; `None` if the start is unknown.
    pub duration: Option<Duration>,
    /// The protocol.
    pub transport: Transport,
    /// The client's initial sequence number (TCP), where it was seen.
    pub isn: Option<u32>,
    /// The interface nearest to the client's socket that it was seen on.
    pub interface: Option<Arc<str>>,
    /// The end that asked.
    pub client: EndRecord,
    /// The end that was asked.
    pub server: EndRecord,
    /// What the other end saw of each, where translation (NAT) made it something else.
    pub nat: Nat,
    /// The service it belongs to, and the rule that says so.
    pub service: Option<Service>,
    /// What the client calls the server.
    pub names: Vec<LearntName>,
    /// Other names that the client's namespace had looked up and that led to the server too, the last one first.
    pub rival_names: Box<[Arc<str>]>,
    /// Payload bytes, where they were counted.
    pub io: Option<Io>,
    /// Those of them that no record of this connection has told of before. Of a connection older than netsnoop, what
    /// went before the first look at it is none of them.
    pub untold: Exchanged,
}
