//! Which rows of a namespace's socket tables answer for one end of a flow: the kernel's own order,
//! exact sockets before bound ones before wildcards.
//!
//! Left out: sockets bound to a device, and eBPF programs that pick a listener.

use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::five_tuple::{Endpoint, FiveTuple, Transport};
use crate::socket::{SocketRow, TcpState};

/// How well a socket fits, best last. The order of `compute_score` in
/// <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/udp.c>: every bound part counts the same,
/// and a socket of the packet's own family goes before a dual-stack one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Fit {
    bound_parts: u8,
    own_family: bool,
}

/// Rows of one namespace, arranged so that a question costs hardly more than its answer, however many rows
/// there are.
#[derive(Debug)]
pub struct Rows<'a> {
    /// TCP sockets by their tuple.
    by_tuple: Vec<&'a SocketRow>,
    /// Sockets that serve more than one tuple, by protocol and port: listening ones, and all of other protocols.
    by_port: Vec<&'a SocketRow>,
}

impl<'a> Rows<'a> {
    /// Arranges `rows`.
    pub fn new(rows: &'a [SocketRow]) -> Self {
        let is_tcp = |row: &&SocketRow| row.tuple.transport == Transport::Tcp;
        let mut by_tuple: Vec<_> = rows.iter().filter(is_tcp).collect();
        by_tuple.sort_by_key(|row| row.tuple);
        let serves = |row: &&SocketRow| !is_tcp(row) || row.state == TcpState::LISTEN;
        let mut by_port: Vec<_> = rows.iter().filter(serves).collect();
        by_port.sort_by_key(|row| port_of(&row.tuple));
        Self { by_tuple, by_port }
    }

    /// The rows that answer for `wanted`. None: no socket is there. Several: nothing tells which of them it is
    /// (`SO_REUSEPORT`). Rows in state LISTEN answer for a server end that is not accepted yet, or that has no
    /// connection of its own any more.
    pub fn answering(&self, wanted: &FiveTuple) -> Vec<&'a SocketRow> {
        let connected: Vec<_> = range(&self.by_tuple, wanted, |row| row.tuple).collect();
        if connected.iter().any(|row| !awaits_accept(row)) {
            return connected;
        }
        let port = port_of(wanted);
        let serving = range(&self.by_port, &port, |row| port_of(&row.tuple));
        let serving = best(serving.filter_map(|row| Some((fit(wanted, row)?, row))));
        if serving.is_empty() { connected } else { serving }
    }
}

const fn port_of(tuple: &FiveTuple) -> (Transport, u16) {
    (tuple.transport, tuple.local.port)
}

/// Those of the sorted `rows` whose key is `wanted`.
fn range<'r, 'a, K: Ord + 'r>(
    rows: &'r [&'a SocketRow],
    wanted: &'r K,
    key: impl Fn(&SocketRow) -> K + 'r,
) -> impl Iterator<Item = &'a SocketRow> + 'r {
    let first = rows.partition_point(|row| key(row) < *wanted);
    rows.iter().skip(first).copied().take_while(move |row| key(row) == *wanted)
}

/// Whether no process has the socket because none has accepted it yet. One that was closed by its
/// process has left these states.
pub const fn awaits_accept(row: &SocketRow) -> bool {
    row.inode.is_none()
        && matches!(
            row.state,
            TcpState::ESTABLISHED | TcpState::SYN_RECV | TcpState::NEW_SYN_RECV | TcpState::CLOSE_WAIT
        )
}

/// Whether whoever sends to its port gets to this socket: it listens, or takes datagrams from anybody.
pub fn serves_anybody(row: &SocketRow) -> bool {
    match row.tuple.transport {
        Transport::Tcp => row.state == TcpState::LISTEN,
        Transport::Udp | Transport::UdpLite => row.tuple.remote.port == 0,
    }
}

fn fit(wanted: &FiveTuple, row: &SocketRow) -> Option<Fit> {
    let socket = &row.tuple;
    if socket.transport != wanted.transport || socket.local.port != wanted.local.port {
        return None;
    }
    let family = wanted.remote.address.is_ipv4();
    let own_family = socket.local.address.is_ipv4() == family;
    // An IPv6 wildcard may serve IPv4 too; an IPv4 one never serves IPv6.
    let serves_both = family && socket.local.is_wildcard();
    if !own_family && !serves_both {
        return None;
    }
    let mut bound_parts = 0;
    if !socket.local.is_wildcard() {
        // Of an unconnected socket a hook knows no address either: then only the port can differ.
        if !wanted.local.is_wildcard() && socket.local.address != wanted.local.address {
            return None;
        }
        bound_parts += 1;
    }
    if is_connected(socket.remote) {
        if socket.remote != wanted.remote {
            return None;
        }
        bound_parts += 2;
    }
    Some(Fit { bound_parts, own_family })
}

const fn is_connected(remote: Endpoint) -> bool {
    remote.port != 0 || !remote.is_wildcard()
}

fn best<'a>(candidates: impl Iterator<Item = (Fit, &'a SocketRow)>) -> Vec<&'a SocketRow> {
    let mut best_fit = None;
    let mut found = Vec::new();
    for (fit, row) in candidates {
        match Some(fit).cmp(&best_fit) {
            Ordering::Less => {}
            Ordering::Equal => found.push(row),
            Ordering::Greater => {
                best_fit = Some(fit);
                found.clear();
                found.push(row);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::num::NonZeroU64;
    use proptest::prelude::*;

    fn tuple(transport: Transport, local: &str, remote: &str) -> FiveTuple {
        let endpoint = |text: &str| {
            let address: core::net::SocketAddr = text.parse().unwrap();
            Endpoint::new(address.ip(), address.port())
        };
        FiveTuple { transport, local: endpoint(local), remote: endpoint(remote) }
    }

    fn row(transport: Transport, (local, remote): (&str, &str), state: u8, inode: u64) -> SocketRow {
        SocketRow {
            tuple: tuple(transport, local, remote),
            state: TcpState(state),
            inode: NonZeroU64::new(inode),
            cookie: None,
            uid: None,
            holders: Vec::new(),
            holders_lack: None,
            recent_starts: Vec::new(),
            changed_user: false,
        }
    }

    fn check(
        transport: Transport,
        wanted: (&str, &str),
        rows: &[((&str, &str), u8, u64)],
        expected: &[usize],
    ) {
        let wanted = tuple(transport, wanted.0, wanted.1);
        let rows: Vec<_> =
            rows.iter().map(|(ends, state, inode)| row(transport, *ends, *state, *inode)).collect();
        let expected: Vec<_> = expected.iter().map(|at| &rows[*at]).collect();
        assert_eq!(Rows::new(&rows).answering(&wanted), expected);
    }

    const ANY4: &str = "0.0.0.0:0";
    const ANY6: &str = "[::]:0";
    const ME: &str = "198.18.1.1:80";
    const PEER: &str = "198.18.1.2:40000";

    #[test]
    fn a_connection_goes_before_its_listener_once_it_is_accepted() {
        let listener = (("0.0.0.0:80", ANY4), 10, 7);
        check(Transport::Tcp, (ME, PEER), &[listener, ((ME, PEER), 1, 8)], &[1]);
        check(Transport::Tcp, (ME, PEER), &[listener, ((ME, PEER), 1, 0)], &[0]);
        check(Transport::Tcp, (ME, PEER), &[listener, ((ME, PEER), 3, 0)], &[0]);
        check(Transport::Tcp, (ME, PEER), &[listener, ((ME, PEER), 6, 0)], &[1]);
        check(Transport::Tcp, (ME, PEER), &[listener, ((ME, "198.18.1.2:40001"), 1, 8)], &[0]);
        check(Transport::Tcp, (ME, PEER), &[((ME, PEER), 1, 0)], &[0]);
        check(Transport::Tcp, (ME, PEER), &[(("0.0.0.0:81", ANY4), 10, 7)], &[]);
    }

    #[test]
    fn the_nearest_listener_and_all_of_a_group() {
        check(
            Transport::Tcp,
            (ME, PEER),
            &[
                (("[::]:80", ANY6), 10, 1),
                (("0.0.0.0:80", ANY4), 10, 2),
                ((ME, ANY4), 10, 3),
                ((ME, ANY4), 10, 4),
                (("198.18.1.9:80", ANY4), 10, 5),
            ],
            &[2, 3],
        );
        check(Transport::Tcp, (ME, PEER), &[(("[::]:80", ANY6), 10, 1)], &[0]);
        check(Transport::Tcp, ("[2001:db8::1]:80", "[2001:db8::2]:9"), &[(("0.0.0.0:80", ANY4), 10, 1)], &[]);
    }

    #[test]
    fn datagrams_go_to_connected_then_bound_then_wildcard_sockets() {
        let rows = [
            (("0.0.0.0:80", ANY4), 7, 1),
            ((ME, ANY4), 7, 2),
            ((ME, PEER), 1, 3),
            ((ME, "198.18.1.3:9"), 1, 4),
        ];
        check(Transport::Udp, (ME, PEER), &rows, &[2]);
        check(Transport::Udp, (ME, "198.18.1.2:9"), &rows, &[1]);
        check(Transport::Udp, ("198.18.1.7:80", "198.18.1.2:9"), &rows, &[0]);
        check(Transport::Udp, ("0.0.0.0:80", PEER), &rows[..1], &[0]);
        check(Transport::Udp, (ME, PEER), &[(("[::]:80", ANY6), 7, 1)], &[0]);
    }

    proptest! {
        #[test]
        fn the_order_of_the_rows_does_not_matter(
            ports in proptest::collection::vec((80_u16..82, 0_u8..3, any::<bool>()), 0..8)
        ) {
            let rows: Vec<_> = ports.iter().enumerate().map(|(at, (port, bound, connected))| {
                let local = alloc::format!("{}:{port}", ["0.0.0.0", "198.18.1.1", "198.18.1.9"][usize::from(*bound)]);
                let remote = if *connected { PEER } else { ANY4 };
                row(Transport::Udp, (&local, remote), 7, at as u64 + 1)
            }).collect();
            let wanted = tuple(Transport::Udp, ME, PEER);
            let mut forward: Vec<_> = Rows::new(&rows).answering(&wanted).iter().map(|row| row.inode).collect();
            let turned: Vec<_> = rows.iter().rev().cloned().collect();
            let mut backward: Vec<_> = Rows::new(&turned).answering(&wanted).iter().map(|row| row.inode).collect();
            forward.sort_unstable();
            backward.sort_unstable();
            prop_assert_eq!(forward, backward);
        }
    }
}
