//! What connections become in the page of metrics.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use netsnoop_core::attribution::{Attribution, Evidence, Reason};
use netsnoop_core::connection::{ConnectionId, ConnectionState, EndRecord, Exchanged, RecordEvent};
use netsnoop_core::process::{Container, Pod, ProcessFacts};
use netsnoop_core::service::{LearntName, NameKind};
use proptest::prelude::*;

use super::*;
use crate::config::parse_agent_settings;
use crate::sinks::samples;

/// Users by number.
struct People(HashMap<u32, &'static str>);

impl Names for People {
    fn name(&mut self, uid: u32, _now: Timestamp) -> Option<Arc<str>> {
        self.0.get(&uid).map(|name| Arc::from(*name))
    }
}

fn people() -> People {
    People(HashMap::from([(10_001, "tools.web"), (0, "root")]))
}

fn tally(settings: &str) -> Tally {
    let settings = parse_agent_settings(Path::new("n.yaml"), settings).unwrap();
    Tally::new(Arc::new(settings), second(0))
}

fn second(number: u64) -> Timestamp {
    Timestamp::from_nanos(number * 1_000_000_000)
}

/// A record of a connection of a user to a remote redis.
fn record(id: u64, event: RecordEvent, uid: u32) -> ConnectionRecord {
    let mut record = samples::to_a_remote_server();
    record.id = ConnectionId(id);
    record.event = event;
    record.state = ConnectionState::Established;
    record.client.attribution = Attribution::process(samples::process(7, "curl", uid), Evidence::KernelEvent);
    record.service = Some(samples::service("redis", "x"));
    if event == RecordEvent::Close {
        record.state = ConnectionState::Closed;
        record.untold = Exchanged { sent_bytes: 16, received_bytes: 2048 };
        record.duration = Some(Duration::from_millis(3));
    }
    record
}

fn feed(tally: &mut Tally, at: u64, record: ConnectionRecord) {
    tally.take(&Arc::new(record), second(at), &mut people());
}

fn page(tally: &Tally) -> String {
    let mut page = Page::default();
    write_tally(&mut page, tally);
    String::from_utf8(page.into_bytes()).unwrap()
}

#[track_caller]
fn must_say(tally: &Tally, lines: &[&str]) {
    let page = page(tally);
    for line in lines {
        assert!(page.lines().any(|known| known == *line), "{line} is not in\n{page}");
    }
}

const OF_WEB: &str = r#"role="client",transport="tcp",user="tools.web",namespace="",pod="",service="redis""#;

#[test]
fn a_connections_life_is_counted_once_each_time() {
    let mut tally = tally("");
    for event in [RecordEvent::Open, RecordEvent::Update, RecordEvent::Close] {
        feed(&mut tally, 1, record(1, event, 10_001));
    }
    let refused = ConnectionRecord {
        state: ConnectionState::Refused,
        untold: Exchanged::default(),
        ..record(2, RecordEvent::Close, 10_001)
    };
    feed(&mut tally, 1, record(2, RecordEvent::Open, 10_001));
    feed(&mut tally, 1, refused);
    must_say(
        &tally,
        &[
            &format!("netsnoop_connections_opened_total{{{OF_WEB}}} 2"),
            &format!("netsnoop_connections_closed_total{{{OF_WEB}}} 2"),
            &format!("netsnoop_connections_failed_total{{{OF_WEB}}} 1"),
            &format!("netsnoop_sent_bytes_total{{{OF_WEB}}} 16"),
            &format!("netsnoop_received_bytes_total{{{OF_WEB}}} 2048"),
            "netsnoop_node_connections_opened_total 2",
            "netsnoop_connection_duration_seconds_count{service=\"redis\"} 1",
            r#"netsnoop_attributions_total{end="client",level="process",evidence="kernel_event",reason=""} 2"#,
            "netsnoop_connections_undecided 0",
        ],
    );
}

#[test]
fn counts_go_on_after_a_restart() {
    let settings = "limits: {series: 20}\ntoolforge_metric: true\n";
    let mut before = tally(settings);
    feed(&mut before, 1, samples::between_two_processes());
    for id in 1..30 {
        let uid = 10_000 + u32::try_from(id).unwrap();
        feed(&mut before, 1, record(id, RecordEvent::Open, uid));
        feed(&mut before, 1, record(id, RecordEvent::Close, uid));
    }
    let epoch = saved::Epoch { counting_since: 1_795_291_200, boot_id: Some("b".into()) };
    let bytes = saved::write(&before, &epoch).unwrap();
    let mut after = tally(settings);
    assert_eq!(saved::read(&bytes, &mut after).unwrap(), epoch);
    assert_eq!(page(&after), page(&before));
    assert!(page(&before).contains("user=\"other\""), "{}", page(&before));

    // What is open already was counted as opened then; its end was not.
    after.resume();
    for event in [RecordEvent::Open, RecordEvent::Close] {
        feed(&mut after, 1, ConnectionRecord { preexisting: true, ..record(99, event, 10_001) });
    }
    let more = |count: u64| format!("netsnoop_connections_closed_total{{{OF_WEB}}} {count}");
    must_say(&before, &["netsnoop_node_connections_opened_total 29", &more(1)]);
    must_say(
        &after,
        &["netsnoop_node_connections_opened_total 29", "netsnoop_connections_resumed_total 1", &more(2)],
    );
}

#[test]
fn bytes_are_counted_while_a_connection_lives_and_the_rest_at_its_end() {
    let mut tally = tally("");
    let exchanged = |id, sent_bytes, client: Attribution| {
        let mut record = record(id, RecordEvent::Update, 10_001);
        (record.untold, record.client.attribution) = (Exchanged { sent_bytes, received_bytes: 1 }, client);
        record
    };
    let owner = || record(1, RecordEvent::Open, 10_001).client.attribution;
    feed(&mut tally, 1, record(1, RecordEvent::Open, 10_001));
    tally.take_progress(&exchanged(1, 100, owner()), second(2), &mut people());
    let sent = |count: u64| format!("netsnoop_sent_bytes_total{{{OF_WEB}}} {count}");
    must_say(&tally, &[&sent(100), "netsnoop_node_received_bytes_total 1"]);
    feed(&mut tally, 3, record(1, RecordEvent::Close, 10_001));
    must_say(&tally, &[&sent(116), "netsnoop_node_received_bytes_total 2049"]);

    // Whose owner is looked for has them counted with its opening; resumed ones too, without that.
    let unknown = || Attribution::unattributed(Reason::Pending);
    tally.resume();
    for (id, preexisting) in [(2, false), (3, true)] {
        let opened = ConnectionRecord { preexisting, ..record(id, RecordEvent::Open, 10_001) };
        let pending = EndRecord { attribution: unknown(), ..opened.client.clone() };
        feed(&mut tally, 4, ConnectionRecord { client: pending, ..opened.clone() });
        tally.take_progress(&exchanged(id, 1000, unknown()), second(4), &mut people());
        tally.take_progress(&exchanged(id, 500, unknown()), second(4), &mut people());
        assert_eq!(tally.node.sent_bytes, 116 + 1500 * (id - 2));
        feed(&mut tally, 5, ConnectionRecord { event: RecordEvent::Update, ..opened });
    }
    must_say(&tally, &[&sent(3116), "netsnoop_node_received_bytes_total 2053"]);
    must_say(&tally, &["netsnoop_connections_resumed_total 1", "netsnoop_node_connections_opened_total 2"]);
}

#[test]
fn what_holds_no_counts_is_told_and_changes_nothing() {
    let mut written = tally("");
    feed(&mut written, 1, record(1, RecordEvent::Open, 10_001));
    let epoch = saved::Epoch { counting_since: 1, boot_id: None };
    let good = String::from_utf8(saved::write(&written, &epoch).unwrap()).unwrap();
    let check = |text: &str, expected: &str| {
        let mut tally = tally("");
        let error = format!("{:#}", saved::read(text.as_bytes(), &mut tally).unwrap_err());
        assert!(error.contains(expected), "{error}");
        assert_eq!(tally.node, Counts::default(), "{text}");
    };
    check("", "no counts of netsnoop");
    check("{\"version\":1}", "no counts of netsnoop");
    check(&good[..good.len() - 9], "EOF");
    check(&good.replace("\"netsnoop_state\":1", "\"netsnoop_state\":2"), "its version is 2");
    check(&good.replace("\"role\":\"client\"", "\"role\":\"x\""), "'x' is not known here");
    check(&good.replace("kernel_event", "hearsay"), "'hearsay' is not known here");
    check(&good.replace("\"opened\":1", "\"opened\":-1"), "not understood");
}

#[test]
fn counting_waits_for_what_the_owners_pod_is_called() {
    let with = |event, names_follow, name: Option<&str>| {
        let mut record = record(1, event, 10_001);
        let pod = Pod { uid: "uid-1".into(), name: name.map(Into::into), ..Pod::default() };
        let container = Container { id: "4f9c".into(), runtime: None, pod: Some(Arc::new(pod)), name: None };
        let facts = ProcessFacts { container: Some(container), names_follow, ..ProcessFacts::default() };
        record.client.facts = Some(Arc::new(facts));
        record
    };
    let check = |names_follow, name, counted| {
        let mut tally = tally("");
        feed(&mut tally, 1, with(RecordEvent::Open, names_follow, name));
        assert_eq!(tally.node.opened, counted, "{names_follow} {name:?}");
    };
    check(true, None, 0);
    check(false, None, 1);
    // The container's own name is no label.
    check(true, Some("web-1"), 1);
    let mut tally = tally("");
    feed(&mut tally, 1, with(RecordEvent::Open, true, None));
    feed(&mut tally, 2, with(RecordEvent::Update, false, Some("web-1")));
    assert_eq!((tally.node.opened, tally.undecided()), (1, 0));
}

#[test]
fn at_the_end_nothing_is_waited_for() {
    let mut tally = tally("");
    let mut pending = record(1, RecordEvent::Open, 10_001);
    pending.client.attribution = Attribution::unattributed(Reason::Pending);
    feed(&mut tally, 1, pending);
    must_say(&tally, &["netsnoop_node_connections_opened_total 0", "netsnoop_connections_undecided 1"]);
    tally.settle(second(1), &mut people());
    must_say(&tally, &["netsnoop_node_connections_opened_total 1", "netsnoop_connections_undecided 0"]);
}

#[test]
fn a_pods_connection_is_of_its_pod_and_one_from_outside_of_the_server() {
    let mut tally = tally("");
    feed(&mut tally, 1, samples::between_two_processes());
    let mut incoming = record(2, RecordEvent::Open, 10_001);
    std::mem::swap(&mut incoming.client, &mut incoming.server);
    feed(&mut tally, 1, incoming);
    must_say(
        &tally,
        &[
            r#"netsnoop_connections_closed_total{role="client",transport="tcp",user="tools.web",namespace="tools",pod="web-1",service="redis"} 1"#,
            r#"netsnoop_connections_opened_total{role="server",transport="tcp",user="tools.web",namespace="",pod="",service="redis"} 1"#,
        ],
    );
}

#[test]
fn counting_waits_for_an_owner_that_is_looked_for_but_not_for_ever() {
    let pending = |id, event| {
        let mut record = record(id, event, 10_001);
        record.client.attribution = Attribution::unattributed(Reason::Pending);
        record
    };
    let mut tally = tally("");
    feed(&mut tally, 1, pending(1, RecordEvent::Open));
    feed(&mut tally, 1, pending(2, RecordEvent::Open));
    feed(&mut tally, 1, pending(3, RecordEvent::Open));
    feed(&mut tally, 2, record(1, RecordEvent::Update, 10_001));
    feed(&mut tally, 2, record(2, RecordEvent::Close, 10_001));
    tally.let_pass(second(5), &mut people());
    assert_eq!((tally.node.opened, tally.undecided()), (2, 1));
    tally.let_pass(second(6), &mut people());
    assert_eq!((tally.node.opened, tally.undecided()), (3, 0));
    feed(&mut tally, 7, record(3, RecordEvent::Update, 10_001));
    must_say(
        &tally,
        &[
            &format!("netsnoop_connections_opened_total{{{OF_WEB}}} 2"),
            r#"netsnoop_connections_opened_total{role="client",transport="tcp",user="",namespace="",pod="",service="redis"} 1"#,
        ],
    );
}

#[test]
fn counting_waits_for_a_name_that_may_make_it_another_service() {
    let mut tally = tally("services: [{name: api, sni: a.example, ports: 443}]\n");
    let nameless = |id, event| ConnectionRecord { service: None, ..record(id, event, 10_001) };
    let named = ConnectionRecord {
        service: Some(samples::service("api", "sni a.example:443")),
        names: vec![LearntName::new(NameKind::Sni, "a.example")],
        ..record(1, RecordEvent::Update, 10_001)
    };
    feed(&mut tally, 1, nameless(1, RecordEvent::Open));
    feed(&mut tally, 1, nameless(2, RecordEvent::Open));
    assert_eq!(tally.node.opened, 0);
    feed(&mut tally, 1, named);
    tally.let_pass(second(6), &mut people());
    must_say(
        &tally,
        &[
            r#"netsnoop_connections_opened_total{role="client",transport="tcp",user="tools.web",namespace="",pod="",service="api"} 1"#,
            r#"netsnoop_connections_opened_total{role="client",transport="tcp",user="tools.web",namespace="",pod="",service=""} 1"#,
        ],
    );
}

#[test]
fn users_and_destinations_that_are_not_wanted_are_left_out_and_counted() {
    let mut tally =
        tally("users: {include: ['tools.*'], exclude: [root]}\nips_to_listen_to: [198.18.1.13]\n");
    let to = |id, uid, address: &str| {
        let mut record = record(id, RecordEvent::Open, uid);
        record.server.endpoint.address = address.parse().unwrap();
        record
    };
    feed(&mut tally, 1, to(1, 10_001, "198.18.1.13"));
    feed(&mut tally, 1, to(2, 0, "198.18.1.13"));
    feed(&mut tally, 1, to(3, 77, "198.18.1.13"));
    feed(&mut tally, 1, to(4, 10_001, "198.18.1.14"));
    assert_eq!((tally.node.opened, tally.left_out), (1, 3));
}

#[test]
fn the_ancestors_metric_counts_tools_and_what_they_depend_on() {
    let mut ancestral = tally("interesting_users_prefix: tools.\n");
    for id in 0..3 {
        feed(&mut ancestral, 1, record(id, RecordEvent::Open, 10_001));
    }
    feed(&mut ancestral, 1, ConnectionRecord { service: None, ..record(4, RecordEvent::Open, 10_001) });
    must_say(
        &ancestral,
        &[
            "# TYPE toolforge_internal_dependencies_total counter",
            "toolforge_internal_dependencies_total{tool=\"tools.web\",dependency=\"redis\"} 3",
        ],
    );
    assert!(!page(&tally("")).contains("toolforge"));
}

#[test]
fn services_that_are_found_do_not_grow_what_is_held() {
    let mut tally = tally("limits: {series: 10}\n");
    for id in 0..2000 {
        let mut record = record(id, RecordEvent::Close, 10_001);
        record.service = Some(samples::service(&format!("found-{id}"), "x"));
        feed(&mut tally, 1, record);
    }
    assert_eq!(tally.series.size(), (10, 10));
    assert!(tally.series.iter().count() <= 12, "{}", tally.series.iter().count());
    assert!(tally.durations.len() <= 257, "{}", tally.durations.len());
    assert_eq!(tally.node.closed, 2000);
    assert_eq!(tally.series.iter().map(|(_, counts)| counts.closed).sum::<u64>(), 2000);
}

proptest! {
    /// Whatever order lines come in, what is told by series adds up to what is told of the node.
    #[test]
    fn series_add_up_to_the_node(
        lines in proptest::collection::vec((0_u64..20, 0_usize..3, 0_u32..30, any::<bool>()), 0..200)
    ) {
        let mut tally = tally("limits: {series: 5}\n");
        for (id, event, uid, pending) in lines {
            let mut record = record(id, RecordEvent::ALL[event], uid);
            if pending {
                record.client.attribution = Attribution::unattributed(Reason::Pending);
            }
            feed(&mut tally, 1, record);
        }
        tally.let_pass(second(10), &mut people());
        let sum = |of: fn(&Counts) -> u64| tally.series.iter().map(|(_, counts)| of(counts)).sum::<u64>();
        prop_assert_eq!(sum(|counts| counts.opened), tally.node.opened);
        prop_assert_eq!(sum(|counts| counts.closed), tally.node.closed);
        prop_assert_eq!(sum(|counts| counts.sent_bytes), tally.node.sent_bytes);
        prop_assert_eq!(tally.undecided(), 0);
    }
}
