//! Every socket of every network namespace, as one look at the node found it: what `netsnoop list` shows.
//!
//! Unlike [`crate::socket::SocketRow`], which serves connections, a [`ListedSocket`] is of any family and keeps
//! what people read off `ss`. Left out: how it is read, filtered and shown.

mod addresses;
mod protocol;
mod unheld;
mod unseen;

use core::num::{NonZeroU32, NonZeroU64};

use alloc::sync::Arc;
use alloc::vec::Vec;

use smallvec::SmallVec;

pub use self::addresses::{Addresses, SocketEnd, UnixPath, VsockEnd};
pub use self::protocol::{Protocol, ProtocolGroup, ProtocolSet, SocketKind};
pub use self::unheld::Unheld;
pub use self::unseen::{Unseen, UnseenReason, UnseenThing};
use crate::attribution::Rung;
use crate::namespace::NamespaceKey;
use crate::process::{Container, Process};
use crate::socket::TcpState;
use crate::time::Timestamp;

/// What one look found. Sockets name namespaces and processes by their place in the lists here.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// Which way it was read: [`Rung::Iterator`], [`Rung::SockDiag`] or [`Rung::Proc`].
    pub rung: Rung,
    /// When reading began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Every namespace, those without a socket or a process too.
    pub namespaces: Vec<ListedNamespace>,
    /// Every process with an open file that could be looked at, those without a socket too.
    pub processes: Vec<ListedProcess>,
    /// Every socket, each once.
    pub sockets: Vec<ListedSocket>,
    /// What could not be seen, and why. Empty: this is all there is.
    pub unseen: Vec<Unseen>,
}

/// A network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedNamespace {
    /// Its identity.
    pub key: NamespaceKey,
    /// The name below `/run/netns`, where it has one.
    pub name: Option<Arc<str>>,
    /// Names of interfaces that its sockets are bound to, by index; as far as they can be told.
    pub interfaces: Vec<(NonZeroU32, Arc<str>)>,
}

/// A process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedProcess {
    /// Who it is.
    pub process: Process,
    /// The place of the namespace it is in; `None` if it may not be asked, or is gone.
    pub namespace: Option<u32>,
    /// The container it runs in.
    pub container: Option<Arc<Container>>,
}

/// A socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedSocket {
    /// The place of its namespace; `None` where only a descriptor shows the socket, which does not tell.
    pub namespace: Option<u32>,
    /// What kind of socket it is.
    pub protocol: Protocol,
    /// Its state; all families use TCP's numbers, and those not known here are kept.
    pub state: TcpState,
    /// What it is bound and connected to.
    pub addresses: Addresses,
    /// What `ss` calls Recv-Q: bytes not yet read; of a listening socket, connections that wait to be accepted.
    pub receive_queue: Option<u32>,
    /// What `ss` calls Send-Q: bytes not yet acknowledged or sent; of a listening socket, how many may wait.
    pub send_queue: Option<u32>,
    /// The inode in sockfs; `None` where no file refers to the socket.
    pub inode: Option<NonZeroU64>,
    /// The socket cookie, where this way has it.
    pub cookie: Option<NonZeroU64>,
    /// The uid that made the socket.
    pub uid: Option<u32>,
    /// Every descriptor that refers to it, by process and number: mostly one, which needs no memory of its own.
    pub holders: SmallVec<[Holder; 2]>,
    /// Why nobody holds it; `None` if somebody does.
    pub unheld: Option<Unheld>,
}

impl ListedSocket {
    /// A socket of which no more is known.
    pub const fn new(protocol: Protocol, state: TcpState, addresses: Addresses) -> Self {
        Self {
            namespace: None,
            protocol,
            state,
            addresses,
            receive_queue: None,
            send_queue: None,
            inode: None,
            cookie: None,
            uid: None,
            holders: SmallVec::new_const(),
            unheld: None,
        }
    }
}

/// A descriptor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Holder {
    /// The place of the process.
    pub process: u32,
    /// The descriptor's number.
    pub fd: u32,
}
