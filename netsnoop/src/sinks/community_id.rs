//! Community ID version 1: the flow key that Zeek, Suricata and others print, too
//! (specification: <https://github.com/corelight/community-id-spec>). The seed is always 0.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use netsnoop_core::five_tuple::{Endpoint, Transport};
use sha1::{Digest, Sha1};

/// The id of the flow between two ends, in either order. `None` where an address is not known, or where the ends
/// are of different families: an id made of those would match nothing.
pub(super) fn community_id(transport: Transport, one: Endpoint, other: Endpoint) -> Option<String> {
    if one.is_wildcard() || other.is_wildcard() || one.address.is_ipv4() != other.address.is_ipv4() {
        return None;
    }
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    let mut hash = Sha1::new();
    hash.update([0, 0]);
    for end in [first, second] {
        match end.address {
            IpAddr::V4(address) => hash.update(address.octets()),
            IpAddr::V6(address) => hash.update(address.octets()),
        }
    }
    hash.update([transport.number(), 0]);
    // The specification knows ports of TCP, UDP and SCTP (and ICMP types); UDP-Lite goes without.
    if transport != Transport::UdpLite {
        hash.update(first.port.to_be_bytes());
        hash.update(second.port.to_be_bytes());
    }
    Some(format!("1:{}", STANDARD.encode(hash.finalize())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are those of the specification's baseline files (baseline/baseline_deflt.json).
    #[test]
    fn the_specification_s_samples_come_out_both_ways_round() {
        let check = |transport, one: (&str, u16), other: (&str, u16), expected: Option<&str>| {
            let one = Endpoint::new(one.0.parse().unwrap(), one.1);
            let other = Endpoint::new(other.0.parse().unwrap(), other.1);
            assert_eq!(community_id(transport, one, other).as_deref(), expected);
            assert_eq!(community_id(transport, other, one).as_deref(), expected);
        };
        let tcp = Transport::Tcp;
        check(tcp, ("128.232.110.120", 34855), ("66.35.250.204", 80), Some("1:LQU9qZlK+B5F3KDmev6m5PMibrg="));
        check(
            Transport::Udp,
            ("192.168.1.52", 54585),
            ("8.8.8.8", 53),
            Some("1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
        );
        check(
            tcp,
            ("2001:470:e5bf:dead:4957:2174:e82c:4887", 63943),
            ("2607:f8b0:400c:c03::1a", 25),
            Some("1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="),
        );
        check(tcp, ("0.0.0.0", 34855), ("66.35.250.204", 80), None);
        check(tcp, ("::1", 34855), ("66.35.250.204", 80), None);
    }
}
