//! IPv4 and IPv6: addresses, the transport protocol behind options and extension headers, and how long
//! the packet says it is. Fragments are not put together: the first one has the ports, the others do not.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::link::Announced;
use super::reader::Reader;
use super::{Ignored, Layer, Malformed, PacketError, Verdict};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;
/// RFC 8200 section 4.1 lists seven headers a packet may carry; one more for the reader's peace.
const MAX_EXTENSIONS: usize = 8;

/// What the IP layer says.
#[derive(Clone, Copy)]
pub(super) struct Network {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    /// Length of the transport header and payload, as the IP header has it.
    pub(super) length: usize,
}

/// Reads the IP layer, extension headers included, and leaves `reader` at the transport header.
pub(super) fn read(announced: Announced, reader: &mut Reader<'_>) -> Result<Verdict<Network>, PacketError> {
    let offset = reader.offset();
    let [first] = { *reader }.take::<1>(Layer::Ip)?;
    match (announced, first >> 4) {
        (Announced::Ipv4 | Announced::ByVersion, 4) => read_v4(reader),
        (Announced::Ipv6 | Announced::ByVersion, 6) => read_v6(reader),
        _ => Err(PacketError::Malformed { layer: Layer::Ip, offset, what: Malformed::Version }),
    }
}

fn read_v4(reader: &mut Reader<'_>) -> Result<Verdict<Network>, PacketError> {
    let offset = reader.offset();
    let malformed = |what| Err(PacketError::Malformed { layer: Layer::Ipv4, offset, what });
    let captured = reader.remaining();
    let header = reader.take::<20>(Layer::Ipv4)?;
    let header_length = usize::from(header[0] & 0x0f) * 4;
    let Some(options_length) = header_length.checked_sub(20) else {
        return malformed(Malformed::HeaderLength);
    };
    // A packet that the sender's own offload has not cut yet may be longer than the field can say; Linux
    // then leaves it 0 (BIG TCP for IPv4, since 6.3), and what was captured is the lower bound there is.
    // https://github.com/torvalds/linux/blob/v6.3/include/linux/ip.h#L39-L45
    let total_length = match usize::from(u16::from_be_bytes([header[2], header[3]])) {
        0 => captured.max(header_length),
        length => length,
    };
    let Some(length) = total_length.checked_sub(header_length) else {
        return malformed(Malformed::TotalLength);
    };
    if u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0 {
        return Ok(Verdict::Stop(Ignored::LaterFragment));
    }
    reader.limit(total_length - 20);
    reader.skip(Layer::Ipv4, options_length)?;
    let network = Network {
        source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
        destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
        protocol: header[9],
        length,
    };
    if network.protocol == AUTHENTICATION {
        return skip_extensions(network, reader);
    }
    Ok(Verdict::Go(network))
}

fn read_v6(reader: &mut Reader<'_>) -> Result<Verdict<Network>, PacketError> {
    reader.expect(Layer::Ipv6, 40)?;
    let header = reader.take::<8>(Layer::Ipv6)?;
    let source = Ipv6Addr::from(reader.take::<16>(Layer::Ipv6)?);
    let destination = Ipv6Addr::from(reader.take::<16>(Layer::Ipv6)?);
    // 0 as in IPv4: BIG TCP for IPv6, since 5.19; a jumbogram says its length in a hop-by-hop option, which
    // only such packets carry in practice and which tells nothing that attribution needs.
    // ip6_xmit in https://github.com/torvalds/linux/blob/v5.19/net/ipv6/ip6_output.c
    let length = match usize::from(u16::from_be_bytes([header[4], header[5]])) {
        0 => reader.remaining(),
        length => length,
    };
    reader.limit(length);
    let network = Network {
        source: IpAddr::V6(source),
        destination: IpAddr::V6(destination),
        protocol: header[6],
        length,
    };
    skip_extensions(network, reader)
}

/// Passes over extension headers (RFC 8200 section 4, AH: RFC 4302 section 2.2).
fn skip_extensions(mut network: Network, reader: &mut Reader<'_>) -> Result<Verdict<Network>, PacketError> {
    let layer = Layer::IpExtension;
    for _ in 0..=MAX_EXTENSIONS {
        let offset = reader.offset();
        let length = match network.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HOST_IDENTITY | SHIM6
            | AUTHENTICATION => {
                let [_, length, _, segments_left] = { *reader }.take::<4>(layer)?;
                // The destination is then a stop on the way, not the end of the flow.
                if network.protocol == ROUTING && segments_left != 0 {
                    return Ok(Verdict::Stop(Ignored::SourceRouted));
                }
                match network.protocol {
                    AUTHENTICATION => (usize::from(length) + 2) * 4,
                    _ => (usize::from(length) + 1) * 8,
                }
            }
            FRAGMENT => {
                let [_, _, offset_high, offset_low] = { *reader }.take::<4>(layer)?;
                if u16::from_be_bytes([offset_high, offset_low]) & 0xfff8 != 0 {
                    return Ok(Verdict::Stop(Ignored::LaterFragment));
                }
                8
            }
            _ => return Ok(Verdict::Go(network)),
        };
        let Some(left) = network.length.checked_sub(length) else {
            return Err(PacketError::Malformed { layer, offset, what: Malformed::HeaderLength });
        };
        [network.protocol] = { *reader }.take::<1>(layer)?;
        reader.skip(layer, length)?;
        network.length = left;
    }
    Err(PacketError::Malformed { layer, offset: reader.offset(), what: Malformed::TooManyHeaders })
}
