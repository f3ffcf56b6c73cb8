//! The answer for one end of a connection: who owns it, by which evidence, or why nobody can say.
//!
//! Every change of an answer goes through [`Attribution::refine`]: evidence may become stronger, never
//! weaker, and two rivals never give a single owner.

use alloc::vec::Vec;

use crate::process::Process;

/// A way of knowing, by the name used in `--rung`, `doctor`, metrics and `connection.rungs`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Rung {
    /// kprobes on `tcp_connect`, accept and UDP send.
    Kprobe,
    /// fentry/fexit twins of the kprobes.
    Fentry,
    /// sockops callbacks and sendmsg/recvmsg hooks at the cgroup v2 root.
    Sockops,
    /// BTF tracepoints, and the accept syscall exits.
    TpBtf,
    /// Raw tracepoints, where BTF tracepoints cannot be had.
    RawTp,
    /// The BPF iterator over every process's files.
    Iterator,
    /// Netlink sock_diag, then fd links.
    SockDiag,
    /// `/proc` text, then fd links.
    Proc,
}

impl Rung {
    /// All rungs, strongest first.
    pub const ALL: [Self; 8] = [
        Self::Kprobe,
        Self::Fentry,
        Self::Sockops,
        Self::TpBtf,
        Self::RawTp,
        Self::Iterator,
        Self::SockDiag,
        Self::Proc,
    ];

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kprobe => "kprobe",
            Self::Fentry => "fentry",
            Self::Sockops => "sockops",
            Self::TpBtf => "tp_btf",
            Self::RawTp => "raw_tp",
            Self::Iterator => "iterator",
            Self::SockDiag => "sock_diag",
            Self::Proc => "proc",
        }
    }
}

/// A set of rungs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RungSet(u8);

impl RungSet {
    /// No rung.
    pub const EMPTY: Self = Self(0);
    /// Every rung.
    pub const ALL: Self = Self(0xff);

    /// Adds one.
    pub const fn insert(&mut self, rung: Rung) {
        self.0 |= 1 << rung as u8;
    }

    /// Whether it is in.
    pub const fn contains(self, rung: Rung) -> bool {
        self.0 & (1 << rung as u8) != 0
    }

    /// Those that are in, strongest first.
    pub fn iter(self) -> impl Iterator<Item = Rung> {
        Rung::ALL.into_iter().filter(move |rung| self.contains(*rung))
    }
}

/// Which of the reconcilers that see the same traffic side by side.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Way {
    /// The one that was asked for, mostly the only one. Kernel programs report to it.
    Main,
    /// The one beside it that is compared with it: packets, sock_diag and `/proc`, no kernel program.
    Tables,
}

impl Way {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Main, Self::Tables];

    /// The name where both are shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "ebpf",
            Self::Tables => "proc",
        }
    }
}

/// Why an owner is believed, weakest first, so that `>` means stronger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Evidence {
    /// Only the namespace is known.
    Namespace,
    /// The process that listens on that port in that namespace.
    Listener,
    /// `/proc/<pid>/net/*` and fd links.
    Proc,
    /// Netlink sock_diag and fd links.
    SockDiag,
    /// A BPF iterator's pass over all files.
    SocketIterator,
    /// A kernel hook saw the process use a TCP socket it did not demonstrably open: the first to send or receive.
    KernelFirstUse,
    /// A kernel hook ran in the process's own context at connect, accept or the first datagram.
    KernelEvent,
}

impl Evidence {
    /// All kinds, weakest first. Two of them share one name.
    pub const ALL: [Self; 7] = [
        Self::Namespace,
        Self::Listener,
        Self::Proc,
        Self::SockDiag,
        Self::SocketIterator,
        Self::KernelFirstUse,
        Self::KernelEvent,
    ];

    /// The name in records and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Listener => "listener",
            Self::Proc => "proc",
            Self::SockDiag => "sock_diag",
            Self::SocketIterator => "socket_iterator",
            Self::KernelFirstUse | Self::KernelEvent => "kernel_event",
        }
    }
}

/// Why no process is named. A closed list: the JSON Schema and the metrics enumerate it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reason {
    /// The end is not on this node.
    Remote,
    /// The socket or its process had ended before anything could look.
    GoneBeforeLookup,
    /// The process tables of its namespace could not be read.
    Permission,
    /// The packet passed through; no socket of this node is an end of it.
    Forwarded,
    /// Nothing listens there.
    ClosedPort,
    /// More than one socket or namespace fits.
    Ambiguous,
    /// The evidence was lost (a full channel, ring or table).
    Lost,
    /// No process holds the socket (closed by its process, or TIME_WAIT).
    Orphaned,
    /// No way of knowing that is enabled answers this (for example `--rung` named only one).
    NotEnabled,
    /// Nobody has answered yet.
    Pending,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 10] = [
        Self::Remote,
        Self::GoneBeforeLookup,
        Self::Permission,
        Self::Forwarded,
        Self::ClosedPort,
        Self::Ambiguous,
        Self::Lost,
        Self::Orphaned,
        Self::NotEnabled,
        Self::Pending,
    ];

    /// The name in records and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Remote => "remote",
            Self::GoneBeforeLookup => "gone_before_lookup",
            Self::Permission => "permission",
            Self::Forwarded => "forwarded",
            Self::ClosedPort => "closed_port",
            Self::Ambiguous => "ambiguous",
            Self::Lost => "lost",
            Self::Orphaned => "orphaned",
            Self::NotEnabled => "not_enabled",
            Self::Pending => "pending",
        }
    }
}

/// Who owns an end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Owner {
    /// This process.
    Process(Process),
    /// One of these, and nothing tells which.
    Shared(Vec<Process>),
    /// The kernel itself.
    Kernel,
    /// Nobody can be named, for this reason.
    Unattributed(Reason),
}

/// How far an attribution reaches, for `attribution.level`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Level {
    /// A process.
    Process,
    /// Several processes.
    Shared,
    /// The kernel.
    Kernel,
    /// Only the namespace.
    Namespace,
    /// Nothing.
    None,
}

impl Level {
    /// All levels.
    pub const ALL: [Self; 5] = [Self::Process, Self::Shared, Self::Kernel, Self::Namespace, Self::None];

    /// The name in records and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Shared => "shared",
            Self::Kernel => "kernel",
            Self::Namespace => "namespace",
            Self::None => "none",
        }
    }
}

/// The answer for one end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attribution {
    /// Who.
    pub owner: Owner,
    /// Why that is believed; `None` if nothing is.
    pub evidence: Option<Evidence>,
    /// The socket's uid, used only where no process is known.
    pub socket_uid: Option<u32>,
}

/// What [`Attribution::refine`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refinement {
    /// The new evidence was no stronger.
    Kept,
    /// The answer became more certain or more complete, without contradiction.
    Refined,
    /// Stronger evidence named another owner: a conflict.
    Corrected,
}

impl Attribution {
    /// No owner, for `reason`.
    pub const fn unattributed(reason: Reason) -> Self {
        Self { owner: Owner::Unattributed(reason), evidence: None, socket_uid: None }
    }

    /// Only the namespace is known; `reason` says why no process is.
    pub const fn namespace(reason: Reason, socket_uid: Option<u32>) -> Self {
        Self { owner: Owner::Unattributed(reason), evidence: Some(Evidence::Namespace), socket_uid }
    }

    /// Owned by `process`.
    pub const fn process(process: Process, evidence: Evidence) -> Self {
        Self { owner: Owner::Process(process), evidence: Some(evidence), socket_uid: None }
    }

    /// Adds the user of all who may own it, where neither the owner nor its socket is known any more.
    pub fn or_user(mut self, only_user: Option<u32>) -> Self {
        if matches!(self.owner, Owner::Unattributed(reason) if reason != Reason::ClosedPort) {
            self.socket_uid = self.socket_uid.or(only_user);
        }
        self
    }

    /// What a complete list of holders proves: one is the owner, several share it, none owns it.
    pub fn holders(mut holders: Vec<Process>, evidence: Evidence, socket_uid: Option<u32>) -> Self {
        holders.sort_unstable_by_key(|holder| holder.id);
        holders.dedup_by_key(|holder| holder.id);
        match *holders.as_slice() {
            [] => Self::namespace(Reason::Orphaned, socket_uid),
            [only] => Self::process(only, evidence),
            _ => Self { owner: Owner::Shared(holders), evidence: Some(evidence), socket_uid },
        }
    }

    /// How far it reaches.
    pub const fn level(&self) -> Level {
        match self.owner {
            Owner::Process(_) => Level::Process,
            Owner::Shared(_) => Level::Shared,
            Owner::Kernel => Level::Kernel,
            Owner::Unattributed(_) if self.evidence.is_some() => Level::Namespace,
            Owner::Unattributed(_) => Level::None,
        }
    }

    /// Whether a process, a set of processes or the kernel is named.
    pub const fn has_owner(&self) -> bool {
        !matches!(self.owner, Owner::Unattributed(_))
    }

    /// The process, if exactly one is named.
    pub const fn owning_process(&self) -> Option<&Process> {
        match &self.owner {
            Owner::Process(process) => Some(process),
            _ => None,
        }
    }

    /// Why no owner is named.
    pub const fn reason(&self) -> Option<Reason> {
        match self.owner {
            Owner::Unattributed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Takes `other` where it is stronger, and says what that did. The first of two equally strong
    /// answers stays: a later holder never replaces the owner.
    pub fn refine(&mut self, other: Self) -> Refinement {
        if !self.is_weaker_than(&other) {
            return Refinement::Kept;
        }
        let outcome = if self.contradicts(&other) { Refinement::Corrected } else { Refinement::Refined };
        let socket_uid = other.socket_uid.or(self.socket_uid);
        *self = other;
        self.socket_uid = socket_uid;
        outcome
    }

    /// Whether [`Self::refine`] would take `other`.
    pub(crate) fn is_weaker_than(&self, other: &Self) -> bool {
        match (&self.owner, &other.owner) {
            (Owner::Unattributed(Reason::Pending), Owner::Unattributed(reason)) => *reason != Reason::Pending,
            (Owner::Unattributed(_), Owner::Unattributed(_)) => self.evidence < other.evidence,
            (Owner::Unattributed(_), _) => true,
            (_, Owner::Unattributed(_)) => false,
            _ => self.evidence < other.evidence,
        }
    }

    fn contradicts(&self, other: &Self) -> bool {
        match (&self.owner, &other.owner) {
            (Owner::Unattributed(_), _) => false,
            (Owner::Process(mine), Owner::Process(theirs)) => mine.id != theirs.id,
            (Owner::Shared(mine), Owner::Process(theirs)) => mine.iter().all(|holder| holder.id != theirs.id),
            (mine, theirs) => mine != theirs,
        }
    }
}
