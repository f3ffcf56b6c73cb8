//! Which rule wins, and what each pattern fits.

use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn endpoint(text: &str) -> Endpoint {
    let address: core::net::SocketAddr = text.parse().unwrap();
    Endpoint::new(address.ip(), address.port())
}

fn block(text: &str) -> Where {
    match text.split_once('/') {
        _ if text.is_empty() => Where::Anywhere,
        Some((network, length)) => {
            Where::In(Cidr::new(network.parse().unwrap(), length.parse().unwrap()).unwrap())
        }
        None => Where::In(Cidr::one(text.parse().unwrap())),
    }
}

fn named(kind: NameKind, pattern: &str) -> Where {
    Where::Named(kind, NamePattern::parse(pattern).unwrap())
}

fn rule(name: &str, place: Where, ports: impl Into<Option<RangeInclusive<u16>>>) -> ServiceRule {
    ServiceRule { service: ServiceName::Given(name.into()), place, ports: ports.into(), transport: None }
}

use core::ops::RangeInclusive;

/// The rules in both orders, so that neither wins by being first.
fn check(rules: Vec<ServiceRule>, to: &str, names: &[LearntName], expected: Option<&str>) {
    let reversed: Vec<_> = rules.iter().rev().cloned().collect();
    for rules in [rules, reversed] {
        let found = Services::new(rules).find(Transport::Tcp, endpoint(to), names);
        assert_eq!(found.as_ref().map(|service| &*service.name), expected, "{to} {names:?}: {found:?}");
    }
}

#[test]
fn the_longer_prefix_wins_then_fewer_ports_then_a_protocol() {
    let rules = || {
        let tcp =
            ServiceRule { transport: Some(Transport::Tcp), ..rule("tcp", block("198.18.1.13"), 53..=53) };
        vec![
            rule("port", block(""), 9000..=9000),
            rule("any4", block("0.0.0.0/0"), None),
            rule("net", block("198.18.0.0/15"), None),
            rule("host", block("198.18.1.13"), None),
            rule("range", block("198.18.1.13"), 6000..=6999),
            rule("redis", block("198.18.1.13"), 6379..=6379),
            rule("either", block("198.18.1.13"), 53..=53),
            tcp,
        ]
    };
    check(rules(), "198.18.1.13:6379", &[], Some("redis"));
    check(rules(), "198.18.1.13:6000", &[], Some("range"));
    check(rules(), "198.18.1.13:80", &[], Some("host"));
    check(rules(), "198.18.1.13:53", &[], Some("tcp"));
    check(rules(), "198.19.255.255:80", &[], Some("net"));
    check(rules(), "192.0.2.1:80", &[], Some("any4"));
    check(rules(), "192.0.2.1:9000", &[], Some("any4"));
    check(rules(), "[2001:db8::1]:9000", &[], Some("port"));
    check(rules(), "[2001:db8::1]:80", &[], None);
}

#[test]
fn names_are_more_specific_than_blocks_and_exact_ones_more_than_an_address() {
    let rules = || {
        vec![
            rule("balancer", block("198.18.1.5"), None),
            rule("net", block("198.18.0.0/15"), None),
            rule("api", named(NameKind::Host, "api.example.org"), None),
            rule("tls", named(NameKind::Sni, "api.example.org"), None),
            rule("dns", named(NameKind::Dns, "api.example.org"), None),
            rule("below", named(NameKind::Sni, "*.example.org"), None),
            rule("deeper", named(NameKind::Sni, "*.a.example.org"), None),
            rule("found", named(NameKind::Sni, r"/^db\d+\./"), None),
        ]
    };
    let name = |kind, text| LearntName::new(kind, text);
    let (dns, sni, host) = (NameKind::Dns, NameKind::Sni, NameKind::Host);
    check(rules(), "198.18.1.5:443", &[], Some("balancer"));
    check(rules(), "198.18.1.5:443", &[name(sni, "API.example.org.")], Some("tls"));
    check(rules(), "198.18.1.5:443", &[name(dns, "api.example.org"), name(sni, "x")], Some("dns"));
    check(
        rules(),
        "198.18.1.5:443",
        &[name(host, "api.example.org"), name(sni, "api.example.org")],
        Some("api"),
    );
    check(rules(), "198.18.1.5:443", &[name(sni, "b.example.org")], Some("balancer"));
    check(rules(), "198.18.1.6:443", &[name(sni, "b.example.org")], Some("below"));
    check(rules(), "198.18.1.6:443", &[name(sni, "b.a.example.org")], Some("deeper"));
    check(rules(), "198.18.1.6:443", &[name(sni, "db12.lan")], Some("found"));
    check(rules(), "198.18.1.6:443", &[name(dns, "db12.lan")], Some("net"));
    check(rules(), "192.0.2.1:443", &[name(sni, "example.org")], None);
}

#[test]
fn a_name_is_awaited_where_it_could_change_the_answer() {
    let services = Services::new(vec![
        rule("tls", named(NameKind::Sni, "*.example.org"), 443..=443),
        rule("exact", named(NameKind::Host, "a.example.org"), None),
        rule("balancer", block("198.18.1.5"), None),
        rule("net", block("198.18.0.0/15"), None),
    ]);
    let awaits = |to: &str, names: &[LearntName]| services.awaits_name(Transport::Tcp, endpoint(to), names);
    let host = LearntName::new(NameKind::Host, "a.example.org");
    let other = [LearntName::new(NameKind::Host, "b.example.org")];
    assert!(awaits("198.18.1.6:443", &[]) && awaits("198.18.1.6:80", &[]));
    assert!(awaits("198.18.1.5:443", &[]), "an exact name beats an address");
    assert!(!awaits("198.18.1.5:443", &other), "a wildcard does not");
    assert!(awaits("198.18.1.6:443", &other) && !awaits("198.18.1.6:80", &other));
    assert!(!awaits("198.18.1.6:443", &[host]));
}

#[test]
fn a_rule_may_call_the_service_by_what_it_found() {
    let found = ServiceRule {
        service: ServiceName::FoundText,
        place: Where::Named(NameKind::Sni, NamePattern::expression(r"[a-z]+\.example").unwrap()),
        ports: None,
        transport: None,
    };
    let names = [LearntName::new(NameKind::Sni, "42.tools.example.org")];
    check(vec![found.clone()], "192.0.2.1:443", &names, Some("tools.example"));
    check(vec![found.clone(), rule("ip", block("192.0.2.1"), None)], "192.0.2.1:443", &names, Some("ip"));
    check(vec![found], "192.0.2.1:443", &[], None);
}

#[test]
fn the_rule_that_won_is_told_as_it_is_written() {
    let check = |rule: ServiceRule, expected: &str| assert_eq!(rule.to_string(), expected);
    check(rule("x", block("198.18.1.13"), 6379..=6379), "198.18.1.13:6379");
    check(rule("x", block("198.18.0.0/15"), None), "198.18.0.0/15");
    check(rule("x", block("2001:db8::/64"), 443..=444), "[2001:db8::]/64:443-444");
    check(rule("x", block("2001:db8::1"), 443..=443), "[2001:db8::1]:443");
    check(rule("x", block("2001:db8::1"), None), "2001:db8::1");
    let udp = ServiceRule { transport: Some(Transport::Udp), ..rule("x", block(""), 53..=53) };
    check(udp, ":53/udp");
    check(rule("x", named(NameKind::Sni, "*.Example.org"), 443..=443), "sni *.example.org:443");
    check(rule("x", named(NameKind::Host, "/a b/"), None), "host /a b/");
}

#[test]
fn what_is_no_pattern_says_why() {
    let check = |text: &str, expected: &str| {
        assert!(NamePattern::parse(text).unwrap_err().to_string().contains(expected), "{text}");
    };
    check("", "a name is expected");
    check("*.", "a name is expected");
    check("//", "a name is expected");
    check("a.*.org", "only in front");
    check("*", "only in front");
    check("a b", "' ' is no part");
    check("a.example:8080", "a port is told by `ports`");
    check("/(/", "unclosed group");
}

#[test]
fn a_zero_prefix_matches_its_family_only_and_too_long_a_prefix_is_none() {
    let all = Cidr::new("0.0.0.0".parse().unwrap(), 0).unwrap();
    assert!(all.contains("192.0.2.1".parse().unwrap()));
    assert!(!all.contains("2001:db8::1".parse().unwrap()));
    assert!(Cidr::new("192.0.2.1".parse().unwrap(), 33).is_none());
}

#[test]
fn a_block_begins_with_its_first_address_whichever_named_it() {
    let check = |address: &str, length: u8, expected: &str| {
        assert_eq!(Cidr::new(address.parse().unwrap(), length).unwrap().to_string(), expected);
    };
    check("198.18.1.13", 24, "198.18.1.0/24");
    check("198.18.1.13", 0, "0.0.0.0/0");
    check("198.18.1.13", 32, "198.18.1.13");
    check("2001:db8::13", 64, "2001:db8::/64");
    check("2001:db8::13", 0, "::/0");
    check("2001:db8::13", 128, "2001:db8::13");
}

/// Rules in a small world, so that many fit the same endpoint.
fn rules() -> impl Strategy<Value = Vec<ServiceRule>> {
    let place = prop_oneof![
        Just(Where::Anywhere),
        (0_u8..4, 29_u8..=32).prop_map(|(last, length)| {
            let address = core::net::Ipv4Addr::new(198, 18, 0, last).into();
            Where::In(Cidr::new(address, length).unwrap())
        }),
        (0_usize..3, prop_oneof![Just("a.b"), Just("*.b"), Just("/a/")])
            .prop_map(|(kind, pattern)| named(NameKind::ALL[kind], pattern)),
    ];
    let ports = proptest::option::of((1_u16..4, 0_u16..3).prop_map(|(from, more)| from..=from + more));
    let transport = proptest::option::of(prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)]);
    proptest::collection::vec((place, ports, transport), 0..12).prop_map(|drawn| {
        let rule = |(number, (place, ports, transport)): (usize, _)| {
            let service = ServiceName::Given(number.to_string().as_str().into());
            ServiceRule { service, place, ports, transport }
        };
        drawn.into_iter().enumerate().map(rule).collect()
    })
}

proptest! {
    /// The index is a shortcut, never another answer: the winner applies, and nothing that applies is more specific,
    /// nor as specific and earlier.
    #[test]
    fn the_winner_applies_and_nothing_that_applies_beats_it(
        rules in rules(), last in 0_u8..5, port in 1_u16..7, named in proptest::option::of(0_usize..3)
    ) {
        let to = endpoint(&format!("198.18.0.{last}:{port}"));
        let names: Vec<_> = named.map(|kind| LearntName::new(NameKind::ALL[kind], "a.b")).into_iter().collect();
        let found = Services::new(rules.clone()).find(Transport::Tcp, to, &names);
        let applying: Vec<_> =
            rules.iter().filter(|rule| rule.applies(Transport::Tcp, to, &names).is_some()).collect();
        let number = |rule: &ServiceRule| match &rule.service {
            ServiceName::Given(name) => name.parse::<usize>().unwrap(),
            ServiceName::FoundText => unreachable!("none is drawn"),
        };
        let best = applying.iter().copied().reduce(|best, rule| {
            if rule.compare(best).is_gt() { rule } else { best }
        });
        let expected: Option<String> = best.map(|rule| number(rule).to_string());
        prop_assert_eq!(found.map(|service| service.name.to_string()), expected);
    }
}
