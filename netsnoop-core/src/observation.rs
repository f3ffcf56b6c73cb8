//! The closed list of everything the reconciler may learn.

use core::num::{NonZeroU32, NonZeroU64};

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::attribution::{Reason, Rung};
use crate::cluster::ClusterChange;
use crate::five_tuple::FiveTuple;
use crate::namespace::{NamespaceKey, Topology, TopologyReport};
use crate::packet::{Direction, PacketHeader};
use crate::process::{Container, Process, ProcessFacts, ProcessId};
use crate::resolution::Resolution;
use crate::service::LearntName;
use crate::socket::{Payload, SocketRow, TcpState};
use crate::time::Timestamp;
use crate::translation::TranslationChange;

/// Something a source saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Observation {
    /// A packet on an interface.
    Packet(PacketSighting),
    /// A packet's sender calls its server so.
    Name(PacketSighting, LearntName),
    /// A packet's receiver was told where a name leads.
    Resolution(PacketSighting, Arc<Resolution>),
    /// A kernel program's event.
    Kernel(KernelEvent),
    /// What a look at socket tables told.
    Sockets(SocketSnapshot),
    /// Which connections there are in a namespace.
    Pass(SocketPass),
    /// How much connected TCP sockets of a namespace have sent and received.
    Bytes(ByteLook),
    /// All namespaces' sockets have been told of by [`Observation::Bytes`]: whatever else has grown is to be told too.
    BytesEnd,
    /// What is known of a process.
    Process(ProcessId, ProcessFacts),
    /// The container of a process, now with its names; `None` if they will not be known. It comes after facts that said so.
    ContainerNames(ProcessId, Option<Container>),
    /// What a Kubernetes cluster calls addresses of others.
    Cluster(Vec<ClusterChange>),
    /// The namespaces and interfaces of the node.
    Topology(Topology),
    /// What has changed of them since.
    TopologyChanges(TopologyReport),
    /// Every packet up to this moment has been told of, by all captures.
    PacketsUntil(Timestamp),
    /// What connection tracking translates (NAT).
    Translations(TranslationReport),
    /// Every translation that began before this moment has been told of: the answer to
    /// [`crate::reconcile::Reconciler::poll_hearing`].
    TranslationsUntil(Timestamp),
}

/// A decoded packet and where it was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketSighting {
    /// When.
    pub at: Timestamp,
    /// On which interface of the capture namespace; `None` where the link type does not say.
    pub interface: Option<NonZeroU32>,
    /// Which way, seen from that interface.
    pub direction: Direction,
    /// What the packet says.
    pub header: PacketHeader,
}

/// A kernel program's event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KernelEvent {
    /// When the program ran.
    pub at: Timestamp,
    /// Which rung it belongs to.
    pub rung: Rung,
    /// What happened.
    pub act: Act,
    /// The process in whose context it happened; `None` where the context means nothing (softirq).
    pub process: Option<Process>,
    /// The socket it happened to; `None` for process events.
    pub socket: Option<KernelSocket>,
}

/// What a kernel event tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// The process called connect (or sent with Fast Open).
    Connect,
    /// The process accepted this socket.
    Accept,
    /// The process listens on this socket.
    Listen,
    /// The first send of this process on this socket (UDP: to this peer).
    FirstSend,
    /// The first receive of this process on this socket (UDP: from this peer).
    FirstReceive,
    /// The handshake ended well.
    Established {
        /// Whether this is the client's socket (it left SYN_SENT) rather than the server's child.
        by_client: bool,
    },
    /// The socket was closed.
    Closed(SocketClose),
    /// The process runs a new program.
    Exec {
        /// The path of the program as the kernel opened it, if absolute.
        executable: Option<Arc<str>>,
    },
    /// The process (its last thread) ended.
    Exit,
}

/// How a socket ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketClose {
    /// The state it left.
    pub from: TcpState,
    /// `sk_err`: 0, or an errno such as ECONNREFUSED, ECONNRESET, ETIMEDOUT.
    pub error: u16,
    /// What it sent and received.
    pub payload: Payload,
}

/// The socket of a kernel event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelSocket {
    /// Its namespace.
    pub namespace: NamespaceKey,
    /// Its cookie, where hook and kernel give one.
    pub cookie: Option<NonZeroU64>,
    /// The address of its `struct sock`: the same socket while it lives, reused after.
    pub address: u64,
    /// Protocol and addresses; the local address of an unconnected UDP socket may be a wildcard.
    pub tuple: FiveTuple,
    /// The client's initial sequence number (TCP), where the hook could read it.
    pub client_isn: Option<u32>,
    /// The socket's uid (`sk_uid`).
    pub uid: Option<u32>,
    /// The cgroup v2 id the socket is charged to (for an accepted socket: the listener's).
    pub cgroup_id: Option<u64>,
}

/// What one look at socket tables told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SocketSnapshot {
    /// The namespace that was looked at.
    pub namespace: NamespaceKey,
    /// How.
    pub rung: Rung,
    /// When the look began. A socket younger than this may be missing from it.
    pub started: Timestamp,
    /// When the last row had been read.
    pub finished: Timestamp,
    /// When their holders had been found.
    pub searched: Timestamp,
    /// What was asked.
    pub scope: SnapshotScope,
    /// What was found.
    pub sockets: Vec<SocketRow>,
    /// The user of every process in the namespace, if they have but one and it was asked for because of a socket
    /// whose owner is gone.
    pub only_user: Option<u32>,
    /// When the oldest process in the namespace started, if it was asked for likewise.
    pub oldest_process: Option<Timestamp>,
    /// Who has ended lately, if that is heard of.
    pub exits: Option<Exits>,
    /// The process that keeps the namespace for a Kubernetes pod, if it was asked for likewise: whatever is in there is
    /// that pod's.
    pub pod_keeper: Option<Process>,
}

/// Processes that have ended and may have held a socket before others that were found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exits {
    /// All exits since then are known.
    pub known_since: Timestamp,
    /// Holders of sockets that serve a port, each with the moment by which its last relative (parent, child or another
    /// child of its parent) had ended.
    pub relatives: Vec<(ProcessId, Timestamp)>,
    /// The same of its last child, which may have been born after the holder was known to serve alone.
    pub children: Vec<(ProcessId, Timestamp)>,
}

/// What a snapshot covers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotScope {
    /// All sockets of the namespace.
    Whole,
    /// Nothing: there is no such namespace any more. Who was concluded to be in it by address alone may have been in
    /// another one that had the address after it.
    Ended,
    /// Only the sockets asked for; those that were not found are here with the reason.
    Wanted {
        /// Asked for and not found.
        missing: Vec<(FiveTuple, Reason)>,
    },
}

/// The TCP sockets of one namespace that listen or are connected and have a file, as a pass over all namespaces found
/// them: not those that wait to be accepted or that their process has closed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SocketPass {
    /// The namespace.
    pub namespace: NamespaceKey,
    /// How it was looked at.
    pub rung: Rung,
    /// When the look began. What is missing was not there then, or no more.
    pub started: Timestamp,
    /// When the last socket had been read.
    pub finished: Timestamp,
    /// Whether there is no such namespace any more, and so no socket.
    pub ended: bool,
    /// Its sockets.
    pub sockets: Vec<LivingSocket>,
}

/// A socket with a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LivingSocket {
    /// Both addresses; a listening socket has no remote one.
    pub tuple: FiveTuple,
    /// Its state.
    pub state: TcpState,
    /// Its inode.
    pub inode: NonZeroU64,
    /// Its cookie, where the source has it.
    pub cookie: Option<NonZeroU64>,
    /// The uid that made it.
    pub uid: Option<u32>,
}

/// Some of the connected TCP sockets of a namespace, with what the kernel has counted of each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ByteLook {
    /// The namespace.
    pub namespace: NamespaceKey,
    /// When the look began.
    pub started: Timestamp,
    /// The sockets.
    pub sockets: Vec<CountedSocket>,
}

/// A connected socket and its payload so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CountedSocket {
    /// Both addresses.
    pub tuple: FiveTuple,
    /// Its cookie.
    pub cookie: Option<NonZeroU64>,
    /// The payload.
    pub payload: Payload,
}

/// What the connection tracking of one namespace told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TranslationReport {
    /// Whose it is.
    pub tracker: Tracker,
    /// When it was read. What it tells happened before.
    pub at: Timestamp,
    /// Whether it is all that is translated there, so that what is missing has ended.
    pub whole: bool,
    /// What began and ended, in this order.
    pub changes: Vec<TranslationChange>,
}

/// The namespace that tracks connections, as the source can name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tracker {
    /// The capture's own.
    Own,
    /// That to which the capture's own has given this id (`NamespaceFacts::id`).
    Numbered(i32),
    /// The one so named.
    Known(NamespaceKey),
}

/// A question for the sources that can be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rescan {
    /// Who holds these sockets? Answered by one [`Observation::Sockets`] with [`SnapshotScope::Wanted`].
    Sockets {
        /// The namespace to look in.
        namespace: NamespaceKey,
        /// The sockets, each with its own end first.
        wanted: Vec<FiveTuple>,
    },
    /// What are this process's executable and container? Answered by one [`Observation::Process`].
    Process(Process),
    /// Which namespaces and interfaces are there? Answered by one [`Observation::Topology`].
    Topology,
    /// What has changed of them up to now? Answered by one [`Observation::TopologyChanges`], even if nothing has.
    TopologyChanges,
}
