//! Ends of sockets as text: addresses, paths and ids, with nothing in them that a terminal would obey.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU64;

use netsnoop_core::inventory::{Addresses, Protocol, SocketEnd, UnixPath, VsockEnd};

use super::look::Seen;
use crate::sinks::escape::Escaped;

/// Writes the socket's own end.
pub(super) fn write_local(out: &mut impl fmt::Write, seen: Seen<'_>) -> fmt::Result {
    match &seen.socket.addresses {
        Addresses::Internet { local, .. } => internet_end(out, *local, Some(seen)),
        Addresses::Unix { path, .. } => unix_end(out, path.as_ref(), seen.socket.inode),
        Addresses::Packet { protocol, .. } => {
            match *protocol {
                ETH_P_ALL => out.write_str("*")?,
                other => write!(out, "{other:#06x}")?,
            }
            out.write_str(":")?;
            interface(out, seen, "*")
        }
        Addresses::Netlink { port_id } => {
            match seen.socket.protocol {
                Protocol::Netlink(Some(family)) => netlink_family(out, family)?,
                _ => out.write_str("*")?,
            }
            match port_id {
                0 => out.write_str(":kernel"),
                id => write!(out, ":{id}"),
            }
        }
        Addresses::Vsock { local, .. } => vsock_end(out, *local),
        Addresses::Unknown => match seen.socket.protocol {
            Protocol::Other { family, protocol } if family != 0 => {
                write!(out, "family {family} protocol {protocol}")
            }
            // A socket that is bound to nothing.
            _ => out.write_str("*"),
        },
    }
}

/// Writes the peer's end.
pub(super) fn write_peer(out: &mut impl fmt::Write, seen: Seen<'_>) -> fmt::Result {
    match &seen.socket.addresses {
        Addresses::Internet { .. } => match seen.internet_ends() {
            Some((_, Some(remote))) => internet_end(out, remote, None),
            _ => out.write_str("*"),
        },
        Addresses::Unix { peer: Some(peer), .. } => {
            let path = seen.unix_paths().and_then(|(_, path)| path);
            unix_end(out, path, Some(*peer))
        }
        Addresses::Vsock { remote, .. } => vsock_end(out, *remote),
        _ => out.write_str("*"),
    }
}

/// `ETH_P_ALL`: every protocol.
const ETH_P_ALL: u16 = 3;

fn internet_end(out: &mut impl fmt::Write, end: SocketEnd, bound: Option<Seen<'_>>) -> fmt::Result {
    match end.address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            number(out, a)?;
            for byte in [b, c, d] {
                out.write_str(".")?;
                number(out, byte)?;
            }
        }
        IpAddr::V6(address) => write!(out, "[{address}]")?,
    }
    if let Some(seen) = bound.filter(|seen| seen.interface().is_some()) {
        out.write_str("%")?;
        interface(out, seen, "")?;
    }
    match end.port {
        0 => out.write_str(":*"),
        port => {
            out.write_str(":")?;
            number(out, port)
        }
    }
}

/// Writes a number, in a third of the time that `write!` takes.
pub(super) fn number(out: &mut impl fmt::Write, number: impl itoa::Integer) -> fmt::Result {
    out.write_str(itoa::Buffer::new().format(number))
}

fn interface(out: &mut impl fmt::Write, seen: Seen<'_>, none: &str) -> fmt::Result {
    match seen.interface() {
        Some((_, Some(name))) => Escaped(name).write_to(out),
        Some((index, None)) => write!(out, "if{index}"),
        None => out.write_str(none),
    }
}

fn unix_end(out: &mut impl fmt::Write, path: Option<&UnixPath>, inode: Option<NonZeroU64>) -> fmt::Result {
    match (path, inode) {
        (Some(path), _) => path_of(out, path),
        (None, Some(inode)) => write!(out, "*:{inode}"),
        (None, None) => out.write_str("*"),
    }
}

fn vsock_end(out: &mut impl fmt::Write, end: VsockEnd) -> fmt::Result {
    if end == VsockEnd::ANY {
        return out.write_str("*");
    }
    vsock_part(out, end.cid)?;
    out.write_str(":")?;
    vsock_part(out, end.port)
}

fn vsock_part(out: &mut impl fmt::Write, part: u32) -> fmt::Result {
    match part {
        u32::MAX => out.write_str("*"),
        part => number(out, part),
    }
}

fn netlink_family(out: &mut impl fmt::Write, family: u16) -> fmt::Result {
    match netlink_family_name(family) {
        Some(name) => out.write_str(name),
        None => write!(out, "{family}"),
    }
}

/// The names of netlink families (man 7 netlink), without `NETLINK_`.
pub(super) const fn netlink_family_name(family: u16) -> Option<&'static str> {
    Some(match family {
        0 => "route",
        2 => "usersock",
        4 => "sock_diag",
        5 => "nflog",
        6 => "xfrm",
        7 => "selinux",
        8 => "iscsi",
        9 => "audit",
        10 => "fib_lookup",
        11 => "connector",
        12 => "netfilter",
        15 => "kobject_uevent",
        16 => "generic",
        18 => "scsitransport",
        20 => "rdma",
        21 => "crypto",
        22 => "smc",
        _ => return None,
    })
}

/// Writes the path of a Unix socket with an `@` before an abstract one's, as ss has it. Bytes that are no text are spelled out.
fn path_of(out: &mut impl fmt::Write, path: &UnixPath) -> fmt::Result {
    let bytes = match path.0.strip_prefix(b"\0") {
        Some(name) => {
            out.write_str("@")?;
            name
        }
        None => &path.0,
    };
    for chunk in bytes.utf8_chunks() {
        Escaped(chunk.valid()).write_to(out)?;
        chunk.invalid().iter().try_for_each(|byte| write!(out, "\\x{byte:02x}"))?;
    }
    Ok(())
}
