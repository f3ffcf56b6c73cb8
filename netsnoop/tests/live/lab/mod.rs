//! A small node for tests: a bridge in a namespace of its own, pods on it, users, cgroups, traffic.
//!
//! Namespaces live as long as a holding process does, so nothing is left behind even if a test is
//! killed: the holder sees its input end, the kernel takes the namespace and its links.

pub(crate) mod agent;
pub(crate) mod cgroup;
pub(crate) mod containerd;
pub(crate) mod cri;
pub(crate) mod daemon_set;
pub(crate) mod ledger;
pub(crate) mod prometheus;
pub(crate) mod records;
pub(crate) mod resolver;
pub(crate) mod streams;
pub(crate) mod traffic;
pub(crate) mod watch;

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use cgroup::Cgroup;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use traffic::Traffic;

/// How many times slower than a real machine this one is: emulated guests are.
pub(crate) fn slowness() -> u32 {
    env::var("NETSNOOP_TEST_SLOWNESS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// How long something that must happen may take: generous, since it is only waited out in failure.
pub(crate) fn patience() -> Duration {
    Duration::from_secs(120) * slowness()
}

/// Whether a program is there to be started.
pub(crate) fn has_program(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// netsnoop's own patience with its sources, which is 100 ms on a real machine.
pub(crate) fn settle() -> String {
    format!("--settle={}ms", 100 * slowness())
}

/// Says that a test leaves itself out; `cargo xtask test` collects these lines.
pub(crate) fn skip(test: &str, reason: &str) {
    writeln!(io::stdout().lock(), "\nskipped: {test}: {reason}").unwrap();
}

/// The netsnoop under test: the one NETSNOOP_UNDER_TEST names (`cargo xtask test` names the release
/// build, as its users run it), else the one cargo built with the tests.
pub(crate) fn netsnoop() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        env::var_os("NETSNOOP_UNDER_TEST")
            .map_or_else(|| env!("CARGO_BIN_EXE_netsnoop").into(), PathBuf::from)
    })
}

/// The traffic program, which cargo builds beside it.
pub(crate) fn traffic_program() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_netsnoop")).with_file_name("examples").join("traffic")
}

/// A namespace, named by the process that holds it.
pub(crate) struct Namespace {
    holder: Traffic,
}

impl Namespace {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.arg("--net").arg(traffic_program()).arg("hold");
        let holder = Traffic::start(&mut command);
        holder.wait_for("ready");
        let namespace = Self { holder };
        namespace.ip("link set lo up");
        namespace
    }

    /// The file that stands for it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.pid())
    }

    /// A command inside of it. `nsenter` and not `ip netns exec`, which would hide the cgroup mounts.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }

    /// Does something inside of it, on a thread of its own.
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            let link = File::open(self.path()).unwrap();
            move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            act()
        };
        thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }

    /// Runs `ip` with these words inside of it.
    pub(crate) fn ip(&self, words: &str) {
        let output = self.command(Path::new("ip")).args(words.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Namespace {
    /// Runs a program inside of it with a text as its input.
    pub(crate) fn feed(&self, words: &[&str], text: &str) {
        let mut command = self.command(Path::new(words[0]));
        let mut child = command
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A namespace on the node's bridge, with an IPv4 and an IPv6 address.
pub(crate) struct Pod {
    pub(crate) namespace: Namespace,
    /// The last number of its addresses.
    number: u8,
}

impl Pod {
    /// Its address with `port`, IPv4.
    pub(crate) fn v4(&self, port: u16) -> String {
        format!("198.18.77.{}:{port}", self.number)
    }

    /// Its address with `port`, IPv6.
    pub(crate) fn v6(&self, port: u16) -> String {
        format!("[2001:db8:77::{}]:{port}", self.number)
    }
}

/// Who runs a traffic program, and where.
#[derive(Clone, Copy)]
pub(crate) struct Actor<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) uid: u32,
    pub(crate) cgroup: Option<&'a Cgroup>,
    /// What it finds as /etc/passwd, alone.
    pub(crate) passwd: Option<&'a Path>,
}

impl<'a> Actor<'a> {
    pub(crate) fn new(namespace: &'a Namespace, uid: u32) -> Self {
        Self { namespace, uid, cgroup: None, passwd: None }
    }

    /// Starts the traffic program in a part. The shell puts itself into the cgroup and then becomes
    /// nsenter, which becomes the program: one process, one pid.
    pub(crate) fn start(&self, part: &str) -> Traffic {
        let uid = self.uid.to_string();
        let procs = self.cgroup.map_or_else(|| PathBuf::from("/dev/null"), Cgroup::procs_file);
        let mut command = Command::new("sh");
        command.args(["-c", "echo 0 > \"$1\"; shift; exec \"$@\"", "sh"]).arg(procs);
        if let Some(passwd) = self.passwd {
            let bind = "mount --bind \"$1\" /etc/passwd && shift && exec \"$@\"";
            command.args(["unshare", "--mount", "sh", "-c", bind, "sh"]).arg(passwd);
        }
        command
            .args(["nsenter", &format!("--net={}", self.namespace.path()), "-S", &uid, "-G", &uid])
            .arg(traffic_program())
            .args(part.split(' '));
        Traffic::start(&mut command)
    }

    /// Starts a server and waits until it listens.
    pub(crate) fn serve(&self, part: &str) -> Traffic {
        let server = self.start(part);
        server.wait_for("listen");
        server
    }

    /// Runs a part to its end and returns what it told last.
    pub(crate) fn run(&self, part: &str) -> traffic::Truth {
        self.start(part).finish()
    }
}

/// The node.
pub(crate) struct Lab {
    pub(crate) node: Namespace,
    pub(crate) client: Pod,
    pub(crate) server: Pod,
}

impl Lab {
    /// Makes one if these programs are there too, or says why `test` is left out.
    pub(crate) fn with(test: &str, programs: &[&str]) -> Option<Self> {
        for program in programs {
            if !has_program(program) {
                skip(test, &format!("needs {program}"));
                return None;
            }
        }
        Self::new(test)
    }

    /// Makes one, or says why `test` is left out.
    pub(crate) fn new(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip(test, "needs root");
            return None;
        }
        for program in ["ip", "nsenter", "unshare"] {
            if !has_program(program) {
                skip(test, &format!("needs {program}"));
                return None;
            }
        }
        let node = Namespace::new();
        node.ip("link add br0 type bridge forward_delay 0 mcast_snooping 0");
        node.ip("link set br0 up");
        node.ip("addr add 198.18.77.1/24 dev br0");
        node.ip("addr add 2001:db8:77::1/64 dev br0 nodad");
        let client = add_pod(&node, 10);
        let server = add_pod(&node, 11);
        Some(Self { node, client, server })
    }

    /// Somebody who is not on the node's bridge, and reached by its interface `outside`.
    pub(crate) fn add_outside(&self) -> Namespace {
        let namespace = Namespace::new();
        let holder = namespace.holder.pid();
        self.node.ip(&format!("link add outside type veth peer name eth0 netns {holder}"));
        self.node.ip("addr add 198.18.78.1/24 dev outside");
        self.node.ip("link set outside up");
        namespace.ip("addr add 198.18.78.2/24 dev eth0");
        namespace.ip("link set eth0 up");
        self.node.ip("route add default via 198.18.78.2");
        namespace
    }

    /// One more pod on the bridge.
    pub(crate) fn add_pod(&self, number: u8) -> Pod {
        add_pod(&self.node, number)
    }

    /// The usual client: user 10001 in the client pod.
    pub(crate) fn client(&self) -> Actor<'_> {
        Actor::new(&self.client.namespace, 10001)
    }

    /// The usual server: user 10002 in the server pod.
    pub(crate) fn server(&self) -> Actor<'_> {
        Actor::new(&self.server.namespace, 10002)
    }
}

fn add_pod(node: &Namespace, number: u8) -> Pod {
    let namespace = Namespace::new();
    let holder = namespace.holder.pid();
    node.ip(&format!("link add veth{number} type veth peer name eth0 netns {holder}"));
    node.ip(&format!("link set veth{number} master br0 up"));
    namespace.ip(&format!("addr add 198.18.77.{number}/24 dev eth0"));
    namespace.ip(&format!("addr add 2001:db8:77::{number}/64 dev eth0 nodad"));
    namespace.ip("link set eth0 up");
    Pod { namespace, number }
}
