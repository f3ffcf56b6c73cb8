//! What a row of a socket table proves of the owner of a connection's end.
//!
//! A table shows who holds a socket now; the owner is who opened, accepted or first used it. Between the two
//! lie fork, SCM_RIGHTS and setuid, which leave traces: a holder that is younger than the connection, that
//! cannot have accepted it, or that is another user. A row that bears such a trace names nobody alone.
//! Left out: a socket that was handed, before anybody looked, to a process of the same user that was there
//! already. Nothing in `/proc` or sock_diag tells that.

use alloc::vec::Vec;

use crate::attribution::{Attribution, Evidence, Owner, Reason};
use crate::process::Process;
use crate::socket::SocketRow;
use crate::time::Timestamp;

/// How the end of a connection came by its socket.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin<'a> {
    /// Before anything was seen of the connection: the holders are all that is known.
    Unseen,
    /// The same, by a connect or an accept that was lately.
    Found,
    /// By the process that sent the first packet, at this moment, or (datagrams) was there to get it.
    Used(Timestamp),
    /// By a connect whose SYN was sent at this moment.
    Connected(Timestamp),
    /// By an accept after the SYN of this moment, from a listening socket these processes hold.
    Accepted(Timestamp, &'a [Process]),
}

/// The owner that `row` tells of an end with this `origin`.
pub(super) fn owner_of(row: &SocketRow, origin: Origin<'_>, evidence: Evidence) -> Attribution {
    match origin {
        // It was accepted and closed since, by one of those.
        Origin::Accepted(_, listening) if row.holders.is_empty() && !listening.is_empty() => {
            Attribution::holders(listening.to_vec(), Evidence::Listener, row.uid)
        }
        _ if row.holders.is_empty() => {
            Attribution::namespace(row.holders_lack.unwrap_or(Reason::Orphaned), row.uid)
        }
        Origin::Unseen => Attribution::holders(row.holders.clone(), evidence, row.uid),
        // Who dropped its privileges may be the owner; so may who handed the socket over.
        Origin::Found if row.changed_user => Attribution::namespace(Reason::Ambiguous, row.uid),
        Origin::Found => Attribution::holders(row.holders.clone(), evidence, row.uid),
        Origin::Used(began) => user(row, began, evidence),
        Origin::Connected(began) => match user(row, began, evidence) {
            Attribution { owner: Owner::Process(_), .. } if row.changed_user => {
                Attribution::namespace(Reason::Ambiguous, row.uid)
            }
            attribution => attribution,
        },
        Origin::Accepted(syn, listening) => accepter(row, (syn, listening), evidence),
    }
}

/// Who was there when the first packet was sent. A younger holder was given the socket, or the port is in
/// use for the second time.
fn user(row: &SocketRow, began: Timestamp, evidence: Evidence) -> Attribution {
    let may: Vec<Process> = row
        .holders
        .iter()
        .filter(|holder| row.began_before(holder.id, began) != Some(false))
        .copied()
        .collect();
    match *may.as_slice() {
        // The socket may be another connection's, and so may its user.
        [] => Attribution::namespace(Reason::GoneBeforeLookup, None),
        [only] if row.began_before(only.id, began).is_none() => {
            Attribution::namespace(Reason::Ambiguous, None)
        }
        _ => Attribution::holders(may, evidence, row.uid),
    }
}

/// Only who holds the listening socket can have accepted. A holder that does not, or that is younger than the
/// connection, mostly got the socket from one that does: then it is one of all of them.
fn accepter(row: &SocketRow, (syn, listening): (Timestamp, &[Process]), evidence: Evidence) -> Attribution {
    let listens = |holder: &Process| listening.iter().any(|listener| listener.id == holder.id);
    let may_have_inherited = |holder: &Process| row.began_before(holder.id, syn) != Some(true);
    let is_handed_over =
        |holder: &Process| may_have_inherited(holder) || !listens(holder) && !listening.is_empty();
    if !row.holders.iter().any(is_handed_over) {
        return Attribution::holders(row.holders.clone(), evidence, row.uid);
    }
    if listening.is_empty() {
        // Nobody listens any more, so who did is not known.
        return match row.holders.as_slice() {
            [_] => Attribution::namespace(Reason::Ambiguous, row.uid),
            _ => Attribution::holders(row.holders.clone(), evidence, row.uid),
        };
    }
    let all = row.holders.iter().chain(listening).copied().collect();
    Attribution::holders(all, evidence, row.uid)
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use alloc::vec;

    use super::*;
    use crate::five_tuple::{Endpoint, FiveTuple, Transport};
    use crate::process::{Comm, ProcessId};
    use crate::socket::TcpState;

    /// When the first packet was sent: in the middle of a tick.
    const BEGAN: Timestamp = Timestamp::from_nanos(1_005_000_000);

    fn process(pid: u32, start_millis: u64) -> Process {
        let id = ProcessId::from_boot_nanos(pid, start_millis * 1_000_000);
        Process { id, name: Comm::default(), uid: 0, cgroup_id: None }
    }

    fn row(holders: &[(u32, u64)]) -> SocketRow {
        SocketRow {
            tuple: FiveTuple {
                transport: Transport::Tcp,
                local: Endpoint::UNSPECIFIED_V4,
                remote: Endpoint::UNSPECIFIED_V4,
            },
            state: TcpState::ESTABLISHED,
            inode: NonZeroU64::new(1),
            cookie: None,
            uid: Some(7),
            holders: holders.iter().map(|(pid, start)| process(*pid, *start)).collect(),
            holders_lack: None,
            recent_starts: vec![],
            changed_user: false,
        }
    }

    fn check(row: &SocketRow, origin: Origin<'_>, expected: Result<&[u32], Reason>) {
        let found = owner_of(row, origin, Evidence::SockDiag);
        let pids = |owners: &[Process]| owners.iter().map(|owner| owner.id.pid).collect::<Vec<_>>();
        let found = match &found.owner {
            Owner::Process(process) => Ok(vec![process.id.pid]),
            Owner::Shared(processes) => Ok(pids(processes)),
            Owner::Unattributed(reason) => Err(*reason),
            Owner::Kernel => panic!("no table shows that"),
        };
        assert_eq!(found, expected.map(<[u32]>::to_vec), "{row:?} {origin:?}");
    }

    #[test]
    fn a_client_is_who_was_there_when_it_connected() {
        let client = Origin::Connected(BEGAN);
        check(&row(&[(5, 900)]), client, Ok(&[5]));
        check(&row(&[(5, 900), (6, 900)]), client, Ok(&[5, 6]));
        // A child that was forked since; its parent may have closed the socket.
        check(&row(&[(5, 900), (6, 1_020)]), client, Ok(&[5]));
        check(&row(&[(6, 1_020)]), client, Err(Reason::GoneBeforeLookup));
        check(&row(&[(6, 1_020)]), Origin::Unseen, Ok(&[6]));
        check(&row(&[]), client, Err(Reason::Orphaned));
    }

    #[test]
    fn a_start_in_the_same_tick_proves_nothing_unless_it_is_known_exactly() {
        let client = Origin::Connected(BEGAN);
        let mut young = row(&[(6, 1_000)]);
        check(&young, client, Err(Reason::Ambiguous));
        check(&row(&[(5, 900), (6, 1_000)]), client, Ok(&[5, 6]));
        let id = young.holders[0].id;
        for (nanos, expected) in [(0, Ok(&[6][..])), (1, Err(Reason::GoneBeforeLookup))] {
            young.recent_starts = vec![(id, Timestamp::from_nanos(BEGAN.as_nanos() + nanos))];
            check(&young, client, expected);
        }
    }

    #[test]
    fn a_client_of_another_user_may_have_been_handed_its_socket() {
        let other = SocketRow { changed_user: true, ..row(&[(5, 900)]) };
        check(&other, Origin::Connected(BEGAN), Err(Reason::Ambiguous));
        // Who sends datagrams need not have made the socket.
        check(&other, Origin::Used(BEGAN), Ok(&[5]));
    }

    #[test]
    fn only_who_listens_can_have_accepted() {
        let (master, worker, young) = (process(3, 800), process(5, 900), process(6, 1_020));
        let check = |row: &SocketRow, listening: &[Process], expected| {
            check(row, Origin::Accepted(BEGAN, listening), expected);
        };
        check(&row(&[(5, 900)]), &[master, worker], Ok(&[5]));
        check(&row(&[(5, 900)]), &[master], Ok(&[3, 5]));
        check(&row(&[(6, 1_020)]), &[master], Ok(&[3, 6]));
        check(&row(&[(6, 1_020)]), &[master, young], Ok(&[3, 6]));
        check(&row(&[(3, 800), (6, 1_020)]), &[master], Ok(&[3, 6]));
        // Accepted, and closed again.
        check(&row(&[]), &[master], Ok(&[3]));
        check(&row(&[]), &[master, worker], Ok(&[3, 5]));
        check(&row(&[]), &[], Err(Reason::Orphaned));
        // A server that takes one connection and listens no more.
        check(&row(&[(3, 800)]), &[], Ok(&[3]));
        check(&row(&[(6, 1_020)]), &[], Err(Reason::Ambiguous));
    }
}
