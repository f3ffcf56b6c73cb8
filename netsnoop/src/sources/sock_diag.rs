//! Exact lookup of single sockets by netlink sock_diag (man 7 sock_diag), in the namespace of the
//! thread that opens the question.
//!
//! Left out: who holds a socket, which only fd links tell, and entering namespaces. An open
//! [`SockDiag`] keeps its namespace alive, interfaces and all, so it is opened, asked and closed.

use std::num::NonZeroU64;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};
use netsnoop_core::attribution::Reason;
use netsnoop_core::five_tuple::{Endpoint, FiveTuple, Transport};
use netsnoop_core::socket::{SocketRow, TcpState};
use rustix::io::Errno;

/// The kernel fills at most this much of an answer (`NLMSG_GOODSIZE` is less; dumps grow to 32 KiB).
const ANSWER_BYTES: usize = 64 * 1024;
/// The cookie that stands for any (`INET_DIAG_NOCOOKIE`).
const ANY_COOKIE: [u8; 8] = [0xff; 8];

/// A question to one namespace's sockets.
pub(crate) struct SockDiag {
    socket: Socket,
    answer: Vec<u8>,
}

/// Which sockets to list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listing {
    /// The protocol.
    pub(super) transport: Transport,
    /// Whether IPv6 sockets (dual-stack ones too) or IPv4 sockets.
    pub(super) ipv6: bool,
    /// A bit for each state.
    pub(super) states: u32,
    /// Only those with this port.
    pub(super) local_port: Option<u16>,
}

impl Listing {
    /// Every state there is.
    pub(super) const ALL_STATES: u32 = u32::MAX;
    /// Only listening sockets.
    pub(super) const LISTENING: u32 = 1 << TcpState::LISTEN.0;
}

impl SockDiag {
    /// Opens it in the namespace this thread is in.
    pub(crate) fn open() -> Result<Self, Errno> {
        let socket = Socket::new(NETLINK_SOCK_DIAG).map_err(|error| errno_of(&error))?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(|error| errno_of(&error))?;
        Ok(Self { socket, answer: Vec::with_capacity(ANSWER_BYTES) })
    }

    /// Whether this kernel answers for `transport`. Without the protocol's handler every exact
    /// question gets ENOENT, as if there were no socket.
    pub(crate) fn answers_for(&mut self, transport: Transport) -> bool {
        let nothing = Listing { transport, ipv6: false, states: 0, local_port: None };
        self.list(nothing, &mut Vec::new()).is_ok()
    }

    /// The socket the kernel would give a packet of `wanted` to: the connection, or else a listener or
    /// wildcard socket.
    pub(super) fn find(&mut self, wanted: &FiveTuple) -> Result<Option<SocketRow>, Errno> {
        // The UDP handler looks a packet up, whose destination is the socket's own end:
        // `udp_dump_one` in <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/udp_diag.c>.
        let asked = if wanted.transport == Transport::Tcp { *wanted } else { wanted.mirrored() };
        let request = InetRequest {
            family: family(wanted.local.address.is_ipv6() || wanted.remote.address.is_ipv6()),
            protocol: wanted.transport.number(),
            extensions: ExtensionFlags::empty(),
            states: StateFlags::from_bits_retain(u32::MAX),
            socket_id: SocketId {
                source_port: asked.local.port,
                destination_port: asked.remote.port,
                source_address: asked.local.address,
                destination_address: asked.remote.address,
                interface_id: 0,
                cookie: ANY_COOKIE,
            },
        };
        self.send(request, NLM_F_REQUEST)?;
        let mut found = None;
        match self.receive(|response| found = Some(row_of(wanted.transport, response))) {
            Ok(_) => Ok(found),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds the sockets of `listing` to `rows`.
    pub(super) fn list(&mut self, listing: Listing, rows: &mut Vec<SocketRow>) -> Result<(), Errno> {
        let mut socket_id = if listing.ipv6 { SocketId::new_v6() } else { SocketId::new_v4() };
        socket_id.source_port = listing.local_port.unwrap_or(0);
        let request = InetRequest {
            family: family(listing.ipv6),
            protocol: listing.transport.number(),
            extensions: ExtensionFlags::empty(),
            states: StateFlags::from_bits_retain(listing.states),
            socket_id,
        };
        self.send(request, NLM_F_REQUEST | NLM_F_DUMP)?;
        loop {
            let done = self.receive(|response| rows.push(row_of(listing.transport, response)))?;
            if done {
                return Ok(());
            }
        }
    }

    fn send(&mut self, request: InetRequest, flags: u16) -> Result<(), Errno> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(|error| errno_of(&error))?;
        Ok(())
    }

    /// Reads one datagram of the answer. The kernel answers within the call that asks, so there is
    /// nothing to wait for. `true` after the last message of a listing.
    fn receive(&mut self, mut each: impl FnMut(&InetResponse)) -> Result<bool, Errno> {
        self.answer.clear();
        let length =
            self.socket.recv(&mut self.answer, libc::MSG_DONTWAIT).map_err(|error| errno_of(&error))?;
        let mut rest = self.answer.get(..length).ok_or(Errno::MSGSIZE)?;
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).or(Err(Errno::BADMSG))?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => each(&response),
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(Errno::from_raw_os_error(-error.raw_code()));
                }
                NetlinkPayload::Done(_) => return Ok(true),
                _ => {}
            }
            // Messages are padded to four bytes (man 7 netlink).
            let taken = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(taken.max(4)..).unwrap_or_default();
        }
        Ok(false)
    }
}

const fn family(ipv6: bool) -> u8 {
    if ipv6 { AF_INET6 } else { AF_INET }
}

fn row_of(transport: Transport, response: &InetResponse) -> SocketRow {
    let header = &response.header;
    let id = &header.socket_id;
    let inode = NonZeroU64::new(u64::from(header.inode));
    SocketRow {
        tuple: FiveTuple {
            transport,
            local: Endpoint::new(id.source_address, id.source_port),
            remote: Endpoint::new(id.destination_address, id.destination_port),
        },
        state: TcpState(header.state),
        inode,
        cookie: cookie_of(id.cookie),
        // Without a file the kernel has no uid to tell and says 0.
        uid: inode.is_some().then_some(header.uid),
        holders: Vec::new(),
        holders_lack: Some(Reason::Pending),
        recent_starts: Vec::new(),
        changed_user: false,
    }
}

/// Two words of 32 bits, the low one first on every machine (`sock_diag_save_cookie` in
/// <https://github.com/torvalds/linux/blob/v6.12/net/core/sock_diag.c>).
fn cookie_of([a, b, c, d, e, f, g, h]: [u8; 8]) -> Option<NonZeroU64> {
    let low = u64::from(u32::from_ne_bytes([a, b, c, d]));
    let high = u64::from(u32::from_ne_bytes([e, f, g, h]));
    NonZeroU64::new((high << 32) | low)
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
