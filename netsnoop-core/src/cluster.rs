//! What a Kubernetes cluster calls addresses that are not of this node: its pods and services.
//!
//! Left out: who asks the cluster, and how.

use core::net::IpAddr;

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::process::Pod;
use crate::time::Timestamp;

/// Something that has addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClusterName {
    /// A pod, whose addresses are its own.
    Pod(Arc<Pod>),
    /// A service, whose addresses lead to pods.
    Service(Arc<ClusterService>),
}

/// A service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterService {
    /// Its Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// A kind of these, which is told of apart from the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClusterKind {
    /// Pods.
    Pods,
    /// Services.
    Services,
}

impl ClusterName {
    /// Its kind.
    pub const fn kind(&self) -> ClusterKind {
        match self {
            Self::Pod(_) => ClusterKind::Pods,
            Self::Service(_) => ClusterKind::Services,
        }
    }
}

/// A pod or service as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterObject {
    /// Its uid, which no other ever has.
    pub uid: Arc<str>,
    /// Since when it is known to have had these addresses; `None` if that is not known.
    pub since: Option<Timestamp>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What it is called.
    pub name: ClusterName,
}

/// What a cluster tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClusterChange {
    /// All of a kind are told now.
    ListBegins(ClusterKind),
    /// One that there is.
    Is(ClusterObject),
    /// That with this uid is gone, or has no address any more.
    Gone(Arc<str>),
    /// What was not told since the beginning is gone.
    ListEnds(ClusterKind),
}

/// What the cluster calls an end of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClusterNames {
    /// The pod that the end is, if that is on another node, or if its owner here is not known.
    pub pod: Option<Arc<Pod>>,
    /// The service that was asked for.
    pub service: Option<Arc<ClusterService>>,
}
