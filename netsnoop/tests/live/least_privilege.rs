//! netsnoop as a user with few capabilities: what kernels give to those, and what doctor says of the rest.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::doctor::Diagnosis;
use crate::lab::watch::Watch;
use crate::lab::{Lab, netsnoop, settle, skip};
use crate::ladder::{kernel_version, lacks_btf, lacks_kprobes};
use crate::scenarios::Stage;

/// All that let netsnoop see something, but not CAP_SYS_ADMIN, which is nearly root.
const FEW: &str = "-all,+net_raw,+net_admin,+bpf,+perfmon,+sys_ptrace,+dac_read_search";
/// Before Linux 5.11 kernel programs need more locked memory than a user has.
const FEW_AND_MEMORY: &str =
    "-all,+net_raw,+net_admin,+bpf,+perfmon,+sys_ptrace,+dac_read_search,+sys_resource";

/// All that is needed on this kernel.
fn enough() -> &'static str {
    if kernel_version() >= (5, 11) { FEW } else { FEW_AND_MEMORY }
}

/// netsnoop in the node's namespace as the user nobody with these capabilities.
fn restricted(lab: &Lab, capabilities: &str) -> Command {
    let mut command = lab.node.command(Path::new("setpriv"));
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args([format!("--inh-caps={capabilities}"), format!("--ambient-caps={capabilities}")])
        .arg(netsnoop());
    command
}

#[test]
fn with_few_capabilities_every_client_has_its_owner() {
    let name = "least_privilege::with_few_capabilities_every_client_has_its_owner";
    let Some(lab) = Lab::new(name) else { return };
    let watch =
        Watch::spawn(restricted(&lab, enough()).args(["watch", "-o", "jsonl", "-i", "any", &settle()]));
    assert!(watch.is_ready(), "netsnoop does not start");
    let (played, records) = Stage::new(&lab).play_before(watch, |record| record.client.process.is_some());
    for played in &played {
        let last = played.judge(&records);
        // Where accept can only be seen through tracefs, server ends are left to what else is seen of them.
        if lacks_btf().is_none() {
            last.client.must_be(&played.client, &["kernel_event"]);
        }
    }
}

/// The kernel's own lock on perf events, which kprobes and tracepoints of system calls are attached through, is more
/// than a capability: Debian's kernels know a third level that only CAP_SYS_ADMIN opens.
#[test]
fn doctor_tells_the_lock_on_perf_events_from_a_missing_capability() {
    let name = "least_privilege::doctor_tells_the_lock_on_perf_events_from_a_missing_capability";
    let Some(lab) = Lab::new(name) else { return };
    let diagnosis = Diagnosis::of(&mut restricted(&lab, enough()));
    assert!(diagnosis.usable);
    let level: i32 =
        fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap().trim().parse().unwrap();
    let kprobe = diagnosis.rung("kprobe");
    if lacks_kprobes().is_none() && level >= 3 {
        assert_eq!(kprobe.state, "fails", "{kprobe:#?}");
        assert!(kprobe.remedies.concat().contains("kernel.perf_event_paranoid"), "{kprobe:#?}");
    } else if lacks_kprobes().is_none() {
        assert_eq!(kprobe.state, "works", "{kprobe:#?}");
    }
    let sock_diag = diagnosis.rung("sock_diag");
    assert!(sock_diag.remedies.concat().contains("CAP_SYS_ADMIN"), "{sock_diag:#?}");
}

#[test]
fn kernel_programs_need_no_locked_memory_since_5_11() {
    let name = "least_privilege::kernel_programs_need_no_locked_memory_since_5_11";
    let Some(lab) = Lab::new(name) else { return };
    if lacks_btf().is_some() {
        skip(name, "this kernel lacks BTF");
        return;
    }
    let diagnosis = Diagnosis::of(&mut restricted(&lab, FEW));
    let iterator = diagnosis.rung("iterator");
    if kernel_version() >= (5, 11) {
        assert_eq!(iterator.state, "works", "{iterator:#?}");
    } else {
        assert!(iterator.remedies.concat().contains("CAP_SYS_RESOURCE"), "{iterator:#?}");
    }
}
