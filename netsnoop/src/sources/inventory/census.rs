//! How many sockets a namespace has, as the kernel counts them for nothing: what there are none of need not be looked for,
//! as every look at a table is a walk over the sockets of all namespaces.

use netsnoop_core::inventory::ProtocolGroup;
use netsnoop_core::proc_text::sockstat::{SocketCounts, decode_sockstat, decode_sockstat6};
use rustix::io::Errno;

use crate::sources::namespace_index::NetFiles;

/// The counts of one namespace; each `None` if it cannot be had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Census {
    ipv4: Option<SocketCounts>,
    ipv6: Option<SocketCounts>,
}

impl Census {
    /// Reads them.
    pub(super) fn read(files: &NetFiles<'_>) -> Self {
        let mut text = Vec::new();
        let ipv4 = files.read("sockstat", &mut text).ok().and_then(|()| decode_sockstat(&text));
        let ipv6 = match files.read("sockstat6", &mut text) {
            Ok(()) => decode_sockstat6(&text),
            // A kernel without IPv6.
            Err(Errno::NOENT) => Some(SocketCounts::default()),
            Err(_) => None,
        };
        Self { ipv4, ipv6 }
    }

    /// Sockets of all families, but those in TIME_WAIT and requests.
    pub(super) fn used(&self) -> Option<u64> {
        self.ipv4.and_then(|counts| counts.used)
    }

    /// TCP sockets in TIME_WAIT.
    pub(super) fn time_wait(&self) -> Option<u64> {
        self.ipv4.and_then(|counts| counts.time_wait)
    }

    /// Whether the namespace may have sockets of the group, of IPv6 or else of all other families.
    pub(super) fn may_have(&self, group: ProtocolGroup, ipv6: bool) -> bool {
        let (Some(four), Some(six)) = (self.ipv4, self.ipv6) else { return true };
        let own = if ipv6 { six } else { four };
        match group {
            // Of TIME_WAIT nobody counts the families, requests are not counted, and an IPv6 listener has IPv4 ones.
            ProtocolGroup::Tcp => own.tcp + six.tcp + four.time_wait.unwrap_or_default() > 0,
            ProtocolGroup::Udp => own.udp > 0,
            ProtocolGroup::UdpLite => own.udp_lite.unwrap_or_default() > 0,
            ProtocolGroup::Raw => own.raw > 0,
            _ => true,
        }
    }
}
