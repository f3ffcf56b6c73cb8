//! Names for network namespaces as sources see them. Which *instance* a name stands for is decided by
//! `reconcile::namespace_table`, because inode numbers are reused at once.

use core::net::IpAddr;
use core::num::NonZeroU64;

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::time::Timestamp;

/// What a source could read of a namespace's identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NamespaceKey {
    /// Inode of `/proc/<pid>/ns/net` (stat, not lstat). The kernel's `net->ns.inum`, 32 bits wide.
    pub inode: u32,
    /// The kernel's netns cookie (SO_NETNS_COOKIE, since Linux 5.14), never reused while the system runs.
    pub cookie: Option<NonZeroU64>,
}

/// What one look at a namespace told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamespaceFacts {
    /// Its identity.
    pub key: NamespaceKey,
    /// Every address that is local to it, loopback included.
    pub addresses: Vec<IpAddr>,
    /// The name below `/run/netns`, where it has one.
    pub name: Option<Arc<str>>,
    /// The id that the capture's namespace has given it, where it has (man 8 ip-netns, `list-id`).
    pub id: Option<i32>,
}

/// An interface of the namespace that netsnoop captures in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// The interface index, as in `if_nametoindex(3)`.
    pub index: u32,
    /// The interface name.
    pub name: Arc<str>,
    /// Where its packets come from and go to.
    pub kind: InterfaceKind,
}

/// What an interface says about the namespaces of the packets on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InterfaceKind {
    /// Both ends are in the interface's own namespace.
    Loopback,
    /// One half of a veth pair whose other half lies in the same namespace.
    VethHere,
    /// One half of a veth pair whose other half lies in the namespace with this id ([`NamespaceFacts::id`]); `None`
    /// where the kernel does not say, as the other half is just ending.
    Veth(Option<i32>),
    /// Anything else: nothing can be said from the interface alone.
    Other,
}

/// The namespaces of this node and the interfaces of the one that packets are captured in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    /// When the look began. What came into being since may be missing.
    pub began: Timestamp,
    /// The namespace that the capture's interfaces belong to.
    pub capture_namespace: NamespaceKey,
    /// Its interfaces.
    pub interfaces: Vec<Interface>,
    /// Every namespace found. One that was known and is missing here has ended.
    pub namespaces: Vec<NamespaceFacts>,
}

/// What has changed in the topology, as the kernel told it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopologyReport {
    /// When nothing of it had happened yet.
    pub since: Timestamp,
    /// When all of it had. Nothing else has happened up to then.
    pub until: Timestamp,
    /// What happened, in this order.
    pub changes: Vec<TopologyChange>,
}

/// Something that has changed in the topology.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TopologyChange {
    /// A namespace that was given an id was found.
    Found {
        /// What is known of it now.
        facts: NamespaceFacts,
        /// When it was not there yet.
        since: Timestamp,
    },
    /// The namespace with this id has ended.
    Ended(i32),
    /// A namespace has an address more. Namespaces are named by their ids; `None` is the capture's own.
    Given(Option<i32>, IpAddr),
    /// A namespace has an address less.
    Taken(Option<i32>, IpAddr),
    /// An interface is there, or has changed.
    Interface(Interface),
    /// The interface with this index is gone.
    InterfaceGone(u32),
}
