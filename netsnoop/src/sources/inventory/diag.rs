//! The sockets of one namespace by netlink's sock_diag (man 7 sock_diag), asked in that namespace.
//!
//! Left out: sockets that are bound to nothing, echo sockets and families without a handler. Where the kernel lacks a
//! protocol's handler, its table tells instead.

use netsnoop_core::diag_message::{ALL_STATES, Question};
use netsnoop_core::inventory::{ListedSocket, ProtocolGroup, ProtocolSet, UnseenReason, UnseenThing};
use rustix::io::Errno;

use super::census::Census;
use super::draft::{Draft, reason_of};
use super::sctp;
use crate::sources::sock_diag::SockDiag;

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
        let mut sock_diag = SockDiag::open()?;
        for group in ProtocolGroup::ALL.into_iter().filter(|group| wanted.contains(*group)) {
            this.add(&mut sock_diag, (group, ALL_STATES), census);
        }
        Ok(this)
    }

    /// Adds the sockets of a group that are in one of these states, a bit each.
    pub(super) fn add(
        &mut self,
        sock_diag: &mut SockDiag,
        (group, states): (ProtocolGroup, u32),
        census: &Census,
    ) {
        let questions = Question::all_of(group);
        if questions.is_empty() {
            self.left.insert(group);
        }
        let before = self.sockets.len();
        let mut wanted =
            questions.iter().filter(|question| census.may_have(group, question.is_ipv6())).peekable();
        if group == ProtocolGroup::Tcp && wanted.peek().is_some() {
            match self.list(sock_diag, Question::TCP_OF_BOTH_FAMILIES, states) {
                Ok(()) => return,
                Err(_) => self.sockets.truncate(before),
            }
        }
        for question in wanted {
            match self.list(sock_diag, *question, states) {
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
        if group == ProtocolGroup::Sctp {
            sctp::merge_associations(&mut self.sockets, before);
        }
    }

    fn list(&mut self, sock_diag: &mut SockDiag, question: Question, states: u32) -> Result<(), Errno> {
        let interrupted = sock_diag.list(question, states, |socket| match socket {
            Some(socket) => self.sockets.push(socket),
            None => self.unreadable += 1,
        })?;
        self.interrupted += u64::from(interrupted);
        Ok(())
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
