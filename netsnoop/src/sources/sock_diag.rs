//! The sockets of one namespace by netlink's sock_diag (man 7 sock_diag), asked in the namespace of the thread that opens
//! the question: single ones exactly, or lists.
//!
//! Left out: the messages themselves (`netsnoop_core::diag_message`), who holds a socket, which only fd links tell, and
//! entering namespaces. An open [`SockDiag`] keeps its namespace alive, interfaces and all, so it is opened, asked and
//! closed.

use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netsnoop_core::attribution::Reason;
use netsnoop_core::diag_message::{Answer, Question, answers};
use netsnoop_core::five_tuple::{Endpoint, FiveTuple, Transport};
use netsnoop_core::inventory::{Addresses, ListedSocket, Protocol};
use netsnoop_core::socket::{Payload, SocketRow, TcpState};
use rustix::fs::fstat;
use rustix::io::Errno;

use super::netlink::Netlink;

/// A question to one namespace's sockets.
pub(crate) struct SockDiag {
    netlink: Netlink,
    /// The inode of this very socket, which is left out of every answer.
    own_inode: u64,
}

/// A bit for listening sockets.
pub(super) const LISTENING: u32 = 1 << TcpState::LISTEN.0;

impl SockDiag {
    /// Opens it in the namespace this thread is in.
    pub(crate) fn open() -> Result<Self, Errno> {
        let netlink = Netlink::open(NETLINK_SOCK_DIAG)?;
        let own_inode = fstat(&netlink)?.st_ino;
        Ok(Self { netlink, own_inode })
    }

    /// Whether this kernel answers for `transport`. Without the protocol's handler every exact
    /// question gets ENOENT, as if there were no socket.
    pub(crate) fn answers_for(&mut self, transport: Transport) -> bool {
        self.list(Question::of(transport, false), 0, |_| {}).is_ok()
    }

    /// The socket the kernel would give a packet of `wanted` to: the connection, or else a listener or
    /// wildcard socket.
    pub(super) fn find(&mut self, wanted: &FiveTuple) -> Result<Option<SocketRow>, Errno> {
        let is_ipv6 = wanted.local.address.is_ipv6() || wanted.remote.address.is_ipv6();
        let question = Question::of(wanted.transport, is_ipv6);
        self.netlink.send(&question.find(wanted))?;
        let mut found = Ok(None);
        let answer = self.receive(question, |socket| {
            found = socket.and_then(|(socket, _)| row_of(socket)).ok_or(Errno::BADMSG).map(Some);
        });
        match answer {
            Ok(_) => found,
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds the sockets of an Internet protocol to `rows`: those in these states, a bit each.
    pub(super) fn list_rows(
        &mut self,
        question: Question,
        states: u32,
        rows: &mut Vec<SocketRow>,
    ) -> Result<(), Errno> {
        self.each_row(question, states, |row| rows.push(row))
    }

    /// Hands over the sockets of an Internet protocol in these states, a bit each.
    pub(super) fn each_row(
        &mut self,
        question: Question,
        states: u32,
        mut each: impl FnMut(SocketRow),
    ) -> Result<(), Errno> {
        let mut unreadable = false;
        self.list(question, states, |socket| match socket.and_then(row_of) {
            Some(row) => each(row),
            None => unreadable = true,
        })?;
        if unreadable { Err(Errno::BADMSG) } else { Ok(()) }
    }

    /// Hands over the connected TCP sockets in these states, a bit each, with their payload where the kernel tells it.
    pub(super) fn each_counted(
        &mut self,
        states: u32,
        mut each: impl FnMut(SocketRow, Option<Payload>),
    ) -> Result<(), Errno> {
        let question = Question::TCP_OF_BOTH_FAMILIES.with_payload();
        let mut unreadable = false;
        self.ask(question, states, |told| match told {
            Some((socket, payload)) => match row_of(socket) {
                Some(row) => each(row, payload),
                None => unreadable = true,
            },
            None => unreadable = true,
        })?;
        if unreadable { Err(Errno::BADMSG) } else { Ok(()) }
    }

    /// Hands over the sockets in these states, a bit each; `None` for one that cannot be understood. `true` if the
    /// kernel says that something may be missing, as it changed meanwhile.
    pub(super) fn list(
        &mut self,
        question: Question,
        states: u32,
        mut each: impl FnMut(Option<ListedSocket>),
    ) -> Result<bool, Errno> {
        self.ask(question, states, |told| each(told.map(|(socket, _)| socket)))
    }

    fn ask(
        &mut self,
        question: Question,
        states: u32,
        mut each: impl FnMut(Option<(ListedSocket, Option<Payload>)>),
    ) -> Result<bool, Errno> {
        self.netlink.send(&question.list(states))?;
        loop {
            if let Some(interrupted) = self.receive(question, &mut each)? {
                return Ok(interrupted);
            }
        }
    }

    /// Reads one datagram of the answer. At the end of a list it tells whether that was interrupted.
    fn receive(
        &mut self,
        question: Question,
        mut each: impl FnMut(Option<(ListedSocket, Option<Payload>)>),
    ) -> Result<Option<bool>, Errno> {
        for answer in answers(question, self.netlink.receive()?) {
            match answer {
                Answer::Socket(socket) => {
                    let is_own = socket.inode.is_some_and(|inode| inode.get() == self.own_inode);
                    if !is_own {
                        each(Some((socket, None)));
                    }
                }
                Answer::Counted(socket, payload) => each(Some((socket, Some(payload)))),
                Answer::Unreadable => each(None),
                Answer::Refused(code) => return Err(Errno::from_raw_os_error(code)),
                Answer::Done { interrupted } => return Ok(Some(interrupted)),
            }
        }
        Ok(None)
    }
}

fn row_of(socket: ListedSocket) -> Option<SocketRow> {
    let transport = match socket.protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
        Protocol::UdpLite => Transport::UdpLite,
        _ => return None,
    };
    let Addresses::Internet { local, remote, .. } = socket.addresses else { return None };
    let [local, remote] = [local, remote].map(|end| Endpoint::new(end.address, end.port));
    Some(SocketRow {
        tuple: FiveTuple { transport, local, remote },
        state: socket.state,
        inode: socket.inode,
        cookie: socket.cookie,
        uid: socket.uid,
        holders: Vec::new(),
        holders_lack: Some(Reason::Pending),
        recent_starts: Vec::new(),
        changed_user: false,
    })
}
