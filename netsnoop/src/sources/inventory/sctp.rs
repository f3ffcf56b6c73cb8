//! SCTP's sockets and their associations: a socket may have many, and the kernel tells them in rows of their own.
//!
//! A socket is shown once, as the iterator has it: with the peer of its only association. One that listens has none, whatever
//! waits in it. Left out: the peers of a socket that has several.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU64;

use netsnoop_core::five_tuple::Endpoint;
use netsnoop_core::inventory::{Addresses, ListedSocket, Protocol, SocketEnd};
use netsnoop_core::proc_text::sctp_tables::{SctpAssociationRow, SctpEndpointRow};
use netsnoop_core::socket::TcpState;

/// A row of `/proc/<pid>/net/sctp/eps`.
pub(super) fn listening(row: &SctpEndpointRow) -> ListedSocket {
    socket(row.state, (row.local, None), (row.uid, row.inode))
}

/// Adds a row of `/proc/<pid>/net/sctp/assocs` to the sockets of its namespace.
pub(super) fn add_association(sockets: &mut Vec<ListedSocket>, row: &SctpAssociationRow) {
    let is_same = |socket: &&mut ListedSocket| {
        socket.inode.is_some() && socket.inode == row.inode && socket.protocol == Protocol::Sctp
    };
    let queues = (Some(row.receive_queue), Some(row.send_queue));
    match sockets.iter_mut().rev().find(is_same) {
        Some(known) if known.state == TcpState::LISTEN => {}
        Some(known) => {
            if let Addresses::Internet { remote, .. } = &mut known.addresses {
                *remote = nobody(remote.address);
            }
            add_queues(known, queues);
        }
        None => {
            let (receive_queue, send_queue) = queues;
            let socket = socket(row.socket_state, (row.local, Some(row.remote)), (row.uid, row.inode));
            sockets.push(ListedSocket { receive_queue, send_queue, ..socket });
        }
    }
}

/// Of sock_diag's rows from `first` on, keeps the first of each socket, which is its own; the others are its associations,
/// whose states are SCTP's (`sctp_sock_dump` in <https://github.com/torvalds/linux/blob/v6.12/net/sctp/diag.c>).
pub(super) fn merge_associations(sockets: &mut Vec<ListedSocket>, first: usize) {
    let rows = sockets.split_off(first);
    let mut place_of: HashMap<NonZeroU64, usize> = HashMap::new();
    for row in rows {
        let known = row.inode.and_then(|inode| place_of.get(&inode)).copied();
        match known.and_then(|place| sockets.get_mut(place)) {
            Some(socket) if socket.state == TcpState::LISTEN => {}
            Some(socket) => add_queues(socket, (row.receive_queue, row.send_queue)),
            None => {
                place_of.extend(row.inode.map(|inode| (inode, sockets.len())));
                sockets.push(row);
            }
        }
    }
}

fn add_queues(socket: &mut ListedSocket, (receive, send): (Option<u32>, Option<u32>)) {
    let sum = |known: Option<u32>, more: Option<u32>| Some(known?.saturating_add(more?));
    socket.receive_queue = sum(socket.receive_queue, receive);
    socket.send_queue = sum(socket.send_queue, send);
}

fn socket(
    state: TcpState,
    (local, remote): (Endpoint, Option<Endpoint>),
    (uid, inode): (u32, Option<NonZeroU64>),
) -> ListedSocket {
    let end = |end: Endpoint| SocketEnd { address: end.address, port: end.port };
    let remote = remote.map_or_else(|| nobody(local.address), end);
    let addresses = Addresses::Internet { local: end(local), remote, interface: None };
    ListedSocket { inode, uid: Some(uid), ..ListedSocket::new(Protocol::Sctp, state, addresses) }
}

/// No peer, in the family of `address`.
fn nobody(address: IpAddr) -> SocketEnd {
    let address = if address.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0_u8; 16]) };
    SocketEnd { address, port: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(port: u16) -> Endpoint {
        Endpoint { address: [127, 0, 0, 1].into(), port }
    }

    fn own(inode: u64, state: TcpState, ports: (u16, u16), queues: (u32, u32)) -> ListedSocket {
        let remote = (ports.1 != 0).then(|| end(ports.1));
        let socket = socket(state, (end(ports.0), remote), (0, NonZeroU64::new(inode)));
        ListedSocket { receive_queue: Some(queues.0), send_queue: Some(queues.1), ..socket }
    }

    #[test]
    fn tables_give_each_socket_once() {
        let inode = NonZeroU64::new(1);
        let listening =
            listening(&SctpEndpointRow { state: TcpState::LISTEN, local: end(7000), uid: 0, inode });
        let mut sockets = vec![listening.clone()];
        let association = |inode, local, remote| SctpAssociationRow {
            socket_state: TcpState::ESTABLISHED,
            local: end(local),
            remote: end(remote),
            send_queue: 1,
            receive_queue: 2,
            uid: 0,
            inode: NonZeroU64::new(inode),
        };
        for (inode, local, remote) in
            [(1, 7000, 9), (2, 7001, 10), (3, 7002, 11), (3, 7002, 12), (0, 7003, 13), (0, 7003, 14)]
        {
            add_association(&mut sockets, &association(inode, local, remote));
        }
        let established = TcpState::ESTABLISHED;
        let expected = [
            listening,
            own(2, established, (7001, 10), (2, 1)),
            own(3, established, (7002, 0), (4, 2)),
            own(0, established, (7003, 13), (2, 1)),
            own(0, established, (7003, 14), (2, 1)),
        ];
        assert_eq!(sockets, expected);
    }

    #[test]
    fn sock_diag_gives_each_socket_once() {
        let (listen, established, cookie_echoed) = (TcpState::LISTEN, TcpState::ESTABLISHED, TcpState(3));
        let other = own(9, established, (1, 2), (0, 0));
        let mut sockets = vec![
            other.clone(),
            own(1, listen, (7000, 0), (1, 5)),
            own(2, established, (7001, 10), (0, 0)),
            own(1, listen, (7000, 0), (1, 5)),
            own(1, cookie_echoed, (7000, 9), (3, 3)),
            own(2, cookie_echoed, (7001, 10), (7, 8)),
            own(0, established, (7002, 11), (0, 0)),
        ];
        merge_associations(&mut sockets, 1);
        let expected = [
            other,
            own(1, listen, (7000, 0), (1, 5)),
            own(2, established, (7001, 10), (7, 8)),
            own(0, established, (7002, 11), (0, 0)),
        ];
        assert_eq!(sockets, expected);
    }
}
