//! What the iterator over all files tells, from bytes to processes and [`ListedSocket`]s.
//!
//! The bytes come from the kernel, yet nothing in them is trusted: a record that cannot be read costs that record, as long
//! as it tells its length. Left out: joining the descriptors of one socket, which is the reader's.

use core::mem::offset_of;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::{NonZeroU32, NonZeroU64};

use netsnoop_common::listing::{ProcessListing, SocketListing, Start, UNKNOWN_QUEUE, VERSION, kind};
use netsnoop_common::record::ProcessPart;

use crate::inventory::{Addresses, ListedSocket, Protocol, SocketEnd, SocketKind, UnixPath, VsockEnd};
use crate::namespace::NamespaceKey;
use crate::process::{Comm, Process, ProcessId};
use crate::socket::TcpState;

/// Families, include/linux/socket.h.
mod family {
    pub(super) const UNIX: u16 = 1;
    pub(super) const INET: u16 = 2;
    pub(super) const INET6: u16 = 10;
    pub(super) const NETLINK: u16 = 16;
    pub(super) const PACKET: u16 = 17;
    pub(super) const VSOCK: u16 = 40;
}

/// `SOCK_RAW`, man 2 socket.
const SOCK_RAW: u16 = 3;

/// Why a record could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ListingRecordError {
    /// It is shorter than its kind.
    #[error("listing record has {had} bytes instead of {wanted}")]
    Length {
        /// What its kind has.
        wanted: usize,
        /// What it has.
        had: usize,
    },
    /// Another program wrote it.
    #[error("listing record has version {found} instead of {VERSION}")]
    Version {
        /// The version in it.
        found: u8,
    },
    /// Its kind is not known here.
    #[error("listing record is of unknown kind {found}")]
    Kind {
        /// The kind in it.
        found: u8,
    },
}

/// A record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ListingRecord {
    /// A process with an open file.
    Process {
        /// Who.
        process: Process,
        /// The inode of its network namespace; `None` while it ends.
        namespace: Option<u32>,
        /// The same for processes that are in the same cgroups.
        cgroups: u64,
    },
    /// A descriptor of the process told of last.
    Descriptor {
        /// Its number.
        fd: u32,
        /// The socket's namespace.
        namespace: Option<NamespaceKey>,
        /// The socket, without namespace and holders.
        socket: ListedSocket,
        /// Connection requests to it that no process sees yet.
        requests: u32,
    },
}

/// The records at the start of `bytes`, each read or not; what is left is the start of a record that is not whole.
#[derive(Clone, Debug)]
pub struct ListingRecords<'a> {
    rest: &'a [u8],
}

impl<'a> ListingRecords<'a> {
    /// Reads `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is not read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl Iterator for ListingRecords<'_> {
    type Item = Result<ListingRecord, ListingRecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = Record(self.rest.get(..size_of::<Start>())?);
        // A record without a length would be read for ever; it takes all there is.
        let length = usize::from(start.u16(offset_of!(Start, length)).ok()?);
        let length = if length < size_of::<Start>() { self.rest.len() } else { length };
        let record = Record(self.rest.get(..length)?);
        self.rest = self.rest.get(length..).unwrap_or_default();
        Some(record.decode())
    }
}

struct Record<'a>(&'a [u8]);

impl Record<'_> {
    fn decode(&self) -> Result<ListingRecord, ListingRecordError> {
        let found = self.u8(offset_of!(Start, version))?;
        if found != VERSION {
            return Err(ListingRecordError::Version { found });
        }
        match self.u8(offset_of!(Start, kind))? {
            kind::PROCESS => self.process(),
            kind::SOCKET => self.descriptor(),
            found => Err(ListingRecordError::Kind { found }),
        }
    }

    fn process(&self) -> Result<ListingRecord, ListingRecordError> {
        const PART: usize = offset_of!(ProcessListing, process);
        let pid = self.u32(PART + offset_of!(ProcessPart, tgid))?;
        let started = self.u64(PART + offset_of!(ProcessPart, start_boot_nanos))?;
        let netns = self.u32(offset_of!(ProcessListing, netns_inode))?;
        Ok(ListingRecord::Process {
            process: Process {
                id: ProcessId::from_boot_nanos(pid, started),
                name: Comm::new(&self.array::<16>(PART + offset_of!(ProcessPart, comm))?),
                uid: self.u32(PART + offset_of!(ProcessPart, uid))?,
                cgroup_id: Some(self.u64(PART + offset_of!(ProcessPart, cgroup_id))?).filter(|id| *id != 0),
            },
            namespace: (netns != 0).then_some(netns),
            cgroups: self.u64(offset_of!(ProcessListing, cgroups))?,
        })
    }

    fn descriptor(&self) -> Result<ListingRecord, ListingRecordError> {
        let family = self.u16(offset_of!(SocketListing, family))?;
        let netns = self.u32(offset_of!(SocketListing, netns_inode))?;
        let cookie = NonZeroU64::new(self.u64(offset_of!(SocketListing, netns_cookie))?);
        let queue = |length| (length != UNKNOWN_QUEUE).then_some(length);
        let protocol = self.protocol(family)?;
        let state = match protocol {
            // Their state tells no more than their addresses, and other ways do not show it.
            Protocol::Netlink(_) | Protocol::Packet(_) => TcpState::CLOSE,
            _ => TcpState(self.u8(offset_of!(SocketListing, state))?),
        };
        Ok(ListingRecord::Descriptor {
            fd: self.u32(offset_of!(Start, fd))?,
            namespace: (netns != 0).then_some(NamespaceKey { inode: netns, cookie }),
            socket: ListedSocket {
                receive_queue: queue(self.u32(offset_of!(SocketListing, receive_queue))?),
                send_queue: queue(self.u32(offset_of!(SocketListing, send_queue))?),
                inode: NonZeroU64::new(self.u64(offset_of!(SocketListing, inode))?),
                cookie: NonZeroU64::new(self.u64(offset_of!(SocketListing, cookie))?),
                uid: Some(self.u32(offset_of!(SocketListing, uid))?).filter(|uid| *uid != u32::MAX),
                ..ListedSocket::new(protocol, state, self.addresses(family)?)
            },
            requests: self.u32(offset_of!(SocketListing, requests))?,
        })
    }

    fn protocol(&self, family: u16) -> Result<Protocol, ListingRecordError> {
        let protocol = self.u16(offset_of!(SocketListing, protocol))?;
        let kind = self.u16(offset_of!(SocketListing, socket_type))?;
        Ok(match (family, protocol) {
            (family::INET | family::INET6, _) if kind == SOCK_RAW => Protocol::Raw,
            // 262 is MPTCP (since Linux 5.6), 1 and 58 ICMP and ICMPv6 (include/uapi/linux/in.h, in6.h).
            (family::INET | family::INET6, 6 | 262) => Protocol::Tcp,
            (family::INET | family::INET6, 17) => Protocol::Udp,
            (family::INET | family::INET6, 136) => Protocol::UdpLite,
            (family::INET | family::INET6, 33) => Protocol::Dccp,
            (family::INET | family::INET6, 132) => Protocol::Sctp,
            (family::INET | family::INET6, 1 | 58) => Protocol::Icmp,
            (family::UNIX, _) => Protocol::Unix(SocketKind(kind)),
            (family::PACKET, _) => Protocol::Packet(SocketKind(kind)),
            (family::NETLINK, _) => Protocol::Netlink(Some(protocol)),
            (family::VSOCK, _) => Protocol::Vsock(SocketKind(kind)),
            _ => Protocol::Other { family, protocol },
        })
    }

    fn addresses(&self, family: u16) -> Result<Addresses, ListingRecordError> {
        let interface = NonZeroU32::new(self.u32(offset_of!(SocketListing, interface))?);
        let local_port = self.u32(offset_of!(SocketListing, local_port))?;
        let remote_port = self.u32(offset_of!(SocketListing, remote_port))?;
        let (local, remote) =
            (offset_of!(SocketListing, local_address), offset_of!(SocketListing, remote_address));
        Ok(match family {
            family::INET | family::INET6 => Addresses::Internet {
                local: self.end(local, local_port, family)?,
                remote: self.end(remote, remote_port, family)?,
                interface,
            },
            family::UNIX => Addresses::Unix {
                path: self.path()?,
                peer: NonZeroU64::new(self.u64(offset_of!(SocketListing, peer_inode))?),
            },
            // Both are 16 bits wide where they come from.
            family::PACKET => Addresses::Packet { protocol: low_half(local_port), interface },
            family::NETLINK => Addresses::Netlink { port_id: local_port },
            family::VSOCK => Addresses::Vsock {
                local: VsockEnd { cid: self.u32(local)?, port: local_port },
                remote: VsockEnd { cid: self.u32(remote)?, port: remote_port },
            },
            _ => Addresses::Unknown,
        })
    }

    fn end(&self, address: usize, port: u32, family: u16) -> Result<SocketEnd, ListingRecordError> {
        let address = if family == family::INET6 {
            IpAddr::V6(Ipv6Addr::from(self.array::<16>(address)?))
        } else {
            IpAddr::V4(Ipv4Addr::from(self.array::<4>(address)?))
        };
        Ok(SocketEnd { address, port: low_half(port) })
    }

    fn path(&self) -> Result<Option<UnixPath>, ListingRecordError> {
        let start = size_of::<SocketListing>();
        let wanted = start + usize::from(self.u8(offset_of!(SocketListing, path_length))?);
        let path =
            self.0.get(start..wanted).ok_or(ListingRecordError::Length { wanted, had: self.0.len() })?;
        Ok(UnixPath::from_kernel(path))
    }

    fn u8(&self, offset: usize) -> Result<u8, ListingRecordError> {
        Ok(u8::from_ne_bytes(self.array(offset)?))
    }

    fn u16(&self, offset: usize) -> Result<u16, ListingRecordError> {
        Ok(u16::from_ne_bytes(self.array(offset)?))
    }

    fn u32(&self, offset: usize) -> Result<u32, ListingRecordError> {
        Ok(u32::from_ne_bytes(self.array(offset)?))
    }

    fn u64(&self, offset: usize) -> Result<u64, ListingRecordError> {
        Ok(u64::from_ne_bytes(self.array(offset)?))
    }

    fn array<const N: usize>(&self, offset: usize) -> Result<[u8; N], ListingRecordError> {
        let bytes = self.0.get(offset..).and_then(|rest| rest.first_chunk());
        bytes.copied().ok_or(ListingRecordError::Length { wanted: offset + N, had: self.0.len() })
    }
}

const fn low_half(value: u32) -> u16 {
    (value & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// A record with these bytes at these offsets and zeros elsewhere.
    fn record(kind: u8, length: usize, fields: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = alloc::vec![0; length];
        let start = [VERSION, kind];
        let length = u16::try_from(length).unwrap().to_ne_bytes();
        for (at, field) in [(0, &start[..]), (2, &length)].iter().chain(fields) {
            bytes[*at..at + field.len()].copy_from_slice(field);
        }
        bytes
    }

    fn socket(family: u16, fields: &[(usize, &[u8])], path: &[u8]) -> Vec<u8> {
        let family = family.to_ne_bytes();
        let length = [u8::try_from(path.len()).unwrap()];
        let unknown = UNKNOWN_QUEUE.to_ne_bytes();
        let mut all = Vec::from([
            (offset_of!(SocketListing, family), &family[..]),
            (offset_of!(SocketListing, path_length), &length),
            (size_of::<SocketListing>(), path),
            (offset_of!(SocketListing, receive_queue), &unknown),
            (offset_of!(SocketListing, uid), &[0xff; 4]),
        ]);
        all.extend(fields);
        record(kind::SOCKET, size_of::<SocketListing>() + path.len(), &all)
    }

    fn check(bytes: &[u8], protocol: Protocol, addresses: &Addresses) {
        let found: Vec<_> = ListingRecords::new(bytes).collect();
        let [Ok(ListingRecord::Descriptor { socket, namespace: None, .. })] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!((socket.protocol, &socket.addresses), (protocol, addresses));
        assert_eq!((socket.receive_queue, socket.send_queue, socket.uid), (None, Some(0), None));
    }

    #[test]
    fn sockets_of_known_and_unknown_families() {
        let port = 8080_u32.to_ne_bytes();
        let (kind, protocol) = (1_u16.to_ne_bytes(), 262_u16.to_ne_bytes());
        let common = [
            (offset_of!(SocketListing, local_port), &port[..]),
            (offset_of!(SocketListing, socket_type), &kind),
            (offset_of!(SocketListing, protocol), &protocol),
            (offset_of!(SocketListing, local_address), &[127, 0, 0, 1]),
        ];
        let end = |address: [u8; 4], port| SocketEnd { address: Ipv4Addr::from(address).into(), port };
        let addresses =
            Addresses::Internet { local: end([127, 0, 0, 1], 8080), remote: end([0; 4], 0), interface: None };
        check(&socket(family::INET, &common, b""), Protocol::Tcp, &addresses);
        let path = |bytes: &[u8]| Addresses::Unix { path: UnixPath::from_kernel(bytes), peer: None };
        let unix = Protocol::Unix(SocketKind::STREAM);
        check(&socket(family::UNIX, &common, b"\0a\0b"), unix, &path(b"\0a\0b"));
        check(&socket(family::UNIX, &common, b"/run/x\0"), unix, &path(b"/run/x"));
        check(&socket(family::UNIX, &common, b""), unix, &path(b""));
        let netlink = Addresses::Netlink { port_id: 8080 };
        check(&socket(family::NETLINK, &common, b""), Protocol::Netlink(Some(262)), &netlink);
        let other = Protocol::Other { family: 44, protocol: 262 };
        check(&socket(44, &common, b""), other, &Addresses::Unknown);
    }

    #[test]
    fn a_process_and_a_record_that_is_not_whole() {
        let pid = 4711_u32.to_ne_bytes();
        let at = offset_of!(ProcessListing, process) + offset_of!(ProcessPart, tgid);
        let process = record(kind::PROCESS, size_of::<ProcessListing>(), &[(at, &pid)]);
        let mut stream = [process.clone(), socket(family::UNIX, &[], b"/x")].concat();
        stream.pop();
        let mut records = ListingRecords::new(&stream);
        let Some(Ok(ListingRecord::Process { process, namespace: None, .. })) = records.next() else {
            panic!("no process")
        };
        assert_eq!(process.id.pid, 4711);
        assert_eq!(records.next(), None);
        assert_eq!(records.rest().len(), size_of::<SocketListing>() + 1);
    }

    #[test]
    fn what_cannot_be_read_costs_itself() {
        let good = socket(family::UNIX, &[], b"");
        let mut version = good.clone();
        version[0] = 9;
        let mut stream = version;
        stream.extend(record(77, 20, &[]));
        stream.extend(record(kind::SOCKET, 20, &[]));
        stream.extend(&good);
        let found: Vec<_> = ListingRecords::new(&stream).map(|record| record.err()).collect();
        let length = ListingRecordError::Length { wanted: 106, had: 20 };
        assert_eq!(
            found,
            [
                Some(ListingRecordError::Version { found: 9 }),
                Some(ListingRecordError::Kind { found: 77 }),
                Some(length),
                None
            ]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_end_and_none_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut records = ListingRecords::new(&bytes);
            prop_assert!(records.by_ref().count() <= bytes.len());
            prop_assert!(records.rest().len() <= bytes.len());
        }
    }
}
