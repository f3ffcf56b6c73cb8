//! Each rung of the ladder alone: what it promises it gives, what it cannot know it leaves open.
//!
//! Whether a rung must work is decided from the kernel itself, not from what netsnoop says of it.
//! These are the tests that also run in guest kernels.

use std::fs;
use std::path::Path;

use crate::lab::records::Record;
use crate::lab::watch::Watch;
use crate::lab::{Lab, cgroup, skip};
use crate::owners::TABLES_OR_LISTENER;
use crate::scenarios::{Played, Stage};

/// Whose owners a rung names.
enum Knows {
    /// Those of every connection, by a kernel event.
    All,
    /// Of TCP connections alone: a datagram's peer is not told where it is sent without connecting.
    Tcp,
    /// Of datagrams alone, by a kernel event.
    Datagrams,
    /// Of all but datagrams sent on connected sockets, which pass no cgroup hook.
    AllButConnectedUdp,
    /// Of connections that last long enough to be looked up.
    Lasting,
}

impl Knows {
    /// The evidence this connection's owner must have; `None` if nothing is promised.
    fn promise(&self, played: &Played) -> Option<&'static [&'static str]> {
        let datagram = played.transport == "udp";
        match self {
            Self::All => Some(&["kernel_event"]),
            Self::Tcp => (!datagram).then_some(&["kernel_event"]),
            Self::AllButConnectedUdp => (!played.is_connected_udp()).then_some(&["kernel_event"]),
            Self::Datagrams => datagram.then_some(&["kernel_event"]),
            Self::Lasting => played.held.is_some().then_some(&TABLES_OR_LISTENER),
        }
    }
}

/// No rung, but what netsnoop makes of all of them.
const ALL_TOGETHER: &str = "all_together";

/// What a rung promises.
struct Promise {
    rung: &'static str,
    clients: Knows,
    servers: Knows,
    /// What this kernel lacks that the rung stands on.
    lacks: Option<&'static str>,
}

#[test]
fn kprobe() {
    // A return probe misses what is called while too many others have not returned, and here all servers wait
    // in accept: for as many as there are CPUs until about Linux 6.1, for ten since (register_kretprobe).
    let servers = if kernel_version() < (6, 2) { Knows::Datagrams } else { Knows::All };
    check(&Promise { rung: "kprobe", clients: Knows::All, servers, lacks: lacks_kprobes() });
}

#[test]
fn fentry() {
    // Direct calls come with the function tracer, and so do kprobes on every kernel known here.
    let (clients, servers) = (Knows::All, Knows::All);
    check(&Promise { rung: "fentry", clients, servers, lacks: lacks_kprobes() });
}

#[test]
fn sockops() {
    // It hears who listens, but not who stops: alone it does not say who owns a connection nobody accepted.
    let (clients, servers) = (Knows::AllButConnectedUdp, Knows::Datagrams);
    check(&Promise { rung: "sockops", clients, servers, lacks: lacks_sockops() });
}

#[test]
fn tp_btf() {
    check(&Promise { rung: "tp_btf", clients: Knows::Tcp, servers: Knows::Tcp, lacks: lacks_btf() });
}

#[test]
fn raw_tp() {
    check(&Promise { rung: "raw_tp", clients: Knows::Tcp, servers: Knows::Tcp, lacks: lacks_btf() });
}

#[test]
fn sock_diag() {
    check(&Promise { rung: "sock_diag", clients: Knows::Lasting, servers: Knows::Lasting, lacks: None });
}

#[test]
fn proc() {
    check(&Promise { rung: "proc", clients: Knows::Lasting, servers: Knows::Lasting, lacks: None });
}

pub(crate) fn lacks_kprobes() -> Option<&'static str> {
    let has = Path::new("/sys/bus/event_source/devices/kprobe/type").exists();
    if has { lacks_btf() } else { Some("kprobes") }
}

pub(crate) fn lacks_btf() -> Option<&'static str> {
    let has = Path::new("/sys/kernel/btf/vmlinux").exists();
    (!has).then_some("BTF")
}

fn lacks_sockops() -> Option<&'static str> {
    if cgroup::root().is_none() { Some("a mounted cgroup v2") } else { lacks_btf() }
}

pub(crate) fn kernel_version() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).map_while(|text| text.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn check(promise: &Promise) {
    let rung = promise.rung;
    let test = format!("ladder::{rung}");
    let Some(lab) = Lab::new(&test) else { return };
    if let Some(lacking) = promise.lacks {
        skip(&test, &format!("this kernel lacks {lacking}"));
        return;
    }
    let choice = if rung == ALL_TOGETHER { String::new() } else { format!("--rung {rung}") };
    let watch = Watch::start(&lab, &format!("-i any {choice}"));
    let is_told = |record: &Record| match promise.servers {
        Knows::Lasting => record.is_answered(),
        _ => record.client.process.is_some(),
    };
    let (played, records) = Stage::new(&lab).play_before(watch, is_told);
    for played in &played {
        let last = played.judge(&records);
        if let Some(evidence) = promise.clients.promise(played) {
            last.client.must_be(&played.client, evidence);
        }
        if let (Some(evidence), Some(truth)) = (promise.servers.promise(played), &played.acceptor) {
            last.server.must_be_server(truth, evidence);
        }
    }
}

/// All rungs together, as most users run it, on whatever this kernel has: without BTF that is no kernel program.
#[test]
fn all_together() {
    let knows = || if lacks_btf().is_some() { Knows::Lasting } else { Knows::All };
    check(&Promise { rung: ALL_TOGETHER, clients: knows(), servers: knows(), lacks: None });
}

#[test]
fn iterator() {
    let Some(lab) = Lab::new("ladder::iterator") else { return };
    if let Some(lacking) = lacks_btf() {
        skip("ladder::iterator", &format!("this kernel lacks {lacking}"));
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
