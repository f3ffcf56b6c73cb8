//! Rows of `/proc/<pid>/net/sctp/{eps,assocs}`: SCTP's sockets and their associations, which the kernel lists apart.
//!
//! `eps` has those that listen; of all others only their associations tell. Left out: all addresses of an end but one, and what timers and streams do. The layouts are those of
//! `sctp_eps_seq_show` and `sctp_assocs_seq_show` in <https://github.com/torvalds/linux/blob/v6.12/net/sctp/proc.c>.

use core::net::IpAddr;
use core::num::NonZeroU64;

use super::{Rows, decimal, words};
use crate::five_tuple::Endpoint;
use crate::socket::TcpState;

/// A socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SctpEndpointRow {
    /// Its state, by TCP's numbers.
    pub state: TcpState,
    /// Its own end; of several addresses the first.
    pub local: Endpoint,
    /// The uid that made it.
    pub uid: u32,
    /// The socket inode; `None` if its process has closed it.
    pub inode: Option<NonZeroU64>,
}

/// An association of a socket, which may have many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SctpAssociationRow {
    /// The state of its socket, by TCP's numbers.
    pub socket_state: TcpState,
    /// Its own end, by the address that it sends from.
    pub local: Endpoint,
    /// The peer's end, by the address that it sends to.
    pub remote: Endpoint,
    /// Bytes that wait to be sent.
    pub send_queue: u32,
    /// Bytes of memory that wait to be read.
    pub receive_queue: u32,
    /// The uid that made its socket.
    pub uid: u32,
    /// The inode of its socket; `None` if its process has closed it.
    pub inode: Option<NonZeroU64>,
}

/// The rows of `eps`.
pub fn endpoint_rows<'a>(text: &'a [u8]) -> Rows<'a, impl FnMut(&'a [u8]) -> Option<SctpEndpointRow>> {
    Rows::new(super::without_heading(text, b"ENDPT"), decode_endpoint)
}

/// The rows of `assocs`.
pub fn association_rows<'a>(text: &'a [u8]) -> Rows<'a, impl FnMut(&'a [u8]) -> Option<SctpAssociationRow>> {
    Rows::new(super::without_heading(text, b"ASSOC"), decode_association)
}

fn decode_endpoint(line: &[u8]) -> Option<SctpEndpointRow> {
    let mut fields = words(line);
    let state = state(fields.nth(3)?)?;
    let port = port(fields.nth(1)?)?;
    let (uid, inode) = (number(fields.next()?)?, NonZeroU64::new(decimal(fields.next()?)?));
    let local = Endpoint { address: address(fields, |_| true)?, port };
    Some(SctpEndpointRow { state, local, uid, inode })
}

fn decode_association(line: &[u8]) -> Option<SctpAssociationRow> {
    let between = line.windows(ARROW.len()).position(|part| part == ARROW)?;
    let mut fields = words(line.get(..between)?);
    let peers = words(line.get(between + ARROW.len()..)?);
    let socket_state = state(fields.nth(3)?)?;
    let (send_queue, receive_queue) = (number(fields.nth(3)?)?, number(fields.next()?)?);
    let (uid, inode) = (number(fields.next()?)?, NonZeroU64::new(decimal(fields.next()?)?));
    let (own_port, peers_port) = (port(fields.next()?)?, port(fields.next()?)?);
    let remote = Endpoint { address: address(peers, |_| true)?, port: peers_port };
    let is_alike = |address: &IpAddr| address.is_ipv4() == remote.address.is_ipv4();
    let own = address(fields.clone(), is_alike).or_else(|| address(fields, |_| true))?;
    let local = Endpoint { address: own, port: own_port };
    Some(SctpAssociationRow { socket_state, local, remote, send_queue, receive_queue, uid, inode })
}

/// Stands between the addresses of both ends.
const ARROW: &[u8] = b"<->";

fn number(digits: &[u8]) -> Option<u32> {
    u32::try_from(decimal(digits)?).ok()
}

fn port(digits: &[u8]) -> Option<u16> {
    u16::try_from(decimal(digits)?).ok()
}

fn state(digits: &[u8]) -> Option<TcpState> {
    Some(TcpState(u8::try_from(decimal(digits)?).ok()?))
}

/// Of the addresses that fit, the one in use, which a star marks, else the first. An IPv6 address is written without any
/// abbreviation; numbers may follow, and none of them reads as an address.
fn address<'a>(words: impl Iterator<Item = &'a [u8]>, fits: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
    let mut first = None;
    for word in words {
        let (is_used, text) = word.strip_prefix(b"*").map_or((false, word), |text| (true, text));
        let Some(address) = core::str::from_utf8(text).ok().and_then(|text| text.parse().ok()) else { break };
        if is_used && fits(&address) {
            return Some(address);
        }
        first = first.or(Some(address).filter(&fits));
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    // Linux 6.12.
    const ENDPOINTS: &str = "\
 ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS
75e8a44c a967f3c4 0   10  53   7001      0   210 127.0.0.1 
d03769b0 d47df4ce 2   10  58   7006  10001  1166 0000:0000:0000:0000:0000:0000:0000:0000 
";
    const ASSOCIATIONS: &str = "\
 ASSOC     SOCK   STY SST ST HBKT ASSOC-ID TX_QUEUE RX_QUEUE UID INODE LPORT RPORT LADDRS <-> RADDRS HBINT INS OUTS MAXRT T1X T2X RTXC wmema wmemq sndbuf rcvbuf
96017fcf cde894af 2   1   3  0       4       12      237   10001  1164 7000  35146  127.0.0.1 <-> *127.0.0.1 \t    7500    10    10   10    0    0        0        1        0   212992   212992
ffaad69f 7cf6b4de 2   1   3  0       7        0        0       0     0 35706  7006  127.0.0.1 0000:0000:0000:0000:0000:0000:0000:0001 <-> 127.0.0.1 *0000:0000:0000:0000:0000:0000:0000:0001 \t    7500    10    10   10    0    0        0        1        0   212992   212992
";

    fn end(address: &str, port: u16) -> Endpoint {
        Endpoint { address: address.parse().unwrap(), port }
    }

    #[test]
    fn sockets_that_listen() {
        let mut rows = endpoint_rows(ENDPOINTS.as_bytes());
        let found: Vec<_> = rows.by_ref().collect();
        let row = |local, uid, inode| SctpEndpointRow {
            state: TcpState::LISTEN,
            local,
            uid,
            inode: NonZeroU64::new(inode),
        };
        assert_eq!(found, [row(end("127.0.0.1", 7001), 0, 210), row(end("::", 7006), 10001, 1166)]);
        assert_eq!(rows.rejected(), 0);
        let mut rows = endpoint_rows(b"1 2 0 10 53 70000 0 210 127.0.0.1 \n1 2 0 10 53 7000 0 210 \n");
        assert_eq!((rows.by_ref().count(), rows.rejected()), (0, 2));
    }

    #[test]
    fn associations_and_the_addresses_in_use() {
        let mut rows = association_rows(ASSOCIATIONS.as_bytes());
        let found: Vec<_> = rows.by_ref().collect();
        let first = SctpAssociationRow {
            socket_state: TcpState::ESTABLISHED,
            local: end("127.0.0.1", 7000),
            remote: end("127.0.0.1", 35146),
            send_queue: 12,
            receive_queue: 237,
            uid: 10001,
            inode: NonZeroU64::new(1164),
        };
        let second = SctpAssociationRow {
            local: end("::1", 35706),
            remote: end("::1", 7006),
            send_queue: 0,
            receive_queue: 0,
            uid: 0,
            inode: None,
            ..first
        };
        assert_eq!(found, [first, second]);
        assert_eq!(rows.rejected(), 0);
        let mut rows =
            association_rows(b"1 2 2 1 3 0 4 0 0 0 1164 7000 35146 127.0.0.1\n1 2 <-> 127.0.0.1\n");
        assert_eq!((rows.by_ref().count(), rows.rejected()), (0, 2));
    }

    proptest! {
        #[test]
        fn any_bytes_and_cuts_are_survived(text in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..ASSOCIATIONS.len()) {
            let lines = text.split(|byte| *byte == b'\n').count() as u64;
            let mut rows = endpoint_rows(&text);
            prop_assert!(rows.by_ref().count() as u64 + rows.rejected() <= lines);
            let mut rows = association_rows(&text);
            prop_assert!(rows.by_ref().count() as u64 + rows.rejected() <= lines);
            let whole: Vec<_> = association_rows(ASSOCIATIONS.as_bytes()).collect();
            let found: Vec<_> = association_rows(&ASSOCIATIONS.as_bytes()[..cut]).collect();
            prop_assert!(whole.starts_with(&found));
        }
    }
}
