//! The agent when it ends and begins again, in order or not: what it counted is not lost.

use std::fs;
use std::process;

use crate::lab::agent::Agent;
use crate::lab::prometheus::Prometheus;
use crate::lab::{Actor, Lab};

/// One that writes its counts every second, and one that writes them at its end alone.
const OFTEN: &str = "state: {path: '{folder}/state.json', interval: 1s}\n";
const SELDOM: &str = "state: {path: '{folder}/state.json', interval: 1h}\n";
const SERVICES: &str = "services: [{name: shop, addresses: 198.18.77.11}]\n";

/// A series of the connections of one user to the shop.
fn series(event: &str, uid: u32) -> String {
    format!(
        "netsnoop_connections_{event}_total{{role=\"client\",transport=\"tcp\",user=\"{uid}\",namespace=\"\",pod=\"\",service=\"shop\"}}"
    )
}

/// How many connections of this user the state file has as ended.
fn saved(agent: &Agent<'_>, uid: u32) -> Option<u64> {
    let text = fs::read(agent.file("state.json")).ok()?;
    let saved: serde_json::Value =
        serde_json::from_slice(&text).expect("it is whole whenever it is looked at");
    let user = uid.to_string();
    let mut series = saved["series"].as_array().unwrap().iter();
    series.find(|series| series["user"] == user && series["role"] == "client")?["closed"].as_u64()
}

#[test]
fn a_crash_does_not_make_a_count_fall() {
    let name = "restarts::a_crash_does_not_make_a_count_fall";
    let Some(lab) = Lab::with(name, &["prometheus", "promtool"]) else { return };
    let agent = Agent::start(&lab.node, &format!("{SERVICES}{OFTEN}"), &[]);
    let prometheus = Prometheus::start(&lab);
    let shop = lab.server.v4(7305);
    let _server = lab.server().serve(&format!("serve tcp {shop}"));
    let uid = 200_000 + process::id();
    let client = Actor::new(&lab.client.namespace, uid);
    let (opened, closed) = (series("opened", uid), series("closed", uid));
    // One that outlives the agent.
    let held = client.start(&format!("connect hold {shop}"));
    held.wait_for("connect");
    (0..5).for_each(|_| drop(client.run(&format!("connect exchange {shop}"))));
    agent.wait_for_line(&format!("{opened} 6"));
    agent.wait_for("all in the state file", |agent| (saved(agent, uid) == Some(5)).then_some(()));
    let has = |count: u32| prometheus.query(&closed).contains(&format!("=> {count} @")).then_some(());
    agent.wait_for("Prometheus to have 5", |_| has(5));

    let agent = agent.crash_and_restart(&[]);
    agent.wait_for_line(&format!("{closed} 5"));
    (0..3).for_each(|_| drop(client.run(&format!("connect exchange {shop}"))));
    held.finish();
    agent.wait_for_line(&format!("{closed} 9"));
    agent.wait_for_line(&format!("{opened} 9"));
    agent.wait_for("Prometheus to have 9", |_| has(9));
    // Not the node's: what other programs on the machine did just before the crash is lost with it.
    for metric in [closed, opened] {
        let resets = prometheus.query(&format!("sum(resets({metric}[1h]))"));
        assert!(resets.contains("=> 0 @"), "{metric}: {resets}");
    }
    let page = agent.page();
    assert!(!page.contains("netsnoop_connections_resumed_total 0\n"), "{page}");
    drop(prometheus);
    assert!(agent.stop().status.success());
}

#[test]
fn an_end_in_order_loses_nothing_and_a_torn_file_stops_nobody() {
    let name = "restarts::an_end_in_order_loses_nothing_and_a_torn_file_stops_nobody";
    let Some(lab) = Lab::new(name) else { return };
    let agent = Agent::start(&lab.node, &format!("{SERVICES}{SELDOM}"), &[]);
    let shop = lab.server.v4(7306);
    let _server = lab.server().serve(&format!("serve tcp {shop}"));
    let uid = 200_000 + process::id();
    let client = Actor::new(&lab.client.namespace, uid);
    let closed = series("closed", uid);
    client.run(&format!("connect exchange {shop}"));
    agent.wait_for_line(&format!("{closed} 1"));

    let agent = agent.restart(&[]);
    agent.wait_for_line(&format!("{closed} 1"));
    let second = format!("state: {{path: '{}'}}\n", agent.file("state.json").display());
    let refused = Agent::run(&lab.node, &second, &["--listen", "127.0.0.1:9775"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.complaint().contains("another netsnoop keeps its counts there"),
        "{}",
        refused.complaint()
    );

    let torn = &fs::read(agent.file("state.json")).unwrap()[..99];
    fs::write(agent.file("state.json"), torn).unwrap();
    let agent = agent.crash_and_restart(&[]);
    assert!(agent.said().contains("state.json.broken, and counting begins anew"), "{}", agent.said());
    assert_eq!(fs::read(agent.file("state.json.broken")).unwrap(), torn);
    agent.wait_for_line("netsnoop_state_put_aside_total 1");
    assert!(!agent.page().contains(&closed), "{}", agent.page());
    assert!(agent.stop().status.success());
}
