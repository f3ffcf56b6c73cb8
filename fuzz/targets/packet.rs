//! Any bytes as a frame. The first byte chooses the link type.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netsnoop_core::packet::{Decoded, LinkType, PacketContent, PacketError, decode};

const LINK_TYPES: [LinkType; 5] =
    [LinkType::Ethernet, LinkType::LinuxCooked, LinkType::LinuxCookedV2, LinkType::Loopback, LinkType::RawIp];

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, frame)) = bytes.split_first() else { return };
    let link_type = LINK_TYPES[usize::from(*choice) % LINK_TYPES.len()];
    match decode(link_type, frame) {
        Ok(Decoded::Header { header, .. }) => {
            let payload_length = match header.content {
                PacketContent::Tcp { payload_length, .. } | PacketContent::Udp { payload_length } => {
                    payload_length
                }
                PacketContent::Unreachable => 0,
            };
            // No length field says more; where it says nothing, the frame is the bound.
            let bound = frame.len().max(usize::from(u16::MAX));
            assert!(usize::try_from(payload_length).unwrap() <= bound);
        }
        Ok(Decoded::Ignored(_)) => {}
        Err(PacketError::Truncated { offset, wanted, had, .. }) => {
            assert!(wanted > had);
            assert!(offset + had <= frame.len());
        }
        Err(PacketError::Malformed { offset, .. }) => assert!(offset <= frame.len()),
    }
});
