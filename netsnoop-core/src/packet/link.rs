//! The link layer: where the IP packet begins in a frame, and what a cooked header says of the interface.
//! Addresses of the link itself are of no interest here.

use core::num::NonZeroU32;

use super::reader::Reader;
use super::{Direction, Ignored, Layer, LinkType, Malformed, PacketError, Verdict};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
/// Two tags are QinQ; a frame with more than this is not read on.
const MAX_VLAN_TAGS: usize = 4;

/// Which version of IP the link layer announces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Announced {
    Ipv4,
    Ipv6,
    /// The link layer leaves it to the first nibble of the packet.
    ByVersion,
}

/// What the link layer says.
pub(super) struct Link {
    pub(super) interface: Option<NonZeroU32>,
    pub(super) direction: Direction,
    pub(super) announced: Announced,
}

/// Reads the link layer and leaves `reader` at the IP header.
pub(super) fn read(link_type: LinkType, reader: &mut Reader<'_>) -> Result<Verdict<Link>, PacketError> {
    let mut interface = None;
    let mut direction = Direction::Unknown;
    let ethertype = match link_type {
        LinkType::Ethernet => {
            let [.., high, low] = reader.take::<14>(Layer::Ethernet)?;
            u16::from_be_bytes([high, low])
        }
        // https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL.html
        LinkType::LinuxCooked => {
            let [type_high, type_low, .., high, low] = reader.take::<16>(Layer::Cooked)?;
            direction = direction_of(u16::from_be_bytes([type_high, type_low]));
            u16::from_be_bytes([high, low])
        }
        // https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL2.html
        LinkType::LinuxCookedV2 => {
            let header = reader.take::<20>(Layer::Cooked)?;
            interface = NonZeroU32::new(u32::from_be_bytes([header[4], header[5], header[6], header[7]]));
            direction = direction_of(u16::from(header[10]));
            u16::from_be_bytes([header[0], header[1]])
        }
        LinkType::Loopback => {
            let family = reader.take::<4>(Layer::Loopback)?;
            return Ok(announced_by_family(family).map(|announced| Link {
                interface: None,
                direction,
                announced,
            }));
        }
        LinkType::RawIp => {
            return Ok(Verdict::Go(Link { interface: None, direction, announced: Announced::ByVersion }));
        }
    };
    let ethertype = match link_type {
        LinkType::Ethernet => ethertype,
        _ => ethertype_of_payload(ethertype, *reader),
    };
    let announced = match skip_vlan_tags(ethertype, reader)? {
        ETHERTYPE_IPV4 => Announced::Ipv4,
        ETHERTYPE_IPV6 => Announced::Ipv6,
        _ => return Ok(Verdict::Stop(Ignored::NotIp)),
    };
    Ok(Verdict::Go(Link { interface, direction, announced }))
}

/// What the payload of a cooked frame begins with, where a VLAN tag is still in the bytes. Of a frame that
/// comes in, it begins with the tag; of one that software tagged on its way out, with the IP header. In both
/// cases the cooked header names the tag's type or, since Linux 6.11 (and its stable releases since), what is
/// behind the tag: `vlan_get_protocol_dgram` in
/// <https://github.com/torvalds/linux/blob/v6.13/net/packet/af_packet.c>. So the bytes decide.
fn ethertype_of_payload(named: u16, mut payload: Reader<'_>) -> u16 {
    let Ok([first, _, high, low]) = payload.take::<4>(Layer::Vlan) else { return named };
    let behind = u16::from_be_bytes([high, low]);
    let is_behind_tag = matches!(behind, ETHERTYPE_IPV4 | ETHERTYPE_IPV6) || is_vlan(behind);
    match (named, first >> 4) {
        (ETHERTYPE_IPV4, 4) | (ETHERTYPE_IPV6, 6) => named,
        (ETHERTYPE_IPV4 | ETHERTYPE_IPV6, _) if is_behind_tag => ETHERTYPE_VLAN,
        (tag, 4) if is_vlan(tag) && !is_behind_tag => ETHERTYPE_IPV4,
        (tag, 6) if is_vlan(tag) && !is_behind_tag => ETHERTYPE_IPV6,
        _ => named,
    }
}

/// PACKET_OUTGOING is 4; the lower values are ways of coming in (packet(7), sll_pkttype).
const fn direction_of(packet_type: u16) -> Direction {
    match packet_type {
        0..=3 => Direction::In,
        4 => Direction::Out,
        _ => Direction::Unknown,
    }
}

/// LINKTYPE_NULL holds the address family in the byte order of the machine that captured, LINKTYPE_LOOP
/// in network order. The values are small, so either order tells. AF_INET6 differs between systems.
fn announced_by_family(family: [u8; 4]) -> Verdict<Announced> {
    let value = u32::from_be_bytes(family).min(u32::from_le_bytes(family));
    match value {
        2 => Verdict::Go(Announced::Ipv4),
        10 | 24 | 28 | 30 => Verdict::Go(Announced::Ipv6),
        _ => Verdict::Stop(Ignored::NotIp),
    }
}

/// IEEE 802.1Q, 802.1ad, and the value QinQ used before 802.1ad.
const fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, ETHERTYPE_VLAN | 0x88a8 | 0x9100)
}

/// Passes over VLAN tags and returns the ethertype behind them.
fn skip_vlan_tags(mut ethertype: u16, reader: &mut Reader<'_>) -> Result<u16, PacketError> {
    for _ in 0..MAX_VLAN_TAGS {
        if !is_vlan(ethertype) {
            return Ok(ethertype);
        }
        let [_, _, high, low] = reader.take::<4>(Layer::Vlan)?;
        ethertype = u16::from_be_bytes([high, low]);
    }
    if is_vlan(ethertype) {
        return Err(PacketError::Malformed {
            layer: Layer::Vlan,
            offset: reader.offset(),
            what: Malformed::TooManyHeaders,
        });
    }
    Ok(ethertype)
}
