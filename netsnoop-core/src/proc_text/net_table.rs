//! Rows of `/proc/<pid>/net/{tcp,tcp6,udp,udp6,udplite,udplite6,raw,raw6,icmp,icmp6}` and `unix`
//! (man 5 proc_pid_net).
//!
//! Left out: which table a text came from, hence the protocol, is the caller's to say. An unknown
//! state is kept: new kernels add states, and the owner of such a socket is as good as any.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::NonZeroU64;

use super::{Rows, decimal, hexadecimal, words};
use crate::five_tuple::Endpoint;
use crate::socket::TcpState;

/// The byte order of the machine that wrote a table. The kernel prints the address, which lies in
/// memory in network order, as if it were a number of the machine:
/// `get_tcp4_sock` in <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/tcp_ipv4.c>.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByteOrder {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl ByteOrder {
    const fn memory_of(self, printed: u32) -> [u8; 4] {
        match self {
            Self::Little => printed.to_le_bytes(),
            Self::Big => printed.to_be_bytes(),
        }
    }
}

/// A row of an IP socket table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InetRow {
    /// The socket's own end. Of raw and ICMP sockets the port is the protocol or echo identifier.
    pub local: Endpoint,
    /// The other end, unspecified where the socket is not connected.
    pub remote: Endpoint,
    /// The state; what is not TCP uses TCP's numbers too.
    pub state: TcpState,
    /// Bytes not yet acknowledged or sent; 0 of a listening TCP socket.
    pub send_queue: u32,
    /// Bytes not yet read; of a listening TCP socket, connections that wait to be accepted.
    pub receive_queue: u32,
    /// The uid the socket was made by, in the user namespace of whoever read the table.
    pub uid: u32,
    /// The socket inode, `None` where no file refers to the socket.
    pub inode: Option<NonZeroU64>,
}

/// The rows of an IP socket table.
pub fn inet_rows<'a>(text: &'a [u8], order: ByteOrder) -> Rows<'a, impl FnMut(&'a [u8]) -> Option<InetRow>> {
    Rows::new(super::without_heading(text, b"sl"), move |line| decode_inet_row(line, order))
}

/// Set in the flags of a listening Unix socket (`__SO_ACCEPTCON`, include/uapi/linux/net.h).
const ACCEPTS_CONNECTIONS: u32 = 1 << 16;

/// A row of the table of Unix sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnixRow<'a> {
    /// Whether it listens.
    pub is_listening: bool,
    /// `SOCK_STREAM` (1), `SOCK_DGRAM` (2) or `SOCK_SEQPACKET` (5).
    pub kind: u32,
    /// 1 unconnected, 2 connecting, 3 connected, 4 disconnecting.
    pub state: u32,
    /// The socket inode.
    pub inode: Option<NonZeroU64>,
    /// The path it is bound to; an abstract one starts with `@`. Any bytes the binder chose except
    /// NUL: even a newline, which makes the rest of the path a line of its own.
    pub path: Option<&'a [u8]>,
}

/// The rows of the table of Unix sockets.
pub fn unix_rows<'a>(text: &'a [u8]) -> Rows<'a, impl FnMut(&'a [u8]) -> Option<UnixRow<'a>>> {
    Rows::new(super::without_heading(text, b"Num"), decode_unix_row)
}

fn decode_inet_row(line: &[u8], order: ByteOrder) -> Option<InetRow> {
    let mut fields = words(line);
    let local = decode_endpoint(fields.nth(1)?, order)?;
    let remote = decode_endpoint(fields.next()?, order)?;
    let state = u8::try_from(hexadecimal(fields.next()?)?).ok()?;
    let (send, receive) = super::split_once(fields.next()?, b':')?;
    let (send_queue, receive_queue) = (hexadecimal(send)?, hexadecimal(receive)?);
    let uid = u32::try_from(decimal(fields.nth(2)?)?).ok()?;
    let inode = NonZeroU64::new(decimal(fields.nth(1)?)?);
    Some(InetRow { local, remote, state: TcpState(state), send_queue, receive_queue, uid, inode })
}

fn decode_endpoint(field: &[u8], order: ByteOrder) -> Option<Endpoint> {
    let (address, port) = super::split_once(field, b':')?;
    let port = u16::try_from(hexadecimal(port)?).ok()?;
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(order.memory_of(hexadecimal(address)?))),
        32 => IpAddr::V6(decode_ipv6(address, order)?),
        _ => return None,
    };
    Some(Endpoint::new(address, port))
}

fn decode_ipv6(digits: &[u8], order: ByteOrder) -> Option<Ipv6Addr> {
    let mut octets = [0; 16];
    for (to, word) in octets.chunks_exact_mut(4).zip(digits.chunks_exact(8)) {
        to.copy_from_slice(&order.memory_of(hexadecimal(word)?));
    }
    Some(Ipv6Addr::from(octets))
}

fn decode_unix_row(line: &[u8]) -> Option<UnixRow<'_>> {
    let mut fields = words(line);
    let is_listening = hexadecimal(fields.nth(3)?)? & ACCEPTS_CONNECTIONS != 0;
    let kind = hexadecimal(fields.next()?)?;
    let state = hexadecimal(fields.next()?)?;
    let inode_field = fields.next()?;
    let inode = NonZeroU64::new(decimal(inode_field)?);
    Some(UnixRow { is_listening, kind, state, inode, path: path_of(line) })
}

/// What follows the seventh column and one space: the path may hold spaces, so words do not do.
fn path_of(line: &[u8]) -> Option<&[u8]> {
    let mut rest = line;
    for _ in 0..7 {
        let start = rest.iter().position(|byte| *byte != b' ')?;
        let word = rest.get(start..)?;
        let end = word.iter().position(|byte| *byte == b' ')?;
        rest = word.get(end..)?;
    }
    rest.get(1..).filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    // Linux 6.18, x86_64.
    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     
   0: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1060 1 00000000321f2c33 100 0 0 10 0                      
   1: 0A0112C6:D356 0D0112C6:18EB 01 00000000:00000000 00:00000000 00000000 10001        0 21817 1 00000000f7c7d9b5 20 4 30 10 -1                    
   2: 0100007F:C0DE 0100007F:1F90 06 00000000:00000000 03:00000F0A 00000000     0        0 0 3 00000000c7e9a1b2                                      
";
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 31337 1 0000000000000000 100 0 0 10 0
   1: B80D0120000000000000000001000000:0050 B80D0120000000000000000002000000:9C40 01 00000000:00000000 00:00000000 00000000 4294967295        0 31338 1 0000000000000000 20 4 0 10 -1
   2: 0000000000000000FFFF00000A0112C6:0050 0000000000000000FFFF00000B0112C6:9C41 08 00000000:00000000 00:00000000 00000000     7        0 31339 1 0000000000000000 20 4 0 10 -1
";
    const UNIX: &str = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000065421f08: 00000003 00000000 00000000 0001 03  1057
00000000595db773: 00000002 00000000 00010000 0005 01  1056 /run/a b.sock
0000000012345678: 00000002 00000000 00000000 0002 01 99999 @abstract@name
";

    fn check(text: &str, order: ByteOrder, expected: &[(&str, &str, u8, u32, u64)], rejected: u64) {
        let mut rows = inet_rows(text.as_bytes(), order);
        let found: Vec<_> = rows
            .by_ref()
            .map(|row| {
                (
                    format!("{}", row.local),
                    format!("{}", row.remote),
                    row.state.0,
                    row.uid,
                    row.inode.map_or(0, NonZeroU64::get),
                )
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(local, remote, state, uid, inode)| {
                (String::from(*local), String::from(*remote), *state, *uid, *inode)
            })
            .collect();
        assert_eq!(found, expected);
        assert_eq!(rows.rejected(), rejected);
    }

    #[test]
    fn both_families_and_mapped_addresses() {
        check(
            TCP,
            ByteOrder::Little,
            &[
                ("0.0.0.0:2024", "0.0.0.0:0", 10, 0, 1060),
                ("198.18.1.10:54102", "198.18.1.13:6379", 1, 10001, 21817),
                ("127.0.0.1:49374", "127.0.0.1:8080", 6, 0, 0),
            ],
            0,
        );
        check(
            TCP6,
            ByteOrder::Little,
            &[
                ("[::]:22", "[::]:0", 10, 0, 31337),
                ("[2001:db8::1]:80", "[2001:db8::2]:40000", 1, u32::MAX, 31338),
                ("198.18.1.10:80", "198.18.1.11:40001", 8, 7, 31339),
            ],
            0,
        );
    }

    #[test]
    fn a_big_endian_machine_prints_the_same_memory_the_other_way_round() {
        let line = " 0: C612010A:D356 C612010D:18EB 01 00000000:00000000 00:00000000 00000000 1 0 2 1\n";
        check(line, ByteOrder::Big, &[("198.18.1.10:54102", "198.18.1.13:6379", 1, 1, 2)], 0);
    }

    #[test]
    fn unknown_states_are_kept_and_nonsense_is_counted() {
        let text = "\
 0: 0100007F:0001 0100007F:0002 EE 00000000:00000000 00:00000000 00000000 1 0 5
 1: 0100007F:0001 0100007F:00002 01 0:0 0:0 0 1 0
 1: 0100007F:0001 0100007F 01 0:0 0:0 0 1 0 6
 1: 0100007:0001 0100007F:0002 01 0:0 0:0 0 1 0 6
 1: 0100007F:0001 0100007F:0002 101 0:0 0:0 0 1 0 6

 1: 0100007F:0001 0100007F:0002 01 0:0 0:0 0 -1 0 6
";
        check(text, ByteOrder::Little, &[("127.0.0.1:1", "127.0.0.1:2", 0xee, 1, 5)], 6);
    }

    #[test]
    fn unix_paths_keep_their_spaces() {
        let mut rows = unix_rows(UNIX.as_bytes());
        let found: Vec<_> = rows
            .by_ref()
            .map(|row| {
                (row.is_listening, row.kind, row.state, row.inode.map_or(0, NonZeroU64::get), row.path)
            })
            .collect();
        assert_eq!(
            found,
            [
                (false, 1, 3, 1057, None),
                (true, 5, 1, 1056, Some(&b"/run/a b.sock"[..])),
                (false, 2, 1, 99999, Some(&b"@abstract@name"[..])),
            ]
        );
        assert_eq!(rows.rejected(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_give_no_more_rows_than_lines(text in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let lines = text.split(|byte| *byte == b'\n').count() as u64;
            let mut rows = inet_rows(&text, ByteOrder::Little);
            let found = rows.by_ref().count() as u64;
            prop_assert!(found + rows.rejected() <= lines);
            let mut rows = unix_rows(&text);
            let found = rows.by_ref().count() as u64;
            prop_assert!(found + rows.rejected() <= lines);
        }

        #[test]
        fn a_cut_table_gives_the_first_rows_and_no_wrong_one(cut in 0..TCP.len()) {
            let whole: Vec<_> = inet_rows(TCP.as_bytes(), ByteOrder::Little).collect();
            let mut rows = inet_rows(&TCP.as_bytes()[..cut], ByteOrder::Little);
            let found: Vec<_> = rows.by_ref().collect();
            prop_assert!(whole.starts_with(&found));
            prop_assert!(rows.rejected() <= 1);
        }

        #[test]
        fn a_printed_row_reads_back(
            (address, port) in any::<(u32, u16)>(), uid in any::<u32>(), inode in any::<u32>(), state in any::<u8>(),
            (sent, received) in any::<(u32, u32)>()
        ) {
            let word = u32::from_le_bytes(address.to_be_bytes());
            let line = format!(
                "{:4}: {word:08X}:{port:04X} 00000000:0000 {state:02X} {sent:08X}:{received:08X} 00:00000000 00000000 {uid:5} {:8} {inode} 1 0\n", 1, 0
            );
            let rows: Vec<_> = inet_rows(line.as_bytes(), ByteOrder::Little).collect();
            prop_assert_eq!(rows, [InetRow {
                local: Endpoint::new(IpAddr::V4(Ipv4Addr::from(address)), port),
                remote: Endpoint::UNSPECIFIED_V4,
                state: TcpState(state),
                send_queue: sent,
                receive_queue: received,
                uid,
                inode: NonZeroU64::new(u64::from(inode)),
            }]);
        }
    }
}
