//! Questions to the kernel by netlink (man 7 netlink), in the network namespace of the thread that opens them.
//!
//! Left out: what is asked and answered, which each subsystem's own file knows, and listening to events.

use std::iter;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    DecodeError, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

/// The kernel fills at most 32 KiB of a listing at once.
const ANSWER_BYTES: usize = 64 * 1024;
/// Length, type, flags, sequence and port of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;

/// A socket to ask one of the kernel's subsystems with. While it is open it keeps its namespace alive.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    answer: Vec<u8>,
}

/// A message of an answer.
pub(super) enum Message<T> {
    /// One that the subsystem itself knows.
    Told(T),
    /// The end of a listing.
    End,
    /// The kernel does not answer, or does not go on.
    Refused(Errno),
    /// It cannot be understood.
    Unreadable(DecodeError),
}

impl Netlink {
    /// Opens it in the namespace this thread is in. `protocol` is the subsystem.
    pub(super) fn open(protocol: isize) -> Result<Self, Errno> {
        let socket = Socket::new(protocol).map_err(|error| errno_of(&error))?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(|error| errno_of(&error))?;
        Ok(Self { socket, answer: Vec::with_capacity(ANSWER_BYTES) })
    }

    /// Has the kernel keep up to `bytes` that wait to be read. Without CAP_NET_ADMIN the usual limit holds
    /// (net.core.rmem_max).
    pub(super) fn make_room(&self, bytes: usize) -> Result<(), Errno> {
        set_socket_recv_buffer_size_force(&self.socket, bytes)
    }

    /// Asks, with the flags of the message's header.
    pub(super) fn ask(&self, question: impl NetlinkSerializable, flags: u16) -> Result<(), Errno> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.send(&bytes)
    }

    /// Asks with a message that is already written.
    pub(super) fn send(&self, message: &[u8]) -> Result<(), Errno> {
        self.socket.send(message, 0).map(|_| ()).map_err(|error| errno_of(&error))
    }

    /// Reads one datagram of the answer. The kernel answers within the call that asks or reads on, so there is nothing
    /// to wait for.
    pub(super) fn receive(&mut self) -> Result<&[u8], Errno> {
        self.answer.clear();
        let received = self.socket.recv(&mut self.answer, libc::MSG_DONTWAIT);
        let length = received.map_err(|error| errno_of(&error))?;
        self.answer.get(..length).ok_or(Errno::MSGSIZE)
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The messages of a datagram.
pub(super) fn messages<T: NetlinkDeserializable>(datagram: &[u8]) -> impl Iterator<Item = Message<T>> {
    let mut rest = datagram;
    iter::from_fn(move || {
        loop {
            // Every message starts with its own length and is padded to four bytes.
            let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
            let payload = NetlinkMessage::<T>::deserialize(rest).map(|message| message.payload);
            rest = rest.get(length.next_multiple_of(4).max(HEADER_BYTES)..).unwrap_or_default();
            return Some(match payload {
                Ok(NetlinkPayload::InnerMessage(message)) => Message::Told(message),
                // A listing that fails ends with its errno.
                Ok(NetlinkPayload::Done(done)) if done.code < 0 => Message::Refused(errno_told(done.code)),
                Ok(NetlinkPayload::Done(_)) => Message::End,
                Ok(NetlinkPayload::Error(error)) if error.code.is_some() => {
                    Message::Refused(errno_told(error.raw_code()))
                }
                Ok(_) => continue,
                Err(error) => Message::Unreadable(error),
            });
        }
    })
}

/// Errnos are told negative.
const fn errno_told(code: i32) -> Errno {
    Errno::from_raw_os_error(code.saturating_neg())
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
