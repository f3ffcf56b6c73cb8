//! An inventory made by hand, shown in every way.

use std::collections::{BTreeSet, HashMap};
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use clap::Parser;
use jsonschema::Validator;
use netsnoop_core::attribution::Rung;
use netsnoop_core::inventory::{
    Addresses, Holder, Inventory, ListedNamespace, ListedProcess, ListedSocket, Protocol, SocketEnd,
    SocketKind, Unheld, UnixPath, Unseen, UnseenReason, UnseenThing, VsockEnd,
};
use netsnoop_core::namespace::NamespaceKey;
use netsnoop_core::process::{Comm, Container, Pod, Process, ProcessId};
use netsnoop_core::socket::TcpState;
use netsnoop_core::time::Timestamp;
use proptest::prelude::*;
use serde_json::Value;

use super::{Listing, open};
use crate::cli::{Cli, Command};
use crate::config::ListConfig;
use crate::sinks::escape::is_unsafe;
use crate::sinks::samples;

fn end(address: &str, port: u16) -> SocketEnd {
    SocketEnd { address: address.parse().unwrap(), port }
}

fn internet(local: (&str, u16), remote: (&str, u16)) -> Addresses {
    Addresses::Internet { local: end(local.0, local.1), remote: end(remote.0, remote.1), interface: None }
}

fn unix(path: Option<&[u8]>, peer: Option<u64>) -> Addresses {
    Addresses::Unix { path: path.map(|path| UnixPath(path.into())), peer: peer.and_then(NonZeroU64::new) }
}

fn process(pid: u32, name: &str, uid: u32) -> Process {
    Process {
        id: ProcessId { pid, start_ticks: 1234 },
        name: Comm::new(name.as_bytes()),
        uid,
        cgroup_id: None,
    }
}

fn web_container() -> Arc<Container> {
    let pod = Pod {
        uid: "1111".into(),
        name: Some("web-1".into()),
        namespace: Some("tools".into()),
        labels: Box::new([("tier".into(), "front".into())]),
    };
    Arc::new(Container {
        id: samples::CONTAINER_ID.into(),
        runtime: Some("containerd"),
        pod: Some(Arc::new(pod)),
        name: Some("app".into()),
    })
}

/// A socket in the namespace at `place`, held by descriptor 3 of each of `holders`.
fn socket(
    (place, inode): (u32, u64),
    (protocol, state): (Protocol, TcpState),
    addresses: Addresses,
    holders: &[u32],
) -> ListedSocket {
    let mut socket = ListedSocket::new(protocol, state, addresses);
    socket.namespace = Some(place);
    socket.inode = NonZeroU64::new(inode);
    socket.uid = socket.inode.map(|_| 0);
    socket.receive_queue = Some(0);
    socket.send_queue = Some(0);
    socket.holders = holders.iter().map(|process| Holder { process: *process, fd: 3 }).collect();
    socket.unheld = holders.is_empty().then(|| Unheld::of(&socket));
    socket
}

fn internet_sockets() -> Vec<ListedSocket> {
    let tcp = |state| (Protocol::Tcp, state);
    let mut bound = socket((0, 13), (Protocol::Udp, TcpState::CLOSE), internet(("::", 546), ("::", 0)), &[0]);
    bound.addresses = Addresses::Internet {
        local: end("fe80::1", 546),
        remote: end("::", 0),
        interface: NonZeroU32::new(2),
    };
    vec![
        socket((0, 11), tcp(TcpState::LISTEN), internet(("0.0.0.0", 22), ("0.0.0.0", 0)), &[0]),
        socket((0, 12), tcp(TcpState::LISTEN), internet(("::", 80), ("::", 0)), &[1, 2]),
        bound,
        socket(
            (1, 14),
            tcp(TcpState::ESTABLISHED),
            internet(("198.18.1.10", 54102), ("198.18.1.13", 6379)),
            &[3],
        ),
        socket(
            (1, 0),
            tcp(TcpState::TIME_WAIT),
            internet(("198.18.1.10", 54100), ("198.18.1.13", 6379)),
            &[],
        ),
        socket(
            (2, 15),
            tcp(TcpState(13)),
            internet(("::ffff:198.18.1.13", 80), ("::ffff:198.18.1.10", 9)),
            &[],
        ),
    ]
}

fn other_sockets() -> Vec<ListedSocket> {
    vec![
        socket(
            (0, 16),
            (Protocol::Unix(SocketKind::STREAM), TcpState::LISTEN),
            unix(Some(b"/run/a\n\xff"), None),
            &[0],
        ),
        socket(
            (0, 17),
            (Protocol::Unix(SocketKind::STREAM), TcpState::ESTABLISHED),
            unix(None, Some(16)),
            &[1],
        ),
        socket(
            (0, 18),
            (Protocol::Unix(SocketKind::DATAGRAM), TcpState::CLOSE),
            unix(Some(b"\0name"), None),
            &[0],
        ),
        socket(
            (0, 19),
            (Protocol::Packet(SocketKind::RAW), TcpState::CLOSE),
            Addresses::Packet { protocol: 3, interface: NonZeroU32::new(2) },
            &[0],
        ),
        socket(
            (0, 20),
            (Protocol::Netlink(Some(0)), TcpState::CLOSE),
            Addresses::Netlink { port_id: 0 },
            &[],
        ),
        socket(
            (0, 21),
            (Protocol::Vsock(SocketKind::STREAM), TcpState::LISTEN),
            Addresses::Vsock { local: VsockEnd { cid: u32::MAX, port: 1024 }, remote: VsockEnd::ANY },
            &[0],
        ),
        socket((0, 22), (Protocol::Other { family: 38, protocol: 1 }, TcpState(0)), Addresses::Unknown, &[0]),
        socket((0, 23), (Protocol::Raw, TcpState::CLOSE), internet(("0.0.0.0", 1), ("0.0.0.0", 0)), &[0]),
    ]
}

/// A node: its own namespace with sshd and a pre-forked nginx, that of the pod tools/web-1, and a named one without
/// a process.
fn inventory() -> Inventory {
    let namespace = |inode, name: Option<&str>| ListedNamespace {
        key: NamespaceKey { inode, cookie: NonZeroU64::new(7) },
        name: name.map(Arc::from),
        interfaces: vec![(NonZeroU32::new(2).unwrap(), "eth0".into())],
    };
    let listed =
        |process, namespace, container| ListedProcess { process, namespace: Some(namespace), container };
    Inventory {
        rung: Rung::Proc,
        started: Timestamp::from_nanos(62_123_456_789),
        finished: Timestamp::from_nanos(62_133_456_789),
        namespaces: vec![
            namespace(4026531840, None),
            namespace(4026532200, None),
            namespace(4026532300, Some("blue")),
        ],
        processes: vec![
            listed(process(100, "sshd", 0), 0, None),
            listed(process(201, "nginx", 33), 0, None),
            listed(process(202, "nginx", 33), 0, None),
            listed(process(300, "curl\u{1b}[2J", 10001), 1, Some(web_container())),
        ],
        sockets: internet_sockets().into_iter().chain(other_sockets()).collect(),
        unseen: vec![
            Unseen { what: UnseenThing::Processes, why: UnseenReason::Permission, count: 3 },
            Unseen { what: UnseenThing::Processes, why: UnseenReason::Vanished, count: 1 },
        ],
    }
}

fn config(line: &str) -> ListConfig {
    // User names are the node's business.
    let words = ["netsnoop", "list", "-n"].into_iter().chain(line.split_whitespace());
    let cli = Cli::try_parse_from(words).unwrap();
    match cli.command {
        Some(Command::List(args)) => ListConfig::decide(*args, &cli.global).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn listing(line: &str) -> Listing {
    open(&config(line), Arc::default()).unwrap()
}

fn written(listing: &mut Listing, inventory: Inventory) -> (String, Vec<String>) {
    listing.take(inventory);
    let mut out = Vec::new();
    let remarks = listing.write(&mut out).unwrap();
    (String::from_utf8(out).unwrap(), remarks)
}

fn page(line: &str) -> String {
    written(&mut listing(line), inventory()).0
}

/// The inodes of the sockets that `line` shows, in order; 0 is TIME_WAIT's.
fn chosen(listing: &mut Listing) -> Vec<u64> {
    let (lines, _) = written(listing, inventory());
    let inode = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        value["socket"]["inode"].as_u64().unwrap_or_default()
    };
    lines.lines().map(inode).collect()
}

#[track_caller]
fn check_chosen(line: &str, expected: &[u64]) {
    assert_eq!(chosen(&mut listing(&format!("-o jsonl {line}"))), expected, "{line}");
}

#[test]
fn the_table_is_this() {
    let expected = "\
Netid  State      Recv-Q  Send-Q  Local                    Peer                    User   Pod/Container    Netns       Process
tcp    LISTEN          0       0  0.0.0.0:22               *                       0                       4026531840  sshd[100]
tcp    LISTEN          0       0  [::]:80                  *                       33                      4026531840  nginx[201]|nginx[202]
tcp    TIME-WAIT       0       0  198.18.1.10:54100        198.18.1.13:6379                                4026532200  (time_wait)
tcp    ESTAB           0       0  198.18.1.10:54102        198.18.1.13:6379        10001  tools/web-1/app  4026532200  curl\\u{1b}[2J[300]
tcp    state-13        0       0  [::ffff:198.18.1.13]:80  [::ffff:198.18.1.10]:9  0                       blue        (no_descriptor)
udp    UNCONN          0       0  [fe80::1]%eth0:546       *                       0                       4026531840  sshd[100]
raw    UNCONN          0       0  0.0.0.0:1                *                       0                       4026531840  sshd[100]
u_str  ESTAB           0       0  *:17                     /run/a\\n\\xff            33                      4026531840  nginx[201]
u_str  LISTEN          0       0  /run/a\\n\\xff             *                       0                       4026531840  sshd[100]
u_dgr  UNCONN          0       0  @name                    *                       0                       4026531840  sshd[100]
p_raw  UNCONN          0       0  *:eth0                   *                       0                       4026531840  sshd[100]
nl     UNCONN          0       0  route:kernel             *                       0                       4026531840  (kernel)
v_str  LISTEN          0       0  *:1024                   *                       0                       4026531840  sshd[100]
other  ?               0       0  family 38 protocol 1     *                       0                       4026531840  sshd[100]
";
    let page = page("--sort netid");
    assert_eq!(page, expected, "\n{page}");
}

#[test]
fn extended_adds_inodes_cookies_and_descriptors() {
    let page = page("-e -H --pid 202");
    assert!(page.ends_with("4026531840  12    nginx[201](3)|nginx[202](3)\n"), "{page}");
}

#[test]
fn questions_choose_just_what_they_ask_for() {
    check_chosen("-tl", &[11, 12]);
    check_chosen("-l -x", &[18, 16]);
    check_chosen("-x state connected", &[17]);
    check_chosen("-t exclude listening", &[0, 14, 15]);
    check_chosen("-t state big exclude established", &[11, 12, 15]);
    check_chosen("--port 6379", &[0, 14]);
    check_chosen("--port 80,22", &[11, 12, 15]);
    check_chosen("-4", &[11, 0, 14, 23]);
    check_chosen("-6", &[12, 15, 13]);
    check_chosen("--address 198.18.1.13", &[0, 14, 15]);
    check_chosen("src 198.18.1.13", &[15]);
    check_chosen("dst 198.18.0.0/15 and not dport = :9", &[0, 14]);
    check_chosen("( sport = :22 or dport = :9 )", &[11, 15]);
    check_chosen("dport > 6000", &[0, 14]);
    check_chosen("src /run/*", &[16]);
    check_chosen("dst /run/a*", &[17]);
    check_chosen("src @name", &[18]);
    check_chosen("src /name", &[]);
    check_chosen("--pid 100 -w0", &[23, 19]);
    check_chosen("--comm nginx", &[12, 17]);
    check_chosen("--user 10001", &[14]);
    check_chosen("--pod tools/web-1", &[14]);
    check_chosen("--container app", &[14]);
    check_chosen("--pod tools/web-1 --comm nginx", &[]);
    check_chosen("--netns blue", &[15]);
    check_chosen("--netns 4026532200", &[0, 14]);
    check_chosen("--netns tools/web-1 -t -a", &[0, 14]);
    check_chosen("-w", &[23]);
    check_chosen("--vsock --netlink", &[20, 21]);
}

#[test]
fn who_holds_an_address_is_answered_for_both_directions_and_for_wildcards_where_it_is_local() {
    let who = |place: &str, addresses: &[(u32, &str)]| {
        let mut listing = listing(&format!("-o jsonl --who {place}"));
        let mut local: HashMap<u32, Vec<_>> = HashMap::new();
        for (inode, address) in addresses {
            local.entry(*inode).or_default().push(address.parse().unwrap());
        }
        listing.learn(local);
        chosen(&mut listing)
    };
    assert_eq!(who("198.18.1.13:6379", &[]), [0, 14]);
    assert_eq!(who("198.18.1.10:54102", &[]), [14]);
    assert!(who("198.18.0.1:22", &[]).is_empty());
    assert_eq!(who("198.18.0.1:22", &[(4026531840, "198.18.0.1")]), [11]);
    assert!(who("198.18.0.1:22", &[(4026532200, "198.18.0.1")]).is_empty());
    // A socket of both families takes IPv4, one of IPv4 alone takes no IPv6.
    assert_eq!(who("198.18.0.1:80", &[(4026531840, "198.18.0.1")]), [12]);
    assert!(who("[2001:db8::1]:22", &[(4026531840, "2001:db8::1")]).is_empty());
    assert_eq!(who(":80", &[]), [12, 15]);
    assert_eq!(who("/run/a*", &[]), [17, 16]);
    let asks = |place: &str| {
        let mut listing = listing(&format!("--who {place}"));
        listing.take(inventory());
        listing.needs_addresses()
    };
    assert!(asks("198.18.0.1:22"));
    assert!(!asks("198.18.0.1:6379") && !asks(":22"));
    let (_, remarks) = written(&mut listing("--who 198.18.0.1:1"), inventory());
    assert!(remarks.iter().any(|remark| remark.starts_with("nobody here holds this")), "{remarks:?}");
}

#[test]
fn sockets_are_sorted_by_what_is_named_and_then_as_ever() {
    check_chosen("-t --sort=-port", &[14, 0, 12, 15, 11]);
    check_chosen("-t --sort state", &[14, 0, 11, 12, 15]);
    check_chosen("-tl --sort=-process", &[11, 12]);
    check_chosen("-t --sort=-pid", &[14, 12, 11, 0, 15]);
    check_chosen("-t --sort=-user,local", &[14, 12, 11, 15, 0]);
    check_chosen("-t --sort=-container", &[14, 11, 12, 0, 15]);
    check_chosen("-t --sort=-netns", &[15, 0, 14, 11, 12]);
}

/// A look later, in which one socket is new, one closes, and TIME_WAIT and the socket with inode 14 are gone.
fn later() -> Inventory {
    let mut later = inventory();
    later.sockets.retain(|socket| socket.inode.is_some_and(|inode| inode.get() != 14));
    let closing = later.sockets.iter_mut().find(|socket| socket.inode == NonZeroU64::new(15)).unwrap();
    closing.state = TcpState::CLOSE_WAIT;
    let listen = (Protocol::Tcp, TcpState::LISTEN);
    later.sockets.push(socket((1, 30), listen, internet(("0.0.0.0", 8080), ("0.0.0.0", 0)), &[3]));
    later
}

#[test]
fn sockets_whose_addresses_are_not_known_come_after_their_kind() {
    let listen = (Protocol::Tcp, TcpState::LISTEN);
    let mut sockets: Vec<ListedSocket> = (1..60)
        .map(|number| {
            let port = u16::try_from(number).unwrap();
            socket((0, 100 - number), listen, internet(("10.0.0.1", port), ("0.0.0.0", 0)), &[0])
        })
        .collect();
    sockets.extend((200..260).map(|inode| socket((0, inode), listen, Addresses::Unknown, &[0])));
    sockets.extend(["2001:db8::2", "2001:db8::1", "2001:db8::1:0:0:1"].map(|address| {
        socket((0, 300 + u64::from(address.len() as u8)), listen, internet((address, 9), ("::", 0)), &[0])
    }));
    let ordered = |sockets: Vec<ListedSocket>| {
        let page = written(&mut listing("-t -l -H"), Inventory { sockets, ..inventory() }).0;
        page.lines().map(|line| line.split_whitespace().nth(4).unwrap().to_owned()).collect::<Vec<_>>()
    };
    let forwards = ordered(sockets.clone());
    sockets.reverse();
    assert_eq!(forwards, ordered(sockets));
    assert_eq!(forwards[0], "10.0.0.1:1");
    assert_eq!(
        forwards[58..62],
        ["10.0.0.1:59", "[2001:db8::1]:9", "[2001:db8::2]:9", "[2001:db8::1:0:0:1]:9"]
    );
    assert!(forwards[62..].iter().all(|local| local == "*"), "{forwards:?}");
}

#[test]
fn what_has_changed_since_the_look_before_is_marked() {
    let mut listing = listing("-t -H --watch 1");
    let is_marked = |line: &&str| line.starts_with(['+', '~', '-']);
    let first = written(&mut listing, inventory()).0;
    assert_eq!(first.lines().find(is_marked), None, "{first}");
    let second = written(&mut listing, later()).0;
    let marked: Vec<&str> = second.lines().filter(is_marked).collect();
    assert_eq!(marked.len(), 4, "{second}");
    assert!(marked[0].starts_with("+  tcp  LISTEN") && marked[0].contains("0.0.0.0:8080"), "{second}");
    assert!(marked[1].starts_with("-  tcp  TIME-WAIT"), "{second}");
    assert!(marked[2].starts_with("-  tcp  ESTAB") && marked[2].ends_with("[300]"), "{second}");
    assert!(marked[3].starts_with("~  tcp  CLOSE-WAIT"), "{second}");
    let third = written(&mut listing, later()).0;
    assert_eq!(third.lines().find(is_marked), None, "{third}");
}

#[test]
fn machines_are_told_what_has_changed() {
    let validator = validator();
    let mut listing = listing("-t -o json --watch 1");
    let mut changes = |inventory| {
        let page = written(&mut listing, inventory).0;
        check_valid(&validator, page.trim_end());
        let object: Value = serde_json::from_str(&page).unwrap();
        let sockets = object["sockets"].as_array().unwrap().iter();
        let mut changes: Vec<_> =
            sockets.filter_map(|socket| Some(socket["change"].as_str()?.to_owned())).collect();
        changes.sort_unstable();
        changes
    };
    assert!(changes(inventory()).is_empty());
    assert_eq!(changes(later()), ["changed", "gone", "gone", "new"]);
    assert!(changes(later()).is_empty());
}

#[test]
fn the_summary_is_this() {
    let expected = "\
Netns  Name         Processes  Users  Pods/Containers  Sockets  States
4026531840                       3  0 33                         11  ?:1 ESTAB:1 UNCONN:5 LISTEN:4
4026532200  tools/web-1          1  10001  tools/web-1/app        2  ESTAB:1 TIME-WAIT:1
4026532300  blue                 0                                1  ?:1
";
    let page = page("--summary");
    assert_eq!(page.trim_start(), expected, "\n{page}");
}

#[test]
fn what_could_not_be_seen_is_said_with_what_to_do() {
    let remarks = written(&mut listing(""), inventory()).1;
    assert_eq!(remarks.len(), 1);
    assert!(remarks[0].starts_with("not seen: 3 processes") && remarks[0].contains("root"), "{remarks:?}");
    assert_eq!(written(&mut listing("-v"), inventory()).1.len(), 2);
}

fn validator() -> Validator {
    let schema = include_str!("../../../../docs/schema/socket-v1.schema.json");
    jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap()
}

fn check_valid(validator: &Validator, line: &str) {
    let value: Value = serde_json::from_str(line).unwrap();
    assert!(validator.is_valid(&value), "{line}");
    assert!(!line.contains("null") && !line.contains(is_unsafe), "{line}");
}

#[test]
fn every_object_follows_the_schema() {
    let validator = validator();
    for line in ["-o json", "-o jsonl", "-o json --summary", "-o jsonl --summary"] {
        let page = page(line);
        assert!(page.lines().count() > 0);
        page.lines().for_each(|line| check_valid(&validator, line));
    }
    assert!(!validator.is_valid(&serde_json::json!({"schema_version": 1})));
}

#[test]
fn the_object_has_sockets_namespaces_and_what_was_not_seen() {
    let value: Value = serde_json::from_str(&page("-o json -t")).unwrap();
    assert_eq!(value["rung"], "proc");
    assert_eq!(value["duration_ns"], 10_000_000);
    assert_eq!(value["sockets"].as_array().unwrap().len(), 5);
    let namespaces = value["namespaces"].as_array().unwrap();
    assert_eq!(namespaces.len(), 3);
    assert_eq!(namespaces[1]["netns"]["name"], "tools/web-1");
    assert_eq!(
        value["unseen"][0],
        serde_json::json!({"what": "processes", "reason": "permission", "count": 3})
    );
}

#[test]
fn bytes_that_are_no_text_are_kept() {
    let value: Value = serde_json::from_str(&page("-o jsonl src /run/*")).unwrap();
    assert_eq!(value["network"]["local"]["address"], "/run/a\n\u{fffd}");
    assert_eq!(value["network"]["local"]["address_base64"], "L3J1bi9hCv8=");
    let value: Value = serde_json::from_str(&page("-o jsonl src @name")).unwrap();
    assert_eq!(value["network"]["local"], serde_json::json!({"address": "\0name"}));
}

#[test]
fn everything_known_of_a_socket_is_this_line() {
    let expected = concat!(
        r#"{"schema_version":1,"network":{"transport":"tcp","type":"ipv4","local":{"address":"198.18.1.10","port":54102},"#,
        r#""peer":{"address":"198.18.1.13","port":6379}},"socket":{"state":"established","receive_queue":0,"send_queue":0,"#,
        r#""inode":14,"uid":0},"netns":{"inode":4026532200,"cookie":7,"name":"tools/web-1"},"user":{"id":10001},"holders":"#,
        r#"[{"process":{"pid":300,"start_time":"TIME","name":"curl\u001b[2J"},"fds":[3],"user":{"id":10001},"#,
        r#""container":{"id":"CONTAINER","runtime":"containerd"},"k8s":{"namespace":{"name":"tools"},"pod":{"uid":"1111","#,
        r#""name":"web-1","label":{"tier":"front"}},"container":{"name":"app"}}}]}"#,
        "\n"
    );
    let page = page("-o jsonl --pid 300");
    let (before, from) = page.split_once(r#""start_time":""#).unwrap();
    let (_, after) = from.split_once('"').unwrap();
    let page = format!(r#"{before}"start_time":"TIME"{after}"#).replace(samples::CONTAINER_ID, "CONTAINER");
    assert_eq!(page, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_a_stranger_named_reaches_the_terminal_and_json_keeps_it_all(
        path in prop::collection::vec(any::<u8>(), 1..108),
        comm in prop::collection::vec(1..=255_u8, 1..16),
        name in any::<String>(),
    ) {
        let mut inventory = inventory();
        let kind = (Protocol::Unix(SocketKind::STREAM), TcpState::LISTEN);
        inventory.sockets = vec![socket((2, 40), kind, unix(Some(&path), None), &[3])];
        inventory.processes[3].process.name = Comm::new(&comm);
        inventory.namespaces[2].name = Some(name.as_str().into());
        for line in ["", "--summary"] {
            let text = written(&mut listing(line), inventory.clone()).0;
            prop_assert!(text.chars().all(|c| c == '\n' || !is_unsafe(c)), "{:?}", text);
            prop_assert!(text.lines().count() <= 4);
        }
        let line = written(&mut listing("-o jsonl"), inventory).0;
        check_valid(&validator(), line.trim_end());
        let value: Value = serde_json::from_str(&line).unwrap();
        let exact = |value: &Value, text: &str, bytes: &str| match value[bytes].as_str() {
            Some(encoded) => base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded).unwrap(),
            None => value[text].as_str().unwrap().as_bytes().to_vec(),
        };
        prop_assert_eq!(exact(&value["network"]["local"], "address", "address_base64"), path);
        let comm = Comm::new(&comm).as_bytes().to_vec();
        prop_assert_eq!(exact(&value["holders"][0]["process"], "name", "name_base64"), comm);
        prop_assert_eq!(&value["netns"]["name"], &Value::from(name));
    }
}

#[test]
fn uids_are_asked_for_once_each() {
    let rows = inventory();
    let look = super::Look::new(rows);
    let uids: BTreeSet<u32> = look.sockets().flat_map(super::uids_in).collect();
    assert_eq!(uids.into_iter().collect::<Vec<_>>(), [0, 33, 10001]);
}
