//! Questions and answers of netlink's sock_diag (man 7 sock_diag), between bytes and [`ListedSocket`]s: the sockets of one
//! protocol in one namespace, or the one that a packet would be given to.
//!
//! The layouts are ABI: include/uapi/linux/{inet,unix,netlink,packet,vm_sockets}_diag.h,
//! <https://github.com/torvalds/linux/tree/v6.12/include/uapi/linux>. Left out: who holds a socket, and attributes that a
//! list does not show.

mod question;
mod tcp_info;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::{NonZeroU32, NonZeroU64};

use crate::inventory::{
    Addresses, ListedSocket, Protocol, ProtocolGroup, SocketEnd, SocketKind, UnixPath, VsockEnd,
};
use crate::socket::{Payload, TcpState};

pub use question::{ALL_STATES, Question};

/// Families, include/linux/socket.h.
const AF_UNSPEC: u8 = 0;
const AF_UNIX: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_NETLINK: u8 = 16;
const AF_PACKET: u8 = 17;
const AF_VSOCK: u8 = 40;

/// `NLMSG_ERROR` and `NLMSG_DONE`, man 7 netlink.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`: what was listed changed meanwhile, so something may be missing.
const INTERRUPTED: u16 = 0x10;
const HEADER_BYTES: usize = 16;

/// One message of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// A socket, without namespace and holders.
    Socket(ListedSocket),
    /// A connected TCP socket likewise, and its payload, if that was asked for.
    Counted(ListedSocket, Payload),
    /// That was all.
    Done {
        /// The kernel says that something may be missing, as it changed meanwhile.
        interrupted: bool,
    },
    /// The kernel refuses, with an errno.
    Refused(i32),
    /// A message that cannot be understood.
    Unreadable,
}

/// The messages of a datagram that answers `question`.
pub fn answers(question: Question, datagram: &[u8]) -> impl Iterator<Item = Answer> {
    let mut rest = datagram;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((header, body)) = split_message(&mut rest) else {
            rest = &[];
            return Some(Answer::Unreadable);
        };
        Some(match header.kind {
            // A listing that fails, as for lack of a handler, ends with its errno.
            DONE if body.i32(0).is_some_and(i32::is_negative) => refused(&body),
            DONE => Answer::Done { interrupted: header.flags & INTERRUPTED != 0 },
            ERROR => refused(&body),
            _ => described(question, &body).unwrap_or(Answer::Unreadable),
        })
    })
}

/// Errnos are told negative (man 7 netlink).
fn refused(body: &Bytes<'_>) -> Answer {
    body.i32(0).map_or(Answer::Unreadable, |code| Answer::Refused(code.saturating_neg()))
}

struct Header {
    kind: u16,
    flags: u16,
}

/// The first message, padded to four bytes (man 7 netlink), is taken off.
fn split_message<'a>(rest: &mut &'a [u8]) -> Option<(Header, Bytes<'a>)> {
    let all = Bytes(rest);
    let length = usize::try_from(all.u32(0)?).ok()?;
    let body = rest.get(HEADER_BYTES..length)?;
    let header = Header { kind: all.u16(4)?, flags: all.u16(6)? };
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((header, Bytes(body)))
}

fn described(question: Question, body: &Bytes<'_>) -> Option<Answer> {
    let socket = socket_of(question, body)?;
    let payload = question.asks_for_payload().then(|| tcp_info::payload(body)).flatten();
    Some(match payload {
        Some(payload) => Answer::Counted(socket, payload),
        None => Answer::Socket(socket),
    })
}

fn socket_of(question: Question, body: &Bytes<'_>) -> Option<ListedSocket> {
    match body.u8(0)? {
        AF_INET | AF_INET6 => internet(question.group, body),
        AF_UNIX => unix(body),
        AF_NETLINK => netlink(body),
        AF_PACKET => packet(body),
        AF_VSOCK => vsock(body),
        _ => None,
    }
}

fn internet(group: ProtocolGroup, body: &Bytes<'_>) -> Option<ListedSocket> {
    let protocol = match group {
        ProtocolGroup::Tcp => Protocol::Tcp,
        ProtocolGroup::Udp => Protocol::Udp,
        ProtocolGroup::UdpLite => Protocol::UdpLite,
        ProtocolGroup::Dccp => Protocol::Dccp,
        ProtocolGroup::Sctp => Protocol::Sctp,
        ProtocolGroup::Raw => Protocol::Raw,
        _ => return None,
    };
    let end = |port, address| {
        let address = if body.u8(0)? == AF_INET6 {
            IpAddr::V6(Ipv6Addr::from(body.array::<16>(address)?))
        } else {
            IpAddr::V4(Ipv4Addr::from(body.array::<4>(address)?))
        };
        Some(SocketEnd { address, port: u16::from_be_bytes(body.array(port)?) })
    };
    let addresses = Addresses::Internet {
        local: end(4, 8)?,
        remote: end(6, 24)?,
        interface: NonZeroU32::new(body.u32(40)?),
    };
    let inode = body.inode(68)?;
    Some(ListedSocket {
        receive_queue: Some(body.u32(56)?),
        send_queue: Some(body.u32(60)?),
        inode,
        cookie: body.cookie(44)?,
        // Without a file the kernel has no uid to tell and says 0.
        uid: inode.and(body.u32(64)),
        ..ListedSocket::new(protocol, TcpState(body.u8(1)?), addresses)
    })
}

fn unix(body: &Bytes<'_>) -> Option<ListedSocket> {
    let (mut path, mut peer, mut queues, mut uid) = (None, None, None, None);
    for (kind, value) in body.attributes(16) {
        match kind {
            0 => path = UnixPath::from_kernel(value.0),
            2 => peer = value.inode(0)?,
            4 => queues = Some((value.u32(0)?, value.u32(4)?)),
            7 => uid = value.u32(0),
            _ => {}
        }
    }
    let protocol = Protocol::Unix(SocketKind(u16::from(body.u8(1)?)));
    let socket = ListedSocket::new(protocol, TcpState(body.u8(2)?), Addresses::Unix { path, peer });
    Some(ListedSocket { uid, ..identified(socket, (body, 4), queues)? })
}

/// Places of received and sent bytes in `struct sk_meminfo` (include/uapi/linux/sock_diag.h).
const RECEIVED: usize = 0;
const SENT: usize = 8;

fn netlink(body: &Bytes<'_>) -> Option<ListedSocket> {
    let queues = match body.attributes(28).find(|(kind, _)| *kind == 0) {
        Some((_, memory)) => Some((memory.u32(RECEIVED)?, memory.u32(SENT)?)),
        None => None,
    };
    let protocol = Protocol::Netlink(Some(u16::from(body.u8(2)?)));
    let socket = ListedSocket::new(protocol, TcpState::CLOSE, Addresses::Netlink { port_id: body.u32(4)? });
    identified(socket, (body, 16), queues)
}

fn packet(body: &Bytes<'_>) -> Option<ListedSocket> {
    let (mut interface, mut uid, mut queues) = (None, None, None);
    for (kind, value) in body.attributes(16) {
        match kind {
            0 => interface = NonZeroU32::new(value.u32(0)?),
            5 => uid = value.u32(0),
            6 => queues = Some((value.u32(RECEIVED)?, value.u32(SENT)?)),
            _ => {}
        }
    }
    let protocol = Protocol::Packet(SocketKind(u16::from(body.u8(1)?)));
    let addresses = Addresses::Packet { protocol: body.u16(2)?, interface };
    let socket = ListedSocket::new(protocol, TcpState::CLOSE, addresses);
    Some(ListedSocket { uid, ..identified(socket, (body, 4), queues)? })
}

fn vsock(body: &Bytes<'_>) -> Option<ListedSocket> {
    let end = |at| Some(VsockEnd { cid: body.u32(at)?, port: body.u32(at + 4)? });
    let protocol = Protocol::Vsock(SocketKind(u16::from(body.u8(1)?)));
    let addresses = Addresses::Vsock { local: end(4)?, remote: end(12)? };
    identified(ListedSocket::new(protocol, TcpState(body.u8(2)?), addresses), (body, 20), None)
}

/// `socket` with the inode at `offset`, the cookie behind it, and its queues of received and sent bytes.
fn identified(
    socket: ListedSocket,
    (body, offset): (&Bytes<'_>, usize),
    queues: Option<(u32, u32)>,
) -> Option<ListedSocket> {
    Some(ListedSocket {
        receive_queue: queues.map(|(received, _)| received),
        send_queue: queues.map(|(_, sent)| sent),
        inode: body.inode(offset)?,
        cookie: body.cookie(offset + 4)?,
        ..socket
    })
}

/// Bytes, read by offset.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..)?.first_chunk().copied()
    }

    fn u8(&self, offset: usize) -> Option<u8> {
        self.0.get(offset).copied()
    }

    fn u16(&self, offset: usize) -> Option<u16> {
        self.array(offset).map(u16::from_ne_bytes)
    }

    fn u64(&self, offset: usize) -> Option<u64> {
        self.array(offset).map(u64::from_ne_bytes)
    }

    fn u32(&self, offset: usize) -> Option<u32> {
        self.array(offset).map(u32::from_ne_bytes)
    }

    fn i32(&self, offset: usize) -> Option<i32> {
        self.array(offset).map(i32::from_ne_bytes)
    }

    /// The outer `None`: it is not there. The inner one: no file refers to the socket.
    fn inode(&self, offset: usize) -> Option<Option<NonZeroU64>> {
        self.u32(offset).map(|inode| NonZeroU64::new(u64::from(inode)))
    }

    /// Two words of 32 bits, the low one first on every machine (`sock_diag_save_cookie` in
    /// <https://github.com/torvalds/linux/blob/v6.12/net/core/sock_diag.c>).
    fn cookie(&self, offset: usize) -> Option<Option<NonZeroU64>> {
        let (low, high) = (self.u32(offset)?, self.u32(offset + 4)?);
        Some(NonZeroU64::new((u64::from(high) << 32) | u64::from(low)))
    }

    /// The attributes from `offset` on: each tells its length, its own four bytes counted, and is padded to four bytes.
    fn attributes(&self, offset: usize) -> impl Iterator<Item = (u16, Self)> {
        let mut rest: &'a [u8] = self.0.get(offset..).unwrap_or_default();
        core::iter::from_fn(move || {
            let this = Bytes(rest);
            let (length, kind) = (usize::from(this.u16(0)?), this.u16(2)?);
            let value = rest.get(4..length)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some((kind, Bytes(value)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::question::{SOCK_DIAG_BY_FAMILY, words};
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + body.len()).unwrap();
        let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], body].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn check(group: ProtocolGroup, body: &[u8], expected: &ListedSocket) {
        let question = Question::all_of(group)[0];
        let datagram = [message(SOCK_DIAG_BY_FAMILY, body), message(DONE, &words(&[0]))].concat();
        let found: Vec<_> = answers(question, &datagram).collect();
        assert_eq!(found, [Answer::Socket(expected.clone()), Answer::Done { interrupted: false }]);
    }

    #[test]
    fn a_tcp_socket() {
        let tcp = [
            &[AF_INET, 1, 0, 0, 0x1f, 0x90, 0xd3, 0x56][..],
            &[127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[127, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &words(&[3, 7, 1, 0, 12, 5, 10001, 21817]),
        ]
        .concat();
        let end = |last, port| SocketEnd { address: Ipv4Addr::new(127, 0, 0, last).into(), port };
        let addresses =
            Addresses::Internet { local: end(1, 8080), remote: end(2, 54102), interface: NonZeroU32::new(3) };
        let expected = ListedSocket {
            receive_queue: Some(12),
            send_queue: Some(5),
            uid: Some(10001),
            ..base(Protocol::Tcp, 1, addresses)
        };
        check(ProtocolGroup::Tcp, &tcp, &expected);
    }

    /// With the inode and cookie that all of these have.
    fn base(protocol: Protocol, state: u8, addresses: Addresses) -> ListedSocket {
        ListedSocket {
            inode: NonZeroU64::new(21817),
            cookie: NonZeroU64::new((1 << 32) | 7),
            ..ListedSocket::new(protocol, TcpState(state), addresses)
        }
    }

    #[test]
    fn sockets_of_other_families() {
        let unix = [
            &[AF_UNIX, 2, 7, 0][..],
            &words(&[21817, 7, 1]),
            &attribute(0, b"\0odd\0name"),
            &attribute(2, &words(&[99])),
            &attribute(4, &words(&[12, 5])),
            &attribute(7, &words(&[10001])),
        ]
        .concat();
        let path = Some(UnixPath((*b"\0odd\0name").into()));
        let expected = ListedSocket {
            receive_queue: Some(12),
            send_queue: Some(5),
            uid: Some(10001),
            ..base(
                Protocol::Unix(SocketKind::DATAGRAM),
                7,
                Addresses::Unix { path, peer: NonZeroU64::new(99) },
            )
        };
        check(ProtocolGroup::Unix, &unix, &expected);

        let netlink = [
            &[AF_NETLINK, 3, 15, 1][..],
            &words(&[4711, 0, 0, 21817, 7, 1]),
            &attribute(0, &words(&[12, 0, 5, 0])),
        ]
        .concat();
        let expected = ListedSocket {
            receive_queue: Some(12),
            send_queue: Some(5),
            ..base(Protocol::Netlink(Some(15)), 7, Addresses::Netlink { port_id: 4711 })
        };
        check(ProtocolGroup::Netlink, &netlink, &expected);

        let packet = [
            &[AF_PACKET, 3][..],
            &3_u16.to_ne_bytes(),
            &words(&[21817, 7, 1]),
            &attribute(0, &words(&[2, 0])),
            &attribute(5, &words(&[0])),
        ]
        .concat();
        let addresses = Addresses::Packet { protocol: 3, interface: NonZeroU32::new(2) };
        let expected = ListedSocket { uid: Some(0), ..base(Protocol::Packet(SocketKind::RAW), 7, addresses) };
        check(ProtocolGroup::Packet, &packet, &expected);

        let vsock =
            [&[AF_VSOCK, 1, 10, 0][..], &words(&[u32::MAX, 2024, u32::MAX, u32::MAX, 21817, 7, 1])].concat();
        let addresses =
            Addresses::Vsock { local: VsockEnd { cid: u32::MAX, port: 2024 }, remote: VsockEnd::ANY };
        check(ProtocolGroup::Vsock, &vsock, &base(Protocol::Vsock(SocketKind::STREAM), 10, addresses));
    }

    #[test]
    fn payload_where_it_is_asked_for() {
        // What a client and a server said of 20,000 bytes one way and 777 back: the client's SYN is acknowledged as a byte,
        // and so is a FIN, once it has come; 5,000 bytes were sent twice.
        let check = |state: u8, told: [u64; 4], length: usize, expected: Option<(u64, u64)>| {
            let mut info = vec![0; 232];
            info[0] = state;
            let [acked, received, sent, again] = told;
            for (offset, count) in [(120, acked), (128, received), (200, sent), (208, again)] {
                info[offset..offset + 8].copy_from_slice(&count.to_ne_bytes());
            }
            let head = [&[AF_INET, state, 0, 0][..], &words(&[0; 17])].concat();
            let body = [&head[..], &attribute(8, &[0]), &attribute(2, &info[..length])].concat();
            let datagram = message(SOCK_DIAG_BY_FAMILY, &body);
            let payload = |question| match answers(question, &datagram).next() {
                Some(Answer::Counted(_, payload)) => Some((payload.sent, payload.received)),
                Some(Answer::Socket(_)) => None,
                other => panic!("{other:?}"),
            };
            assert_eq!(payload(Question::TCP_OF_BOTH_FAMILIES.with_payload()), expected, "{state} {told:?}");
            assert_eq!(payload(Question::TCP_OF_BOTH_FAMILIES), None);
        };
        check(1, [20_001, 777, 25_000, 5_000], 232, Some((20_000, 777)));
        check(1, [777, 20_000, 777, 0], 232, Some((777, 20_000)));
        check(5, [20_002, 777, 25_000, 5_000], 232, Some((20_000, 777)));
        check(8, [777, 20_001, 777, 0], 232, Some((777, 20_000)));
        // Before Linux 4.19, and before 4.1.
        check(1, [777, 20_000, 0, 0], 192, Some((777, 20_000)));
        check(1, [777, 20_000, 0, 0], 104, None);
    }

    #[test]
    fn ends_refusals_and_nonsense() {
        let refusal = words(&[(-2_i32).cast_unsigned()]);
        let question = Question::all_of(ProtocolGroup::Udp)[0];
        for (datagram, expected) in [
            (message(ERROR, &refusal), Answer::Refused(2)),
            (message(DONE, &refusal), Answer::Refused(2)),
            (message(DONE, &[]), Answer::Done { interrupted: false }),
            (message(SOCK_DIAG_BY_FAMILY, &[AF_INET, 1]), Answer::Unreadable),
            (message(SOCK_DIAG_BY_FAMILY, &[99; 80]), Answer::Unreadable),
            (vec![1], Answer::Unreadable),
        ] {
            assert_eq!(answers(question, &datagram).collect::<Vec<_>>(), [expected], "{datagram:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_and_none_panics(datagram in proptest::collection::vec(any::<u8>(), 0..300)) {
            for group in ProtocolGroup::ALL {
                for question in Question::all_of(group) {
                    prop_assert!(answers(*question, &datagram).count() <= datagram.len());
                }
            }
        }
    }
}
