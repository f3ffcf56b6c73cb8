//! Walk, lookup, topology and facts against real sockets in namespaces of the test's own. Needs root.
//!
//! The processes in the namespaces are this test binary again (`roles`).

mod prerequisites;
mod roles;

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroU64;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr as NetlinkAddr};
use netsnoop::counters::{Counter, Counters};
use netsnoop::intake::{Input, Intake};
use netsnoop::rescans;
use netsnoop::sources::link_events::LinkEvents;
use netsnoop::sources::lookup::{self, LookupSettings, LookupTools};
use netsnoop::sources::{proc_walk, topology};
use netsnoop_core::attribution::{Reason, Rung, RungSet, Way};
use netsnoop_core::five_tuple::{Endpoint, FiveTuple, Transport};
use netsnoop_core::namespace::{InterfaceKind, NamespaceKey, TopologyChange};
use netsnoop_core::observation::{Observation, Rescan, SnapshotScope, SocketSnapshot};
use netsnoop_core::process::{Process, ProcessFacts};
use netsnoop_core::socket::{SocketRow, TcpState};
use rustix::thread::UnshareFlags;

use roles::{Role, SELF, be_ready, own_role, wait_for_end};

const UID: u32 = 10_001;
/// Outside the range of client ports, and nothing is bound to it.
const CLOSED_PORT: u16 = 9;
/// When what must be told is taken to be missing: far more than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who this binary is when started with a role; does nothing in a test run.
#[test]
fn role() {
    match own_role().as_deref() {
        Some("sockets") => hold_sockets(),
        Some("idle") => {
            be_ready("");
            wait_for_end();
        }
        _ => {}
    }
}

/// Sockets of every kind the tests ask for. A child shares one of them.
fn hold_sockets() {
    let any = || "127.0.0.1:0".parse::<SocketAddr>().unwrap();
    let listener = TcpListener::bind(any()).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    let dual = TcpListener::bind("[::]:0").unwrap();
    let waiting = TcpStream::connect(("127.0.0.1", dual.local_addr().unwrap().port())).unwrap();
    let wildcard = UdpSocket::bind("0.0.0.0:0").unwrap();
    let connected = UdpSocket::bind(any()).unwrap();
    connected.connect(("127.0.0.1", wildcard.local_addr().unwrap().port())).unwrap();
    let shared = UdpSocket::bind("[::1]:0").unwrap();
    rustix::io::fcntl_setfd(&shared, rustix::io::FdFlags::empty()).unwrap();
    let idle = start("idle");
    let pairs = [
        (client.local_addr(), client.peer_addr()),
        (server.local_addr(), server.peer_addr()),
        (waiting.local_addr(), waiting.peer_addr()),
        (dual.local_addr(), Ok(any())),
        (connected.local_addr(), connected.peer_addr()),
        (wildcard.local_addr(), Ok(any())),
        (shared.local_addr(), Ok(any())),
    ];
    let mut line = format!("{}", idle.pid());
    for (local, remote) in pairs {
        line += &format!(" {} {}", local.unwrap(), remote.unwrap());
    }
    be_ready(&line);
    wait_for_end();
    idle.end();
}

fn new_namespace() {
    // SAFETY: only the network namespace is unshared, which no memory or file of this process refers to.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
    let mut link = LinkMessage::default();
    link.header.index = 1;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    change(RouteNetlinkMessage::SetLink(link), NLM_F_REQUEST | NLM_F_ACK);
}

/// A veth whose other half is in the namespace of process `pid`.
fn veth(name: &str, peer_name: &str, pid: u32) -> RouteNetlinkMessage {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![LinkAttribute::IfName(peer_name.into()), LinkAttribute::NetNsPid(pid)];
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    RouteNetlinkMessage::NewLink(link)
}

/// Changes links of the namespace this thread is in, and waits for the kernel to say it did.
fn change(message: RouteNetlinkMessage, flags: u16) {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let socket = Socket::new(NETLINK_ROUTE).unwrap();
    socket.connect(&NetlinkAddr::new(0, 0)).unwrap();
    socket.send(&bytes, 0).unwrap();
    let (answer, _) = socket.recv_from_full().unwrap();
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).unwrap();
    let NetlinkPayload::Error(error) = answer.payload else { panic!("no answer to a change of links") };
    assert_eq!(error.raw_code(), 0, "changing links: {}", error.to_io());
}

fn start(role: &str) -> Role {
    Role::start(role, Command::new(SELF).uid(UID))
}

/// What the `sockets` role holds.
struct Lab {
    role: Role,
    idle_pid: u32,
    namespace: u32,
    pairs: Vec<(Endpoint, Endpoint)>,
}

const CLIENT: usize = 0;
const SERVER: usize = 1;
const WAITING: usize = 2;
const DUAL: usize = 3;
const CONNECTED: usize = 4;
const WILDCARD: usize = 5;
const SHARED: usize = 6;

impl Lab {
    /// `None`, with the reason told, where this is not root.
    fn new(test: &str) -> Option<Self> {
        if !prerequisites::has(test, &[]) {
            return None;
        }
        // A process starts in the namespace of the thread that starts it.
        let in_new_namespace = || {
            new_namespace();
            start("sockets")
        };
        let mut role = std::thread::spawn(in_new_namespace).join().unwrap();
        let said = role.ready();
        let words: Vec<&str> = said.split(' ').collect();
        let endpoint = |text: &str| {
            let address: SocketAddr = text.parse().unwrap();
            Endpoint::new(address.ip(), address.port())
        };
        let pairs = words[1..].chunks(2).map(|pair| (endpoint(pair[0]), endpoint(pair[1]))).collect();
        let namespace = namespace_of(role.pid());
        Some(Self { idle_pid: words[0].parse().unwrap(), role, namespace, pairs })
    }

    fn tuple(&self, which: usize, transport: Transport) -> FiveTuple {
        FiveTuple { transport, local: self.pairs[which].0, remote: self.pairs[which].1 }
    }

    fn key(&self) -> NamespaceKey {
        NamespaceKey { inode: self.namespace, cookie: None }
    }
}

fn namespace_of(pid: u32) -> u32 {
    u32::try_from(rustix::fs::stat(format!("/proc/{pid}/ns/net")).unwrap().st_ino).unwrap()
}

fn only(rung: Rung) -> RungSet {
    let mut rungs = RungSet::EMPTY;
    rungs.insert(rung);
    rungs
}

fn settings(rungs: RungSet) -> LookupSettings {
    LookupSettings {
        way: Way::Main,
        proc_root: "/proc".into(),
        rungs,
        container_users: false,
        hears_exits: true,
        cgroup_root: None,
        kubelet_logs: "/var/log".into(),
    }
}

/// Asks the lookup thread, and ends it.
fn ask(rungs: RungSet, question: Rescan) -> Observation {
    let (questions, receiver) = rescans::channel(1).unwrap();
    let (sender, answers) = sync_channel(1);
    let intake = Intake::new(sender, Arc::new(Counters::default()));
    questions.offer(question, &Counter::default());
    drop(questions);
    lookup::run(&receiver, intake, settings(rungs), LookupTools::default()).unwrap();
    match answers.recv().unwrap() {
        Input::Answer(_, observation) => observation,
        other => panic!("{other:?}"),
    }
}

fn ask_sockets(
    rung: Rung,
    namespace: NamespaceKey,
    wanted: Vec<FiveTuple>,
) -> (SocketSnapshot, Vec<(FiveTuple, Reason)>) {
    let Observation::Sockets(snapshot) = ask(only(rung), Rescan::Sockets { namespace, wanted }) else {
        panic!("another answer")
    };
    let missing = match &snapshot.scope {
        SnapshotScope::Wanted { missing } => missing.clone(),
        SnapshotScope::Ended | SnapshotScope::Whole => panic!("{snapshot:?}"),
    };
    (snapshot, missing)
}

fn check_owner(row: &SocketRow, pids: &[u32], process_uid: u32) {
    let mut found: Vec<u32> = row.holders.iter().map(|holder| holder.id.pid).collect();
    found.sort_unstable();
    let mut pids = pids.to_vec();
    pids.sort_unstable();
    assert_eq!(found, pids, "{row:?}");
    // Some machines have processes that not even root may look into.
    assert!(row.holders_lack.is_none_or(|lack| lack == Reason::Permission), "{row:?}");
    let holder = row.holders.iter().find(|holder| holder.id.pid == pids[0]).unwrap();
    assert_eq!(holder.uid, process_uid, "{row:?}");
}

#[test]
fn the_walk_finds_owners_in_another_namespace() {
    let Some(lab) = Lab::new("the_walk_finds_owners_in_another_namespace") else { return };
    let pid = lab.role.pid();
    for rung in [Rung::Proc, Rung::SockDiag] {
        let counters = Counters::default();
        let walk = proc_walk::read_all(Path::new("/proc"), only(rung), &counters).unwrap();
        let snapshot =
            walk.snapshots.iter().find(|snapshot| snapshot.namespace.inode == lab.namespace).unwrap();
        assert_eq!((snapshot.rung, &snapshot.scope), (rung, &SnapshotScope::Whole));
        assert!(snapshot.namespace.cookie.is_some());
        let find = |tuple: FiveTuple| {
            snapshot
                .sockets
                .iter()
                .find(|row| row.tuple == tuple)
                .unwrap_or_else(|| panic!("{tuple:?} by {rung:?}"))
        };
        check_owner(find(lab.tuple(CLIENT, Transport::Tcp)), &[pid], UID);
        check_owner(find(lab.tuple(SERVER, Transport::Tcp)), &[pid], UID);
        check_owner(find(lab.tuple(CONNECTED, Transport::Udp)), &[pid], UID);
        let not_accepted = find(lab.tuple(WAITING, Transport::Tcp).mirrored());
        assert_eq!((not_accepted.inode, not_accepted.state), (None, TcpState::ESTABLISHED));
        let shared = snapshot.sockets.iter().find(|row| row.tuple.local == lab.pairs[SHARED].0).unwrap();
        check_owner(shared, &[pid, lab.idle_pid], UID);
        assert_eq!(
            snapshot.sockets.iter().filter(|row| row.cookie.is_some()).count() > 0,
            rung == Rung::SockDiag
        );
        assert_eq!((counters.proc_lines_rejected.get(), counters.proc_failed.get()), (0, 0));
        assert!(walk.processes >= 2 && walk.sockets() >= lab.pairs.len());
    }
}

#[test]
fn a_lookup_answers_for_every_kind_of_end() {
    let Some(lab) = Lab::new("a_lookup_answers_for_every_kind_of_end") else { return };
    let pid = lab.role.pid();
    for rung in [Rung::Proc, Rung::SockDiag] {
        let check = |wanted: FiveTuple, local: Endpoint, pids: &[u32]| {
            let (snapshot, missing) = ask_sockets(rung, lab.key(), vec![wanted]);
            assert_eq!((snapshot.rung, missing), (rung, vec![]), "{wanted:?}");
            let [row] = snapshot.sockets.as_slice() else { panic!("{wanted:?} by {rung:?}: {snapshot:?}") };
            assert_eq!(row.tuple.local, local, "{wanted:?}");
            check_owner(row, pids, UID);
            row.clone()
        };
        for which in [CLIENT, SERVER] {
            let wanted = lab.tuple(which, Transport::Tcp);
            assert_eq!(check(wanted, wanted.local, &[pid]).tuple, wanted);
        }
        let child = lab.tuple(WAITING, Transport::Tcp).mirrored();
        assert_eq!(check(child, lab.pairs[DUAL].0, &[pid]).state, TcpState::LISTEN);
        let connected = lab.tuple(CONNECTED, Transport::Udp);
        assert_eq!(check(connected, connected.local, &[pid]).tuple, connected);
        check(connected.mirrored(), lab.pairs[WILDCARD].0, &[pid]);
        let unbound = FiveTuple { local: lab.pairs[WILDCARD].0, ..connected.mirrored() };
        check(unbound, lab.pairs[WILDCARD].0, &[pid]);
    }
}

#[test]
fn a_socket_of_two_processes_has_two_holders() {
    let Some(lab) = Lab::new("a_socket_of_two_processes_has_two_holders") else { return };
    let remote = Endpoint::new("::1".parse().unwrap(), 4);
    for rung in [Rung::Proc, Rung::SockDiag] {
        let wanted = FiveTuple { transport: Transport::Udp, local: lab.pairs[SHARED].0, remote };
        let (snapshot, _) = ask_sockets(rung, lab.key(), vec![wanted]);
        let holders: Vec<u32> = snapshot.sockets[0].holders.iter().map(|holder| holder.id.pid).collect();
        assert_eq!(holders.len(), 2, "{snapshot:?}");
        assert!(holders.contains(&lab.role.pid()) && holders.contains(&lab.idle_pid), "{holders:?}");
    }
}

#[test]
fn what_is_not_there_has_a_reason() {
    let Some(lab) = Lab::new("what_is_not_there_has_a_reason") else { return };
    let nobody =
        FiveTuple { transport: Transport::Tcp, local: lab.pairs[CLIENT].0, remote: lab.pairs[DUAL].0 };
    let closed = FiveTuple { local: Endpoint { port: CLOSED_PORT, ..nobody.local }, ..nobody };
    let none = NonZeroU64::new(u64::MAX);
    for rung in [Rung::Proc, Rung::SockDiag] {
        let check = |namespace, wanted, reason| {
            let (snapshot, missing) = ask_sockets(rung, namespace, vec![wanted]);
            assert_eq!((snapshot.sockets, missing), (vec![], vec![(wanted, reason)]), "by {rung:?}");
        };
        check(lab.key(), nobody, Reason::GoneBeforeLookup);
        check(lab.key(), closed, Reason::ClosedPort);
        // The inode is right, but it was another namespace's when the question arose; and one that nobody has.
        let wanted = vec![lab.tuple(CLIENT, Transport::Tcp)];
        for namespace in [NamespaceKey { cookie: none, ..lab.key() }, NamespaceKey { inode: 1, cookie: None }]
        {
            let answer = ask(only(rung), Rescan::Sockets { namespace, wanted: wanted.clone() });
            let Observation::Sockets(snapshot) = answer else { panic!("{answer:?}") };
            assert_eq!((snapshot.scope, snapshot.sockets), (SnapshotScope::Ended, vec![]), "by {rung:?}");
        }
    }
    let (_, missing) = ask_sockets(Rung::Kprobe, lab.key(), vec![nobody]);
    assert_eq!(missing, [(nobody, Reason::NotEnabled)]);
}

#[test]
fn facts_are_of_that_process_and_of_no_later_one() {
    let Some(lab) = Lab::new("facts_are_of_that_process_and_of_no_later_one") else { return };
    let (snapshot, _) = ask_sockets(Rung::Proc, lab.key(), vec![lab.tuple(CLIENT, Transport::Tcp)]);
    let process = snapshot.sockets[0].holders[0];
    let read = |process: Process| match ask(RungSet::ALL, Rescan::Process(process)) {
        Observation::Process(id, facts) if id == process.id => facts,
        other => panic!("{other:?}"),
    };
    let executable = std::env::current_exe().unwrap();
    assert_eq!(read(process).executable.as_deref(), executable.to_str());
    let mut earlier = process;
    earlier.id.start_ticks -= 1;
    assert_eq!(read(earlier), ProcessFacts::default());
}

#[test]
fn topology_knows_addresses_and_the_other_half_of_a_veth() {
    let Some(lab) = Lab::new("topology_knows_addresses_and_the_other_half_of_a_veth") else { return };
    // A thread of its own: its namespace ends with it, and the link in it.
    let seen = std::thread::spawn(move || {
        new_namespace();
        change(veth("here", "peer", lab.role.pid()), NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
        (topology::read(Path::new("/proc"), &Counters::default()).unwrap(), lab)
    });
    let (topology, lab) = seen.join().unwrap();
    let facts = topology.namespaces.iter().find(|facts| facts.key.inode == lab.namespace).unwrap();
    assert!(facts.key.cookie.is_some());
    for address in ["127.0.0.1", "::1"] {
        assert!(facts.addresses.contains(&address.parse().unwrap()), "{facts:?}");
    }
    let kind =
        |name: &str| topology.interfaces.iter().find(|interface| &*interface.name == name).unwrap().kind;
    assert!(facts.id.is_some());
    assert_eq!(kind("here"), InterfaceKind::Veth(facts.id));
    assert_eq!(kind("lo"), InterfaceKind::Loopback);
    assert!(topology.capture_namespace.inode != lab.namespace);
}

/// Everything that the lookup thread tells until `is_enough`.
fn follow(told: &Receiver<Input>, mut is_enough: impl FnMut(&TopologyChange) -> bool) -> Vec<TopologyChange> {
    let mut changes = Vec::new();
    loop {
        match told.recv_timeout(PATIENCE).expect("nothing more was told") {
            Input::Answer(_, Observation::TopologyChanges(report)) => {
                assert!(report.since <= report.until, "{report:?}");
                let enough = report.changes.iter().any(&mut is_enough);
                changes.extend(report.changes);
                if enough {
                    return changes;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_namespace_that_lives_for_a_moment_is_told_of_as_it_comes_and_goes() {
    let Some(lab) = Lab::new("a_namespace_that_lives_for_a_moment_is_told_of_as_it_comes_and_goes") else {
        return;
    };
    let (questions, receiver) = rescans::channel(1).unwrap();
    let (sender, told) = sync_channel(64);
    let (ready_in, ready) = sync_channel(1);
    let (linked_in, linked) = sync_channel(1);
    let counters = Arc::new(Counters::default());
    let intake = Intake::new(sender, counters.clone());
    let pid = lab.role.pid();
    // The namespace that is listened in ends with this thread.
    let following = std::thread::spawn(move || {
        new_namespace();
        let link_events = Some(LinkEvents::subscribe().unwrap());
        ready_in.send(()).unwrap();
        change(veth("here", "peer", pid), NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
        linked_in.send(()).unwrap();
        let tools = LookupTools { link_events, ..LookupTools::default() };
        lookup::run(&receiver, intake, settings(only(Rung::Proc)), tools).unwrap();
    });
    ready.recv().unwrap();
    linked.recv().unwrap();
    let changes = follow(&told, |change| matches!(change, TopologyChange::Found { .. }));
    let found = changes.iter().find_map(|change| match change {
        TopologyChange::Found { facts, .. } => Some(facts.clone()),
        _ => None,
    });
    let facts = found.unwrap();
    assert_eq!(facts.key.inode, lab.namespace);
    assert!(
        facts.key.cookie.is_some() && facts.addresses.contains(&"127.0.0.1".parse().unwrap()),
        "{facts:?}"
    );
    let is_link = |change: &TopologyChange| {
        matches!(change, TopologyChange::Interface(interface)
            if &*interface.name == "here" && interface.kind == InterfaceKind::Veth(facts.id))
    };
    assert!(changes.iter().any(is_link), "{changes:?}");
    let id = facts.id.unwrap();
    drop(lab);
    let changes = follow(&told, |change| matches!(change, TopologyChange::InterfaceGone(_)));
    assert!(changes.contains(&TopologyChange::Ended(id)), "{changes:?}");
    // Asked, it answers though nothing has changed.
    questions.offer(Rescan::TopologyChanges, &counters.lookups_lost_in_channel);
    drop(questions);
    following.join().unwrap();
    assert!(told.iter().any(|input| matches!(input, Input::Answer(_, Observation::TopologyChanges(_)))));
    assert_eq!((counters.link_events_rejected.get(), counters.link_event_overflows.get()), (0, 0));
}
