//! Receiving netlink datagrams with whose namespace each is from, which no crate at hand reads.
//!
//! Left out: what is in them.

use std::io;
use std::os::fd::AsRawFd;

use netlink_sys::Socket;
use rustix::io::Errno;

/// Room for one control message that carries an id, aligned as the kernel writes it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Reads one datagram: its length, and the id of the namespace it is from if that is another one (man 7 netlink,
/// NETLINK_LISTEN_ALL_NSID, since Linux 4.2), which no crate at hand reads.
pub(super) fn receive_from_any(socket: &Socket, into: &mut [u8]) -> io::Result<(usize, Option<i32>)> {
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: a `msghdr` of zeros is one without name, parts and control.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control.0).cast();
    header.msg_controllen = control.0.len();
    // SAFETY: the descriptor is open for the call; the header's part is `into`, writable for its whole length, its
    // control is `control`, likewise, and both outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let Ok(length) = usize::try_from(length) else { return Err(io::Error::last_os_error()) };
    if header.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(Errno::MSGSIZE.into());
    }
    Ok((length, namespace_id(control.0.get(..header.msg_controllen).unwrap_or_default())))
}

/// The value of the one control message there may be: `struct cmsghdr` is its length, level and type.
fn namespace_id(control: &[u8]) -> Option<i32> {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    let word = |at: usize| Some(i32::from_ne_bytes(*control.get(at..)?.first_chunk()?));
    let (level, kind) = (word(HEADER - 8)?, word(HEADER - 4)?);
    (level == libc::SOL_NETLINK && kind == libc::NETLINK_LISTEN_ALL_NSID).then(|| word(HEADER)).flatten()
}

#[cfg(test)]
mod tests {
    use super::namespace_id;

    #[test]
    fn the_id_of_another_namespace_is_in_its_control_message() {
        let control = |level: i32, kind: i32, value: i32| {
            let length = 20_usize.to_ne_bytes();
            [&length[..], &level.to_ne_bytes(), &kind.to_ne_bytes(), &value.to_ne_bytes()].concat()
        };
        assert_eq!(namespace_id(&control(libc::SOL_NETLINK, libc::NETLINK_LISTEN_ALL_NSID, 7)), Some(7));
        assert_eq!(namespace_id(&control(libc::SOL_SOCKET, libc::NETLINK_LISTEN_ALL_NSID, 7)), None);
        assert_eq!(namespace_id(&control(libc::SOL_NETLINK, libc::NETLINK_LISTEN_ALL_NSID, 7)[..16]), None);
        assert_eq!(namespace_id(&[]), None);
    }
}
