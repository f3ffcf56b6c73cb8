//! Pods of a real containerd: their names on both ends of what they say to each other and to the outside, in every command,
//! and how soon.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lab::agent::Agent;
use crate::lab::containerd::Containerd;
use crate::lab::records::{End, Record, Schema};
use crate::lab::watch::Watch;
use crate::lab::{Actor, Lab, Namespace, netsnoop, patience};

const SHOP: &str = "0f5a1c2e-7d3b-4e6f-9a8b-1c2d3e4f5a6b";
const TOOLS: &str = "5ba8ffd4-0e0c-4d0c-9d3a-6e3b1b9a1c22";
/// How long a container's first connection may be without names where the machine has nothing else to do.
const PROMPT: Duration = Duration::from_secs(1);

/// Namespace, pod, uid of the pod, and container of Kubernetes.
fn names(k8s: Option<&Value>) -> [Option<&str>; 4] {
    let name = |pointer: &str| k8s.and_then(|k8s| k8s.pointer(pointer)).and_then(Value::as_str);
    [name("/namespace/name"), name("/pod/name"), name("/pod/uid"), name("/container/name")]
}

fn is_at(end: &End, place: [&str; 4]) -> bool {
    names(end.k8s.as_ref()) == place.map(Some)
}

/// Starts a container and waits until `find` has it with its names. From its start by its own stamps to then is at most a
/// second; or, where others keep the machine busy, what ten starts of containers take there, which is about as much for a
/// quiet one. Returns its id.
fn started_and_named(
    containerd: &mut Containerd,
    start: impl FnOnce(&mut Containerd) -> String,
    find: impl FnOnce(&str),
) -> String {
    let asked = Instant::now();
    let id = start(containerd);
    let starting = asked.elapsed();
    find(&id);
    let named = jiff::Timestamp::now();
    let after = named.duration_since(containerd.began(&id)).unsigned_abs();
    assert!(after <= PROMPT.max(starting * 10), "named {after:?} after its start, which took {starting:?}");
    id
}

#[test]
fn pods_that_talk_are_named_on_both_ends_and_so_is_a_container_of_a_moment() {
    let name = "containerd::pods_that_talk_are_named_on_both_ends_and_so_is_a_container_of_a_moment";
    let Some(lab) = Lab::new(name) else { return };
    let Some(mut containerd) = Containerd::start(name, &lab) else { return };
    let outside = lab.add_outside();
    outside.ip("route add 198.18.79.0/24 via 198.18.78.1");
    let abroad = Actor::new(&outside, 10003).serve("serve tcp 198.18.78.2:7401");
    let socket = containerd.socket().display().to_string();
    let watch = Watch::start(
        &lab,
        &format!("-i any --runtime-socket {socket} --pod-label app.kubernetes.io/name --pod-label absent"),
    );
    // The pods come while it watches.
    let shop = containerd.run_pod("shop", "web-1", SHOP);
    let tools = containerd.run_pod("tools", "cron-1", TOOLS);
    let web = containerd.run_container(&shop, "app", "httpd -f -p 8080 -h /bin");
    let fetch = format!("wget -q -O /dev/null http://{}:8080/busybox", shop.address);
    // Each of these containers lives as long as one request, which takes less than 50 ms.
    for container in ["first", "second"] {
        let (client, server) = (["tools", "cron-1", TOOLS, container], ["shop", "web-1", SHOP, "app"]);
        let start = |containerd: &mut Containerd| containerd.run_container(&tools, container, &fetch);
        started_and_named(&mut containerd, start, |ours| {
            let record = watch.wait_for("a container of a moment", |record: &Record| {
                record.server.port == 8080 && is_at(&record.client, client) && is_at(&record.server, server)
            });
            for (end, id) in [(&record.client, ours), (&record.server, &web)] {
                let container = end.container.as_ref().unwrap();
                let known = (&*container.id, container.runtime.as_deref());
                assert_eq!(known, (id, Some("containerd")), "{record:#?}");
            }
        });
    }
    containerd.run_container(&tools, "knocks", &format!("nc {} 81", shop.address));
    watch.wait_for("a port that nobody serves, in the pod that was meant", |record| {
        let pod = [Some("shop"), Some("web-1"), Some(SHOP), None];
        let (client, server) = (&record.client, &record.server);
        server.port == 81
            && is_at(client, ["tools", "cron-1", TOOLS, "knocks"])
            && server.process.is_none()
            && names(server.k8s.as_ref()) == pod
    });
    containerd.run_container(&shop, "worker", "nc 198.18.78.2 7401");
    abroad.wait_for("accept");
    watch.wait_for("what goes out", |record| {
        let labels = record.client.k8s.as_ref().and_then(|k8s| k8s.pointer("/pod/label"));
        record.server.port == 7401
            && is_at(&record.client, ["shop", "web-1", SHOP, "worker"])
            && labels == Some(&json!({"app.kubernetes.io/name": "web-1"}))
    });
    assert!(watch.stop().status.success());
}

#[test]
fn agent_counts_and_records_a_container_of_a_moment_with_its_pod() {
    let name = "containerd::agent_counts_and_records_a_container_of_a_moment_with_its_pod";
    let Some(lab) = Lab::new(name) else { return };
    let Some(mut containerd) = Containerd::start(name, &lab) else { return };
    let socket = containerd.socket().display().to_string();
    let settings = "services:\n- {name: shop, addresses: 198.18.79.0/24, ports: 8080}\n\
        outputs: {http: {listen: '127.0.0.1:9774'}, jsonl: {path: '{folder}/records'}}\n";
    let shop = containerd.run_pod("shop", "web-1", SHOP);
    containerd.run_container(&shop, "app", "httpd -f -p 8080 -h /bin");
    // Pods that were there before have their names too.
    let agent = Agent::start(&lab.node, settings, &["--runtime-socket", &socket]);
    let tools = containerd.run_pod("tools", "cron-1", TOOLS);
    let fetch = format!("wget -q -O /dev/null http://{}:8080/busybox", shop.address);
    let start = |containerd: &mut Containerd| containerd.run_container(&tools, "job", &fetch);
    started_and_named(&mut containerd, start, |_| {
        agent.wait_for_line(
            "netsnoop_connections_opened_total{role=\"client\",transport=\"tcp\",user=\"root\",namespace=\"tools\",pod=\"cron-1\",service=\"shop\"} 1",
        );
        let schema = Schema::read();
        agent.wait_for("record that names both ends", |agent| {
            let written = fs::read_to_string(agent.file("records")).unwrap();
            // The last line may still be written.
            let whole = written.rsplit_once('\n')?.0;
            let mut records = whole.lines().map(|line| schema.parse(line));
            records.find(|record| {
                is_at(&record.client, ["tools", "cron-1", TOOLS, "job"])
                    && is_at(&record.server, ["shop", "web-1", SHOP, "app"])
            })
        });
    });
    assert!(agent.stop().status.success());
}

/// Whose the sockets are that `netsnoop list` shows with more arguments, sorted.
fn listed(node: &Namespace, socket: &str, arguments: &[&str]) -> Vec<[Option<String>; 4]> {
    let mut list = node.command(netsnoop());
    list.args(["list", "-n", "-t", "-o", "jsonl", "--runtime-socket", socket]).args(arguments);
    let listed = Watch::spawn(&mut list).wait();
    assert!(listed.status.success(), "{}", listed.complaint());
    let sockets = listed.stdout.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let owner = |socket: Value| names(socket.pointer("/holders/0/k8s")).map(|name| name.map(Into::into));
    let mut owners: Vec<_> = sockets.map(owner).collect();
    owners.sort_unstable();
    owners
}

/// Lists until these are the owners.
fn list_until(node: &Namespace, socket: &str, arguments: &[&str], owners: &[[&str; 4]]) {
    let owners: Vec<_> = owners.iter().map(|owner| owner.map(|name| Some(name.to_owned()))).collect();
    let deadline = Instant::now() + patience();
    loop {
        let found = listed(node, socket, arguments);
        if found == owners {
            return;
        }
        assert!(Instant::now() < deadline, "{arguments:?}: {found:?}");
    }
}

#[test]
fn list_names_the_pods_of_both_ends() {
    let name = "containerd::list_names_the_pods_of_both_ends";
    let Some(lab) = Lab::new(name) else { return };
    let Some(mut containerd) = Containerd::start(name, &lab) else { return };
    let socket = containerd.socket().display().to_string();
    let (server, client) = (["shop", "web-1", SHOP, "app"], ["tools", "cron-1", TOOLS, "job"]);
    let shop = containerd.run_pod("shop", "web-1", SHOP);
    // Who is connected to this stays so.
    containerd.run_container(&shop, "app", "nc -ll -p 8080 -e /bin/busybox sleep 1000000");
    list_until(&lab.node, &socket, &["-l", "--pod", "shop/web-1"], &[server]);
    let tools = containerd.run_pod("tools", "cron-1", TOOLS);
    let connect = format!("nc {} 8080 -e /bin/busybox sleep 1000000", shop.address);
    let start = |containerd: &mut Containerd| containerd.run_container(&tools, "job", &connect);
    started_and_named(&mut containerd, start, |_| {
        let established = ["state", "established", "sport", "=", ":8080", "or", "dport", "=", ":8080"];
        list_until(&lab.node, &socket, &established, &[server, client]);
    });
}
