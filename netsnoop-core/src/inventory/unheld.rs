//! Why nobody holds a socket.

use super::{Addresses, ListedSocket};
use crate::socket::TcpState;

/// Why nobody holds a socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Unheld {
    /// The kernel waits out old packets of a closed connection.
    TimeWait,
    /// A connection that a client has asked for and that is not made yet.
    Request,
    /// A connection that is made and waits to be accepted.
    AwaitsAccept,
    /// Closed by its process; the kernel still sends, or waits for the peer.
    Orphan,
    /// The kernel's own.
    Kernel,
    /// A file refers to it, but no descriptor of any process: it is on its way between processes (man 7 unix,
    /// SCM_RIGHTS), registered with io_uring, the kernel's own, or was closed meanwhile.
    NoDescriptor,
    /// Not every process could be looked at, see [`Inventory::unseen`](super::Inventory::unseen).
    Unseen,
}

impl Unheld {
    /// The name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TimeWait => "time_wait",
            Self::Request => "request",
            Self::AwaitsAccept => "awaits_accept",
            Self::Orphan => "orphan",
            Self::Kernel => "kernel",
            Self::NoDescriptor => "no_descriptor",
            Self::Unseen => "unseen",
        }
    }

    /// Why a socket without a holder has none, as far as it tells itself.
    pub fn of(socket: &ListedSocket) -> Self {
        match (&socket.addresses, socket.inode, socket.state) {
            (Addresses::Netlink { port_id: 0 }, ..) => Self::Kernel,
            (_, Some(_), _) => Self::NoDescriptor,
            (_, None, TcpState::TIME_WAIT) => Self::TimeWait,
            (_, None, TcpState::SYN_RECV | TcpState::NEW_SYN_RECV) => Self::Request,
            (_, None, TcpState::ESTABLISHED | TcpState::CLOSE_WAIT) => Self::AwaitsAccept,
            (_, None, _) => Self::Orphan,
        }
    }
}
