//! What files mean, and what is said of those that cannot be meant.

use netsnoop_core::five_tuple::{Endpoint, Transport};
use netsnoop_core::service::{LearntName, NameKind};

use super::packet_filter::expression;
use super::*;
use crate::cli::AGENT_HELP;

fn read_text(text: &str) -> anyhow::Result<AgentSettings> {
    settings::read(Path::new("n.yaml"), text)
}

/// The service of a connection, and the rule that won.
fn service(settings: &AgentSettings, transport: Transport, to: &str, names: &[LearntName]) -> String {
    let to: std::net::SocketAddr = to.parse().unwrap();
    let found = settings.services.find(transport, Endpoint::new(to.ip(), to.port()), names);
    found.map_or_else(String::new, |service| format!("{} by {}", service.name, service.rule))
}

#[test]
fn an_empty_file_means_metrics_for_this_node() {
    for text in ["", "services:\n", "outputs:\n"] {
        let settings = read_text(text).unwrap();
        let outputs = settings.outputs.or_default();
        assert_eq!(outputs.http, Some("127.0.0.1:9774".parse().unwrap()));
        assert_eq!((outputs.textfile, outputs.jsonl), (None, None));
        assert_eq!(settings.limits, Limits { series: 10_000, queue: 65_536 });
        assert_eq!(settings.bytes_every.as_secs(), 15);
        assert!(settings.services.is_empty() && !settings.toolforge_metric);
        assert!(settings.users.want(None, None));
    }
}

#[test]
fn a_full_file_means_what_it_says() {
    let settings = read_text(include_str!("sample.yaml")).unwrap();
    let check = |transport, to: &str, expected: &str| {
        assert_eq!(service(&settings, transport, to, &[]), expected, "{to}");
    };
    check(Transport::Tcp, "198.18.1.13:6379", "redis by 198.18.1.13:6379/tcp");
    check(Transport::Tcp, "198.18.2.7:7005", "redis by 198.18.2.0/24:7000-7010/tcp");
    check(Transport::Tcp, "198.18.2.7:7011", "lab by 198.18.0.0/15");
    check(Transport::Udp, "198.18.1.13:6379", "lab by 198.18.0.0/15");
    check(Transport::Udp, "[2001:db8::1]:53", "dns by :53/udp");
    check(Transport::Tcp, "[2001:db8::1]:53", "");
    assert!(settings.users.want(Some(10_001), Some("tools.web")));
    assert!(!settings.users.want(Some(0), Some("root")));
    let outputs = settings.outputs;
    assert_eq!(outputs.http, Some("0.0.0.0:9999".parse().unwrap()));
    let textfile = outputs.textfile.unwrap();
    assert_eq!((textfile.path, textfile.every.as_secs()), ("/run/netsnoop.prom".into(), 30));
    let jsonl = outputs.jsonl.unwrap();
    assert_eq!((jsonl.path, jsonl.max_bytes, jsonl.keep), (Some("/run/n.jsonl".into()), 1 << 20, 0));
    let state = settings.state.unwrap();
    assert_eq!((state.path, state.every.as_secs()), ("/var/lib/netsnoop/state.json".into(), 60));
    assert_eq!(settings.bytes_every.as_secs(), 30);
    assert_eq!(settings.limits, Limits { series: 500, queue: 1000 });
}

#[test]
fn services_may_be_known_by_names() {
    let text = "services:\n  - {name: api, sni: ['*.example.org', /^db/], host: a.example.org, ports: [443, 8443]}\n";
    let settings = read_text(text).unwrap();
    let sni = |name| [LearntName::new(NameKind::Sni, name)];
    let check = |to: &str, names: &[LearntName], expected: &str| {
        assert_eq!(service(&settings, Transport::Tcp, to, names), expected, "{to} {names:?}");
    };
    check("198.18.1.13:443", &sni("x.example.org"), "api by sni *.example.org:443");
    check("198.18.1.13:8443", &sni("db1"), "api by sni /^db/:8443");
    check("198.18.1.13:444", &sni("db1"), "");
    check("198.18.1.13:443", &[], "");
    let wishes = settings.services.name_wishes();
    assert_eq!((wishes.sni, wishes.host, wishes.sni_ports), (true, true, vec![443..=443, 8443..=8443]));
    assert!(!wishes.dns);
    let error = read_text("services: [{name: x, sni: 'a.*'}]\n").map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("services[0].sni: 'a.*': a * stands only in front"), "{error}");
}

#[test]
fn services_may_be_known_by_what_their_clients_look_up() {
    let text = "services:\n  - {name: db, dns: [db.example.org, '*.db.example.org'], ports: 5432}\n  \
                - {name: shard, dns: '/^shard-[0-9]+[.]/'}\n  - {name: net, addresses: 198.18.1.0/24}\n\
                ips_to_listen_to: [198.18.1.0/24]\n";
    let settings = read_text(text).unwrap();
    let dns = |name| [LearntName::new(NameKind::Dns, name)];
    let check = |to: &str, names: &[LearntName], expected: &str| {
        assert_eq!(service(&settings, Transport::Udp, to, names), expected, "{to} {names:?}");
    };
    check("198.18.1.13:5432", &dns("DB.example.org."), "db by dns db.example.org:5432");
    check("198.18.1.13:5432", &dns("a.b.db.example.org"), "db by dns *.db.example.org:5432");
    check("198.18.1.13:5433", &dns("db.example.org"), "net by 198.18.1.0/24");
    check("198.18.2.13:1", &dns("shard-7.example"), "shard by dns /^shard-[0-9]+[.]/");
    check("198.18.2.13:5432", &[LearntName::new(NameKind::Sni, "db.example.org")], "");
    let wishes = settings.services.name_wishes();
    assert_eq!((wishes.sni, wishes.host, wishes.dns), (false, false, true));
    assert_eq!(expression(&settings.destinations, wishes.dns), "net 198.18.1.0/24 or port 53 or port 5353");
    assert_eq!(expression(&[], true), "");
}

/// Whoever begins with a copy of them.
#[test]
fn the_examples_of_the_help_and_of_the_readme_mean_what_they_say() {
    let readme = include_str!("../../../../README.md");
    for (text, begins, ends) in [
        (AGENT_HELP, "  services:\n", "\nThe file of the tool"),
        (readme, "    services:\n      - name: redis", "\n`--check` reads the file"),
    ] {
        let (_, rest) = text.split_once(begins).unwrap();
        let (example, _) = rest.split_once(ends).unwrap();
        let settings = read_text(&format!("{begins}{example}")).unwrap();
        let named = |name| [LearntName::new(NameKind::Sni, name)];
        let check = |to: &str, names: &[LearntName], expected: &str| {
            assert_eq!(service(&settings, Transport::Tcp, to, names), expected, "{to} {names:?}");
        };
        check("[2001:db8:1::7]:7004", &[], "redis by [2001:db8:1::]/64:7000-7010/tcp");
        check("203.0.113.9:443", &named("api-7.example"), "api by sni /^api-[0-9]+/");
        check("203.0.113.9:443", &named("eu.api.example"), "api by sni *.api.example");
        assert!(settings.users.want(Some(10_001), None) && !settings.users.want(Some(0), Some("root")));
        assert!(settings.outputs.textfile.is_some() && settings.state.is_some());
    }
    // Longer lines are wrapped by whoever prints them, and then no longer YAML.
    assert!(AGENT_HELP.lines().all(|line| line.len() <= 100));
}

#[test]
fn the_example_to_deploy_means_what_it_says() {
    let settings = read_text(include_str!("../../../../deploy/netsnoop.yaml")).unwrap();
    let check = |to: &str, (kind, name), expected: &str| {
        let names = [LearntName::new(kind, name)];
        assert_eq!(service(&settings, Transport::Tcp, to, &names), expected, "{to} {name}");
    };
    check("203.0.113.9:5432", (NameKind::Dns, "a.db.example.org"), "postgres by dns *.db.example.org:5432");
    check(
        "203.0.113.9:6379",
        (NameKind::Dns, "cache-7.example.org"),
        "cache-shards by dns /^cache-[0-9]+[.]example[.]org$/",
    );
    check("203.0.113.9:443", (NameKind::Sni, "api.example.org"), "wiki-api by sni api.example.org");
    check("198.18.96.1:443", (NameKind::Dns, "kubernetes.default"), "kubernetes by 198.18.96.1:443/tcp");
}

#[test]
fn the_package_keeps_state_where_its_unit_lets_it_write() {
    let settings = read_text(include_str!("../../../../deploy/systemd/netsnoop.yaml")).unwrap();
    assert_eq!(settings.outputs.http, Some("127.0.0.1:9774".parse().unwrap()));
    let unit = include_str!("../../../../deploy/systemd/netsnoop.service");
    assert!(unit.lines().any(|line| line == "StateDirectory=netsnoop"));
    assert_eq!(settings.state.unwrap().path, std::path::Path::new("/var/lib/netsnoop/state.json"));
}

#[test]
fn outputs_named_without_more_have_their_usual_places() {
    let outputs = read_text("outputs:\n  http:\n  jsonl: {path: '-'}\n").unwrap().outputs;
    assert_eq!(outputs.http, Some("127.0.0.1:9774".parse().unwrap()));
    assert_eq!(outputs.jsonl, Some(JsonlSettings::at(None)));
}

#[test]
fn the_ancestors_file_is_read_as_it_is() {
    let settings = read_text(include_str!("ancestor.yaml")).unwrap();
    let name = |kind, text| [LearntName::new(kind, text)];
    let check = |to: &str, names: &[LearntName], expected: &str| {
        assert_eq!(service(&settings, Transport::Tcp, to, names), expected, "{to} {names:?}");
    };
    check("198.18.1.13:6379", &[], "tools-redis by 198.18.1.13/tcp");
    check("198.18.1.13:443", &name(NameKind::Sni, "api.wiki.example"), "tools-redis by 198.18.1.13/tcp");
    check(
        "198.18.1.20:443",
        &name(NameKind::Sni, "en.wiki.example"),
        r"wiki.example by sni /wiki\.example//tcp",
    );
    check("198.18.1.20:80", &name(NameKind::Host, "db7.lan"), r"db7 by host /db[0-9]+//tcp");
    check("198.18.1.20:80", &name(NameKind::Dns, "db7.lan"), "");
    assert!(settings.toolforge_metric);
    assert!(settings.users.want(Some(1), Some("tools.x")) && !settings.users.want(Some(0), Some("root")));
    assert_eq!(
        expression(&settings.destinations, false),
        "host 198.18.1.13 or host 198.18.1.20 or net 2001:db8::/64"
    );
    assert!(
        !read_text("toolforge_metric: false\nips_to_service: {198.18.1.1: x}\n").unwrap().toolforge_metric
    );
    assert!(read_text("toolforge_metric: true\n").unwrap().toolforge_metric);
}

#[test]
fn what_cannot_be_meant_is_told_with_its_place_and_key() {
    let check = |text: &str, expected: &str| {
        let error = read_text(text).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    };
    check("servces: []\n", "n.yaml:1:1: servces: unknown key; is 'services' meant?");
    check("services:\n  - addresses: [198.18.0.1]\n", "n.yaml:2:5: services[0]: a service has a name");
    check("services:\n  - name: x\n", "services[0]: a service has addresses, ports, names");
    check(
        "services:\n  - name: x\n    ports: [80, 70000]\n",
        "n.yaml:3:17: services[0].ports[1]: '70000': '70000' is no port",
    );
    check("services:\n  - {name: x, ports: 9-8}\n", "services[0].ports: '9-8': the range is empty");
    check("services: [{name: x, ports: 1, protocol: icmp}]\n", "'icmp': there are: tcp, udp, udplite");
    check("services: [{name: x, addresses: [198.18.0.0/33]}]\n", "at most 32 bits");
    check("services: [x]\n", "services[0]: keys are expected here: name, addresses");
    check("services: [{name: x, ports: 0}]\n", "'0' is no port from 1 to 65535");
    check("services: [{name: other, ports: 1}]\n", "services[0].name: 'other': metrics call so");
    check(
        "services: [{name: x, host: 'x.example:80'}]\n",
        "services[0].host: 'x.example:80': a name has no ':'",
    );
    check(
        "services: [{name: x, sni: y, protocol: udp}]\n",
        "services[0].sni: sni and host are read from TCP",
    );
    check(
        "users: {include: ['/(/']}\n",
        "n.yaml:1:19: users.include[0]: '/(/': no regular expression: unclosed group",
    );
    check("outputs: {http: {listen: 80}}\n", "ADDRESS:PORT is expected");
    check("outputs: {textfile: {path: /run/x.txt}}\n", "must end in .prom");
    check("outputs: {textfile: {interval: 5s}}\n", "outputs.textfile: a file has a path");
    check("outputs: {textfile: {path: x.prom, interval: 10ms}}\n", "the shortest is 1 s");
    check("state: {interval: 5s}\n", "n.yaml:1:8: state: a file has a path");
    check("state: /var/lib/n.json\n", "state: keys are expected here: path, interval");
    check("outputs: {jsonl: {max_size: 5MB}}\n", "KiB, MiB or GiB");
    check("limits: {series: 0}\n", "1 to 1000000 is allowed");
    check("state: {path: ''}\n", "state.path: '': a path is expected");
    check("outputs: {jsonl: {path: ''}}\n", "outputs.jsonl.path: '': a path is expected");
    check(
        "outputs: {jsonl: {path: /x.json}}\nstate: {path: /x.json}\n",
        "n.yaml:1:10: outputs: /x.json is written to by more than one",
    );
    check("toolforge_metric: maybe\n", "true or false");
    check("http_service_regexes: ['(']\n", "unclosed group");
    check("ips_to_service: {redis: 198.18.0.1}\n", "ips_to_service.redis: 'redis': invalid IP address");
    check("ips_to_listen_to: [redis.example]\n", "'redis.example' is no address");
}

/// A template that fills in no values must not make a service of everything.
#[test]
fn a_service_is_not_everything_by_a_key_with_nothing_behind_it() {
    for key in ["addresses", "ports", "dns", "sni", "host"] {
        for nothing in ["", "~", "[]"] {
            let text = format!("services:\n  - {{name: x, ports: 1}}\n  - name: y\n    {key}: {nothing}\n");
            let error = read_text(&text).map(|_| ()).unwrap_err().to_string();
            let expected = format!("services[1].{key}: nothing stands here");
            assert!(error.starts_with("n.yaml:4:") && error.contains(&expected), "{text}: {error}");
        }
    }
    assert!(read_text("services:\n  - {name: y, ports: 1, protocol: }\n").is_ok());
}

#[test]
fn two_services_with_the_same_rule_are_told_apart_by_nothing() {
    let check = |text: &str, expected: &str| {
        let error = read_text(text).map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, expected, "{text}");
    };
    let two =
        |one: &str, other: &str| format!("services:\n  - {{name: a, {one}}}\n  - {{name: b, {other}}}\n");
    check(&two("ports: 80", "ports: 80"), "n.yaml:3:5: services[1]: :80 is of a already, by line 2");
    check(
        &two("addresses: [198.18.1.1/24], ports: [80, 81]", "addresses: 198.18.1.0/24, ports: 81"),
        "n.yaml:3:5: services[1]: 198.18.1.0/24:81 is of a already, by line 2",
    );
    check(
        &two("sni: '*.Example'", "sni: ['*.example', b.example]"),
        "n.yaml:3:5: services[1]: sni *.example is of a already, by line 2",
    );
    check(
        "services: [{name: a, addresses: 198.18.1.1, protocol: tcp}]\nips_to_service: {198.18.1.1: b}\n",
        "n.yaml:2:30: ips_to_service.198.18.1.1: 198.18.1.1/tcp is of a already, by line 1",
    );
    // What only overlaps, and what is said twice of the same.
    for fine in [
        two("ports: 80-90", "ports: 85-95"),
        two("ports: 80", "ports: 80, protocol: tcp"),
        two("sni: x.example", "host: x.example"),
        "services: [{name: a, ports: [80, 80]}, {name: a, ports: 80}]\n".to_owned(),
        "http_service_regexes: [x, x]\n".to_owned(),
    ] {
        assert!(read_text(&fine).is_ok(), "{fine}");
    }
}

#[test]
fn addresses_of_ipv4_may_be_written_as_those_of_ipv6() {
    let text = "services:\n  - {name: one, addresses: '::ffff:198.18.1.13'}\n  \
                - {name: block, addresses: '::ffff:198.18.1.0/120'}\n\
                ips_to_listen_to: ['::ffff:198.18.1.13', 198.18.2.7/24, '2001:db8::7/64']\n";
    let settings = read_text(text).unwrap();
    assert_eq!(service(&settings, Transport::Tcp, "198.18.1.13:1", &[]), "one by 198.18.1.13");
    assert_eq!(service(&settings, Transport::Tcp, "198.18.1.14:1", &[]), "block by 198.18.1.0/24");
    // libpcap takes no network with bits beyond its prefix.
    assert_eq!(
        expression(&settings.destinations, false),
        "host 198.18.1.13 or net 198.18.2.0/24 or net 2001:db8::/64"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = format!("{:#}", read(Path::new("/nonexistent/n.yaml")).unwrap_err());
    assert!(error.starts_with("reading /nonexistent/n.yaml: "), "{error}");
}
