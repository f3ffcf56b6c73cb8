//! Pods of a real containerd: their names on both ends of what they say to each other and to the outside, in every command.

use serde_json::Value;

use crate::lab::agent::Agent;
use crate::lab::containerd::Containerd;
use crate::lab::records::{End, Record};
use crate::lab::watch::Watch;
use crate::lab::{Actor, Lab, netsnoop};

const SHOP: &str = "0f5a1c2e-7d3b-4e6f-9a8b-1c2d3e4f5a6b";
const TOOLS: &str = "5ba8ffd4-0e0c-4d0c-9d3a-6e3b1b9a1c22";

/// Namespace, pod, uid of the pod, and container of Kubernetes.
fn names(k8s: Option<&Value>) -> [Option<&str>; 4] {
    let name = |pointer: &str| k8s.and_then(|k8s| k8s.pointer(pointer)).and_then(Value::as_str);
    [name("/namespace/name"), name("/pod/name"), name("/pod/uid"), name("/container/name")]
}

fn is_at(end: &End, place: [&str; 4]) -> bool {
    names(end.k8s.as_ref()) == place.map(Some)
}

#[test]
fn pods_that_talk_are_named_on_both_ends_and_so_is_a_container_of_a_moment() {
    let name = "containerd::pods_that_talk_are_named_on_both_ends_and_so_is_a_container_of_a_moment";
    let Some(lab) = Lab::new(name) else { return };
    let Some(mut containerd) = Containerd::start(name, &lab) else { return };
    let outside = lab.add_outside();
    outside.ip("route add 198.18.79.0/24 via 198.18.78.1");
    let abroad = Actor::new(&outside, 10003).serve("serve tcp 198.18.78.2:7401");
    let watch = Watch::start(&lab, &format!("-i any --runtime-socket {}", containerd.socket().display()));
    // The pods come while it watches.
    let shop = containerd.run_pod("shop", "web-1", SHOP);
    let tools = containerd.run_pod("tools", "cron-1", TOOLS);
    let web = containerd.run_container(&shop, "app", "httpd -f -p 8080 -h /bin");
    let fetch = format!("wget -q -O /dev/null http://{}:8080/busybox", shop.address);
    // Each of these containers lives as long as one request.
    for container in ["first", "second"] {
        let ours = containerd.run_container(&tools, container, &fetch);
        let (client, server) = (["tools", "cron-1", TOOLS, container], ["shop", "web-1", SHOP, "app"]);
        let record = watch.wait_for("a container of a moment", |record: &Record| {
            record.server.port == 8080 && is_at(&record.client, client) && is_at(&record.server, server)
        });
        for (end, id) in [(&record.client, &ours), (&record.server, &web)] {
            let container = end.container.as_ref().unwrap();
            assert_eq!(
                (&container.id, container.runtime.as_deref()),
                (id, Some("containerd")),
                "{record:#?}"
            );
        }
    }
    containerd.run_container(&shop, "worker", "nc 198.18.78.2 7401");
    abroad.wait_for("accept");
    watch.wait_for("what goes out", |record| {
        record.server.port == 7401 && is_at(&record.client, ["shop", "web-1", SHOP, "worker"])
    });
    assert!(watch.stop().status.success());
}

#[test]
fn list_and_agent_name_the_pods_of_a_container_runtime() {
    let name = "containerd::list_and_agent_name_the_pods_of_a_container_runtime";
    let Some(lab) = Lab::new(name) else { return };
    let Some(mut containerd) = Containerd::start(name, &lab) else { return };
    let socket = containerd.socket().display().to_string();
    let settings = "services:\n- {name: shop, addresses: 198.18.79.0/24, ports: 8080}\n";
    let shop = containerd.run_pod("shop", "web-1", SHOP);
    containerd.run_container(&shop, "app", "httpd -f -p 8080 -h /bin");
    // Pods that were there before have their names too.
    let agent = Agent::start(&lab.node, settings, &["--runtime-socket", &socket]);
    let tools = containerd.run_pod("tools", "cron-1", TOOLS);
    containerd.run_container(
        &tools,
        "job",
        &format!("wget -q -O /dev/null http://{}:8080/busybox", shop.address),
    );
    agent.wait_for_line(
        "netsnoop_connections_opened_total{role=\"client\",transport=\"tcp\",user=\"root\",namespace=\"tools\",pod=\"cron-1\",service=\"shop\"} 1",
    );
    assert!(agent.stop().status.success());
    let mut list = lab.node.command(netsnoop());
    list.args(["list", "-n", "-o", "jsonl", "-l", "-t", "--pod", "shop/web-1", "--runtime-socket", &socket]);
    let listed = Watch::spawn(&mut list).wait();
    assert!(listed.status.success(), "{}", listed.complaint());
    let sockets: Vec<Value> = listed.stdout.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(sockets.len(), 1, "{sockets:#?}");
    let place = names(sockets[0].pointer("/holders/0/k8s"));
    assert_eq!(place, ["shop", "web-1", SHOP, "app"].map(Some));
}
