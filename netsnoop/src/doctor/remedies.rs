//! What to do about a rung that fails: decided by the kind of cause, the rung, and the capabilities held.

use netsnoop_core::attribution::Rung;
use rustix::thread::CapabilitySet;

use crate::sources::ebpf::report::{Cause, Failure};

/// Not over /sys/fs/cgroup, where a host without cgroup v2 has the hierarchies that its services live by.
pub(super) const CGROUP_ROOT: &str = "in a container share the host's cgroup namespace and mount its /sys/fs/cgroup; \
    on the host: mkdir /run/cgroup2 && mount -t cgroup2 none /run/cgroup2";

/// What a rung needs to be loaded, attached and read.
pub(super) fn capabilities_for(rung: Rung) -> CapabilitySet {
    let tracing = CapabilitySet::BPF.union(CapabilitySet::PERFMON);
    match rung {
        Rung::Sockops => tracing.union(CapabilitySet::NET_ADMIN),
        Rung::Kprobe | Rung::Fentry | Rung::TpBtf | Rung::RawTp | Rung::Iterator => tracing,
        Rung::SockDiag => CapabilitySet::SYS_ADMIN.union(CapabilitySet::SYS_PTRACE),
        Rung::Proc => CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH),
    }
}

/// The remedy for `failure` of a program on `rung`, given what is `held`.
pub(super) fn remedy(rung: Rung, failure: &Failure, held: CapabilitySet) -> String {
    match failure.cause {
        Cause::Permission => permission(rung, held),
        Cause::PerfEvent => perf_event(held),
        Cause::LockedMemory => locked_memory(rung, held),
        Cause::MissingHook => missing_hook(rung, failure).to_owned(),
        Cause::Verifier => "try a newer kernel, and report this: `netsnoop -vv doctor` shows the verifier's log".into(),
        Cause::NoBtf => {
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y (Linux 5.4 or later); in a container mount /sys read-only"
                .into()
        }
        Cause::CgroupRoot => CGROUP_ROOT.into(),
        Cause::Tracefs => {
            "mount -t tracefs tracefs /sys/kernel/tracing, or grant CAP_SYS_ADMIN to have it mounted in private".into()
        }
        Cause::Other => "report this with the output of `netsnoop -vv doctor`".into(),
    }
}

/// How to get the capabilities that `rung` lacks.
pub(super) fn permission(rung: Rung, held: CapabilitySet) -> String {
    let missing = capabilities_for(rung).difference(held);
    if missing.is_empty() {
        return "no capability is missing: the kernel itself, its lockdown mode or a seccomp profile refuses this".into();
    }
    // Before Linux 5.8 CAP_SYS_ADMIN stood for CAP_BPF and CAP_PERFMON (man 7 capabilities).
    format!("run as root, or grant {}", names(missing))
}

/// With CAP_PERFMON only a kernel that has levels above 2, as Debian's have, still refuses
/// (<https://docs.kernel.org/admin-guide/sysctl/kernel.html>, "perf_event_paranoid", knows none).
fn perf_event(held: CapabilitySet) -> String {
    if held.contains(CapabilitySet::PERFMON) {
        "sysctl -w kernel.perf_event_paranoid=2, or grant CAP_SYS_ADMIN".into()
    } else {
        "run as root, or grant CAP_PERFMON (CAP_SYS_ADMIN if kernel.perf_event_paranoid is above 2)".into()
    }
}

/// Before Linux 5.11 the kernel gives one answer to who may make no maps and to who may lock no more memory.
fn locked_memory(rung: Rung, held: CapabilitySet) -> String {
    if capabilities_for(rung).difference(held).is_empty() {
        "grant CAP_SYS_RESOURCE, or raise the limit of locked memory: ulimit -l unlimited, in a unit of systemd \
         LimitMEMLOCK=infinity (Linux 5.11 and later need neither)"
            .into()
    } else {
        permission(rung, held)
    }
}

/// Capabilities as one writes them.
pub(super) fn names(set: CapabilitySet) -> String {
    let names: Vec<String> = set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    names.join(", ")
}

fn missing_hook(rung: Rung, failure: &Failure) -> &'static str {
    let since_6_3 = ["sock_send_length", "sock_recv_length"];
    if since_6_3.iter().any(|name| failure.text.contains(name)) {
        return "use Linux 6.3 or later, which has these tracepoints";
    }
    match rung {
        Rung::Kprobe => "use a kernel built with CONFIG_KPROBES=y and CONFIG_KPROBE_EVENTS=y",
        Rung::Fentry => {
            "use a kernel built with CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y (x86: Linux 5.5 or later)"
        }
        Rung::TpBtf => {
            "use Linux 5.5 or later, built with CONFIG_FTRACE_SYSCALLS=y for the system call exits"
        }
        Rung::Iterator => "use Linux 5.8 or later",
        Rung::RawTp | Rung::Sockops => {
            "use Linux 5.8 or later, built with CONFIG_CGROUP_BPF=y and CONFIG_BPF_EVENTS=y"
        }
        Rung::SockDiag => "load the modules tcp_diag and udp_diag",
        Rung::Proc => "mount a proc file system",
    }
}

#[cfg(test)]
mod tests {
    use netsnoop_core::attribution::Rung;
    use rustix::thread::CapabilitySet;

    use super::remedy;
    use crate::sources::ebpf::report::{Cause, Failure};

    fn check(rung: Rung, cause: Cause, held: CapabilitySet, expected: &str) {
        let failure = Failure::plain(cause, "attaching to BTF tracepoint sock_send_length: gone");
        assert_eq!(remedy(rung, &failure, held), expected);
    }

    #[test]
    fn remedies_name_what_is_missing() {
        let bpf = CapabilitySet::BPF;
        check(Rung::Sockops, Cause::Permission, bpf, "run as root, or grant CAP_NET_ADMIN, CAP_PERFMON");
        check(
            Rung::Fentry,
            Cause::Permission,
            CapabilitySet::all(),
            "no capability is missing: the kernel itself, its lockdown mode or a seccomp profile refuses this",
        );
        let tracing = bpf.union(CapabilitySet::PERFMON);
        let lock = "sysctl -w kernel.perf_event_paranoid=2, or grant CAP_SYS_ADMIN";
        check(Rung::Kprobe, Cause::PerfEvent, tracing, lock);
        let memory = "grant CAP_SYS_RESOURCE, or raise the limit of locked memory: ulimit -l unlimited, in a unit of \
                      systemd LimitMEMLOCK=infinity (Linux 5.11 and later need neither)";
        check(Rung::Kprobe, Cause::LockedMemory, tracing, memory);
        check(Rung::Kprobe, Cause::LockedMemory, bpf, "run as root, or grant CAP_PERFMON");
        check(Rung::TpBtf, Cause::MissingHook, bpf, "use Linux 6.3 or later, which has these tracepoints");
    }
}
