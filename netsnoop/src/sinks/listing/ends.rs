//! Ends of sockets as text: addresses, paths and ids, with nothing in them that a terminal would obey.

use std::fmt;
use std::num::NonZeroU64;

use netsnoop_core::inventory::{Addresses, Protocol, SocketEnd, UnixPath, VsockEnd};

use super::look::Seen;
use crate::sinks::escape::Escaped;

/// The socket's own end.
pub(super) struct LocalEnd<'a>(pub(super) Seen<'a>);

/// The peer's end.
pub(super) struct PeerEnd<'a>(pub(super) Seen<'a>);

impl fmt::Display for LocalEnd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(seen) = *self;
        match &seen.socket.addresses {
            Addresses::Internet { local, .. } => internet_end(f, *local, Some(seen)),
            Addresses::Unix { path, .. } => unix_end(f, path.as_ref(), seen.socket.inode),
            Addresses::Packet { protocol, .. } => {
                match *protocol {
                    ETH_P_ALL => f.write_str("*")?,
                    other => write!(f, "{other:#06x}")?,
                }
                f.write_str(":")?;
                interface(f, seen, "*")
            }
            Addresses::Netlink { port_id } => {
                match seen.socket.protocol {
                    Protocol::Netlink(Some(family)) => netlink_family(f, family)?,
                    _ => f.write_str("*")?,
                }
                match port_id {
                    0 => f.write_str(":kernel"),
                    id => write!(f, ":{id}"),
                }
            }
            Addresses::Vsock { local, .. } => vsock_end(f, *local),
            Addresses::Unknown => match seen.socket.protocol {
                Protocol::Other { family, protocol } if family != 0 => {
                    write!(f, "family {family} protocol {protocol}")
                }
                // A socket that is bound to nothing.
                _ => f.write_str("*"),
            },
        }
    }
}

impl fmt::Display for PeerEnd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(seen) = *self;
        match &seen.socket.addresses {
            Addresses::Internet { .. } => match seen.internet_ends() {
                Some((_, Some(remote))) => internet_end(f, remote, None),
                _ => f.write_str("*"),
            },
            Addresses::Unix { peer: Some(peer), .. } => {
                let path = seen.unix_paths().and_then(|(_, path)| path);
                unix_end(f, path, Some(*peer))
            }
            Addresses::Vsock { remote, .. } => vsock_end(f, *remote),
            _ => f.write_str("*"),
        }
    }
}

/// `ETH_P_ALL`: every protocol.
const ETH_P_ALL: u16 = 3;

fn internet_end(f: &mut fmt::Formatter<'_>, end: SocketEnd, bound: Option<Seen<'_>>) -> fmt::Result {
    if end.address.is_ipv6() {
        write!(f, "[{}]", end.address)?
    } else {
        write!(f, "{}", end.address)?
    }
    if let Some(seen) = bound.filter(|seen| seen.interface().is_some()) {
        f.write_str("%")?;
        interface(f, seen, "")?;
    }
    match end.port {
        0 => f.write_str(":*"),
        port => write!(f, ":{port}"),
    }
}

fn interface(f: &mut fmt::Formatter<'_>, seen: Seen<'_>, none: &str) -> fmt::Result {
    match seen.interface() {
        Some((_, Some(name))) => write!(f, "{}", Escaped(name)),
        Some((index, None)) => write!(f, "if{index}"),
        None => f.write_str(none),
    }
}

fn unix_end(f: &mut fmt::Formatter<'_>, path: Option<&UnixPath>, inode: Option<NonZeroU64>) -> fmt::Result {
    match (path, inode) {
        (Some(path), _) => write!(f, "{}", ShownPath(path)),
        (None, Some(inode)) => write!(f, "*:{inode}"),
        (None, None) => f.write_str("*"),
    }
}

fn vsock_end(f: &mut fmt::Formatter<'_>, end: VsockEnd) -> fmt::Result {
    if end == VsockEnd::ANY {
        return f.write_str("*");
    }
    let part = |f: &mut fmt::Formatter<'_>, number: u32| match number {
        u32::MAX => f.write_str("*"),
        number => write!(f, "{number}"),
    };
    part(f, end.cid)?;
    f.write_str(":")?;
    part(f, end.port)
}

fn netlink_family(f: &mut fmt::Formatter<'_>, family: u16) -> fmt::Result {
    match netlink_family_name(family) {
        Some(name) => f.write_str(name),
        None => write!(f, "{family}"),
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

/// The path of a Unix socket with an `@` before an abstract one's, as ss has it. Bytes that are no text are spelled out.
pub(super) struct ShownPath<'a>(pub(super) &'a UnixPath);

impl fmt::Display for ShownPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match self.0.0.strip_prefix(b"\0") {
            Some(name) => {
                f.write_str("@")?;
                name
            }
            None => &self.0.0,
        };
        for chunk in bytes.utf8_chunks() {
            write!(f, "{}", Escaped(chunk.valid()))?;
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}
