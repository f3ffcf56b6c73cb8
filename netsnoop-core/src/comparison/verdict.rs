//! Two answers about one end: do they agree, does one way know what the other does not, or do they contradict?
//!
//! An answer is who owns the end: the process with its user, and the namespace. Which records belong together is
//! decided one file up.

use core::time::Duration;

use crate::attribution::{Attribution, Evidence, Owner, Reason, Way};
use crate::connection::EndRecord;
use crate::five_tuple::FiveTuple;
use crate::namespace::NamespaceKey;
use crate::process::Process;
use crate::time::Timestamp;

/// How two answers about one end compare.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Verdict {
    /// Both name the same owner.
    Agree,
    /// Only [`Way::Main`] names one.
    OnlyMain,
    /// Only [`Way::Tables`] names one.
    OnlyTables,
    /// They name different owners.
    Disagree,
    /// None names one.
    Neither,
}

impl Verdict {
    /// All verdicts.
    pub const ALL: [Self; 5] = [Self::Agree, Self::OnlyMain, Self::OnlyTables, Self::Disagree, Self::Neither];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agree => "agree",
            Self::OnlyMain => "only_ebpf",
            Self::OnlyTables => "only_proc",
            Self::Disagree => "disagree",
            Self::Neither => "neither",
        }
    }
}

/// Why a way does not name an owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lack {
    /// It says so itself.
    Reason(Reason),
    /// Several processes may be it, and nothing tells which.
    Shared,
    /// No packet of the connection crossed an interface that is captured on (a pod's loopback), and it knows of
    /// connections by their packets alone.
    NotCaptured,
    /// It has not seen the connection, for no reason that is known.
    NotSeen,
}

impl Lack {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reason(reason) => reason.name(),
            Self::Shared => "shared",
            Self::NotCaptured => "not_captured",
            Self::NotSeen => "not_seen",
        }
    }
}

/// Which end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EndRole {
    /// The end that asked.
    Client,
    /// The end that was asked.
    Server,
}

impl EndRole {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Client, Self::Server];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// What one way says of an end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Who owns it, or why that is not known.
    pub owner: Result<Owner, Lack>,
    /// Why the owner is believed.
    pub evidence: Option<Evidence>,
    /// The namespace of its socket.
    pub namespace: Option<NamespaceKey>,
    /// How long after the connection's first sight the owner was known; `None` too if it is older than netsnoop.
    pub delay: Option<Duration>,
}

/// One local end of a connection as both ways saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ComparedEnd {
    /// Which end it is.
    pub role: EndRole,
    /// The connection, this end first.
    pub tuple: FiveTuple,
    /// How the answers compare.
    pub verdict: Verdict,
    /// What [`Way::Main`] says.
    pub main: Answer,
    /// What [`Way::Tables`] says.
    pub tables: Answer,
}

impl ComparedEnd {
    /// What `way` says.
    pub const fn answer(&self, way: Way) -> &Answer {
        match way {
            Way::Main => &self.main,
            Way::Tables => &self.tables,
        }
    }
}

/// What a record keeps of an end until its counterpart is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ToldEnd {
    pub(super) attribution: Attribution,
    pub(super) namespace: Option<NamespaceKey>,
    named_at: Option<Timestamp>,
}

impl ToldEnd {
    pub(super) fn of(end: &EndRecord) -> Self {
        Self { attribution: end.attribution.clone(), namespace: end.namespace, named_at: end.named_at }
    }

    /// Whether a socket of this node is (or may be) this end.
    pub(super) const fn is_local(&self) -> bool {
        self.attribution.has_owner()
            || self.namespace.is_some()
            || matches!(self.attribution.owner, Owner::Unattributed(Reason::Ambiguous))
    }

    pub(super) fn answer(self, began: Option<Timestamp>) -> Answer {
        let delay = self.named_at.zip(began).map(|(named_at, began)| named_at.since(began));
        let Attribution { owner, evidence, .. } = self.attribution;
        Answer {
            owner: match owner {
                Owner::Unattributed(reason) => Err(Lack::Reason(reason)),
                named => Ok(named),
            },
            evidence,
            namespace: self.namespace,
            delay,
        }
    }
}

impl Answer {
    /// Of a way that has not seen the connection.
    pub(super) const fn none(lack: Lack) -> Self {
        Self { owner: Err(lack), evidence: None, namespace: None, delay: None }
    }

    /// Why no single owner is named.
    pub const fn lack(&self) -> Option<Lack> {
        match &self.owner {
            Err(lack) => Some(*lack),
            Ok(Owner::Shared(_)) => Some(Lack::Shared),
            Ok(_) => None,
        }
    }
}

/// How two answers compare.
pub(super) fn judge(main: &Answer, tables: &Answer) -> Verdict {
    if namespaces_differ(main, tables) {
        return Verdict::Disagree;
    }
    match (&main.owner, &tables.owner) {
        (Err(_), Err(_)) => Verdict::Neither,
        // A set of candidates names no owner where the other way names none either.
        (Ok(Owner::Shared(_)), Err(_)) | (Err(_), Ok(Owner::Shared(_))) => Verdict::Neither,
        (Ok(_), Err(_)) => Verdict::OnlyMain,
        (Err(_), Ok(_)) => Verdict::OnlyTables,
        (Ok(Owner::Shared(ours)), Ok(Owner::Shared(theirs))) => {
            let meet = ours.iter().any(|one| theirs.iter().any(|other| is_same(one, other)));
            if meet { Verdict::Neither } else { Verdict::Disagree }
        }
        (Ok(Owner::Process(one)), Ok(Owner::Shared(sharers))) => {
            if sharers.iter().any(|other| is_same(one, other)) {
                Verdict::OnlyMain
            } else {
                Verdict::Disagree
            }
        }
        (Ok(Owner::Shared(sharers)), Ok(Owner::Process(one))) => {
            if sharers.iter().any(|other| is_same(one, other)) {
                Verdict::OnlyTables
            } else {
                Verdict::Disagree
            }
        }
        (Ok(Owner::Process(one)), Ok(Owner::Process(other))) if is_same(one, other) => Verdict::Agree,
        (Ok(Owner::Kernel), Ok(Owner::Kernel)) => Verdict::Agree,
        _ => Verdict::Disagree,
    }
}

/// The same process under the same user: one who asks who it was is told the same.
fn is_same(one: &Process, other: &Process) -> bool {
    one.id == other.id && one.uid == other.uid
}

fn namespaces_differ(one: &Answer, other: &Answer) -> bool {
    one.namespace.zip(other.namespace).is_some_and(|(one, other)| are_different(one, other))
}

/// Whether two names are certainly of two namespaces.
pub(super) fn are_different(one: NamespaceKey, other: NamespaceKey) -> bool {
    one.inode != other.inode || one.cookie.zip(other.cookie).is_some_and(|(one, other)| one != other)
}
