//! TCP, UDP, UDP-Lite, and the ICMP errors that end a flow, with the tuple of the packet they quote.

use super::link::Announced;
use super::network::{self, Network};
use super::reader::Reader;
use super::{Ignored, Layer, Malformed, PacketContent, PacketError, PacketHeader, TcpFlags, Verdict};
use crate::five_tuple::{Endpoint, FiveTuple, Transport};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;
/// Destination unreachable: RFC 792, and RFC 4443 section 3.1.
const UNREACHABLE_V4: u8 = 3;
const UNREACHABLE_V6: u8 = 1;
/// The code of ICMP type 3 that asks for smaller packets and ends nothing (RFC 1191 section 4).
const FRAGMENTATION_NEEDED: u8 = 4;

/// Reads the transport layer.
pub(super) fn read(network: Network, reader: &mut Reader<'_>) -> Result<Verdict<PacketHeader>, PacketError> {
    match network.protocol {
        TCP => tcp(network, reader).map(Verdict::Go),
        UDP => udp(network, reader).map(Verdict::Go),
        136 => udp_lite(network, reader).map(Verdict::Go),
        ICMP if network.source.is_ipv4() => icmp(Announced::Ipv4, reader),
        ICMP_V6 if network.source.is_ipv6() => icmp(Announced::Ipv6, reader),
        other => Ok(Verdict::Stop(Ignored::Protocol(other))),
    }
}

fn tcp(network: Network, reader: &mut Reader<'_>) -> Result<PacketHeader, PacketError> {
    let offset = reader.offset();
    // Up to the flags: window, checksum and options may be cut off.
    let header = reader.take::<14>(Layer::Tcp)?;
    let header_length = usize::from(header[12] >> 4) * 4;
    if header_length < 20 {
        return Err(PacketError::Malformed { layer: Layer::Tcp, offset, what: Malformed::HeaderLength });
    }
    let payload_length = payload_length(Layer::Tcp, offset, network.length, header_length)?;
    let content = PacketContent::Tcp {
        flags: TcpFlags(header[13]),
        sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        acknowledgement: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
        payload_length,
    };
    let ports = [header[0], header[1], header[2], header[3]];
    Ok(PacketHeader { tuple: tuple(Transport::Tcp, network, ports), content })
}

/// What follows the TCP or UDP header, without what pads the frame.
pub(super) fn payload(network: Network, mut reader: Reader<'_>) -> &[u8] {
    reader.limit(network.length);
    let rest = reader.rest();
    let header_length = match network.protocol {
        TCP => rest.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4).max(20),
        UDP => 8,
        _ => return &[],
    };
    rest.get(header_length..).unwrap_or_default()
}

fn udp(network: Network, reader: &mut Reader<'_>) -> Result<PacketHeader, PacketError> {
    let offset = reader.offset();
    let [ports @ .., length_high, length_low] = reader.take::<6>(Layer::Udp)?;
    // 0 stands for a jumbogram (RFC 2675 section 4): the IP header knows.
    let length = match usize::from(u16::from_be_bytes([length_high, length_low])) {
        0 => network.length,
        length => length,
    };
    let payload_length = payload_length(Layer::Udp, offset, length, 8)?;
    Ok(PacketHeader {
        tuple: tuple(Transport::Udp, network, ports),
        content: PacketContent::Udp { payload_length },
    })
}

fn udp_lite(network: Network, reader: &mut Reader<'_>) -> Result<PacketHeader, PacketError> {
    let offset = reader.offset();
    let ports = reader.take::<4>(Layer::UdpLite)?;
    // The length field is how far the checksum reaches (RFC 3828 section 3.1).
    let payload_length = payload_length(Layer::UdpLite, offset, network.length, 8)?;
    Ok(PacketHeader {
        tuple: tuple(Transport::UdpLite, network, ports),
        content: PacketContent::Udp { payload_length },
    })
}

fn icmp(version: Announced, reader: &mut Reader<'_>) -> Result<Verdict<PacketHeader>, PacketError> {
    let [kind, code, ..] = reader.take::<8>(Layer::Icmp)?;
    let ends_flow = match version {
        Announced::Ipv6 => kind == UNREACHABLE_V6,
        _ => kind == UNREACHABLE_V4 && code != FRAGMENTATION_NEEDED,
    };
    if !ends_flow {
        return Ok(Verdict::Stop(Ignored::IcmpKind(kind)));
    }
    let quoted = match network::read(version, reader)? {
        Verdict::Go(quoted) => quoted,
        Verdict::Stop(ignored) => return Ok(Verdict::Stop(ignored)),
    };
    let transport = match quoted.protocol {
        TCP => Transport::Tcp,
        UDP => Transport::Udp,
        136 => Transport::UdpLite,
        other => return Ok(Verdict::Stop(Ignored::Protocol(other))),
    };
    let ports = reader.take::<4>(Layer::Quoted)?;
    Ok(Verdict::Go(PacketHeader {
        tuple: tuple(transport, quoted, ports),
        content: PacketContent::Unreachable,
    }))
}

fn payload_length(
    layer: Layer,
    offset: usize,
    length: usize,
    header_length: usize,
) -> Result<u32, PacketError> {
    length
        .checked_sub(header_length)
        .and_then(|payload| u32::try_from(payload).ok())
        .ok_or(PacketError::Malformed { layer, offset, what: Malformed::TotalLength })
}

const fn tuple(transport: Transport, network: Network, ports: [u8; 4]) -> FiveTuple {
    let source_port = u16::from_be_bytes([ports[0], ports[1]]);
    let destination_port = u16::from_be_bytes([ports[2], ports[3]]);
    FiveTuple {
        transport,
        local: Endpoint::new(network.source, source_port),
        remote: Endpoint::new(network.destination, destination_port),
    }
}
