//! The user's BPF expression, applied to connections. The kernel applies it to packets, but kernel events and /proc
//! tell of connections without packets, and who asks for `tcp port 443` wants no others. Such a connection fits if
//! one of the packets it must have had would have matched.

use std::net::IpAddr;

use netsnoop_core::connection::ConnectionRecord;
use netsnoop_core::five_tuple::{Endpoint, Transport};
use pcap::{BpfProgram, Capture, Linktype};

/// DLT_RAW, packets that begin with the IP header. Here it is the number libpcap uses on Linux inside, which
/// differs from the one in capture files (`Linktype::RAW`).
const DLT_RAW: Linktype = Linktype(12);

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
/// The flags that every TCP connection's packets have one of.
const TCP_FLAGS: [u8; 5] = [SYN, SYN | ACK, ACK, FIN | ACK, RST];

/// An expression.
pub(super) struct Expression {
    /// `None` for one that looks at what lies below IP: it can be put to packets only.
    program: Option<BpfProgram>,
}

impl Expression {
    /// Compiles it. One that means nothing at all is for the capture to refuse.
    pub(super) fn new(text: &str) -> Self {
        let program = Capture::dead(DLT_RAW).and_then(|raw| raw.compile(text, true));
        if let Err(error) = &program {
            log::info!("only connections with packets are shown, as '{text}' is for packets alone: {error}");
        }
        Self { program: program.ok() }
    }

    /// Whether the connection was seen by a packet, which the kernel has judged, or would have been.
    pub(super) fn matches(&self, record: &ConnectionRecord) -> bool {
        record.interface.is_some()
            || self.program.as_ref().is_some_and(|program| would_match(program, record))
    }
}

fn would_match(program: &BpfProgram, record: &ConnectionRecord) -> bool {
    let (client, server) = (record.client.endpoint, record.server.endpoint);
    let flags: &[u8] = if record.transport == Transport::Tcp { &TCP_FLAGS } else { &[0] };
    [(client, server), (server, client)].into_iter().any(|(from, to)| {
        flags.iter().any(|flags| program.filter(&packet(record.transport, from, to, *flags)))
    })
}

/// A packet without payload. Checksums are left zero: no expression looks at whether they are right.
fn packet(transport: Transport, from: Endpoint, to: Endpoint, tcp_flags: u8) -> Vec<u8> {
    let segment = segment(transport, from.port, to.port, tcp_flags);
    // 20 or 8 bytes.
    let length = segment.len() as u8;
    let mut packet = match (from.address, to.address) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0, 0, 20 + length, 0, 0, 0, 0, 64, transport.number(), 0, 0];
            header.extend(from.octets());
            header.extend(to.octets());
            header
        }
        (from, to) => {
            let mut header = vec![0x60, 0, 0, 0, 0, length, transport.number(), 64];
            header.extend(octets_v6(from));
            header.extend(octets_v6(to));
            header
        }
    };
    packet.extend(segment);
    packet
}

const fn octets_v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn segment(transport: Transport, from: u16, to: u16, tcp_flags: u8) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20);
    segment.extend(from.to_be_bytes());
    segment.extend(to.to_be_bytes());
    match transport {
        Transport::Tcp => segment.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, tcp_flags, 0xff, 0xff, 0, 0, 0, 0]),
        Transport::Udp | Transport::UdpLite => segment.extend([0, 8, 0, 0]),
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::samples;

    #[test]
    fn a_connection_without_packets_is_held_to_the_expression() {
        let check = |record: &ConnectionRecord, expression: &str, expected: bool| {
            assert_eq!(Expression::new(expression).matches(record), expected, "{expression}");
        };
        // TCP over IPv6, [2001:db8::10]:54102 -> [2001:db8::13]:443.
        let six = samples::to_a_remote_server();
        check(&six, "tcp port 443", true);
        check(&six, "src port 443 and dst host 2001:db8::10", true);
        check(&six, "port 80", false);
        check(&six, "udp", false);
        check(&six, "ip6 net 2001:db8::/32 and not port 22", true);
        check(&six, "ip", false);
        // UDP over IPv4, 127.0.0.1:40000 -> 127.0.0.1:53.
        let four = samples::shared_udp();
        check(&four, "udp dst port 53", true);
        check(&four, "host 127.0.0.1 and less 100", true);
        check(&four, "tcp", false);
        // TCP over IPv4; libpcap looks at TCP's flags in IPv4 only.
        let refused = samples::refused_and_gone();
        check(&refused, "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", true);
        check(&refused, "tcp[tcpflags] == tcp-urg", false);
    }

    #[test]
    fn what_looks_below_ip_is_for_packets_alone() {
        let mut record = samples::to_a_remote_server();
        assert!(!Expression::new("ether host 00:00:5e:00:53:01").matches(&record));
        record.interface = Some("veth0".into());
        assert!(Expression::new("ether host 00:00:5e:00:53:01").matches(&record));
        assert!(Expression::new("port 80").matches(&record), "the kernel has judged the packet");
    }
}
