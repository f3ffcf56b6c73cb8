//! Who is who where it is easy to get wrong: the same five-tuple in two namespaces, shared sockets,
//! containers, filters by owner.

use std::fs;
use std::path::Path;
use std::process;

use crate::lab::cgroup::Cgroup;
use crate::lab::records::Record;
use crate::lab::watch::Watch;
use crate::lab::{Actor, Lab, skip};

#[test]
fn the_same_loopback_five_tuple_in_two_namespaces_is_two_connections() {
    let name = "identity::the_same_loopback_five_tuple_in_two_namespaces_is_two_connections";
    let Some(lab) = Lab::new(name) else { return };
    let pods = [&lab.client.namespace, &lab.server.namespace];
    let servers = pods.map(|pod| Actor::new(pod, 10002).serve("serve tcp 127.0.0.1:7101"));
    let clients = pods.map(|pod| {
        let client = Actor::new(pod, 10001).start("connect hold 127.0.0.1:7101 from 127.0.0.1:40001");
        (client.wait_for("connect"), client)
    });
    // Before that a table has no holder of the server's socket.
    let accepts = servers.each_ref().map(|server| server.wait_for("accept"));
    for arguments in ["-i any", "-i any --ebpf off"] {
        let watch = Watch::start(&lab, arguments);
        for ((client, _), accept) in clients.iter().zip(&accepts) {
            let record = watch.wait_for("a loopback connection", |record| {
                record.client.netns.as_ref().is_some_and(|netns| netns.inode == client.netns)
                    && record.client.port == 40001
            });
            record.client.must_be(client, &crate::owners::TABLES);
            record.server.must_be(accept, &crate::owners::TABLES);
        }
        assert!(watch.stop().status.success());
    }
}

#[test]
fn a_loopback_connection_of_a_pod_is_seen_by_kernel_events_without_a_packet() {
    let name = "identity::a_loopback_connection_of_a_pod_is_seen_by_kernel_events_without_a_packet";
    let Some(lab) = Lab::new(name) else { return };
    let pod = &lab.client.namespace;
    let watch = Watch::start(&lab, "-i any");
    let server = Actor::new(pod, 10002).serve("serve tcp 127.0.0.1:7102");
    let client = Actor::new(pod, 10001).run("connect exchange 127.0.0.1:7102");
    let record = watch.wait_for("its end", |record| {
        record.event == "close"
            && record.server.port == 7102
            && Some(record.client.endpoint()) == client.local
    });
    record.client.must_be(&client, &["kernel_event"]);
    record.server.must_be(&server.wait_for("accept"), &["kernel_event"]);
    assert!(watch.stop().status.success());
}

#[test]
fn without_hooks_a_connection_of_a_pod_to_itself_is_found_in_its_tables() {
    let name = "identity::without_hooks_a_connection_of_a_pod_to_itself_is_found_in_its_tables";
    let Some(lab) = Lab::new(name) else { return };
    let pod = &lab.client.namespace;
    for (arguments, port) in [("-i any --ebpf off", 7105), ("-i any --rung proc", 7106)] {
        let watch = Watch::start(&lab, arguments);
        let address = format!("127.0.0.1:{port}");
        let server = Actor::new(pod, 10002).serve(&format!("serve tcp {address}"));
        let client = Actor::new(pod, 10001).start(&format!("connect hold {address}"));
        let truth = client.wait_for("connect");
        let is_it = |record: &Record| Some(record.client.endpoint()) == truth.local;
        let found = watch.wait_for("both its owners", |record| is_it(record) && record.is_answered());
        found.client.must_be(&truth, &crate::owners::TABLES);
        found.server.must_be_server(&server.wait_for("accept"), &crate::owners::TABLES_OR_LISTENER);
        assert!(!found.connection.preexisting && found.connection.duration_ns.is_none(), "{found:?}");
        drop(client);
        watch.wait_for("its end", |record| is_it(record) && record.event == "close");
        let opens =
            watch.stop().records().iter().filter(|record| is_it(record) && record.event == "open").count();
        assert_eq!(opens, 1, "{arguments}");
    }
}

#[test]
fn a_listener_held_by_two_processes_has_no_single_owner() {
    let Some(lab) = Lab::new("identity::a_listener_held_by_two_processes_has_no_single_owner") else {
        return;
    };
    let address = lab.server.v4(7103);
    let server = lab.server().serve(&format!("prefork {address}"));
    let worker = server.wait_for("work");
    let client = lab.client().start(&format!("connect hold {address}"));
    client.wait_for("connect");
    let accepted = server.wait_for("accept");
    assert_eq!(accepted.pid, worker.pid);
    // Accepted by the worker alone, so the connection has one owner though its listener has two.
    let watch = Watch::start(&lab, "-i any --ebpf off");
    let record = watch.wait_for("the connection", |record| record.server.port == 7103);
    record.server.must_be(&accepted, &crate::owners::TABLES);
    assert!(watch.stop().status.success());
}

#[test]
fn a_process_in_a_pods_cgroup_is_told_with_its_pod_and_container() {
    let name = "identity::a_process_in_a_pods_cgroup_is_told_with_its_pod_and_container";
    let Some(lab) = Lab::new(name) else { return };
    let (uid, container) = ("0f5a1c2e-7d3b-4e6f-9a8b-1c2d3e4f5a6b", "ab12cd34".repeat(8));
    let Some(cgroup) = Cgroup::new(&format!("kubepods/besteffort/pod{uid}/{container}")) else {
        skip(name, "cgroup v2 is not mounted");
        return;
    };
    let watch = Watch::start(&lab, &format!("-i any --container {}", &container[..12]));
    let address = lab.server.v4(7104);
    let server = lab.server().serve(&format!("serve tcp {address}"));
    let outsider = lab.client().run(&format!("connect exchange {address}"));
    let folder = tempfile::tempdir().unwrap();
    let passwd = folder.path().join("passwd");
    fs::write(&passwd, format!("root:x:0:0\ninmate:x:{}:1\n", lab.client().uid)).unwrap();
    let container_account = Path::new("/etc/passwd").exists().then_some(&*passwd);
    let actor = Actor { cgroup: Some(&cgroup), passwd: container_account, ..lab.client() };
    let client = actor.start(&format!("connect hold {address}"));
    let truth = client.wait_for("connect");
    server.wait_for_where("accept", |accepted| accepted.remote == truth.local);
    let record = watch.wait_for("the container's connection", |record| record.server.port == 7104);
    record.client.must_be(&truth, &["kernel_event"]);
    assert_eq!(record.client.container.as_ref().map(|found| &found.id), Some(&container), "{record:#?}");
    if container_account.is_some() {
        // The container's name for it and the node's are kept apart.
        let user = record.client.container.as_ref().and_then(|found| found.user.as_ref());
        let known = user.map(|user| (user.id, user.name.as_deref()));
        assert_eq!(known, Some((lab.client().uid, Some("inmate"))), "{record:#?}");
        let on_the_node = record.client.user.as_ref().and_then(|user| user.name.as_deref());
        assert_ne!(on_the_node, Some("inmate"), "{record:#?}");
    }
    let pod = record.client.k8s.as_ref().map(|k8s| k8s["pod"]["uid"].clone());
    assert_eq!(pod, Some(uid.into()), "{record:#?}");
    client.finish();
    let records = watch.stop().records();
    assert!(
        records.iter().all(|record| Some(record.client.endpoint()) != outsider.local),
        "the filter lets another's connection through: {records:#?}"
    );
}

#[test]
fn owner_filters_and_services_choose_connections() {
    let Some(lab) = Lab::new("identity::owner_filters_and_services_choose_connections") else { return };
    let address = lab.server.v4(7105);
    let _server = lab.server().serve(&format!("serve tcp {address}"));
    // Other programs on the machine may run as the lab's usual users.
    let uid = 100_000 + process::id();
    let wanted = Actor::new(&lab.client.namespace, uid);
    let others = Actor::new(&lab.client.namespace, uid + 1);
    for filter in [format!("--user {uid}"), format!("--service shop --user {uid}")] {
        let watch = Watch::start(&lab, &format!("-i any --define shop=198.18.77.11:7105/tcp {filter} -c 1"));
        others.run(&format!("connect exchange {address}"));
        let wanted = wanted.run(&format!("connect exchange {address}"));
        // -c 1: netsnoop ends by itself after the one connection that fits.
        let ended = watch.wait();
        assert!(ended.status.success(), "{}", ended.complaint());
        let records = ended.records();
        let open: Vec<_> = records.iter().filter(|record| record.event == "open").collect();
        assert_eq!(open.len(), 1, "{records:#?}");
        assert_eq!(Some(open[0].client.endpoint()), wanted.local);
        assert_eq!(open[0].service.as_ref().map(|service| &*service.name), Some("shop"));
    }
}
