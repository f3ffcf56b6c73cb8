//! The sockets of one namespace by netlink's sock_diag (man 7 sock_diag), asked in that namespace.
//!
//! Left out: sockets that are bound to nothing, echo sockets and families without a handler. Where the kernel lacks a
//! protocol's handler, its table tells instead.

use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};
use netsnoop_core::diag_message::{ALL_STATES, Answer, Question, answers};
use netsnoop_core::inventory::{ListedSocket, ProtocolGroup, ProtocolSet, UnseenReason, UnseenThing};
use rustix::fs::fstat;
use rustix::io::Errno;

use super::census::Census;
use super::draft::{Draft, reason_of};

/// The kernel fills at most 32 KiB of a dump at once.
const ANSWER_BYTES: usize = 64 * 1024;

/// What was asked in one namespace.
#[derive(Debug)]
pub(super) struct DiagRows {
    /// The rows, not yet of any namespace.
    pub(super) sockets: Vec<ListedSocket>,
    /// What sock_diag cannot tell here.
    pub(super) left: ProtocolSet,
    unreadable: u64,
    interrupted: u64,
    failed: Vec<Errno>,
}

impl DiagRows {
    /// Nothing was asked, and all of this is left.
    pub(super) const fn nothing(left: ProtocolSet) -> Self {
        Self { sockets: Vec::new(), left, unreadable: 0, interrupted: 0, failed: Vec::new() }
    }

    /// Asks for the `wanted` groups in the namespace this thread is in, as far as it has any.
    pub(super) fn read(wanted: ProtocolSet, census: &Census) -> Result<Self, Errno> {
        let mut this = Self::nothing(ProtocolSet::EMPTY);
        let mut asker = Asker::open()?;
        for group in ProtocolGroup::ALL.into_iter().filter(|group| wanted.contains(*group)) {
            this.add(&mut asker, (group, ALL_STATES), census);
        }
        Ok(this)
    }

    /// Adds the sockets of a group that are in one of these states, a bit each.
    pub(super) fn add(&mut self, asker: &mut Asker, (group, states): (ProtocolGroup, u32), census: &Census) {
        let questions = Question::all_of(group);
        if questions.is_empty() {
            self.left.insert(group);
        }
        let before = self.sockets.len();
        let mut wanted =
            questions.iter().filter(|question| census.may_have(group, question.is_ipv6())).peekable();
        if group == ProtocolGroup::Tcp && wanted.peek().is_some() {
            match asker.ask(Question::TCP_OF_BOTH_FAMILIES, states, self) {
                Ok(()) => return,
                Err(_) => self.sockets.truncate(before),
            }
        }
        for question in wanted {
            match asker.ask(*question, states, self) {
                Ok(()) => {}
                // No handler for the protocol.
                Err(Errno::NOENT | Errno::OPNOTSUPP | Errno::INVAL) => {
                    self.sockets.truncate(before);
                    self.left.insert(group);
                    return;
                }
                Err(error) => self.failed.push(error),
            }
        }
    }

    /// Adds what was found to `draft`, as of the namespace at `place`.
    pub(super) fn hand_over(self, draft: &mut Draft, place: u32) {
        draft.miss(UnseenThing::Sockets, UnseenReason::Unreadable, self.unreadable);
        draft.miss(UnseenThing::Tables, UnseenReason::Vanished, self.interrupted);
        for error in self.failed {
            draft.miss(UnseenThing::Tables, reason_of(error), 1);
        }
        let sockets = self.sockets.into_iter();
        draft.sockets.extend(sockets.map(|socket| ListedSocket { namespace: Some(place), ..socket }));
    }
}

/// A question to one namespace. While it is open it keeps the namespace alive.
pub(super) struct Asker {
    socket: Socket,
    /// The inode of this very socket, which is left out of every answer.
    own_inode: u64,
    answer: Vec<u8>,
}

impl Asker {
    /// Opens it in the namespace this thread is in.
    pub(super) fn open() -> Result<Self, Errno> {
        let socket = Socket::new(NETLINK_SOCK_DIAG).map_err(|error| errno_of(&error))?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(|error| errno_of(&error))?;
        let own_inode = fstat(&socket)?.st_ino;
        Ok(Self { socket, own_inode, answer: Vec::with_capacity(ANSWER_BYTES) })
    }

    /// The kernel answers within the call that asks or reads on, so there is nothing to wait for.
    fn ask(&mut self, question: Question, states: u32, rows: &mut DiagRows) -> Result<(), Errno> {
        self.socket.send(&question.message(states), 0).map_err(|error| errno_of(&error))?;
        loop {
            self.answer.clear();
            let received = self.socket.recv(&mut self.answer, libc::MSG_DONTWAIT);
            let length = received.map_err(|error| errno_of(&error))?;
            for answer in answers(question, self.answer.get(..length).ok_or(Errno::MSGSIZE)?) {
                match answer {
                    Answer::Socket(socket)
                        if socket.inode.is_some_and(|inode| inode.get() == self.own_inode) => {}
                    Answer::Socket(socket) => rows.sockets.push(socket),
                    Answer::Done { interrupted } => {
                        rows.interrupted += u64::from(interrupted);
                        return Ok(());
                    }
                    Answer::Refused(code) => return Err(Errno::from_raw_os_error(code)),
                    Answer::Unreadable => rows.unreadable += 1,
                }
            }
        }
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
