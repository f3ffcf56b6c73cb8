//! `netsnoop list` over a node of namespaces: the questions people ask, answered in each way of reading; what it marks
//! as coming and going; what it says when it may not see everything.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use jsonschema::Validator;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, accept_with, bind, connect, getsockname, listen, socket_with,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::lab::traffic::{Traffic, Truth};
use crate::lab::watch::{Ended, Watch};
use crate::lab::{Actor, Lab, netsnoop, skip, traffic_program};

fn list(lab: &Lab, arguments: &str) -> Ended {
    Watch::spawn(lab.node.command(netsnoop()).args(["list", "-n"]).args(arguments.split_whitespace())).wait()
}

fn validator() -> Validator {
    let schema = include_str!("../../../docs/schema/socket-v1.schema.json");
    jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap()
}

/// The objects that `list` writes; each is held to the schema.
#[track_caller]
fn objects(ended: &Ended) -> Vec<Value> {
    assert!(ended.status.success(), "{}: {}", ended.status, ended.complaint());
    let validator = validator();
    let object = |line: &String| {
        let value: Value = serde_json::from_str(line).unwrap();
        assert!(validator.is_valid(&value), "against the schema: {line}");
        value
    };
    ended.stdout.iter().map(object).collect()
}

/// Who holds a socket: pids and uids.
fn holders(socket: &Value) -> Vec<(u64, u64)> {
    let holders = socket["holders"].as_array().unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    holders.iter().map(|holder| (number(&holder["process"]["pid"]), number(&holder["user"]["id"]))).collect()
}

/// The sockets of these namespaces: the machine has others, which are none of the test's.
fn sockets_of(ended: &Ended, namespaces: &[u64]) -> Vec<Value> {
    let all = objects(ended).into_iter();
    all.filter(|socket| socket["netns"]["inode"].as_u64().is_some_and(|inode| namespaces.contains(&inode)))
        .collect()
}

/// The ways that work on this kernel.
fn ways(lab: &Lab, test: &str) -> Vec<&'static str> {
    let works = |way: &&str| match list(lab, &format!("--via {way} -H -t")).status.code() {
        Some(0) => true,
        code => {
            assert_eq!(code, Some(77), "{way}");
            skip(test, &format!("without --via {way}, which this kernel does not have"));
            false
        }
    };
    ["iterator", "sock_diag", "proc"].into_iter().filter(works).collect()
}

/// A server and a client that stays connected to it.
struct Talk<'a> {
    lab: &'a Lab,
    _server: Traffic,
    _client: Traffic,
    server: Truth,
    client: Truth,
}

impl<'a> Talk<'a> {
    fn new(lab: &'a Lab) -> Self {
        let address = lab.server.v4(8080);
        let process = lab.server().start(&format!("serve tcp {address}"));
        let server = process.wait_for("listen");
        let talker = lab.client().start(&format!("connect hold {address}"));
        let client = talker.wait_for("connect");
        // Until then the connection waits in the listener's queue, and nobody holds its end there.
        process.wait_for("accept");
        Self { lab, _server: process, _client: talker, server, client }
    }

    /// Asks, and compares whoever holds the sockets of these two with those expected.
    #[track_caller]
    fn check(&self, way: &str, question: &str, expected: &[&Truth]) {
        let ended = list(self.lab, &format!("-o jsonl --via {way} {question}"));
        let mut found: Vec<_> =
            sockets_of(&ended, &[self.server.netns, self.client.netns]).iter().flat_map(holders).collect();
        let mut expected: Vec<_> =
            expected.iter().map(|truth| (u64::from(truth.pid), u64::from(truth.uid))).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{way} {question}: {:#?}", ended.stdout);
    }
}

#[test]
fn the_questions_people_ask_are_answered_right() {
    let name = "list::the_questions_people_ask_are_answered_right";
    let Some(lab) = Lab::new(name) else { return };
    let talk = Talk::new(&lab);
    let (server, client) = (&talk.server, &talk.client);
    for way in ways(&lab, name) {
        talk.check(way, "-tl --port 8080", &[server]);
        talk.check(way, "-t state established", &[server, client]);
        talk.check(way, &format!("dst {}", lab.server.v4(8080)), &[client]);
        talk.check(way, &format!("--who {}", lab.server.v4(8080)), &[server, server, client]);
        talk.check(way, &format!("--pid {}", client.pid), &[client]);
        talk.check(way, &format!("-t --netns {}", server.netns), &[server, server]);
        talk.check(way, "-t --user 10001", &[client]);
        talk.check(way, "-tl --address 203.0.113.1", &[]);
        let ended = list(&lab, &format!("-o json --summary --via {way}"));
        let look = objects(&ended).pop().unwrap();
        assert_eq!(look["rung"], way);
        let namespaces = look["namespaces"].as_array().unwrap();
        let of =
            |inode: u64| namespaces.iter().find(|namespace| namespace["netns"]["inode"] == inode).unwrap();
        // Its holder, the server, and the server's listening and accepted sockets.
        assert_eq!(of(server.netns)["processes"], 2, "{way}");
        assert_eq!(of(server.netns)["sockets"]["by_state"]["listening"], 1, "{way}");
        assert_eq!(of(client.netns)["sockets"]["by_state"]["established"], 1, "{way}");
    }
}

#[test]
fn states_mean_what_they_mean_to_ss() {
    let name = "list::states_mean_what_they_mean_to_ss";
    let Some(lab) = Lab::new(name) else { return };
    if Command::new("ss").arg("--version").stdout(Stdio::null()).status().is_err() {
        skip(name, "needs ss");
        return;
    }
    let talk = Talk::new(&lab);
    // Leaves a TIME_WAIT at the client.
    lab.client().run(&format!("connect exchange {}", lab.server.v4(8080)));
    let _datagrams =
        Actor::new(&lab.client.namespace, 10001).serve(&format!("serve udp {}", lab.client.v4(5353)));
    for words in [
        "",
        "-l",
        "-a",
        "state connected",
        "state bucket",
        "state big",
        "exclude listening",
        "state time-wait",
    ] {
        // Without a state, ours shows what ss shows with -a.
        let to_ss = if words.is_empty() { "-a" } else { words };
        let mut ss = lab.client.namespace.command(Path::new("ss"));
        let judge = ss.args(["-Hntu"]).args(to_ss.split_whitespace()).output().unwrap();
        let judged = String::from_utf8(judge.stdout).unwrap().lines().count();
        let ended = list(&lab, &format!("-H -tu --netns {} {words}", talk.client.netns));
        assert_eq!(ended.stdout.len(), judged, "{words}: {:#?}", ended.stdout);
    }
}

/// An SCTP socket that listens and both ends of a connection to it, in this namespace; `None` if the kernel has no SCTP.
fn sctp_sockets(namespace: &Path, address: SocketAddrV4) -> Option<[OwnedFd; 3]> {
    let enter_and_make = || {
        let file = fs::File::open(namespace).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let socket = || {
            let sctp = rustix::net::Protocol::from_raw(rustix::net::RawProtocol::new(132).unwrap());
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, Some(sctp))
        };
        let listening = match socket() {
            Err(Errno::PROTONOSUPPORT) => return None,
            made => made.unwrap(),
        };
        bind(&listening, &address).unwrap();
        listen(&listening, 5).unwrap();
        let client = socket().unwrap();
        connect(&client, &address).unwrap();
        let accepted = accept_with(&listening, SocketFlags::CLOEXEC).unwrap();
        Some([listening, client, accepted])
    };
    // The namespace is the thread's, the sockets are the process's.
    std::thread::scope(|scope| scope.spawn(enter_and_make).join().unwrap())
}

#[test]
fn sctp_sockets_are_shown_once_each_by_every_way() {
    let name = "list::sctp_sockets_are_shown_once_each_by_every_way";
    let Some(lab) = Lab::new(name) else { return };
    let holder = lab.client().start(&format!("serve tcp {}", lab.client.v4(8086)));
    let netns = holder.wait_for("listen").netns;
    let address = SocketAddrV4::new([127, 0, 0, 1].into(), 7000);
    let Some(sockets) = sctp_sockets(Path::new(&lab.client.namespace.path()), address) else {
        skip(name, "this kernel has no SCTP");
        return;
    };
    let client = SocketAddr::try_from(getsockname(&sockets[1]).unwrap()).unwrap().port();
    let row = |state: &str, local: u16, peer: Option<u16>| (state.to_owned(), local, peer);
    let expected = BTreeSet::from([
        row("listening", 7000, None),
        row("established", 7000, Some(client)),
        row("established", client, Some(7000)),
    ]);
    for way in ways(&lab, name) {
        let ended = list(&lab, &format!("-S -o jsonl --via {way} --netns {netns}"));
        let rows = objects(&ended);
        let port = |end: &Value| end["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        let row = |socket: &Value| {
            assert_eq!(holders(socket), [(u64::from(std::process::id()), 0)], "{way}: {socket}");
            let state = socket["socket"]["state"].as_str().unwrap().to_owned();
            (state, port(&socket["network"]["local"]).unwrap(), port(&socket["network"]["peer"]))
        };
        assert_eq!(rows.iter().map(row).collect::<BTreeSet<_>>(), expected, "{way}");
        assert_eq!(rows.len(), 3, "{way}: {rows:#?}");
    }
}

#[test]
fn odd_names_are_escaped_in_text_and_exact_in_json() {
    let Some(lab) = Lab::new("list::odd_names_are_escaped_in_text_and_exact_in_json") else { return };
    let folder = tempfile::tempdir().unwrap();
    let odd = OsStr::from_bytes(b"a\x1b[2J\nb\xff");
    // The table in /proc ends a line where a path does, and cannot show one with a newline.
    let odd_path = OsStr::from_bytes(b"a\x1b[2Jb\xff");
    let (path, program) = (folder.path().join("socket").join(odd_path), folder.path().join(odd));
    fs::create_dir(folder.path().join("socket")).unwrap();
    let _listener = UnixListener::bind(&path).unwrap();
    symlink(traffic_program(), &program).unwrap();
    let mut command = lab.client.namespace.command(&program);
    let server = Traffic::start(command.args(["serve", "tcp", &lab.client.v4(8081)]));
    let truth = server.wait_for("listen");
    for way in ways(&lab, "list::odd_names_are_escaped_in_text_and_exact_in_json") {
        let own = format!("-x --pid {} --via {way}", std::process::id());
        let text = list(&lab, &own).stdout.join("\n");
        assert!(text.contains("/a\\u{1b}[2Jb\\xff") && !text.contains('\x1b'), "{text}");
        let sockets = objects(&list(&lab, &format!("-o jsonl {own}")));
        let encoded = base64(path.as_os_str().as_bytes());
        assert!(
            sockets.iter().any(|socket| socket["network"]["local"]["address_base64"] == *encoded),
            "{way}"
        );
        let held = format!("-t --pid {} --via {way}", truth.pid);
        let text = list(&lab, &held).stdout.join("\n");
        assert!(text.contains("a\\u{1b}[2J\\nb\u{fffd}[") && !text.contains('\x1b'), "{text}");
        let socket = objects(&list(&lab, &format!("-o jsonl {held}"))).pop().unwrap();
        let encoded = base64(odd.as_bytes());
        assert_eq!(socket["holders"][0]["process"]["name_base64"], *encoded, "{way}");
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn what_comes_and_goes_is_marked() {
    let Some(lab) = Lab::new("list::what_comes_and_goes_is_marked") else { return };
    // A namespace that lives before the first look.
    let first = lab.server().serve(&format!("serve tcp {}", lab.server.v4(8082)));
    let netns = first.wait_for("listen").netns;
    let arguments = format!("list -n -H -tl --watch 100ms --netns {netns}");
    let watch = Watch::spawn(lab.node.command(netsnoop()).args(arguments.split_whitespace()));
    watch.wait_for_line("the first look", |line| line.starts_with(' ') || line.contains(":8082"));
    let second = lab.server().serve(&format!("serve tcp {}", lab.server.v4(8083)));
    watch.wait_for_line("a new listener", |line| line.starts_with('+') && line.contains(":8083"));
    second.finish();
    watch.wait_for_line("its end", |line| line.starts_with('-') && line.contains(":8083"));
    let ended = watch.interrupt();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.complaint());
}

#[test]
fn without_privileges_it_shows_what_it_may_and_says_what_it_may_not() {
    let Some(lab) = Lab::new("list::without_privileges_it_shows_what_it_may_and_says_what_it_may_not") else {
        return;
    };
    let talk = Talk::new(&lab);
    let as_client = |arguments: &str| {
        let mut command = lab.client.namespace.command(Path::new("setpriv"));
        command.args(["--reuid=10001", "--regid=10001", "--clear-groups"]).arg(netsnoop());
        Watch::spawn(command.args(["list", "-n"]).args(arguments.split_whitespace())).wait()
    };
    let ended = as_client(&format!("-t -o json --netns {}", talk.client.netns));
    let look = objects(&ended).pop().unwrap();
    let sockets = look["sockets"].as_array().unwrap();
    assert_eq!(sockets.iter().flat_map(holders).collect::<Vec<_>>(), [(u64::from(talk.client.pid), 10001)]);
    let unseen = look["unseen"].as_array().unwrap();
    assert!(unseen.iter().any(|unseen| unseen["reason"] == "permission"), "{unseen:?}");
    assert!(
        ended.complaint().contains("not seen: ") && ended.complaint().contains("root"),
        "{}",
        ended.complaint()
    );
    let refused = as_client("--via iterator");
    assert_eq!(refused.status.code(), Some(77), "{}", refused.complaint());
    assert!(refused.complaint().contains("--via"), "{}", refused.complaint());
}
