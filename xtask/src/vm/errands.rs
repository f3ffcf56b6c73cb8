//! What a guest is made to do, as the shell script that is its init: mounts, modules, what its condition asks
//! for, then each errand in turn.
//!
//! Programs answer on the second serial port, which nothing else writes to; the first is the console.

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::Programs;
use crate::shell;

/// How a guest differs from what Debian's kernel gives to root.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Condition {
    /// Not at all
    Plain,
    /// It hides the kernel's BTF, as kernels built without it do
    NoBtf,
    /// It has kernel.perf_event_paranoid=3, and netsnoop is a user with few capabilities
    Restricted,
}

/// The capabilities a restricted netsnoop has: all of man 7 capabilities that let it see something, but not
/// CAP_SYS_ADMIN, which is nearly root.
const FEW_CAPABILITIES: &str =
    "-all,+net_raw,+net_admin,+bpf,+perfmon,+sys_ptrace,+dac_read_search,+sys_resource";

impl Condition {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::NoBtf, Self::Restricted];

    /// A few words for people.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Plain => "As root",
            Self::NoBtf => "Without BTF",
            Self::Restricted => "As a user with few capabilities",
        }
    }

    /// The file that keeps what a guest in this condition told.
    pub(super) const fn file(self) -> &'static str {
        match self {
            Self::Plain => "plain.json",
            Self::NoBtf => "no-btf.json",
            Self::Restricted => "restricted.json",
        }
    }

    const fn preparation(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::NoBtf => "busybox mount -t tmpfs none /sys/kernel/btf",
            Self::Restricted => "echo 3 > /proc/sys/kernel/perf_event_paranoid",
        }
    }

    /// What netsnoop is started with, where it is not root. By its path: busybox's shell has a setpriv of its own.
    fn runner(self) -> Result<String> {
        if self != Self::Restricted {
            return Ok(String::new());
        }
        let setpriv = shell::find("setpriv").context("looking for setpriv")?;
        Ok(format!(
            "{} --reuid=65534 --regid=65534 --clear-groups --inh-caps={FEW_CAPABILITIES} \
             --ambient-caps={FEW_CAPABILITIES}",
            setpriv.display()
        ))
    }

    /// The live tests that say something about this kernel in this condition.
    const fn tests(self) -> &'static str {
        match self {
            Self::Plain => "ladder:: doctor:: list::sctp clock::",
            Self::NoBtf => "ladder::all_together ladder::proc ladder::sock_diag doctor::",
            Self::Restricted => "least_privilege::",
        }
    }
}

/// The script of init.
pub(super) fn script(condition: Condition, programs: &Programs<'_>, modules: &[String]) -> Result<String> {
    let insert: String = modules
        .iter()
        .map(|module| format!("busybox insmod /modules/{module} || echo no {module}\n"))
        .collect();
    Ok(format!(
        "#!/bin/busybox sh\n\
         export PATH=/usr/sbin:/usr/bin:/sbin:/bin:/applets\n\
         busybox mkdir /applets\n\
         /bin/busybox --install -s /applets\n\
         busybox mount -t proc proc /proc\n\
         busybox mount -t sysfs sysfs /sys\n\
         busybox mount -t devtmpfs devtmpfs /dev\n\
         busybox mount -t tmpfs tmpfs /run\n\
         busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
         busybox mount -t bpf bpf /sys/fs/bpf\n\
         {insert}\
         ip link set lo up\n\
         {preparation}\n\
         cd {folder}\n\
         export NETSNOOP_TEST_SLOWNESS=10 NETSNOOP_TEST_SETS_CLOCK=1 NETSNOOP_UNDER_TEST={netsnoop}\n\
         answer() {{ echo \"== $1\"; shift; \"$@\"; }}\n\
         answer kernel busybox uname -v > /dev/ttyS1\n\
         answer date busybox date -u +%F > /dev/ttyS1\n\
         answer version {netsnoop} --version > /dev/ttyS1\n\
         answer doctor {runner} {netsnoop} doctor -o json > /dev/ttyS1\n\
         echo VM-ERRAND doctor $?\n\
         {live} --test-threads=1 {tests}\n\
         echo VM-ERRAND live tests $?\n\
         {truth}\n\
         echo VM-EXIT\n\
         busybox poweroff -f\n",
        preparation = condition.preparation(),
        runner = condition.runner()?,
        netsnoop = programs.netsnoop.display(),
        folder = programs.live.folder.display(),
        live = programs.live.executable.display(),
        truth = if condition == Condition::Plain { truth(programs) } else { String::new() },
        tests = programs.filter.unwrap_or(condition.tests()),
    ))
}

/// The truth bench at small scale, if it is wanted.
fn truth(programs: &Programs<'_>) -> String {
    let Some(xtask) = programs.truth else { return String::new() };
    format!(
        "{xtask} truth --small --way auto,off --show wrong,doubled --temp /tmp --json /tmp/truth.json\n\
         echo VM-ERRAND truth $?\n\
         [ -e /tmp/truth.json ] && answer truth cat /tmp/truth.json > /dev/ttyS1",
        xtask = xtask.display()
    )
}
