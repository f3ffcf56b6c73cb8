//! What the rungs stand on: capabilities, mounts, namespaces and settings of this machine.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use netsnoop_core::five_tuple::Transport;
use procfs::process::Process;
use rustix::thread::{CapabilitySet, LinkNameSpaceType, move_into_link_name_space};

use super::{Finding, State, remedies};
use crate::privileges;
use crate::sources::conntrack::{self, Conntrack, Unavailable};
use crate::sources::ebpf::btf::{KERNEL_BTF_PATH, KernelTypes};
use crate::sources::ebpf::mounts;
use crate::sources::proc_fs::shows_initial_pids;
use crate::sources::sock_diag::SockDiag;

/// Inode of the initial user namespace, which is ABI
/// (<https://github.com/torvalds/linux/blob/v6.12/include/linux/proc_ns.h#L42-L49>).
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// What was read of this machine.
pub(super) struct Host {
    pub(super) capabilities: CapabilitySet,
    pub(super) sock_diag: Result<()>,
    pub(super) setns: Result<()>,
    pub(super) processes: Result<ProcessAccess>,
    proc_root: PathBuf,
}

/// Whose open files can be listed.
pub(super) struct ProcessAccess {
    pub(super) readable: usize,
    pub(super) denied: usize,
    /// Whether those of any other user's process can.
    pub(super) others_readable: bool,
}

impl Host {
    pub(super) fn read(proc_root: &Path) -> Self {
        Self {
            capabilities: privileges::held().unwrap_or_else(|error| {
                log::warn!("{error:#}");
                CapabilitySet::empty()
            }),
            sock_diag: ask_sock_diag(),
            setns: enter_own_namespace(),
            processes: process_access(proc_root),
            proc_root: proc_root.to_owned(),
        }
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let findings = [
            capture(),
            btf(),
            cgroup(),
            tracefs(),
            self.pid_namespace(),
            user_namespace(),
            self.hidepid(),
            self.conntrack(),
            setting(
                "kernel.perf_event_paranoid",
                |level| level < 3,
                "kprobes and tracepoints are refused to CAP_PERFMON alone; CAP_SYS_ADMIN still may",
            ),
            setting(
                "kernel.unprivileged_bpf_disabled",
                // 1 and 2 only keep out those without CAP_BPF, who could not attach anything here anyway.
                |_| true,
                "",
            ),
            lockdown(),
        ];
        findings.into_iter().collect()
    }

    /// Kernel programs name processes by their pid in the initial namespace: a proc file system of
    /// another one would show somebody else under that number.
    fn pid_namespace(&self) -> Finding {
        let name = "pid namespace of /proc";
        let lost =
            "processes named by the kernel half are not looked up in /proc: no executable, no container";
        match shows_initial_pids(&self.proc_root) {
            Ok(true) => Finding::works(name, "the initial one"),
            Ok(false) => Finding::fails(name, "not the initial one", lost).with_remedy(
                "share the host's pid namespace (hostPID: true, --pid=host) or give --proc-root",
            ),
            Err(error) => {
                let tried = self.proc_root.join("self/ns/pid");
                Finding::fails(name, format!("{}: {error}", tried.display()), lost)
                    .with_remedy("mount a proc file system there")
            }
        }
    }

    /// Without the module there is no translation to be told of, so nothing is lost.
    fn conntrack(&self) -> Finding {
        let name = "connection tracking";
        let lost = "a connection that is translated (NAT) is told as two, and a service as where it led";
        let tracking = match conntrack::tracking(&self.proc_root) {
            Ok(tracking) => tracking,
            Err(reason @ Unavailable::NotLoaded) => return Finding::works(name, reason.to_string()),
            Err(reason) => return Finding::fails(name, reason.to_string(), lost),
        };
        let hears_others = match Conntrack::open(&self.proc_root) {
            Ok(opened) => opened.hears_others(),
            Err(reason) => {
                return Finding::fails(name, reason.to_string(), lost)
                    .with_remedy("run as root, or grant CAP_NET_ADMIN");
            }
        };
        let others = if hears_others { "of all namespaces" } else { "of this namespace only" };
        let accounting = if tracking.accounting { "on" } else { "off" };
        let detail = format!(
            "{} connections tracked, events {others}, accounting {accounting} (not needed)",
            tracking.tracked
        );
        let (lost, remedy) = match (tracking.events, hears_others) {
            (true, true) => return Finding::works(name, detail),
            (true, false) => (
                "translations (NAT) in other network namespaces that begin after the start are not known",
                "run as root, or grant CAP_NET_BROADCAST",
            ),
            (false, _) => (
                "translations (NAT) that begin after the start are not known",
                "sysctl -w net.netfilter.nf_conntrack_events=1",
            ),
        };
        Finding { state: State::Partly, ..Finding::fails(name, detail, lost) }.with_remedy(remedy)
    }

    fn hidepid(&self) -> Finding {
        let name = "hidepid of /proc";
        let lost = "processes of other users are hidden, and so are the owners of their connections";
        let options = match proc_options(&self.proc_root) {
            Ok(options) => options,
            Err(error) => return Finding::fails(name, format!("{error:#}"), lost),
        };
        match options.as_deref() {
            None | Some("0" | "off") => Finding::works(name, "off"),
            Some(level) if self.capabilities.contains(CapabilitySet::SYS_PTRACE) && level != "4" => {
                Finding::works(name, format!("{level}, which CAP_SYS_PTRACE sees through"))
            }
            Some(level) => Finding::fails(name, level, lost)
                .with_remedy("grant CAP_SYS_PTRACE, or mount -o remount,hidepid=0 /proc"),
        }
    }
}

/// The value of the option hidepid of the proc file system at `root`
/// (<https://docs.kernel.org/filesystems/proc.html>, chapter 4).
fn proc_options(root: &Path) -> Result<Option<String>> {
    let mounts =
        Process::myself().and_then(|this| this.mountinfo()).context("reading /proc/self/mountinfo")?;
    let mut at_root = mounts.into_iter().filter(|mount| mount.fs_type == "proc" && mount.mount_point == root);
    let mount =
        at_root.next_back().ok_or_else(|| anyhow!("no proc file system is mounted at {}", root.display()))?;
    Ok(mount.super_options.get("hidepid").cloned().flatten())
}

fn ask_sock_diag() -> Result<()> {
    let mut diag = SockDiag::open().context("opening a sock_diag socket")?;
    for transport in [Transport::Tcp, Transport::Udp] {
        ensure!(diag.answers_for(transport), "the kernel does not answer for {}", transport.name());
    }
    Ok(())
}

fn enter_own_namespace() -> Result<()> {
    // Of all namespaces this is the one that entering cannot change anything for.
    let namespace = File::open("/proc/self/ns/net").context("opening the own network namespace")?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .context("entering a network namespace (setns)")
}

fn process_access(root: &Path) -> Result<ProcessAccess> {
    let own_uid = rustix::process::getuid().as_raw();
    let itself = fs::read_link(root.join("self")).ok().map(PathBuf::into_os_string);
    let mut access = ProcessAccess { readable: 0, denied: 0, others_readable: false };
    let entries = fs::read_dir(root).with_context(|| format!("listing {}", root.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("listing {}", root.display()))?.path();
        let is_process =
            path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
        if !is_process {
            continue;
        }
        // The list takes access to the directory alone; a link takes what tracing the process takes (man 5
        // proc_pid_fd), and owners are found by links. This one is there without a file that is open.
        let links = fs::read_dir(path.join("fd")).and_then(|_| fs::read_link(path.join("ns/net")));
        match links {
            Ok(_) => {
                access.readable += 1;
                let of_another = fs::metadata(&path).is_ok_and(|facts| facts.uid() != own_uid);
                access.others_readable |=
                    of_another || (own_uid == 0 && path.file_name() != itself.as_deref());
            }
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => access.denied += 1,
            // It ended meanwhile.
            Err(_) => {}
        }
    }
    Ok(access)
}

fn capture() -> Finding {
    let name = "packet capture";
    let opened = pcap::Capture::from_device("any").and_then(|capture| capture.snaplen(128).open());
    match opened {
        Ok(_) => Finding::works(name, "libpcap opens the interface any"),
        Err(error) => Finding::fails(
            name,
            format!("opening the interface any: {error}"),
            "connections are known from kernel events only: none that are forwarded, none of other machines",
        )
        .with_remedy("run as root, or grant CAP_NET_RAW"),
    }
}

fn btf() -> Finding {
    let read = fs::read(KERNEL_BTF_PATH)
        .with_context(|| format!("reading {KERNEL_BTF_PATH}"))
        .and_then(|bytes| Ok(KernelTypes::parse(&bytes).map(drop)?));
    match read {
        Ok(()) => Finding::works("kernel BTF", KERNEL_BTF_PATH),
        Err(error) => {
            Finding::fails("kernel BTF", format!("{error:#}"), "no rung made of kernel programs works")
                .with_remedy(
                    "use a kernel built with CONFIG_DEBUG_INFO_BTF=y; in a container mount /sys read-only",
                )
        }
    }
}

fn cgroup() -> Finding {
    match mounts::cgroup_root() {
        Ok(path) => Finding::works("cgroup v2 root", path.display().to_string()),
        Err(error) => Finding::fails("cgroup v2 root", format!("{error:#}"), "no sockops rung")
            .with_remedy(remedies::CGROUP_ROOT),
    }
}

fn tracefs() -> Finding {
    if mounts::tracefs_is_mounted() {
        return Finding::works("tracefs", "mounted");
    }
    match mounts::with_tracefs(|| ()) {
        Ok(()) => Finding::works("tracefs", "not mounted, but can be in private"),
        Err(error) => {
            Finding::fails("tracefs", format!("{error:#}"), "accepts are not seen where kprobes are missing")
                .with_remedy("mount -t tracefs tracefs /sys/kernel/tracing, or grant CAP_SYS_ADMIN")
        }
    }
}

fn user_namespace() -> Finding {
    let name = "user namespace";
    match fs::metadata("/proc/self/ns/user").map(|facts| facts.ino()) {
        Ok(INITIAL_USER_NAMESPACE) => Finding::works(name, "the initial one"),
        Ok(_) => {
            Finding::fails(name, "not the initial one: root here is not root of the node", "most rungs fail")
                .with_remedy("run outside of rootless containers and user namespaces")
        }
        Err(error) => Finding::fails(name, format!("/proc/self/ns/user: {error}"), "uids cannot be trusted"),
    }
}

fn setting(name: &'static str, is_fine: impl Fn(i64) -> bool, lost: &'static str) -> Finding {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    let value = fs::read_to_string(&path).map(|text| text.trim().to_owned());
    match value {
        Ok(value) if value.parse().is_ok_and(is_fine) => Finding::works(name, value),
        Ok(value) => Finding { state: State::Partly, ..Finding::fails(name, value, lost) }
            .with_remedy(format!("sysctl -w {name}=2")),
        Err(error) => Finding::works(name, format!("not on this kernel ({error})")),
    }
}

/// In its mode confidentiality the kernel refuses reads of its memory, even to root (man 7 kernel_lockdown).
fn lockdown() -> Finding {
    let path = "/sys/kernel/security/lockdown";
    match fs::read_to_string(path) {
        Ok(modes) if modes.contains("[confidentiality]") => {
            Finding::fails("lockdown", "confidentiality", "no rung made of kernel programs works")
                .with_remedy("boot with lockdown=integrity")
        }
        Ok(modes) => Finding::works("lockdown", modes.trim()),
        Err(_) => Finding::works("lockdown", "not on this kernel"),
    }
}
