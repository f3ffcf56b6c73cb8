//! The sockets of one namespace, from the text of its tables below `/proc/<pid>/net`.
//!
//! Left out: vsock, XDP and sockets that are bound to nothing, which no table shows; and what tables do not tell:
//! cookies, interfaces of IP sockets, queues and peers of Unix sockets.

use netsnoop_core::five_tuple::Endpoint;
use netsnoop_core::inventory::{
    Addresses, ListedSocket, Protocol, ProtocolGroup, ProtocolSet, SocketEnd, SocketKind, UnixPath,
    UnseenReason, UnseenThing,
};
use netsnoop_core::proc_text::net_table::{InetRow, UnixRow, inet_rows, unix_rows};
use netsnoop_core::proc_text::netlink_table::{NetlinkRow, netlink_rows};
use netsnoop_core::proc_text::packet_table::{PacketRow, packet_rows};
use netsnoop_core::proc_text::sctp_tables::{association_rows, endpoint_rows};
use netsnoop_core::socket::TcpState;
use rustix::io::Errno;

use super::census::Census;
use super::draft::{Draft, reason_of};
use super::sctp;
use crate::sources::namespace_index::NetFiles;
use crate::sources::proc_walk::HOST_ORDER;

/// What a table holds.
#[derive(Clone, Copy)]
enum Kind {
    Inet4,
    Inet6,
    Unix,
    Packet,
    Netlink,
    SctpEndpoints,
    SctpAssociations,
}

/// Every table, in the order they are read.
const TABLES: [(&str, ProtocolGroup, Kind); 15] = [
    ("tcp", ProtocolGroup::Tcp, Kind::Inet4),
    ("tcp6", ProtocolGroup::Tcp, Kind::Inet6),
    ("udp", ProtocolGroup::Udp, Kind::Inet4),
    ("udp6", ProtocolGroup::Udp, Kind::Inet6),
    ("udplite", ProtocolGroup::UdpLite, Kind::Inet4),
    ("udplite6", ProtocolGroup::UdpLite, Kind::Inet6),
    ("raw", ProtocolGroup::Raw, Kind::Inet4),
    ("raw6", ProtocolGroup::Raw, Kind::Inet6),
    ("icmp", ProtocolGroup::Icmp, Kind::Inet4),
    ("icmp6", ProtocolGroup::Icmp, Kind::Inet6),
    ("sctp/eps", ProtocolGroup::Sctp, Kind::SctpEndpoints),
    ("sctp/assocs", ProtocolGroup::Sctp, Kind::SctpAssociations),
    ("unix", ProtocolGroup::Unix, Kind::Unix),
    ("packet", ProtocolGroup::Packet, Kind::Packet),
    ("netlink", ProtocolGroup::Netlink, Kind::Netlink),
];

/// What was read in one namespace.
#[derive(Debug, Default)]
pub(super) struct TableRows {
    /// The rows, not yet of any namespace.
    pub(super) sockets: Vec<ListedSocket>,
    rejected: u64,
    failed: Vec<Errno>,
}

impl TableRows {
    /// Adds what was found to `draft`, as of the namespace at `place`.
    pub(super) fn hand_over(self, draft: &mut Draft, place: u32) {
        draft.miss(UnseenThing::Sockets, UnseenReason::Unreadable, self.rejected);
        for error in self.failed {
            draft.miss(UnseenThing::Tables, reason_of(error), 1);
        }
        let sockets = self.sockets.into_iter();
        draft.sockets.extend(sockets.map(|socket| ListedSocket { namespace: Some(place), ..socket }));
    }
}

/// Reads the tables of the `wanted` protocols, as far as the namespace has any.
pub(super) fn read_tables(files: &NetFiles<'_>, wanted: ProtocolSet, census: &Census) -> TableRows {
    let mut rows = TableRows::default();
    let mut text = Vec::new();
    for (name, group, kind) in TABLES {
        if !wanted.contains(group) || !census.may_have(group, matches!(kind, Kind::Inet6)) {
            continue;
        }
        match files.read(name, &mut text) {
            Ok(()) => rows.add(&text, group, kind),
            // A protocol that this kernel does not have.
            Err(Errno::NOENT) => {}
            Err(error) => rows.failed.push(error),
        }
    }
    rows
}

/// Unix sockets that wait to be accepted, which sock_diag leaves out (`sk_diag_dump` in
/// <https://github.com/torvalds/linux/blob/v6.12/net/unix/diag.c>), where one of its `rows` says that there are any.
pub(super) fn read_waiting_unix(files: &NetFiles<'_>, rows: &[ListedSocket], census: &Census) -> TableRows {
    let waits = |row: &ListedSocket| {
        matches!(row.protocol, Protocol::Unix(_))
            && row.state == TcpState::LISTEN
            && row.receive_queue != Some(0)
    };
    let mut wanted = ProtocolSet::EMPTY;
    if rows.iter().any(waits) {
        wanted.insert(ProtocolGroup::Unix);
    }
    let mut found = read_tables(files, wanted, census);
    found.sockets.retain(|socket| socket.inode.is_none());
    found
}

impl TableRows {
    fn add(&mut self, text: &[u8], group: ProtocolGroup, kind: Kind) {
        let sockets = &mut self.sockets;
        self.rejected += match kind {
            Kind::Inet4 | Kind::Inet6 => {
                let mut rows = inet_rows(text, HOST_ORDER);
                let is_v6 = matches!(kind, Kind::Inet6);
                rows.by_ref().for_each(|row| sockets.push(inet_socket(group, is_v6, &row)));
                rows.rejected()
            }
            Kind::Unix => {
                let mut rows = unix_rows(text);
                rows.by_ref().for_each(|row| sockets.push(unix_socket(&row)));
                rows.rejected()
            }
            Kind::Packet => {
                let mut rows = packet_rows(text);
                rows.by_ref().for_each(|row| sockets.push(packet_socket(&row)));
                rows.rejected()
            }
            Kind::Netlink => {
                let mut rows = netlink_rows(text);
                rows.by_ref().for_each(|row| sockets.push(netlink_socket(&row)));
                rows.rejected()
            }
            Kind::SctpEndpoints => {
                let mut rows = endpoint_rows(text);
                rows.by_ref().for_each(|row| sockets.push(sctp::listening(&row)));
                rows.rejected()
            }
            Kind::SctpAssociations => {
                let mut rows = association_rows(text);
                rows.by_ref().for_each(|row| sctp::add_association(sockets, &row));
                rows.rejected()
            }
        };
    }
}

fn inet_socket(group: ProtocolGroup, is_v6: bool, row: &InetRow) -> ListedSocket {
    let protocol = match group {
        ProtocolGroup::Udp => Protocol::Udp,
        ProtocolGroup::UdpLite => Protocol::UdpLite,
        ProtocolGroup::Raw => Protocol::Raw,
        ProtocolGroup::Icmp => Protocol::Icmp,
        _ => Protocol::Tcp,
    };
    let listens = matches!(protocol, Protocol::Tcp) && row.state == TcpState::LISTEN;
    let addresses = Addresses::Internet {
        local: socket_end(row.local, is_v6),
        remote: socket_end(row.remote, is_v6),
        interface: None,
    };
    ListedSocket {
        receive_queue: Some(row.receive_queue),
        // Of a listening socket the table has no bound on those that wait.
        send_queue: (!listens).then_some(row.send_queue),
        inode: row.inode,
        // Without a file the kernel has no uid to tell and prints 0.
        uid: row.inode.map(|_| row.uid),
        ..ListedSocket::new(protocol, row.state, addresses)
    }
}

/// An address as the socket has it: the decoder turns mapped ones into the IPv4 addresses they stand for.
fn socket_end(endpoint: Endpoint, is_v6: bool) -> SocketEnd {
    let address = match endpoint.address {
        std::net::IpAddr::V4(address) if is_v6 => address.to_ipv6_mapped().into(),
        other => other,
    };
    SocketEnd { address, port: endpoint.port }
}

fn unix_socket(row: &UnixRow<'_>) -> ListedSocket {
    // As `unix_seq_show` made them: 2 and 3 are established, without and with a file
    // (https://github.com/torvalds/linux/blob/v6.12/net/unix/af_unix.c).
    let state = match row.state {
        _ if row.is_listening => TcpState::LISTEN,
        2 | 3 => TcpState::ESTABLISHED,
        1 | 4 => TcpState::CLOSE,
        other => TcpState(u8::try_from(other).unwrap_or(u8::MAX)),
    };
    let path = row.path.map(|path| match path.strip_prefix(b"@") {
        Some(name) => UnixPath([b"\0", name].concat().into()),
        None => UnixPath(path.into()),
    });
    let kind = SocketKind(u16::try_from(row.kind).unwrap_or(u16::MAX));
    ListedSocket {
        inode: row.inode,
        ..ListedSocket::new(Protocol::Unix(kind), state, Addresses::Unix { path, peer: None })
    }
}

fn packet_socket(row: &PacketRow) -> ListedSocket {
    let addresses = Addresses::Packet { protocol: row.protocol, interface: row.interface };
    ListedSocket {
        receive_queue: Some(row.receive_queue),
        inode: row.inode,
        uid: row.inode.map(|_| row.uid),
        ..ListedSocket::new(Protocol::Packet(SocketKind(row.kind)), TcpState::CLOSE, addresses)
    }
}

fn netlink_socket(row: &NetlinkRow) -> ListedSocket {
    let addresses = Addresses::Netlink { port_id: row.port_id };
    ListedSocket {
        receive_queue: Some(row.receive_queue),
        send_queue: Some(row.send_queue),
        inode: row.inode,
        ..ListedSocket::new(Protocol::Netlink(Some(row.family)), TcpState::CLOSE, addresses)
    }
}
