//! Each rung of the ladder alone: what it promises it gives, what it cannot know it leaves open.
//!
//! Whether a rung must work is decided from the kernel itself, not from what netsnoop says of it.
//! These are the tests that also run in guest kernels.

use std::fs;
use std::path::Path;

use crate::lab::traffic::Truth;
use crate::lab::watch::Watch;
use crate::lab::{Lab, cgroup, skip};
use crate::owners::TABLES;
use crate::scenarios::Stage;

const EVENT: &[&str] = &["kernel_event"];

/// What a rung promises.
struct Promise {
    rung: &'static str,
    /// The kernel feature it stands on, and whether this kernel has it.
    needs: &'static str,
    has: fn() -> bool,
    /// Evidence for the client of every connection; empty: only for those that last.
    client: &'static [&'static str],
    /// Evidence for who accepted, likewise.
    server: &'static [&'static str],
    /// Whether it knows the peer of a datagram that is sent without connecting.
    datagram_peers: bool,
}

#[test]
fn kprobe() {
    check(&Promise {
        rung: "kprobe",
        needs: "kprobes",
        has: has_kprobes,
        client: EVENT,
        server: EVENT,
        datagram_peers: true,
    });
}

#[test]
fn fentry() {
    // Direct calls come with the function tracer; the machine without kprobes here has neither.
    check(&Promise {
        rung: "fentry",
        needs: "fentry",
        has: has_kprobes,
        client: EVENT,
        server: EVENT,
        datagram_peers: true,
    });
}

#[test]
fn sockops() {
    let server = &["listener", "kernel_event"];
    check(&Promise {
        rung: "sockops",
        needs: "cgroup v2",
        has: has_cgroup2,
        client: EVENT,
        server,
        datagram_peers: true,
    });
}

#[test]
fn tp_btf() {
    check(&Promise {
        rung: "tp_btf",
        needs: "BTF",
        has: has_btf,
        client: EVENT,
        server: EVENT,
        datagram_peers: false,
    });
}

#[test]
fn raw_tp() {
    check(&Promise {
        rung: "raw_tp",
        needs: "BTF",
        has: has_btf,
        client: EVENT,
        server: EVENT,
        datagram_peers: false,
    });
}

#[test]
fn sock_diag() {
    check(&Promise {
        rung: "sock_diag",
        needs: "nothing",
        has: || true,
        client: &[],
        server: &[],
        datagram_peers: true,
    });
}

#[test]
fn proc() {
    check(&Promise {
        rung: "proc",
        needs: "nothing",
        has: || true,
        client: &[],
        server: &[],
        datagram_peers: true,
    });
}

fn has_kprobes() -> bool {
    Path::new("/sys/bus/event_source/devices/kprobe/type").exists()
}

fn has_btf() -> bool {
    Path::new("/sys/kernel/btf/vmlinux").exists()
}

/// The helpers that tell a sockops program its process came with about 6.16 (see ARCHITECTURE.md).
fn has_cgroup2() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).map_while(|text| text.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    has_btf() && version >= (6, 16) && cgroup::root().is_some()
}

fn check(promise: &Promise) {
    let rung = promise.rung;
    let test = format!("ladder::{rung}");
    let Some(lab) = Lab::new(&test) else { return };
    if !(promise.has)() {
        skip(&test, &format!("this kernel lacks {}", promise.needs));
        return;
    }
    let watch = Watch::start(&lab, &format!("-i any --rung {rung}"));
    let stage = Stage::new(&lab);
    let played = stage.play("");
    for held in played.iter().filter(|played| played.held.is_some()) {
        watch.wait_for(held.name, |record| held.is_in(record) && record.client.process.is_some());
    }
    let records = watch.stop().records();
    for played in &played {
        let last = played.judge(&records);
        if played.is_unconnected() && !promise.datagram_peers {
            continue;
        }
        let must_be = |end: &crate::lab::records::End, truth: &Truth, promised: &[&str]| {
            if !promised.is_empty() {
                end.must_be(truth, promised);
            } else if played.held.is_some() {
                end.must_be(truth, &TABLES);
            }
        };
        must_be(&last.client, &played.client, promise.client);
        let by_listener_only = played.is_forked() && promise.server.contains(&"listener");
        if let Some(truth) = played.acceptor.as_ref().filter(|_| !by_listener_only) {
            must_be(&last.server, truth, promise.server);
        }
    }
}

#[test]
fn iterator() {
    let Some(lab) = Lab::new("ladder::iterator") else { return };
    if !has_btf() {
        skip("ladder::iterator", "this kernel lacks BTF");
        return;
    }
    let stage = Stage::new(&lab);
    let held = stage.play("held");
    let watch = Watch::start(&lab, "-i any --rung iterator");
    for played in &held {
        let record = watch.wait_for(played.name, |record| played.is_in(record));
        record.client.must_be(&played.client, &["socket_iterator"]);
        record.server.must_be(played.acceptor.as_ref().unwrap(), &["socket_iterator"]);
        assert!(record.connection.preexisting, "{record:#?}");
    }
    assert!(watch.stop().status.success());
}
