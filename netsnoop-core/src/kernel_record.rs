//! Records of the kernel programs, from bytes to [`KernelEvent`]s and (from the iterator) [`HeldSocket`]s.
//!
//! The bytes come from the kernel, yet nothing in them is trusted: a record that cannot be read costs that
//! record. What an event means for a connection is the reconciler's business.

use core::mem::offset_of;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::NonZeroU64;

use alloc::string::String;
use alloc::sync::Arc;

use netsnoop_common::limits::PATH_BYTES;
use netsnoop_common::record::{
    CloseRecord, ExecRecord, ExitRecord, Header, ProcessPart, SocketPart, SocketRecord, VERSION, kind,
};

use crate::attribution::Rung;
use crate::five_tuple::{Endpoint, FiveTuple, Transport};
use crate::namespace::NamespaceKey;
use crate::observation::{Act, KernelEvent, KernelSocket, SocketClose};
use crate::process::{Comm, Process, ProcessId};
use crate::socket::{Payload, TcpState};
use crate::time::Timestamp;

/// include/uapi/linux/in.h.
const IPPROTO_MPTCP: u16 = 262;

/// Length of each record in the iterator's file.
pub const HELD_SOCKET_BYTES: usize = size_of::<SocketRecord>();

/// Directories whose paths name something else for every reader: `fexecve` and `exec /proc/self/exe` go
/// through them, and what they run is only told by `/proc/<pid>/exe`.
const PATHS_OF_THE_READER: [&str; 2] = ["/proc/", "/dev/fd/"];

/// Why a record could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KernelRecordError {
    /// Its length is not that of its kind.
    #[error("kernel record has {had} bytes instead of {wanted}")]
    Length {
        /// What its kind has.
        wanted: usize,
        /// What it has.
        had: usize,
    },
    /// Another program wrote it.
    #[error("kernel record has version {found} instead of {VERSION}")]
    Version {
        /// The version in it.
        found: u8,
    },
    /// Its kind is not known here.
    #[error("kernel record is of unknown kind {found}")]
    Kind {
        /// The kind in it.
        found: u8,
    },
    /// Its rung is not known here.
    #[error("kernel record is of unknown rung {found}")]
    Rung {
        /// The rung in it.
        found: u8,
    },
    /// Its socket is of a protocol netsnoop does not tell of.
    #[error("kernel record tells of protocol {found}")]
    Protocol {
        /// `sk_protocol`.
        found: u16,
    },
    /// Its path is longer than the space for it.
    #[error("kernel record claims a path of {found} bytes")]
    PathLength {
        /// The length in it.
        found: u32,
    },
    /// An iterator record that names no process.
    #[error("iterator record names no process")]
    NoHolder,
}

/// A socket and one process that holds it, from the iterator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeldSocket {
    /// The process.
    pub holder: Process,
    /// When it started, exactly.
    pub holder_started: Timestamp,
    /// The socket.
    pub socket: KernelSocket,
    /// Its state.
    pub state: TcpState,
    /// Its inode in sockfs.
    pub inode: Option<NonZeroU64>,
}

/// Decodes a record of the ring.
pub fn decode(record: &[u8]) -> Result<KernelEvent, KernelRecordError> {
    let record = Record(record);
    let (kind, rung) = record.kind_and_rung()?;
    let (wanted, has_socket) = match kind {
        kind::CONNECT..=kind::ESTABLISHED_SERVER => (size_of::<SocketRecord>(), true),
        kind::CLOSED => (size_of::<CloseRecord>(), true),
        kind::EXEC => (size_of::<ExecRecord>(), false),
        kind::EXIT => (size_of::<ExitRecord>(), false),
        found => return Err(KernelRecordError::Kind { found }),
    };
    record.check_length(wanted)?;
    Ok(KernelEvent {
        at: Timestamp::from_nanos(record.u64(offset_of!(Header, boot_nanos))?),
        rung,
        act: record.act(kind)?,
        process: record.process()?,
        socket: if has_socket { Some(record.socket()?) } else { None },
    })
}

/// Decodes one of the [`HELD_SOCKET_BYTES`] long records of the iterator's file.
pub fn decode_held_socket(record: &[u8]) -> Result<HeldSocket, KernelRecordError> {
    let record = Record(record);
    let (found, _) = record.kind_and_rung()?;
    if found != kind::HOLDER {
        return Err(KernelRecordError::Kind { found });
    }
    record.check_length(HELD_SOCKET_BYTES)?;
    Ok(HeldSocket {
        holder: record.process()?.ok_or(KernelRecordError::NoHolder)?,
        holder_started: record.process_started()?,
        socket: record.socket()?,
        state: TcpState(record.u8(SOCKET + offset_of!(SocketPart, state))?),
        inode: NonZeroU64::new(record.u64(SOCKET + offset_of!(SocketPart, inode))?),
    })
}

const PROCESS: usize = offset_of!(SocketRecord, process);
const SOCKET: usize = offset_of!(SocketRecord, socket);
const _: () =
    assert!(PROCESS == offset_of!(ExecRecord, process) && PROCESS == offset_of!(ExitRecord, process));
const _: () =
    assert!(PROCESS == offset_of!(CloseRecord, process) && SOCKET == offset_of!(CloseRecord, socket));

struct Record<'a>(&'a [u8]);

impl Record<'_> {
    fn kind_and_rung(&self) -> Result<(u8, Rung), KernelRecordError> {
        let found = self.u8(offset_of!(Header, version))?;
        if found != VERSION {
            return Err(KernelRecordError::Version { found });
        }
        let found = self.u8(offset_of!(Header, rung))?;
        let rung = *Rung::ALL.get(usize::from(found)).ok_or(KernelRecordError::Rung { found })?;
        Ok((self.u8(offset_of!(Header, kind))?, rung))
    }

    const fn check_length(&self, wanted: usize) -> Result<(), KernelRecordError> {
        let had = self.0.len();
        if had == wanted { Ok(()) } else { Err(KernelRecordError::Length { wanted, had }) }
    }

    fn act(&self, kind: u8) -> Result<Act, KernelRecordError> {
        Ok(match kind {
            kind::CONNECT => Act::Connect,
            kind::ACCEPT => Act::Accept,
            kind::LISTEN => Act::Listen,
            kind::FIRST_SEND => Act::FirstSend,
            kind::FIRST_RECEIVE => Act::FirstReceive,
            kind::ESTABLISHED_CLIENT => Act::Established { by_client: true },
            kind::ESTABLISHED_SERVER => Act::Established { by_client: false },
            kind::CLOSED => Act::Closed(self.close()?),
            kind::EXEC => Act::Exec { executable: self.executable()? },
            kind::EXIT => Act::Exit,
            found => return Err(KernelRecordError::Kind { found }),
        })
    }

    fn close(&self) -> Result<SocketClose, KernelRecordError> {
        let error = self.u32(offset_of!(CloseRecord, error))?;
        Ok(SocketClose {
            from: TcpState(self.u8(offset_of!(CloseRecord, from_state))?),
            // Errnos end at 4095 (MAX_ERRNO, include/linux/err.h): what does not fit is no errno.
            error: u16::try_from(error).unwrap_or(u16::MAX),
            payload: Payload {
                sent: self.u64(offset_of!(CloseRecord, sent_bytes))?,
                received: self.u64(offset_of!(CloseRecord, received_bytes))?,
            },
        })
    }

    fn executable(&self) -> Result<Option<Arc<str>>, KernelRecordError> {
        let found = self.u32(offset_of!(ExecRecord, path_length))?;
        let path = self.array::<PATH_BYTES>(offset_of!(ExecRecord, path))?;
        let path = usize::try_from(found)
            .map_or(None, |length| path.get(..length))
            .ok_or(KernelRecordError::PathLength { found })?;
        let path = String::from_utf8_lossy(path);
        let tells =
            path.starts_with('/') && !PATHS_OF_THE_READER.iter().any(|prefix| path.starts_with(prefix));
        Ok(tells.then(|| Arc::from(path)))
    }

    fn process(&self) -> Result<Option<Process>, KernelRecordError> {
        let tgid = self.u32(PROCESS + offset_of!(ProcessPart, tgid))?;
        if tgid == 0 {
            return Ok(None);
        }
        Ok(Some(Process {
            id: ProcessId::from_boot_nanos(tgid, self.process_started()?.as_nanos()),
            name: Comm::new(&self.array::<16>(PROCESS + offset_of!(ProcessPart, comm))?),
            uid: self.u32(PROCESS + offset_of!(ProcessPart, uid))?,
            cgroup_id: nonzero(self.u64(PROCESS + offset_of!(ProcessPart, cgroup_id))?),
        }))
    }

    fn process_started(&self) -> Result<Timestamp, KernelRecordError> {
        Ok(Timestamp::from_nanos(self.u64(PROCESS + offset_of!(ProcessPart, start_boot_nanos))?))
    }

    fn socket(&self) -> Result<KernelSocket, KernelRecordError> {
        let isn = self.u32(SOCKET + offset_of!(SocketPart, client_isn))?;
        let isn_known = self.u8(SOCKET + offset_of!(SocketPart, client_isn_known))? == 1;
        let uid = self.u32(SOCKET + offset_of!(SocketPart, uid))?;
        // Who connects and what becomes of the connection is told of its first subflow, who accepts and sends of
        // the socket above it, which has an address and a cookie of its own: only the tuple is common to them.
        let is_above = self.u16(SOCKET + offset_of!(SocketPart, protocol))? == IPPROTO_MPTCP;
        let (address, cookie) = if is_above {
            (0, 0)
        } else {
            (
                self.u64(SOCKET + offset_of!(SocketPart, address))?,
                self.u64(SOCKET + offset_of!(SocketPart, cookie))?,
            )
        };
        Ok(KernelSocket {
            namespace: NamespaceKey {
                inode: self.u32(SOCKET + offset_of!(SocketPart, netns_inode))?,
                cookie: NonZeroU64::new(self.u64(SOCKET + offset_of!(SocketPart, netns_cookie))?),
            },
            cookie: NonZeroU64::new(cookie),
            address,
            tuple: self.tuple()?,
            client_isn: isn_known.then_some(isn),
            uid: (uid != u32::MAX).then_some(uid),
            cgroup_id: nonzero(self.u64(SOCKET + offset_of!(SocketPart, cgroup_id))?),
        })
    }

    fn tuple(&self) -> Result<FiveTuple, KernelRecordError> {
        let transport = match self.u16(SOCKET + offset_of!(SocketPart, protocol))? {
            // An MPTCP socket shows the tuple of its first subflow (since Linux 5.6).
            6 | IPPROTO_MPTCP => Transport::Tcp,
            17 => Transport::Udp,
            136 => Transport::UdpLite,
            found => return Err(KernelRecordError::Protocol { found }),
        };
        let local =
            self.endpoint(offset_of!(SocketPart, local_address), offset_of!(SocketPart, local_port))?;
        let remote =
            self.endpoint(offset_of!(SocketPart, remote_address), offset_of!(SocketPart, remote_port))?;
        Ok(FiveTuple { transport, local: in_family_of(local, remote), remote: in_family_of(remote, local) })
    }

    fn endpoint(&self, address: usize, port: usize) -> Result<Endpoint, KernelRecordError> {
        let address = Ipv6Addr::from(self.array::<16>(SOCKET + address)?);
        Ok(Endpoint::new(IpAddr::V6(address), self.u16(SOCKET + port)?))
    }

    fn u8(&self, offset: usize) -> Result<u8, KernelRecordError> {
        Ok(u8::from_ne_bytes(self.array(offset)?))
    }

    fn u16(&self, offset: usize) -> Result<u16, KernelRecordError> {
        Ok(u16::from_ne_bytes(self.array(offset)?))
    }

    fn u32(&self, offset: usize) -> Result<u32, KernelRecordError> {
        Ok(u32::from_ne_bytes(self.array(offset)?))
    }

    fn u64(&self, offset: usize) -> Result<u64, KernelRecordError> {
        Ok(u64::from_ne_bytes(self.array(offset)?))
    }

    fn array<const N: usize>(&self, offset: usize) -> Result<[u8; N], KernelRecordError> {
        let wanted = offset + N;
        self.0
            .get(offset..wanted)
            .and_then(|bytes| bytes.first_chunk())
            .copied()
            .ok_or(KernelRecordError::Length { wanted, had: self.0.len() })
    }
}

/// A dual-stack socket that talks IPv4 without being bound shows `::` on its own side; as its flow is
/// IPv4, so is its wildcard.
fn in_family_of(end: Endpoint, other: Endpoint) -> Endpoint {
    match (end.address, other.address) {
        (IpAddr::V6(address), IpAddr::V4(_)) if address.is_unspecified() => {
            Endpoint::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), end.port)
        }
        _ => end,
    }
}

const fn nonzero(value: u64) -> Option<u64> {
    if value == 0 { None } else { Some(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use netsnoop_common::record::rung;
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

    /// Writes records the way the kernel half lays them out.
    #[derive(Clone)]
    struct Writer(Vec<u8>);

    impl Writer {
        fn new(kind: u8) -> Self {
            let length = match kind {
                kind::CLOSED => size_of::<CloseRecord>(),
                kind::EXEC => size_of::<ExecRecord>(),
                kind::EXIT => size_of::<ExitRecord>(),
                _ => size_of::<SocketRecord>(),
            };
            Self(vec![0; length])
                .put(offset_of!(Header, version), &[VERSION])
                .put(offset_of!(Header, kind), &[kind])
                .put_protocol(6)
        }

        fn put(mut self, offset: usize, bytes: &[u8]) -> Self {
            self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
            self
        }

        fn put_protocol(self, protocol: u16) -> Self {
            let offset = SOCKET + offset_of!(SocketPart, protocol);
            if self.0.len() == size_of::<ExitRecord>() || self.0.len() == size_of::<ExecRecord>() {
                return self;
            }
            self.put(offset, &protocol.to_ne_bytes())
        }

        fn process(self, tgid: u32, start_boot_nanos: u64, name: &[u8]) -> Self {
            self.put(PROCESS + offset_of!(ProcessPart, tgid), &tgid.to_ne_bytes())
                .put(PROCESS + offset_of!(ProcessPart, start_boot_nanos), &start_boot_nanos.to_ne_bytes())
                .put(PROCESS + offset_of!(ProcessPart, uid), &10001_u32.to_ne_bytes())
                .put(PROCESS + offset_of!(ProcessPart, cgroup_id), &77_u64.to_ne_bytes())
                .put(PROCESS + offset_of!(ProcessPart, comm), name)
        }

        fn ends(self, local: (Ipv6Addr, u16), remote: (Ipv6Addr, u16)) -> Self {
            self.put(SOCKET + offset_of!(SocketPart, local_address), &local.0.octets())
                .put(SOCKET + offset_of!(SocketPart, local_port), &local.1.to_ne_bytes())
                .put(SOCKET + offset_of!(SocketPart, remote_address), &remote.0.octets())
                .put(SOCKET + offset_of!(SocketPart, remote_port), &remote.1.to_ne_bytes())
        }

        fn path(self, path: &[u8]) -> Self {
            self.put(offset_of!(ExecRecord, path_length), &u32::try_from(path.len()).unwrap().to_ne_bytes())
                .put(offset_of!(ExecRecord, path), path)
        }
    }

    fn socket_of(writer: &Writer) -> KernelSocket {
        decode(&writer.0).unwrap().socket.unwrap()
    }

    #[test]
    fn rungs_have_the_numbers_of_the_record() {
        for (number, meant) in [
            (rung::KPROBE, Rung::Kprobe),
            (rung::FENTRY, Rung::Fentry),
            (rung::SOCKOPS, Rung::Sockops),
            (rung::TP_BTF, Rung::TpBtf),
            (rung::RAW_TP, Rung::RawTp),
            (rung::ITERATOR, Rung::Iterator),
        ] {
            let record = Writer::new(kind::EXIT).put(offset_of!(Header, rung), &[number]);
            assert_eq!(decode(&record.0).unwrap().rung, meant);
        }
        let unknown = Writer::new(kind::EXIT).put(offset_of!(Header, rung), &[200]);
        assert_eq!(decode(&unknown.0), Err(KernelRecordError::Rung { found: 200 }));
    }

    #[test]
    fn every_kind_becomes_its_act() {
        for (kind, act) in [
            (kind::CONNECT, Act::Connect),
            (kind::ACCEPT, Act::Accept),
            (kind::LISTEN, Act::Listen),
            (kind::FIRST_SEND, Act::FirstSend),
            (kind::FIRST_RECEIVE, Act::FirstReceive),
            (kind::ESTABLISHED_CLIENT, Act::Established { by_client: true }),
            (kind::ESTABLISHED_SERVER, Act::Established { by_client: false }),
            (kind::EXEC, Act::Exec { executable: None }),
            (kind::EXIT, Act::Exit),
        ] {
            let event = decode(&Writer::new(kind).process(42, 5_000_000_000, b"curl").0).unwrap();
            assert_eq!(event.act, act);
            assert_eq!(event.socket.is_some(), kind < kind::EXEC);
            let process = event.process.unwrap();
            assert_eq!(process.id, ProcessId { pid: 42, start_ticks: 500 });
            assert_eq!((process.name, process.uid, process.cgroup_id), (Comm::new(b"curl"), 10001, Some(77)));
        }
        let holder = Writer::new(kind::HOLDER).process(1, 0, b"init");
        assert_eq!(decode(&holder.0), Err(KernelRecordError::Kind { found: kind::HOLDER }));
        let connect = Writer::new(kind::CONNECT);
        assert_eq!(decode_held_socket(&connect.0), Err(KernelRecordError::Kind { found: kind::CONNECT }));
    }

    #[test]
    fn an_mptcp_socket_goes_by_its_tuple_alone() {
        for (protocol, address) in [(6, 0xabc), (IPPROTO_MPTCP, 0)] {
            let record = Writer::new(kind::ACCEPT)
                .put_protocol(protocol)
                .put(SOCKET + offset_of!(SocketPart, address), &0xabc_u64.to_ne_bytes())
                .put(SOCKET + offset_of!(SocketPart, cookie), &0xabc_u64.to_ne_bytes());
            let socket = socket_of(&record);
            assert_eq!((socket.address, socket.cookie), (address, NonZeroU64::new(address)));
            assert_eq!(socket.tuple.transport, Transport::Tcp);
        }
    }

    #[test]
    fn a_close_tells_state_error_and_bytes() {
        let record = Writer::new(kind::CLOSED)
            .put(offset_of!(CloseRecord, from_state), &[2])
            .put(offset_of!(CloseRecord, error), &111_u32.to_ne_bytes())
            .put(offset_of!(CloseRecord, sent_bytes), &16_u64.to_ne_bytes())
            .put(offset_of!(CloseRecord, received_bytes), &2_u64.to_ne_bytes());
        let expected =
            SocketClose { from: TcpState::SYN_SENT, error: 111, payload: Payload { sent: 16, received: 2 } };
        assert_eq!(decode(&record.0).unwrap().act, Act::Closed(expected));
        assert_eq!(decode(&record.0).unwrap().process, None);
    }

    #[test]
    fn absent_values_are_none_and_present_ones_are_not() {
        let absent = socket_of(
            &Writer::new(kind::CONNECT).put(SOCKET + offset_of!(SocketPart, uid), &u32::MAX.to_ne_bytes()),
        );
        assert_eq!(
            (absent.cookie, absent.uid, absent.cgroup_id, absent.client_isn),
            (None, None, None, None)
        );
        assert_eq!(absent.namespace.cookie, None);
        let present = socket_of(
            &Writer::new(kind::CONNECT)
                .put(SOCKET + offset_of!(SocketPart, client_isn_known), &[1])
                .put(SOCKET + offset_of!(SocketPart, cookie), &9_u64.to_ne_bytes())
                .put(SOCKET + offset_of!(SocketPart, netns_cookie), &3_u64.to_ne_bytes())
                .put(SOCKET + offset_of!(SocketPart, netns_inode), &4_026_531_840_u32.to_ne_bytes()),
        );
        assert_eq!((present.uid, present.client_isn, present.cookie), (Some(0), Some(0), NonZeroU64::new(9)));
        assert_eq!(present.namespace, NamespaceKey { inode: 4_026_531_840, cookie: NonZeroU64::new(3) });
    }

    fn check_ends(local: &str, remote: &str, expected: (&str, &str)) {
        let record =
            Writer::new(kind::FIRST_SEND).ends((local.parse().unwrap(), 53), (remote.parse().unwrap(), 4242));
        let tuple = socket_of(&record).tuple;
        assert_eq!(tuple.local, Endpoint::new(expected.0.parse().unwrap(), 53), "{local} {remote}");
        assert_eq!(tuple.remote, Endpoint::new(expected.1.parse().unwrap(), 4242), "{local} {remote}");
    }

    #[test]
    fn mapped_addresses_are_ipv4_and_a_wildcard_is_of_its_flow_s_family() {
        check_ends("::ffff:198.18.0.1", "::ffff:198.18.0.2", ("198.18.0.1", "198.18.0.2"));
        check_ends("::ffff:0.0.0.0", "::ffff:198.18.0.2", ("0.0.0.0", "198.18.0.2"));
        check_ends("::", "::ffff:198.18.0.2", ("0.0.0.0", "198.18.0.2"));
        check_ends("::ffff:198.18.0.1", "::", ("198.18.0.1", "0.0.0.0"));
        check_ends("::", "2001:db8::2", ("::", "2001:db8::2"));
        check_ends("::", "::", ("::", "::"));
    }

    #[test]
    fn mptcp_is_tcp_and_an_unknown_protocol_is_refused() {
        for (protocol, transport) in [(262, Transport::Tcp), (17, Transport::Udp), (136, Transport::UdpLite)]
        {
            let record = Writer::new(kind::ACCEPT).put_protocol(protocol);
            assert_eq!(socket_of(&record).tuple.transport, transport);
        }
        let sctp = Writer::new(kind::ACCEPT).put_protocol(132);
        assert_eq!(decode(&sctp.0), Err(KernelRecordError::Protocol { found: 132 }));
    }

    #[test]
    fn an_executable_is_told_if_its_path_means_the_same_to_every_reader() {
        for (path, expected) in [
            (&b"/usr/bin/curl"[..], Some("/usr/bin/curl")),
            (b"/tmp/\xff", Some("/tmp/\u{fffd}")),
            (b"./a.out", None),
            (b"", None),
            (b"/proc/self/exe", None),
            (b"/dev/fd/3", None),
        ] {
            let event = decode(&Writer::new(kind::EXEC).path(path).0).unwrap();
            assert_eq!(event.act, Act::Exec { executable: expected.map(Arc::from) });
        }
        let long = Writer::new(kind::EXEC).put(offset_of!(ExecRecord, path_length), &257_u32.to_ne_bytes());
        assert_eq!(decode(&long.0), Err(KernelRecordError::PathLength { found: 257 }));
    }

    #[test]
    fn the_iterator_tells_holder_state_and_inode() {
        let record = Writer::new(kind::HOLDER)
            .put(SOCKET + offset_of!(SocketPart, state), &[10])
            .put(SOCKET + offset_of!(SocketPart, inode), &12_345_u64.to_ne_bytes());
        assert_eq!(decode_held_socket(&record.0), Err(KernelRecordError::NoHolder));
        let held = decode_held_socket(&record.process(7, 0, b"redis").0).unwrap();
        assert_eq!((held.state, held.inode), (TcpState::LISTEN, NonZeroU64::new(12_345)));
        assert_eq!(held.holder.id.pid, 7);
    }

    fn any_kind() -> impl Strategy<Value = u8> {
        prop_oneof![kind::CONNECT..=kind::HOLDER, any::<u8>()]
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_err(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
            kind in any_kind(),
            length in prop_oneof![Just(64_usize), Just(160), Just(184), Just(328), 0..400_usize],
        ) {
            bytes.resize(length, 0xff);
            for (offset, value) in [(offset_of!(Header, version), VERSION), (offset_of!(Header, kind), kind)] {
                if let Some(byte) = bytes.get_mut(offset) {
                    *byte = value;
                }
            }
            if let Ok(event) = decode(&bytes) {
                assert_eq!(event.socket.is_some(), length != 64 && length != 328);
            }
            if let Ok(held) = decode_held_socket(&bytes) {
                assert_ne!(held.holder.id.pid, 0);
            }
        }

        #[test]
        fn every_truncation_and_every_surplus_is_refused(kind in kind::CONNECT..=kind::HOLDER, cut in 0..328_usize) {
            let whole = Writer::new(kind).process(1, 0, b"init");
            let mut longer = whole.clone();
            longer.0.push(0);
            for bytes in [&whole.0[..cut.min(whole.0.len() - 1)], &longer.0] {
                assert!(decode(bytes).is_err());
                assert!(decode_held_socket(bytes).is_err());
            }
        }

        #[test]
        fn a_socket_survives_the_way_through_the_record(
            local in any::<([u8; 16], u16)>(),
            remote in any::<([u8; 16], u16)>(),
            address in any::<u64>(),
            isn in any::<u32>(),
        ) {
            let (local, remote) = ((Ipv6Addr::from(local.0), local.1), (Ipv6Addr::from(remote.0), remote.1));
            let record = Writer::new(kind::CONNECT)
                .ends(local, remote)
                .put(SOCKET + offset_of!(SocketPart, address), &address.to_ne_bytes())
                .put(SOCKET + offset_of!(SocketPart, client_isn), &isn.to_ne_bytes())
                .put(SOCKET + offset_of!(SocketPart, client_isn_known), &[1]);
            let socket = socket_of(&record);
            assert_eq!(socket.tuple.local, Endpoint::new(IpAddr::V6(local.0), local.1));
            assert_eq!(socket.tuple.remote, Endpoint::new(IpAddr::V6(remote.0), remote.1));
            assert_eq!((socket.address, socket.client_isn), (address, Some(isn)));
        }
    }
}
