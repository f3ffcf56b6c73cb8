//! Who acts: the process of a task, read from its `task_struct`.
//!
//! Everything is read by offset rather than asked of helpers: pid, uid and cgroup helpers are refused in sockops
//! programs before Linux 6.10 to 6.16, while reading the current task is allowed everywhere.

use aya_ebpf::helpers::generated::bpf_get_current_task;
use netsnoop_common::record::ProcessPart;

use crate::globals::offset;
use crate::kernel_read::{read, read_to};

/// A kernel thread, <https://github.com/torvalds/linux/blob/v6.12/include/linux/sched.h>.
const PF_KTHREAD: u32 = 0x0020_0000;

/// No process.
pub const NOBODY: ProcessPart = ProcessPart {
    start_boot_nanos: 0,
    cgroup_id: 0,
    tgid: 0,
    uid: 0,
    gid: 0,
    padding: [0; 4],
    comm: [0; 16],
};

/// The address of the running task. Only in hooks known to run in the acting process's own context.
#[inline(always)]
pub fn current_task() -> u64 {
    // SAFETY: the helper takes no argument and cannot fail.
    unsafe { bpf_get_current_task() }
}

/// The process id of the running task in the initial pid namespace.
#[inline(always)]
pub fn current_tgid() -> u32 {
    read(current_task(), offset!(task_tgid))
}

/// Writes the process of `task` to a part that is still zero. It stays zero for a kernel thread: a work queue acts for
/// others, and its name is no owner.
#[inline(never)]
pub fn fill_process(part: &mut ProcessPart, task: u64) {
    if read::<u32>(task, offset!(task_flags)) & PF_KTHREAD != 0 {
        return;
    }
    read_to(&mut part.tgid, task, offset!(task_tgid));
    // The name is the leader's, as io_uring workers and thread pools give threads names of their own. Credentials are
    // per thread (man 7 credentials), and the one that acts is asked.
    let leader: u64 = read(task, offset!(task_group_leader));
    read_to(&mut part.start_boot_nanos, leader, offset!(task_start_boottime));
    read_to(&mut part.comm, leader, offset!(task_comm));
    let cred: u64 = read(task, offset!(task_cred));
    read_to(&mut part.uid, cred, offset!(cred_uid));
    read_to(&mut part.gid, cred, offset!(cred_gid));
    let css_set: u64 = read(task, offset!(task_cgroups));
    part.cgroup_id = cgroup_id_of(read(css_set, offset!(css_set_dfl_cgrp)));
}

/// The id of the cgroup at this address: what `stat -c %i` says of its directory.
#[inline(always)]
pub fn cgroup_id_of(cgroup: u64) -> u64 {
    read(read(cgroup, offset!(cgroup_kn)), offset!(kernfs_node_id))
}
