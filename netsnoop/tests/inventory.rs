//! Lists of all sockets, by all three ways, against each other, against ss and lsof, and against processes that come and
//! go while they are read. Needs root, ss (iproute2), unshare, nsenter, setpriv (util-linux) and lsof.
//!
//! The processes are this test binary again (`roles`).

mod prerequisites;
mod roles;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};

use netsnoop::counters::Counters;
use netsnoop::sources::inventory::{InventorySettings, read};
use netsnoop_core::attribution::Rung;
use netsnoop_core::inventory::{
    Addresses, Inventory, ListedSocket, Protocol, ProtocolSet, Unheld, UnixPath, UnseenReason, UnseenThing,
};
use netsnoop_core::socket::TcpState;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use roles::{Role, SELF, be_ready, own_role, wait_for_end};

const WAYS: [Rung; 3] = [Rung::Iterator, Rung::SockDiag, Rung::Proc];
/// A name with all that may be in one: NULs, a newline, bytes that are no UTF-8.
const ODD_NAME: &[u8] = b"netsnoop \xff\x1b[31m\0two\nlines";
/// Descriptors of the process with many.
const MANY: u64 = 100_000;

/// Who this binary is when started with a role; does nothing in a test run.
#[test]
fn role() {
    match own_role().as_deref() {
        Some("busy") => hold_all_kinds(),
        Some("many") => hold_many(),
        Some("storm") => fork_and_die(),
        Some("thread") => hold_in_a_thread(),
        Some("look") => say_what_proc_shows(),
        _ => {}
    }
}

/// A socket of every kind and state that a test can make and hold still, in a namespace that is new.
fn hold_all_kinds() {
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(server).unwrap();
    let accepted = listener.accept().unwrap();
    client.write_all(b"not yet read").unwrap();
    let dual = TcpListener::bind("[::]:0").unwrap();
    let mapped = TcpStream::connect(("127.0.0.1", dual.local_addr().unwrap().port())).unwrap();
    let mapped_end = dual.accept().unwrap();
    let ipv6 = TcpStream::connect(("::1", dual.local_addr().unwrap().port())).unwrap();
    let ipv6_end = dual.accept().unwrap();
    // Closed by both, and closed by one only: TIME_WAIT and an orphan in FIN_WAIT2.
    let brief = TcpStream::connect(server).unwrap();
    let (brief_end, _) = listener.accept().unwrap();
    drop(brief);
    brief_end.shutdown(std::net::Shutdown::Both).unwrap();
    drop(brief_end);
    drop(TcpStream::connect(server).unwrap());
    let half_closed = listener.accept().unwrap();
    let waiting = TcpStream::connect(server).unwrap();
    let bound = UdpSocket::bind("0.0.0.0:0").unwrap();
    let link_local = ["addr", "add", "fe80::1/64", "dev", "lo", "nodad"];
    assert!(Command::new("ip").args(link_local).status().unwrap().success());
    let scoped = UdpSocket::bind("[fe80::1%1]:0").unwrap();
    let connected = UdpSocket::bind("[::1]:0").unwrap();
    connected.connect(connected.local_addr().unwrap()).unwrap();
    connected.send(b"to myself").unwrap();
    let plain = |family, kind, protocol: u32| {
        let protocol = rustix::net::Protocol::from_raw(rustix::net::RawProtocol::new(protocol).unwrap());
        socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol)).unwrap()
    };
    let raw = plain(AddressFamily::INET, SocketType::RAW, 1);
    let raw6 = plain(AddressFamily::INET6, SocketType::RAW, 58);
    let packet = plain(AddressFamily::PACKET, SocketType::RAW, 0x0300);
    let unbound = plain(AddressFamily::INET, SocketType::DGRAM, 17);
    let mut netlink = netlink_sys::Socket::new(15).unwrap();
    netlink.bind_auto().unwrap();
    let path = folder.path().join(std::ffi::OsStr::from_bytes(b"a \xff b"));
    let unix_listener = UnixListener::bind(&path).unwrap();
    let unix_waiting = UnixStream::connect(&path).unwrap();
    let mut pair = UnixStream::pair().unwrap();
    pair.0.write_all(b"abc").unwrap();
    let odd = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(ODD_NAME).unwrap()).unwrap();
    let twice = odd.try_clone().unwrap();
    be_ready(&format!("{}", std::fs::metadata("/proc/self/ns/net").map(|file| inode(&file)).unwrap()));
    wait_for_end();
    drop((accepted, waiting, mapped, mapped_end, ipv6, ipv6_end, half_closed, bound, connected));
    drop((raw, raw6, packet, unbound, scoped, netlink, unix_listener, unix_waiting, pair, odd, twice));
}

fn inode(file: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(file)
}

/// A listening socket in a namespace that only a thread of this process is in.
fn hold_in_a_thread() {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: the thread has no memory or files of its own afterwards, only a network.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
            let listener = TcpListener::bind("0.0.0.0:0").unwrap();
            let place = std::fs::metadata("/proc/thread-self/ns/net").map(|file| inode(&file)).unwrap();
            be_ready(&format!("{place} {}", listener.local_addr().unwrap().port()));
            wait_for_end();
        });
    });
}

/// As many descriptors as a process may have, up to 100,000, of one socket.
fn hold_many() {
    let limit = |files| setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files });
    let mut allowed = getrlimit(Resource::Nofile).maximum;
    // More than it may have takes CAP_SYS_RESOURCE, which root in a container has not.
    if allowed.is_some_and(|files| files < MANY + 64) && limit(Some(MANY + 64)).is_ok() {
        allowed = Some(MANY + 64);
    }
    limit(allowed).unwrap();
    let count = allowed.unwrap_or(u64::MAX).saturating_sub(64).min(MANY);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let copies: Vec<UdpSocket> = (1..count).map(|_| socket.try_clone().unwrap()).collect();
    be_ready(&format!("{} {count}", socket.local_addr().unwrap().port()));
    wait_for_end();
    drop(copies);
}

/// Short-lived children with sockets, in namespaces of their own, until the end.
fn fork_and_die() {
    be_ready("");
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_for_end();
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !ended.load(std::sync::atomic::Ordering::Relaxed) {
            let status =
                Command::new("unshare").args(["--net", "ss", "-tunaxw"]).stdout(Stdio::null()).status();
            assert!(status.unwrap().success());
        }
    });
}

/// What a user without privileges sees; `NETSNOOP_TEST_PROC` is where.
fn say_what_proc_shows() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let root = std::env::var("NETSNOOP_TEST_PROC").unwrap();
    let inventory = look_at(&root, Rung::Proc);
    let port = socket.local_addr().unwrap().port();
    let own = inventory.sockets.iter().find(|socket| {
        matches!(&socket.addresses, Addresses::Internet { local, .. } if local.port == port)
            && socket.protocol == Protocol::Udp
    });
    let holders = own.map(|socket| pids_of(&inventory, socket));
    let of = |why| {
        let unseen = inventory.unseen.iter();
        unseen.filter(|unseen| (unseen.what, unseen.why) == (UnseenThing::Processes, why)).count()
    };
    let (denied, hidden) = (of(UnseenReason::Permission), of(UnseenReason::Hidden));
    let is_own = holders == Some(BTreeSet::from([std::process::id()]));
    be_ready(&format!("own={is_own} denied={denied} hidden={hidden}"));
}

fn look_at(proc_root: &str, way: Rung) -> Inventory {
    let settings = InventorySettings {
        proc_root: proc_root.into(),
        kubelet_logs: "/nonexistent".into(),
        via: Some(way),
        protocols: ProtocolSet::ALL,
        unheld: true,
    };
    read(&settings, &Counters::default()).unwrap_or_else(|error| panic!("{}: {error:#}", way.name()))
}

fn pids_of(inventory: &Inventory, socket: &ListedSocket) -> BTreeSet<u32> {
    let place = |place: u32| inventory.processes[place as usize].process.id.pid;
    socket.holders.iter().map(|holder| place(holder.process)).collect()
}

/// The sockets of the namespace with this inode, and those of its processes that no table shows.
fn rows_of(inventory: &Inventory, namespace: u32, pid: u32) -> Vec<&ListedSocket> {
    let place = inventory.namespaces.iter().position(|listed| listed.key.inode == namespace).unwrap();
    let sockets = inventory.sockets.iter();
    sockets
        .filter(|socket| match socket.namespace {
            Some(other) => other as usize == place,
            None => pids_of(inventory, socket).contains(&pid),
        })
        .collect()
}

/// A row as far as every way can tell it. Abstract names have an `@` for each NUL in /proc, and a newline ends its line.
fn comparable(inventory: &Inventory, socket: &ListedSocket) -> String {
    let addresses = match &socket.addresses {
        Addresses::Internet { local, remote, .. } => {
            format!("{}:{} {}:{}", local.address, local.port, remote.address, remote.port)
        }
        Addresses::Unix { path, .. } => path.as_ref().map_or_else(String::new, |UnixPath(bytes)| {
            let bytes: Vec<u8> = bytes.iter().map(|byte| if *byte == 0 { b'@' } else { *byte }).collect();
            bytes.split(|byte| *byte == b'\n').next().unwrap().escape_ascii().to_string()
        }),
        Addresses::Packet { protocol, interface } => format!("{protocol:#x} {interface:?}"),
        Addresses::Netlink { port_id } => port_id.to_string(),
        other => format!("{other:?}"),
    };
    let holders: BTreeSet<(u32, u32)> = socket
        .holders
        .iter()
        .map(|holder| (inventory.processes[holder.process as usize].process.id.pid, holder.fd))
        .collect();
    let unheld = socket.unheld.filter(|why| *why != Unheld::Unseen && *why != Unheld::NoDescriptor);
    format!(
        "{} {:?} {addresses} {:?} {holders:?} {unheld:?}",
        socket.protocol.name(),
        socket.state,
        socket.inode
    )
}

/// Without queues where the way cannot tell them, and without what is bound to nothing.
fn comparable_rows(inventory: &Inventory, namespace: u32, pid: u32) -> BTreeSet<String> {
    let rows = rows_of(inventory, namespace, pid).into_iter();
    let is_bound = |socket: &&ListedSocket| match &socket.addresses {
        Addresses::Unknown => false,
        Addresses::Internet { local, .. } => local.port != 0,
        _ => true,
    };
    rows.filter(is_bound).map(|socket| comparable(inventory, socket)).collect()
}

#[test]
fn three_ways_show_the_same_rows() {
    if !prerequisites::has("three_ways_show_the_same_rows", &["unshare", "nsenter", "ss", "lsof"]) {
        return;
    }
    let exe = std::env::current_exe().unwrap();
    let mut busy = Role::start("busy", Command::new("unshare").arg("--net").arg(&exe));
    let namespace: u32 = busy.ready().parse().unwrap();
    let pid = busy.pid();
    let inventories = WAYS.map(|way| look_at("/proc", way));
    let [first, others @ ..] = WAYS.map(|way| {
        comparable_rows(inventories.iter().find(|inventory| inventory.rung == way).unwrap(), namespace, pid)
    });
    assert!(first.len() > 25, "{first:#?}");
    for (rows, way) in others.iter().zip(&WAYS[1..]) {
        let lacking: Vec<_> = first.difference(rows).collect();
        let more: Vec<_> = rows.difference(&first).collect();
        assert!(lacking.is_empty() && more.is_empty(), "{}: {lacking:#?} {more:#?}", way.name());
    }
    for inventory in &inventories {
        let rows = rows_of(inventory, namespace, pid);
        let unbound = rows
            .iter()
            .filter(|socket| socket.protocol == Protocol::Udp && pids_of(inventory, socket).contains(&pid));
        assert_eq!(
            unbound.count(),
            4,
            "{}: a socket that is bound to nothing is a socket",
            inventory.rung.name()
        );
        for why in [Unheld::TimeWait, Unheld::Orphan, Unheld::AwaitsAccept, Unheld::Kernel] {
            let found = rows.iter().any(|socket| socket.unheld == Some(why));
            assert!(found, "{}: nothing is {}", inventory.rung.name(), why.name());
        }
        let odd = rows.iter().find(|socket| {
            matches!(&socket.addresses, Addresses::Unix { path: Some(path), .. } if path.is_abstract())
        });
        let odd = odd.unwrap();
        assert_eq!(odd.holders.len(), 2, "a descriptor each");
        if inventory.rung != Rung::Proc {
            let Addresses::Unix { path: Some(UnixPath(path)), .. } = &odd.addresses else {
                panic!("{odd:?}")
            };
            assert_eq!(path.strip_prefix(b"\0"), Some(ODD_NAME));
        }
    }
    judge_by_ss(&inventories, namespace, pid);
    judge_by_lsof(&inventories, pid);
    busy.end();
}

/// State and queues of each TCP and UDP socket of ss, by inode (raw ones it shows without); how many there are of each state without an inode.
fn judge_by_ss(inventories: &[Inventory], namespace: u32, pid: u32) {
    let output = Command::new("nsenter")
        .args(["--target", &pid.to_string(), "--net", "ss", "-H", "-O", "-tunae"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for inventory in inventories {
        let rows = rows_of(inventory, namespace, pid);
        let (mut met, mut scopes, mut small) = (0, 0, BTreeMap::<TcpState, i32>::new());
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let state = state_of(words[1]);
            let inode = words
                .iter()
                .find_map(|word| word.strip_prefix("ino:"))
                .map(|word| word.parse::<u64>().unwrap());
            let Some(inode) = inode.filter(|inode| *inode != 0) else {
                *small.entry(state).or_default() += 1;
                continue;
            };
            let row = rows.iter().find(|row| row.inode.is_some_and(|own| own.get() == inode));
            let row = row.unwrap_or_else(|| panic!("{}: no row for {line}", inventory.rung.name()));
            assert_eq!(row.state, state, "{}: {line}", inventory.rung.name());
            let queue = |queue: Option<u32>, word: &str| queue.is_none_or(|queue| queue.to_string() == word);
            let fits = queue(row.receive_queue, words[2]) && queue(row.send_queue, words[3]);
            assert!(fits, "{}: {line} {row:?}", inventory.rung.name());
            // /proc does not tell what IP sockets are bound to.
            if let Some((_, scoped)) = words[4].split_once('%').filter(|_| inventory.rung != Rung::Proc) {
                let name = interface_of(inventory, row).unwrap_or_default();
                assert_eq!(scoped.split(':').next(), Some(name), "{}: {line} {row:?}", inventory.rung.name());
                scopes += 1;
            }
            met += 1;
        }
        assert!(met >= 12, "ss shows {met} sockets with an inode");
        assert!(scopes > 0 || inventory.rung == Rung::Proc, "ss shows no interface");
        for row in rows.iter().filter(|row| row.inode.is_none() && row.protocol == Protocol::Tcp) {
            *small.entry(row.state).or_default() -= 1;
        }
        assert!(small.values().all(|count| *count == 0), "{}: {small:?}", inventory.rung.name());
    }
}

/// The name of the interface that a socket is bound to.
fn interface_of<'a>(inventory: &'a Inventory, socket: &ListedSocket) -> Option<&'a str> {
    let Addresses::Internet { interface, .. } = socket.addresses else { return None };
    let mut names = inventory.namespaces[socket.namespace? as usize].interfaces.iter();
    names.find(|(index, _)| Some(*index) == interface).map(|(_, name)| &**name)
}

fn state_of(word: &str) -> TcpState {
    match word {
        "ESTAB" => TcpState::ESTABLISHED,
        "LISTEN" => TcpState::LISTEN,
        "UNCONN" => TcpState::CLOSE,
        "TIME-WAIT" => TcpState::TIME_WAIT,
        "FIN-WAIT-2" => TcpState::FIN_WAIT2,
        "CLOSE-WAIT" => TcpState::CLOSE_WAIT,
        other => panic!("state {other}"),
    }
}

/// The descriptors that lsof calls sockets.
fn judge_by_lsof(inventories: &[Inventory], pid: u32) {
    let output = Command::new("lsof").args(["-nP", "-p", &pid.to_string(), "-F", "ft"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut sockets = BTreeSet::new();
    let mut fd = None;
    for line in text.lines() {
        if let Some(number) = line.strip_prefix('f') {
            fd = number.parse::<u32>().ok();
        } else if matches!(
            line,
            "tIPv4" | "tIPv6" | "tunix" | "tsock" | "tpack" | "tnetlink" | "traw" | "traw6"
        ) {
            sockets.extend(fd);
        }
    }
    assert!(sockets.len() > 20, "{text}");
    for inventory in inventories {
        let holders = inventory.sockets.iter().flat_map(|socket| &socket.holders);
        let own = holders.filter(|holder| inventory.processes[holder.process as usize].process.id.pid == pid);
        let own: BTreeSet<u32> = own.map(|holder| holder.fd).collect();
        assert_eq!(own, sockets, "{}", inventory.rung.name());
    }
}

#[test]
fn a_namespace_that_only_a_thread_is_in_is_looked_into() {
    if !prerequisites::has("a_namespace_that_only_a_thread_is_in_is_looked_into", &[]) {
        return;
    }
    let mut role = Role::start("thread", &mut Command::new(SELF));
    let said = role.ready();
    let (namespace, port) = said.split_once(' ').unwrap();
    for way in WAYS {
        let inventory = look_at("/proc", way);
        let rows = rows_of(&inventory, namespace.parse().unwrap(), role.pid());
        let listens = |row: &&&ListedSocket| row.state == TcpState::LISTEN;
        let listener = rows.iter().find(listens).unwrap_or_else(|| panic!("{}: {rows:?}", way.name()));
        assert_eq!(pids_of(&inventory, listener), BTreeSet::from([role.pid()]), "{}", way.name());
        let Addresses::Internet { local, .. } = &listener.addresses else { panic!("{listener:?}") };
        assert_eq!(local.port.to_string(), port, "{}", way.name());
        let missed = inventory.unseen.iter().find(|unseen| unseen.what == UnseenThing::UnheldSockets);
        assert_eq!(missed, None, "{}", way.name());
    }
    role.end();
}

#[test]
fn one_process_with_all_the_descriptors_it_may_have() {
    if !prerequisites::has("one_process_with_all_the_descriptors_it_may_have", &[]) {
        return;
    }
    let mut many = Role::start("many", &mut Command::new(SELF));
    let said = many.ready();
    let (port, count) = said.split_once(' ').unwrap();
    for way in WAYS {
        let inventory = look_at("/proc", way);
        let socket = inventory.sockets.iter().find(|socket| {
            let holds = pids_of(&inventory, socket).contains(&many.pid());
            holds && matches!(&socket.addresses, Addresses::Internet { local, .. } if local.port.to_string() == port)
        });
        assert_eq!(socket.unwrap().holders.len().to_string(), count, "{}", way.name());
    }
    many.end();
}

#[test]
fn what_stays_is_found_while_others_come_and_go() {
    if !prerequisites::has("what_stays_is_found_while_others_come_and_go", &["unshare", "ss"]) {
        return;
    }
    let mut storms =
        [Role::start("storm", &mut Command::new(SELF)), Role::start("storm", &mut Command::new(SELF))];
    storms.iter_mut().for_each(|storm| drop(storm.ready()));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    for way in WAYS.into_iter().cycle().take(30) {
        let inventory = look_at("/proc", way);
        let mine = inventory.sockets.iter().filter(|socket| {
            let holds = pids_of(&inventory, socket).contains(&std::process::id());
            holds && matches!(&socket.addresses, Addresses::Internet { local, .. } if local.port == port)
        });
        assert_eq!(mine.count(), 1, "{}", way.name());
        let places = 0..u32::try_from(inventory.namespaces.len()).unwrap();
        assert!(
            inventory
                .sockets
                .iter()
                .all(|socket| socket.namespace.is_none_or(|place| places.contains(&place)))
        );
    }
    storms.into_iter().for_each(Role::end);
}

/// What the user nobody is told in a /proc that is mounted with this `hidepid`, whatever the machine's own has.
fn check_nobody(test: &str, hidepid: &str, told: &str) {
    if !prerequisites::has(test, &["unshare", "setpriv"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // The mount is in a namespace of its own, gone with the shell.
    let script = "mount -t proc -o hidepid=\"$1\" proc \"$0\" && shift && \
                  exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.env("NETSNOOP_TEST_PROC", path).args(["--mount", "sh", "-c", script, path, hidepid]).arg(exe);
    let mut look = Role::start("look", &mut command);
    assert_eq!(look.ready(), told);
    look.end();
}

#[test]
fn without_privileges_ones_own_are_seen_and_the_rest_is_told() {
    let test = "without_privileges_ones_own_are_seen_and_the_rest_is_told";
    check_nobody(test, "off", "own=true denied=1 hidden=0");
}

#[test]
fn hidden_processes_are_told_of() {
    check_nobody("hidden_processes_are_told_of", "invisible", "own=true denied=0 hidden=1");
}

#[test]
fn a_pid_namespace_shows_its_own() {
    if !prerequisites::has("a_pid_namespace_shows_its_own", &["unshare"]) {
        return;
    }
    let mut command = Command::new("unshare");
    command.env("NETSNOOP_TEST_PROC", "/proc");
    let exe = std::env::current_exe().unwrap();
    command.args(["--pid", "--fork", "--mount-proc"]).arg(exe);
    let mut look = Role::start("look", &mut command);
    assert_eq!(look.ready(), "own=true denied=0 hidden=1");
    look.end();
}
