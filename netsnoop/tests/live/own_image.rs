//! netsnoop from the image that is handed out, in a real containerd, as the DaemonSet has it.

use std::env;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::agent::ask;
use crate::lab::containerd::{Containerd, CriPod};
use crate::lab::cri::{ContainerConfig, Name};
use crate::lab::daemon_set::{DaemonSet, Node};
use crate::lab::ledger::Ledger;
use crate::lab::records::{End, Record, Schema};
use crate::lab::{Actor, Lab, patience, skip};

/// Of the lab's node on its bridge.
const ADDRESS: &str = "198.18.77.1";
const OURS: &str = "7f1d2c3b-4a59-4687-9b8a-0c1d2e3f4a5b";
const SHOP: &str = "2b6f0cc9-04d1-4e0f-8b8e-3f5a7c9d1e2f";
const TOOLS: &str = "9c8b7a69-5e4d-4c3b-a291-807f6e5d4c3b";
/// Between two looks at what a container has written or tells.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks until there is an answer.
#[track_caller]
fn wait_for<T>(what: &str, said: impl Fn() -> String, find: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + patience();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what}:\n{}", said());
        thread::sleep(LOOK_EVERY);
    }
}

/// Whether these are the names of a namespace, pod and container.
fn are(k8s: Option<&Value>, place: [&str; 3]) -> bool {
    let name = |pointer: &str| k8s.and_then(|k8s| k8s.pointer(pointer)).and_then(Value::as_str);
    [name("/namespace/name"), name("/pod/name"), name("/container/name")] == place.map(Some)
}

/// Whether it is a process there: pids are the machine's.
fn is_at(end: &End, place: [&str; 3]) -> bool {
    are(end.k8s.as_ref(), place) && end.process.as_ref().is_some_and(|process| process.name == "busybox")
}

/// The agent and a `watch` with its rights, in a pod of containerd's.
struct Installed<'a> {
    lab: &'a Lab,
    containerd: Containerd,
    pod: CriPod,
    /// The agent's container, and what others are made like.
    container: ContainerConfig,
    agent: String,
    watch: String,
}

impl<'a> Installed<'a> {
    fn new(lab: &'a Lab, mut containerd: Containerd, image: &Path) -> Self {
        containerd.import(image);
        let set = DaemonSet::read();
        let folder = containerd.folder().to_owned();
        let [config, links, logs] = ["config", "container-logs", "pod-logs"].map(|name| folder.join(name));
        for folder in [&config, &links, &logs] {
            fs::create_dir(folder).unwrap();
        }
        fs::write(config.join("netsnoop.yaml"), DaemonSet::settings()).unwrap();
        let folders =
            [("/run/containerd", &*folder), ("/var/log/containers", &*links), ("/var/log/pods", &*logs)];
        let node = Node { name: "node-1", address: ADDRESS, folders: &folders, config: &config };
        let pod = containerd.run_pod_in("monitoring", "netsnoop-abcde", OURS, set.namespaces());
        let container = set.container_on(&node);
        let watching = with_arguments(&container, "watch", "watch -o jsonl -i any net 198.18.79.0/24");
        let agent = containerd.start_container(&pod, container.clone());
        let watch = containerd.start_container(&pod, watching);
        let installed = Self { lab, containerd, pod, container, agent, watch };
        installed.wait_for("readiness", || (installed.ask("/readyz")?.0 == 200).then_some(()));
        let is_ready = |line: &String| line.contains(" network namespace") && line.ends_with(" known");
        installed.wait_for("watch", || installed.watch_wrote()[1].iter().any(is_ready).then_some(()));
        installed
    }

    fn ask(&self, path: &str) -> Option<(u16, String)> {
        ask(&self.lab.node, &format!("{ADDRESS}:9774"), path)
    }

    fn watch_wrote(&self) -> [Vec<String>; 2] {
        self.containerd.written(&self.pod, "watch.log")
    }

    #[track_caller]
    fn wait_for<T>(&self, what: &str, find: impl Fn() -> Option<T>) -> T {
        let said = || {
            let [agent, watch] =
                ["netsnoop.log", "watch.log"].map(|log| self.containerd.written(&self.pod, log));
            format!("{}\n{}\n{}", agent[1].join("\n"), watch[1].join("\n"), watch[0].join("\n"))
        };
        wait_for(what, said, find)
    }

    /// Waits for a record that fits.
    #[track_caller]
    fn wait_for_record(&self, what: &str, fits: impl Fn(&Record) -> bool) {
        let schema = Schema::read();
        self.wait_for(what, || {
            self.watch_wrote()[0].iter().any(|line| fits(&schema.parse(line))).then_some(())
        });
    }

    /// Runs `list` in one container after the other until it names who listens on this port.
    fn list_until_named(&mut self, port: u16, place: [&str; 3]) {
        let deadline = Instant::now() + patience();
        for name in (1..).map(|attempt| format!("list-{attempt}")) {
            let listing =
                with_arguments(&self.container, &name, &format!("list -n -l -t -o jsonl --port {port}"));
            let log = listing.log_path.clone();
            self.containerd.start_container(&self.pod, listing);
            let listed = || Some(self.containerd.written(&self.pod, &log)[0].clone());
            let rows = self.wait_for("listener", || listed().filter(|rows| !rows.is_empty()));
            let rows = rows.iter().map(|row| serde_json::from_str::<Value>(row).unwrap());
            let rows: Vec<Value> = rows.collect();
            if rows.iter().any(|row| are(row.pointer("/holders/0/k8s"), place)) {
                return;
            }
            assert!(Instant::now() < deadline, "{rows:#?}");
        }
    }

    /// Waits until a pod is counted as the client of connections. Which name its user has is the node's, whose
    /// passwd file may be closed to us on the machine of a test.
    #[track_caller]
    fn wait_for_count(&self, namespace: &str, pod: &str) {
        let labels = format!("namespace=\"{namespace}\",pod=\"{pod}\"");
        let counts = |line: &str| {
            line.starts_with("netsnoop_connections_opened_total{role=\"client\",transport=\"tcp\"")
                && line.contains(&labels)
                && !line.ends_with(" 0")
        };
        self.wait_for(&labels, || self.ask("/metrics")?.1.lines().any(counts).then_some(()));
    }

    /// Ends both as a kubelet does; their books must balance.
    fn stop(mut self) {
        for (id, log) in [(self.agent, "netsnoop.log"), (self.watch, "watch.log")] {
            self.containerd.stop_container(id);
            let [_, complaint] = self.containerd.written(&self.pod, log);
            Ledger::parse(&complaint.join("\n")).must_balance();
        }
    }
}

/// The same container otherwise named, with other arguments.
fn with_arguments(container: &ContainerConfig, name: &str, arguments: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(Name { name: name.into() }),
        args: arguments.split(' ').map(Into::into).collect(),
        log_path: format!("{name}.log"),
        ..container.clone()
    }
}

#[test]
fn as_the_daemon_set_has_it_it_names_pods_on_both_ends() {
    let name = "own_image::as_the_daemon_set_has_it_it_names_pods_on_both_ends";
    let Some(lab) = Lab::new(name) else { return };
    let Some(image) = env::var_os("NETSNOOP_IMAGE_UNDER_TEST") else {
        skip(name, "there is no image; `cargo xtask test` makes one where it can");
        return;
    };
    let Some(containerd) = Containerd::start_with_pids_of_machine(name, &lab) else { return };
    let outside = lab.add_outside();
    outside.ip("route add 198.18.79.0/24 via 198.18.78.1");
    let abroad = Actor::new(&outside, 10003).serve("serve tcp 198.18.78.2:7401");
    let mut installed = Installed::new(&lab, containerd, Path::new(&image));
    let containerd = &mut installed.containerd;
    let shop = containerd.run_pod("shop", "web-1", SHOP);
    let tools = containerd.run_pod("tools", "cron-1", TOOLS);
    containerd.run_container(&shop, "app", "httpd -f -p 8080 -h /bin");
    let fetch = format!("wget -q -O /dev/null http://{}:8080/busybox", shop.address);
    // Each connects anew again and again: what a container does in its first second may be counted before its name is known.
    containerd.run_repeatedly(&tools, "job", &fetch);
    containerd.run_repeatedly(&shop, "worker", "nc 198.18.78.2 7401");
    abroad.wait_for("accept");
    installed.wait_for_record("pods that talk", |record| {
        record.server.port == 8080
            && is_at(&record.client, ["tools", "cron-1", "job"])
            && is_at(&record.server, ["shop", "web-1", "app"])
    });
    installed.wait_for_record("what goes out", |record| {
        record.server.port == 7401 && is_at(&record.client, ["shop", "web-1", "worker"])
    });
    installed.wait_for_count("tools", "cron-1");
    installed.wait_for_count("shop", "web-1");
    installed.list_until_named(8080, ["shop", "web-1", "app"]);
    installed.stop();
}
