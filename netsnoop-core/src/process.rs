//! What a process is to netsnoop: (pid, start time), never a bare pid, because pids are reused.

use core::fmt;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

use crate::time::Timestamp;

/// Length of one tick of `/proc/<pid>/stat` field 22: USER_HZ is 100 on every architecture Rust and
/// aya both serve (man 5 proc_pid_stat, "starttime").
const TICK_NANOS: u64 = 10_000_000;

/// A process, told apart from earlier and later ones with the same number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProcessId {
    /// The pid in the initial pid namespace (the kernel's tgid).
    pub pid: u32,
    /// Start time in clock ticks since boot. `/proc` knows no finer one, so kernel events round to it.
    pub start_ticks: u64,
}

impl ProcessId {
    /// From the kernel's `start_boottime`, which `/proc` prints divided down to ticks.
    pub const fn from_boot_nanos(pid: u32, start_nanos: u64) -> Self {
        Self { pid, start_ticks: start_nanos / TICK_NANOS }
    }

    /// The start time, rounded down to one tick.
    pub const fn started_at(self) -> Timestamp {
        Timestamp::from_nanos(self.start_ticks.saturating_mul(TICK_NANOS))
    }

    /// The earliest and the latest moment it may have started at: the start time was rounded down to a tick.
    pub const fn started_between(self) -> (Timestamp, Timestamp) {
        let earliest = self.started_at();
        (earliest, Timestamp::from_nanos(earliest.as_nanos().saturating_add(TICK_NANOS - 1)))
    }
}

/// A process name as the kernel holds it: up to 15 bytes, any bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Comm([u8; 16]);

impl Comm {
    /// Takes the bytes up to the first NUL, at most 15 (TASK_COMM_LEN - 1).
    pub fn new(bytes: &[u8]) -> Self {
        let mut comm = [0; 16];
        for (to, from) in comm.iter_mut().take(15).zip(bytes.iter().take_while(|byte| **byte != 0)) {
            *to = *from;
        }
        Self(comm)
    }

    /// The bytes before the padding.
    pub fn as_bytes(&self) -> &[u8] {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        self.0.get(..length).unwrap_or_default()
    }

    /// As text; bytes that are not UTF-8 become U+FFFD. Control characters are kept: escaping is the sink's.
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(self.as_bytes()).into_owned()
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_text())
    }
}

/// A process as one piece of evidence named it, at the moment that evidence arose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Process {
    /// Which process.
    pub id: ProcessId,
    /// Its name (of the thread group leader).
    pub name: Comm,
    /// Its real uid in the initial user namespace.
    pub uid: u32,
    /// Its cgroup v2 id (the inode of its directory in cgroup2), where the evidence had it.
    pub cgroup_id: Option<u64>,
}

/// What is worth knowing of a process beyond its name, read once and shared by its connections.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProcessFacts {
    /// The path of its executable.
    pub executable: Option<Arc<str>>,
    /// The container it runs in.
    pub container: Option<Container>,
    /// Who it is by the container's own account.
    pub container_user: Option<ContainerUser>,
    /// Whether it is still asked which container it runs in, or what that is called.
    pub names_follow: bool,
}

/// A user as the container has it: its number in the container's user namespace, and the name in the container's passwd
/// file. Whoever made the container's files chose that name, so it is never one with the node's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerUser {
    /// The number on the node that this is about.
    pub uid: u32,
    /// The number inside.
    pub id: u32,
    /// The name inside.
    pub name: Option<Arc<str>>,
}

/// A container, as its cgroup path, its runtime and the kubelet's file names tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Container {
    /// The full container id.
    pub id: Arc<str>,
    /// The runtime, by the name OpenTelemetry's `container.runtime` uses (`containerd`, `docker`, `cri-o`, `podman`).
    pub runtime: Option<&'static str>,
    /// The pod, if the container is one of a pod's.
    pub pod: Option<Arc<Pod>>,
    /// Its name: within the pod, if it is of one.
    pub name: Option<Arc<str>>,
}

impl Container {
    /// Takes what `known`, which is the same container, tells besides its id.
    pub fn learn_names(&mut self, known: &Self) {
        self.runtime = self.runtime.or(known.runtime);
        self.name.clone_from(&known.name);
        if known.pod.is_some() {
            self.pod.clone_from(&known.pod);
        }
    }
}

/// A Kubernetes pod.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pod {
    /// Its uid.
    pub uid: Arc<str>,
    /// Its name, where the runtime or the kubelet's files told it.
    pub name: Option<Arc<str>>,
    /// Its Kubernetes namespace, likewise.
    pub namespace: Option<Arc<str>>,
    /// Those of its labels that were asked for, by their keys.
    pub labels: Box<[(Arc<str>, Arc<str>)]>,
}
