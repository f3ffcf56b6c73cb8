//! The sockets that no descriptor refers to: TIME_WAIT, orphans, connections that wait to be accepted, what is on its way
//! between processes, the kernel's own.
//!
//! The iterator over all files does not meet them. The kernel counts the sockets of each namespace for nothing, so a
//! namespace is only asked to list them, which costs a walk over the tables of all namespaces, if it has more than were met.

use netsnoop_core::diag_message::ALL_STATES;
use netsnoop_core::inventory::{ListedSocket, ProtocolGroup, ProtocolSet, UnseenThing};
use netsnoop_core::socket::TcpState;
use rustix::io::Errno;

use super::census::Census;
use super::diag::DiagRows;
use super::draft::Draft;
use super::held::Held;
use super::tables::{TableRows, read_waiting_unix};
use crate::sources::namespace_index::{NamespaceIndex, NetFiles};
use crate::sources::sock_diag::SockDiag;

/// What a namespace has to be asked for.
#[derive(Clone, Copy)]
struct Missing {
    /// Sockets of any kind.
    any: bool,
    /// Those in TIME_WAIT, and requests: sockets that are not counted as such.
    small: bool,
}

/// Adds them to `draft`, for all of its namespaces.
pub(super) fn add(index: &mut NamespaceIndex, draft: &mut Draft, held: &Held, wanted: ProtocolSet) {
    for place in draft.places() {
        let Some(inode) = draft.inode_of(place) else { continue };
        let met = held.sockets.get(&place).copied().unwrap_or_default();
        let requests = held.requests.contains_key(&place);
        let asked = index.enter(inode, |key, files| match files {
            NetFiles::Inside => Ok((key, ask(&files, (met, requests), wanted)?)),
            // Questions are put inside only.
            NetFiles::Through(_) => Err(Errno::PERM),
        });
        match asked.unwrap_or_else(|error| Err(Errno::from(error))) {
            Ok((key, (mut rows, waiting))) => {
                draft.identify(place, key);
                let is_unheld = |socket: &ListedSocket| socket.inode.is_none_or(|inode| !held.has(inode));
                rows.sockets.retain(is_unheld);
                rows.hand_over(draft, place);
                waiting.hand_over(draft, place);
            }
            Err(error) => draft.miss_for(UnseenThing::UnheldSockets, error),
        }
    }
}

fn ask(
    files: &NetFiles<'_>,
    (met, requests): (u64, bool),
    wanted: ProtocolSet,
) -> Result<(DiagRows, TableRows), Errno> {
    let census = Census::read(files);
    let missing = Missing {
        any: census.used().is_none_or(|used| used > met),
        small: requests || census.time_wait().is_none_or(|count| count > 0),
    };
    let mut rows = DiagRows::nothing(ProtocolSet::EMPTY);
    let asks = |group| match group {
        // The kernel's own are not counted, and every namespace has some.
        ProtocolGroup::Netlink => Some(ALL_STATES),
        _ if missing.any => Some(ALL_STATES),
        ProtocolGroup::Tcp if missing.small => Some(SMALL_STATES),
        _ => None,
    };
    let wanted = ProtocolGroup::ALL.into_iter().filter(|group| wanted.contains(*group));
    let questions: Vec<_> = wanted.filter_map(|group| Some((group, asks(group)?))).collect();
    if questions.is_empty() {
        return Ok((rows, TableRows::default()));
    }
    let mut sock_diag = SockDiag::open()?;
    questions.into_iter().for_each(|question| rows.add(&mut sock_diag, question, &census));
    let waiting = read_waiting_unix(files, &rows.sockets, &census);
    Ok((rows, waiting))
}

/// TIME_WAIT and requests. An orphan in FIN_WAIT2 becomes one of the small sockets too, in name only (`tcp_time_wait` in
/// <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/tcp_minisocks.c>).
const SMALL_STATES: u32 = (1 << TcpState::TIME_WAIT.0)
    | (1 << TcpState::FIN_WAIT2.0)
    | (1 << TcpState::SYN_RECV.0)
    | (1 << TcpState::NEW_SYN_RECV.0);
