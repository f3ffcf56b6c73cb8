//! What sockets of each family are bound and connected to.

use core::net::IpAddr;
use core::num::{NonZeroU32, NonZeroU64};

use alloc::boxed::Box;

/// What a socket is bound and connected to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Addresses {
    /// IPv4 and IPv6.
    Internet {
        /// Its own end.
        local: SocketEnd,
        /// The peer's end: unspecified, port 0, if it has none.
        remote: SocketEnd,
        /// The index of the interface it is bound to.
        interface: Option<NonZeroU32>,
    },
    /// Unix sockets.
    Unix {
        /// What it is bound to.
        path: Option<UnixPath>,
        /// The inode of the socket at the other end.
        peer: Option<NonZeroU64>,
    },
    /// Packet sockets.
    Packet {
        /// The protocol it takes (`ETH_P_*`, host order); 3 is all, 0 none.
        protocol: u16,
        /// The index of the interface it is bound to; `None` is all.
        interface: Option<NonZeroU32>,
    },
    /// Netlink sockets.
    Netlink {
        /// Its own address; 0 is the kernel's.
        port_id: u32,
    },
    /// Vsock sockets.
    Vsock {
        /// Its own end.
        local: VsockEnd,
        /// The peer's end, [`VsockEnd::ANY`] if it has none.
        remote: VsockEnd,
    },
    /// Of a family that is not known here.
    Unknown,
}

/// An IP address and a port, exactly as the socket has them: unlike in [`crate::five_tuple::Endpoint`] an
/// IPv4-mapped address stays one, so the address tells the socket's family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketEnd {
    /// The address; unspecified is any.
    pub address: IpAddr,
    /// The port; 0 is none.
    pub port: u16,
}

/// The path of a Unix socket: any bytes. That of an abstract one begins with a NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnixPath(pub Box<[u8]>);

impl UnixPath {
    /// From an address as the kernel holds it: an abstract name as long as it is told, a path with the NUL at its end.
    /// `None` if it is bound to nothing (man 7 unix, "Address format").
    pub fn from_kernel(bytes: &[u8]) -> Option<Self> {
        let bytes = match bytes {
            [0, ..] => bytes,
            path => path.split(|byte| *byte == 0).next().unwrap_or_default(),
        };
        (!bytes.is_empty()).then(|| Self(bytes.into()))
    }

    /// Whether it is a name outside the file system.
    pub fn is_abstract(&self) -> bool {
        self.0.first() == Some(&0)
    }
}

/// A context id and a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VsockEnd {
    /// The machine.
    pub cid: u32,
    /// The port there.
    pub port: u32,
}

impl VsockEnd {
    /// No end (`VMADDR_CID_ANY`, `VMADDR_PORT_ANY`).
    pub const ANY: Self = Self { cid: u32::MAX, port: u32::MAX };
}
