//! How it fails: the exit code says what kind of failure, the message says what was tried and what to do.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::doctor::{Diagnosis, Finding};
use crate::lab::watch::{Ended, Watch};
use crate::lab::{Lab, netsnoop, patience, skip};

/// Runs a command line in the node's namespace to its end.
fn run(lab: &Lab, arguments: &str) -> Ended {
    Watch::spawn(lab.node.command(netsnoop()).args(arguments.split_whitespace())).wait()
}

#[track_caller]
fn check(ended: &Ended, code: i32, words: &[&str]) {
    let complaint = ended.complaint();
    assert_eq!(ended.status.code(), Some(code), "{complaint}");
    for word in words {
        assert!(complaint.contains(word), "no {word:?} in: {complaint}");
    }
    assert!(!complaint.contains("panicked"), "{complaint}");
}

#[test]
fn wrong_usage_ends_with_2_and_names_what_is_wrong() {
    let Some(lab) = Lab::new("failing::wrong_usage_ends_with_2_and_names_what_is_wrong") else { return };
    for (arguments, words) in [
        ("watch -i nosuch0", &["nosuch0"][..]),
        ("watch tcp prt 80", &["tcp prt 80"]),
        ("watch --rung nosuch", &["nosuch", "kprobe"]),
        ("watch --service nosuch", &["nosuch"]),
        ("watch --nosuch", &["--nosuch"]),
        ("compare --duration 10", &["--duration", "unit"]),
    ] {
        check(&run(&lab, arguments), 2, words);
    }
}

#[test]
fn without_privileges_it_ends_with_77_and_the_remedy() {
    let Some(lab) = Lab::new("failing::without_privileges_it_ends_with_77_and_the_remedy") else { return };
    for task in ["watch", "compare"] {
        let mut command = lab.node.command(Path::new("setpriv"));
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(netsnoop()).arg(task);
        check(&Watch::spawn(&mut command).wait(), 77, &["CAP_NET_RAW"]);
    }
}

#[test]
fn a_required_rung_that_cannot_be_had_ends_with_77() {
    let name = "failing::a_required_rung_that_cannot_be_had_ends_with_77";
    let Some(lab) = Lab::new(name) else { return };
    if Path::new("/sys/bus/event_source/devices/kprobe/type").exists() {
        skip(name, "this kernel has kprobes");
        return;
    }
    check(&run(&lab, "watch --rung kprobe"), 77, &["kprobe"]);
    check(&run(&lab, "compare --rung kprobe"), 77, &["kprobe", "netsnoop doctor"]);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let Some(lab) = Lab::new("failing::a_reader_that_leaves_is_no_failure") else { return };
    let address = lab.server.v4(7201);
    let _server = lab.server().serve(&format!("serve tcp {address}"));
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3>&2; { \"$@\"; echo \"ended $?\" >&3; } | head -n 1", "sh"]);
    let inside = lab.node.command(netsnoop());
    command.arg(inside.get_program()).args(inside.get_args()).args(["watch", "-o", "jsonl", "-i", "any"]);
    let watch = Watch::spawn(&mut command);
    assert!(watch.is_ready(), "netsnoop does not start");
    // The first record makes head leave; the first one after it has left finds the pipe broken.
    let deadline = Instant::now() + patience();
    while !watch.has_said("ended") && Instant::now() < deadline {
        lab.client().run(&format!("connect exchange {address}"));
    }
    let ended = watch.wait();
    assert!(ended.stderr.iter().any(|line| line == "ended 0"), "{}", ended.complaint());
}

#[test]
fn a_full_disk_ends_with_1_and_names_the_output() {
    let Some(lab) = Lab::new("failing::a_full_disk_ends_with_1_and_names_the_output") else { return };
    let address = lab.server.v4(7202);
    let _server = lab.server().serve(&format!("serve tcp {address}"));
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" > /dev/full", "sh"]);
    let inside = lab.node.command(netsnoop());
    command.arg(inside.get_program()).args(inside.get_args()).args(["watch", "-o", "jsonl", "-i", "any"]);
    let watch = Watch::spawn(&mut command);
    assert!(watch.is_ready(), "netsnoop does not start");
    lab.client().run(&format!("connect exchange {address}"));
    check(&watch.wait(), 1, &["No space left on device"]);
}

#[test]
fn an_interface_that_disappears_ends_the_run_with_1_if_it_was_the_only_one() {
    let name = "failing::an_interface_that_disappears_ends_the_run_with_1_if_it_was_the_only_one";
    let Some(lab) = Lab::new(name) else { return };
    lab.node.ip("link add gone0 type veth peer name gone1");
    lab.node.ip("link set gone0 up");
    let watch = Watch::start(&lab, "-i gone0");
    lab.node.ip("link del gone0");
    check(&watch.wait(), 1, &["gone0"]);
}

#[test]
fn a_hidden_proc_costs_only_what_it_hides() {
    let Some(lab) = Lab::new("failing::a_hidden_proc_costs_only_what_it_hides") else { return };
    // A mount namespace of its own: the machine's /proc stays as it is (man 5 proc, "hidepid").
    let mut command = lab.node.command(Path::new("unshare"));
    let watch = "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid=65534 --regid=65534 --clear-groups \
                 --inh-caps=-all,+net_raw,+net_admin --ambient-caps=-all,+net_raw,+net_admin \"$@\"";
    command
        .args(["--mount", "sh", "-c", watch, "sh"])
        .arg(netsnoop())
        .args(["watch", "-o", "jsonl", "-i", "any", "--ebpf", "off"]);
    let watch = Watch::spawn(&mut command);
    assert!(watch.is_ready(), "netsnoop does not start");
    let address = lab.server.v4(7203);
    let _server = lab.server().serve(&format!("serve tcp {address}"));
    let client = lab.client().start(&format!("connect hold {address}"));
    client.wait_for("connect");
    let record = watch.wait_for("the connection", |record| record.server.port == 7203);
    assert!(record.client.process.is_none() && record.server.process.is_none(), "{record:#?}");
    assert!(record.client.attribution.reason.is_some(), "{record:#?}");
    check(&watch.stop(), 0, &[]);
}

#[test]
fn doctor_prints_the_ladder_and_ends_well_as_root() {
    let Some(lab) = Lab::new("failing::doctor_prints_the_ladder_and_ends_well_as_root") else { return };
    let ended = run(&lab, "doctor");
    check(&ended, 0, &[]);
    let text = ended.stdout.join("\n");
    for rung in ["kprobe", "fentry", "sockops", "tp_btf", "raw_tp", "iterator", "sock_diag", "proc"] {
        assert!(text.contains(rung), "no {rung} in:\n{text}");
    }
}

/// What doctor says of the hierarchy's root where none is mounted and `then` has been done; nothing of it is seen outside.
fn cgroup_root_after(lab: &Lab, then: &str) -> Finding {
    let mut command = lab.node.command(Path::new("unshare"));
    let script =
        format!("umount --all --lazy --types cgroup2 && mount -t tmpfs none /run && {then} && exec \"$@\"");
    // The first process is our own, as its mounts are looked at too.
    command.args(["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", &script, "sh"]).arg(netsnoop());
    let host = Diagnosis::of(&mut command).host;
    host.into_iter().find(|finding| finding.name == "cgroup v2 root").unwrap()
}

#[test]
fn what_is_advised_where_no_cgroup_v2_is_mounted_helps() {
    let Some(lab) = Lab::new("failing::what_is_advised_where_no_cgroup_v2_is_mounted_helps") else { return };
    let without = cgroup_root_after(&lab, "true");
    assert_eq!(without.state, "fails", "{without:#?}");
    let advice = without.remedies.concat();
    let (_, advice) = advice.split_once("on the host: ").unwrap();
    let with = cgroup_root_after(&lab, advice);
    assert_eq!(with.state, "works", "{with:#?}");
}
