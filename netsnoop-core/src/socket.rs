//! Sockets as the kernel's tables show them.

use core::num::NonZeroU64;

use alloc::vec::Vec;

use crate::attribution::Reason;
use crate::five_tuple::FiveTuple;
use crate::process::{Process, ProcessId};
use crate::time::Timestamp;

/// A TCP state by its kernel number (include/net/tcp_states.h, numbers are ABI since 2.6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TcpState(pub u8);

impl TcpState {
    /// Connected.
    pub const ESTABLISHED: Self = Self(1);
    /// SYN sent, no answer yet.
    pub const SYN_SENT: Self = Self(2);
    /// SYN received.
    pub const SYN_RECV: Self = Self(3);
    /// Closed here, FIN not yet acknowledged.
    pub const FIN_WAIT1: Self = Self(4);
    /// Closed here, waiting for the peer's FIN.
    pub const FIN_WAIT2: Self = Self(5);
    /// Waiting out old packets; no process holds it.
    pub const TIME_WAIT: Self = Self(6);
    /// Closed, or (UDP) not connected.
    pub const CLOSE: Self = Self(7);
    /// Closed by the peer.
    pub const CLOSE_WAIT: Self = Self(8);
    /// Closed by both, last ACK outstanding.
    pub const LAST_ACK: Self = Self(9);
    /// Listening.
    pub const LISTEN: Self = Self(10);
    /// Both closed at once.
    pub const CLOSING: Self = Self(11);
    /// A request socket, not yet a full one.
    pub const NEW_SYN_RECV: Self = Self(12);

    /// The lower-case name `ss` filters use, or `None` for a number this version does not know.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            1 => "established",
            2 => "syn-sent",
            3 | 12 => "syn-recv",
            4 => "fin-wait-1",
            5 => "fin-wait-2",
            6 => "time-wait",
            7 => "closed",
            8 => "close-wait",
            9 => "last-ack",
            10 => "listening",
            11 => "closing",
            _ => return None,
        })
    }
}

/// Payload of a TCP socket, as its kernel counted it: without SYN and FIN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Payload {
    /// Bytes it sent that were acknowledged.
    pub sent: u64,
    /// Bytes it received.
    pub received: u64,
}

/// One row of a socket table, joined with the processes that hold it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SocketRow {
    /// Protocol and both addresses; a listening or unconnected socket has an unspecified remote.
    pub tuple: FiveTuple,
    /// The state.
    pub state: TcpState,
    /// The socket inode, `None` where no file refers to the socket (TIME_WAIT, orphans, not yet accepted).
    pub inode: Option<NonZeroU64>,
    /// The socket cookie, where the source has it.
    pub cookie: Option<NonZeroU64>,
    /// The uid that made the socket.
    pub uid: Option<u32>,
    /// Every process that holds it, each once.
    pub holders: Vec<Process>,
    /// Why not every process that could hold it was looked at. Then `holders` may be short, and an empty one
    /// proves nothing.
    pub holders_lack: Option<Reason>,
    /// When holders that began lately began, exactly. Of others only the tick is known.
    pub recent_starts: Vec<(ProcessId, Timestamp)>,
    /// Whether a holder runs as none of its user ids under the one that made the socket: it changed users
    /// since, or another process made the socket and handed it over.
    pub changed_user: bool,
}

impl SocketRow {
    /// Whether `holder` began before `moment`: `None` where its start is not known finely enough.
    pub fn began_before(&self, holder: ProcessId, moment: Timestamp) -> Option<bool> {
        let exact = self.recent_starts.iter().find(|(id, _)| *id == holder).map(|(_, started)| *started);
        if let Some(started) = exact {
            return Some(started <= moment);
        }
        let (earliest, latest) = holder.started_between();
        if latest <= moment {
            Some(true)
        } else if earliest > moment {
            Some(false)
        } else {
            None
        }
    }
}
