//! The agent as its users run it: metrics that Prometheus reads, settings that change, and outputs that are in the way.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process;

use crate::lab::agent::{Agent, LISTENS};
use crate::lab::cgroup::Cgroup;
use crate::lab::prometheus::Prometheus;
use crate::lab::resolver::By;
use crate::lab::{Actor, Lab, has_program, skip};
use crate::names::{client_hello, say};
use crate::nat::Translating;

/// What the dashboard and the alerts in `deploy` ask for.
fn deployed_expressions(lab: &Lab) -> Vec<String> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let rules = deploy.join("prometheus/netsnoop.rules.yml");
    let checked =
        lab.node.command(Path::new("promtool")).args(["check", "rules"]).arg(&rules).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let tests = deploy.join("prometheus/netsnoop.rules.test.yml");
    let tested =
        lab.node.command(Path::new("promtool")).args(["test", "rules"]).arg(&tests).output().unwrap();
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
    let dashboard = fs::read_to_string(deploy.join("grafana/netsnoop.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let asked = panels.iter().map(|panel| panel["targets"][0]["expr"].as_str().unwrap());
    let mut expressions: Vec<String> = asked
        .map(|expression| expression.replace("$__rate_interval", "1m").replace("$__range", "1h"))
        .collect();
    assert!(expressions.len() >= 10, "{expressions:?}");
    // Each metric that an alert names must be there: promtool does not know which there are.
    let rules = fs::read_to_string(rules).unwrap();
    let words = rules.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    expressions.extend(
        words.filter(|word| word.starts_with("netsnoop_")).map(|metric| format!("count({metric}) > 0")),
    );
    expressions
}

#[test]
fn prometheus_is_told_who_depends_on_what() {
    let name = "agent::prometheus_is_told_who_depends_on_what";
    let Some(lab) = Lab::with(name, &["prometheus", "promtool"]) else { return };
    let settings = "services:\n\
        - {name: shop, addresses: 198.18.77.11, ports: 7301, protocol: tcp}\n\
        - {name: clock, addresses: ['198.18.77.0/24'], protocol: udp, ports: 7302}\n\
        - {name: api, sni: '*.api.example', ports: 443}\n\
        - {name: web, host: www.example}\n\
        - {name: db, dns: db.example}\n";
    let agent = Agent::start(&lab.node, settings, &[]);
    let prometheus = Prometheus::start(&lab);
    let (shop, clock) = (lab.server.v4(7301), lab.server.v4(7302));
    let _servers =
        [lab.server().serve(&format!("serve tcp {shop}")), lab.server().serve(&format!("serve udp {clock}"))];
    // Other programs on the machine may run as the lab's usual users.
    let uid = 100_000 + process::id();
    let [often, seldom] = [uid, uid + 1].map(|uid| Actor::new(&lab.client.namespace, uid));
    for (actor, part, times) in [
        (&often, format!("connect exchange {shop}"), 5),
        (&seldom, format!("connect exchange {shop}"), 3),
        (&seldom, format!("send exchange {clock}"), 2),
    ] {
        for _ in 0..times {
            actor.run(&part);
        }
    }
    let named = [443, 8080, 7303].map(|port| lab.server.v4(port));
    let _named = named
        .each_ref()
        .map(|address| Actor::new(&lab.server.namespace, 0).serve(&format!("serve tcp {address}")));
    let [tls, http, db] = named;
    let pod = &lab.client.namespace;
    say(pod, &tls, &[&client_hello("a.api.example", 0)]);
    say(pod, &http, &[b"GET / HTTP/1.1\r\nHost: www.example\r\n\r\n"]);
    lab.look_up(pod, By::Udp, "db.example", "198.18.77.11");
    for _ in 0..4 {
        often.run(&format!("connect exchange {db}"));
    }
    let closed =
        [(uid.to_string(), "shop", 5), ((uid + 1).to_string(), "shop", 3), (uid.to_string(), "db", 4)];
    let by_root = ["api", "web"].map(|service| ("root".to_owned(), service, 1));
    for (uid, service, count) in closed.into_iter().chain(by_root) {
        let expression = format!(
            "sum by (user, service) (netsnoop_connections_closed_total{{user=\"{uid}\",service=\"{service}\",transport=\"tcp\"}})"
        );
        agent.wait_for(&expression, |_| {
            prometheus.query(&expression).contains(&format!("=> {count} @")).then_some(())
        });
    }
    let datagrams = format!(
        "netsnoop_connections_opened_total{{user=\"{}\",service=\"clock\",role=\"client\"}}",
        uid + 1
    );
    agent.wait_for(&datagrams, |_| prometheus.query(&datagrams).contains("=> 2 @").then_some(()));
    check_by_promtool(&lab, &agent.page());
    let page = agent.page();
    assert!(page.contains("netsnoop_metrics_records_lost_total 0\n"), "{page}");
    for scan in ["topology", "process_facts"] {
        let never = format!("netsnoop_scan_duration_seconds_count{{scan=\"{scan}\"}} 0\n");
        assert!(page.contains(never.trim_end_matches("0\n")) && !page.contains(&never), "{page}");
    }
    let deployed = deployed_expressions(&lab);
    for expression in &deployed {
        prometheus.must_understand(expression);
    }
    check_table(&prometheus.query(&deployed[0]), &[(uid, 5), (uid + 1, 3)]);
    drop(prometheus);
    assert!(agent.stop().status.success());
}

/// The dashboard's table has users whose every connection was made before Prometheus first asked, too.
#[track_caller]
fn check_table(table: &str, expected: &[(u32, u32)]) {
    for (uid, count) in expected {
        let row =
            |line: &&str| line.contains(&format!("user=\"{uid}\"")) && line.contains("service=\"shop\"");
        let told = table.lines().find(row).unwrap_or_else(|| panic!("no {uid} in {table}"));
        assert!(told.contains(&format!("=> {count} @")), "{told}");
    }
}

#[track_caller]
fn check_by_promtool(lab: &Lab, page: &str) {
    lab.node.feed(&["promtool", "check", "metrics"], page);
}

#[test]
fn the_ancestors_file_counts_tools_through_masquerade() {
    let name = "agent::the_ancestors_file_counts_tools_through_masquerade";
    let Some(node) = Translating::new(name) else { return };
    // Users that Debian has: the ancestor told of names alone.
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    if !passwd.contains("\nnews:x:9:") || !passwd.contains("\nnobody:x:65534:") {
        skip(name, "needs Debian's users news and nobody");
        return;
    }
    let settings = "ips_to_service: {198.18.78.2: toolsdb}\n\
                    ips_to_listen_to: [198.18.78.2]\n\
                    interesting_users_prefix: n\n\
                    http_service_regexes: []\n";
    let agent = Agent::start(
        &node.lab.node,
        settings,
        &["--listen", LISTENS, "--textfile", "{folder}/n.prom", "--jsonl", "{folder}/n.jsonl"],
    );
    let _server = Actor::new(&node.outside, 10002).serve("serve tcp 0.0.0.0:8080");
    let _elsewhere = node.lab.server().serve(&format!("serve tcp {}", node.lab.server.v4(8090)));
    for (uid, times) in [(9, 5), (65534, 3), (0, 2)] {
        let tool = Actor::new(&node.lab.client.namespace, uid);
        for _ in 0..times {
            tool.run("connect exchange 198.18.78.2:8080");
            tool.run(&format!("connect exchange {}", node.lab.server.v4(8090)));
        }
    }
    let metric = |tool, count| {
        format!("toolforge_internal_dependencies_total{{tool=\"{tool}\",dependency=\"toolsdb\"}} {count}")
    };
    agent.wait_for("counts in the textfile", |agent| {
        let page = fs::read_to_string(agent.file("n.prom")).ok()?;
        let has = |line: &String| page.lines().any(|known| known == line);
        [metric("news", 5), metric("nobody", 3)].iter().all(has).then_some(())
    });
    let page = agent.page();
    assert!(!page.contains("tool=\"root\""), "{page}");
    let records = agent.wait_for("records of all eight", |agent| {
        let records = fs::read_to_string(agent.file("n.jsonl")).unwrap();
        (records.matches("\"event\":\"open\"").count() >= 8).then_some(records)
    });
    assert_eq!(records.matches("\"event\":\"open\"").count(), 8, "{records}");
    assert!(records.contains(r#""service":{"name":"toolsdb","rule":"198.18.78.2/tcp"}"#), "{records}");
    assert!(agent.stop().status.success());
}

#[test]
fn a_service_address_is_counted_once_for_the_pods_user_and_what_was_meant() {
    let name = "agent::a_service_address_is_counted_once_for_the_pods_user_and_what_was_meant";
    let Some(node) = Translating::new(name) else { return };
    if !has_program("prometheus") || !has_program("promtool") {
        skip(name, "needs prometheus and promtool");
        return;
    }
    // What the pod asks for leads to 198.18.77.11:8081, which is a service too.
    let settings = "services:\n\
        - {name: cart, addresses: 198.19.0.1, ports: 81}\n\
        - {name: backend, addresses: 198.18.77.11}\n";
    let agent = Agent::start(&node.lab.node, settings, &[]);
    let prometheus = Prometheus::start(&node.lab);
    let _server = node.lab.server().serve("serve tcp 198.18.77.11:8081");
    let (pod, container) = ("1f5a1c2e-7d3b-4e6f-9a8b-1c2d3e4f5a6b", "cd34ab12".repeat(8));
    let cgroup = Cgroup::new(&format!("kubepods/besteffort/pod{pod}/{container}"));
    let uid = 300_000 + process::id();
    let client = Actor { cgroup: cgroup.as_ref(), ..Actor::new(&node.lab.client.namespace, uid) };
    for _ in 0..4 {
        client.run("connect exchange 198.19.0.1:81");
    }
    let wanted = format!("netsnoop_connections_closed_total{{user=\"{uid}\"}}");
    let told =
        agent.wait_for(&wanted, |_| Some(prometheus.query(&wanted)).filter(|told| told.contains("=> 4 @")));
    assert_eq!(told.trim().lines().count(), 1, "{told}");
    let in_pod = cgroup.as_ref().map(|_| format!("pod=\"{pod}\""));
    for label in ["role=\"client\"", "service=\"cart\""].into_iter().chain(in_pod.as_deref()) {
        assert!(told.contains(label), "no {label} in {told}");
    }
    // Nor for whoever answered.
    let again = prometheus.query("netsnoop_connections_closed_total{service=\"backend\"}");
    assert_eq!(again.trim(), "");
    drop(prometheus);
    assert!(agent.stop().status.success());
}

#[test]
fn settings_read_anew_under_load_lose_no_connection() {
    const CONNECTIONS: u64 = 8000;
    let name = "agent::settings_read_anew_under_load_lose_no_connection";
    let Some(lab) = Lab::new(name) else { return };
    let service = |name: &str| format!("services: [{{name: {name}, addresses: 198.18.77.11}}]\n");
    let agent = Agent::start(&lab.node, &service("zero"), &[]);
    let address = lab.server.v4(7308);
    let _server = lab.server().serve(&format!("sink {address}"));
    let uid = 300_000 + process::id();
    let burst = Actor::new(&lab.client.namespace, uid).start(&format!("burst {address} {CONNECTIONS} 2"));
    for (number, service) in ["one", "two", "three"].map(service).iter().enumerate() {
        agent.reload(service);
        agent.wait_for_line(&format!("netsnoop_config_reloads_total {}", number + 1));
    }
    agent.reload("services: [{nme: broken}]\n");
    agent.wait_for_line("netsnoop_config_reload_failures_total 1");
    assert_eq!(burst.finish().connections, Some(CONNECTIONS));
    // Each under the name that its service had when it was counted.
    let counted = |page: &str| {
        let begins = "netsnoop_connections_opened_total{role=\"client\"";
        let own = |line: &&str| line.starts_with(begins) && line.contains(&format!("user=\"{uid}\""));
        let count = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
        page.lines().filter(own).map(count).sum::<u64>()
    };
    agent.wait_for("all of them", |agent| (counted(&agent.page()) >= CONNECTIONS).then_some(()));
    let page = agent.page();
    assert_eq!(counted(&page), CONNECTIONS, "{page}");
    assert!(page.contains("netsnoop_metrics_records_lost_total 0\n"), "{page}");
    assert!(agent.stop().status.success());
}

#[test]
fn settings_are_read_anew_and_a_broken_file_changes_nothing() {
    let name = "agent::settings_are_read_anew_and_a_broken_file_changes_nothing";
    let Some(lab) = Lab::new(name) else { return };
    let service = |name: &str| format!("services: [{{name: {name}, addresses: 198.18.77.11}}]\n");
    let agent = Agent::start(&lab.node, &service("before"), &[]);
    let address = lab.server.v4(7303);
    let _server = lab.server().serve(&format!("serve tcp {address}"));
    let uid = 100_000 + process::id();
    let client = Actor::new(&lab.client.namespace, uid);
    let opened = |service: &str, count: u32| {
        format!(
            "netsnoop_connections_opened_total{{role=\"client\",transport=\"tcp\",user=\"{uid}\",namespace=\"\",pod=\"\",service=\"{service}\"}} {count}"
        )
    };
    client.run(&format!("connect exchange {address}"));
    agent.wait_for_line(&opened("before", 1));
    agent.reload("services: [{nme: broken}]\n");
    agent.wait_for_line("netsnoop_config_reload_failures_total 1");
    let complaint = "n.yaml:1:13: services[0].nme: unknown key; is 'name' meant?";
    agent.wait_for(complaint, |agent| agent.said().contains(complaint).then_some(()));
    client.run(&format!("connect exchange {address}"));
    agent.wait_for_line(&opened("before", 2));
    agent.reload(&service("after"));
    agent.wait_for_line("netsnoop_config_reloads_total 1");
    client.run(&format!("connect exchange {address}"));
    agent.wait_for_line(&opened("after", 1));
    assert!(agent.stop().status.success());
}

#[test]
fn who_asks_and_does_not_listen_holds_up_nobody() {
    let name = "agent::who_asks_and_does_not_listen_holds_up_nobody";
    let Some(lab) = Lab::new(name) else { return };
    let agent = Agent::start(&lab.node, "", &[]);
    // More than it has places for: half of them say nothing, the others do not take what they ask for. Meanwhile others
    // are answered, as whoever is slow gives way.
    let slow: Vec<TcpStream> = lab.node.inside(|| {
        let connected = (0..16).map(|_| TcpStream::connect(LISTENS).unwrap());
        let half_asks = |(place, mut stream): (usize, TcpStream)| {
            if place % 2 == 0 {
                let asked = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n");
                // One that is turned away may be gone.
                let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                assert!(asked.map_or_else(|error| gone.contains(&error.kind()), |()| true));
            }
            stream
        };
        connected.enumerate().map(half_asks).collect()
    });
    agent.wait_for("an answer", |agent| agent.ask("/healthz").filter(|(status, _)| *status == 200));
    let address = lab.server.v4(7304);
    let _server = lab.server().serve(&format!("serve tcp {address}"));
    lab.client().run(&format!("connect exchange {address}"));
    let page = agent.page();
    drop(slow);
    assert!(page.contains("netsnoop_metrics_records_lost_total 0\n"), "{page}");
    assert!(!page.contains("netsnoop_http_refused_total 0\n"), "{page}");
    for (path, status) in [("/", 200), ("/nothing", 404)] {
        assert_eq!(agent.ask(path).map(|(status, _)| status), Some(status), "{path}");
    }
    assert!(agent.stop().status.success());
}

#[test]
fn what_is_in_the_way_is_said_before_anything_is_counted() {
    let name = "agent::what_is_in_the_way_is_said_before_anything_is_counted";
    let Some(lab) = Lab::new(name) else { return };
    let check = |settings: &str, arguments: &[&str], code: i32, words: &[&str]| {
        let ended = Agent::run(&lab.node, settings, arguments);
        assert_eq!(ended.status.code(), Some(code), "{settings}: {}", ended.complaint());
        for word in words {
            assert!(ended.complaint().contains(word), "no {word:?} in: {}", ended.complaint());
        }
    };
    check("outputs: {htp: 1}\n", &[], 2, &["n.yaml:1:11: outputs.htp: unknown key; is 'http' meant?"]);
    check("outputs: {htp: 1}\n", &["--check"], 2, &["is 'http' meant?"]);
    check("", &["--check"], 0, &[]);
    check("", &["--textfile", "/nonexistent/n.prom"], 1, &["/nonexistent/.n.prom.draft"]);
    check("outputs: {jsonl: {path: /nonexistent/n.jsonl}}\n", &[], 1, &["opening /nonexistent/n.jsonl"]);
    let first = Agent::start(&lab.node, "", &[]);
    check("", &[], 1, &[LISTENS, "in use"]);
    assert!(first.stop().status.success());
}

#[test]
fn a_full_disk_costs_records_which_are_counted_and_no_counts() {
    let name = "agent::a_full_disk_costs_records_which_are_counted_and_no_counts";
    let Some(lab) = Lab::new(name) else { return };
    let agent = Agent::start(&lab.node, "outputs: {http: , jsonl: {path: /dev/full}}\n", &[]);
    let address = lab.server.v4(7309);
    let _server = lab.server().serve(&format!("sink {address}"));
    let uid = 300_000 + process::id();
    // More than is held back to be written at once.
    Actor::new(&lab.client.namespace, uid).run(&format!("burst {address} 100 1"));
    agent.wait_for("records lost", |agent| {
        (!agent.page().contains("netsnoop_jsonl_rows_lost_total 0\n")).then_some(())
    });
    let counted = format!(
        "netsnoop_connections_opened_total{{role=\"client\",transport=\"tcp\",user=\"{uid}\",namespace=\"\",pod=\"\",service=\"\"}} 100"
    );
    agent.wait_for_line(&counted);
    assert!(agent.said().contains("No space left on device"), "{}", agent.said());
    assert!(agent.stop().status.success());
}

#[test]
fn a_textfile_that_cannot_be_written_for_a_while_is_counted_and_written_again() {
    let name = "agent::a_textfile_that_cannot_be_written_for_a_while_is_counted_and_written_again";
    let Some(lab) = Lab::new(name) else { return };
    let settings = "outputs: {http: , textfile: {path: '{folder}/below/n.prom', interval: 1s}}\n";
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("below")).unwrap();
    let settings = settings.replace("{folder}", folder.path().to_str().unwrap());
    let agent = Agent::start(&lab.node, &settings, &[]);
    let page = folder.path().join("below/n.prom");
    agent.wait_for("the textfile", |_| page.exists().then_some(()));
    fs::remove_dir_all(folder.path().join("below")).unwrap();
    agent.wait_for("a failure", |agent| {
        (!agent.page().contains("netsnoop_textfile_failures_total 0\n")).then_some(())
    });
    fs::create_dir(folder.path().join("below")).unwrap();
    agent.wait_for("the textfile again", |_| page.exists().then_some(()));
    agent.stop();
}
