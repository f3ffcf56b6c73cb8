//! Giving up what is no longer needed once everything is opened: no program run from here may gain
//! privileges, and each thread keeps only the capabilities its job uses for life.
//!
//! Capabilities belong to threads (man 7 capabilities, "Per-thread"), and a new thread inherits those of
//! the one that makes it. So the pipeline calls [`renounce`] first on the thread that starts the others,
//! with all that any of them keeps, and then each thread for itself. Users and groups are left alone.

use anyhow::{Context, Result};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs,
};

/// What a thread does, as far as it needs capabilities.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Job {
    /// Starts the threads below, so keeps what any of them needs.
    Starter,
    /// Answers lookups: `/proc` of other users, other network namespaces, the socket iterator.
    Lookup,
    /// Passes over the sockets of all network namespaces.
    Passes,
    /// Reads the passwd files of containers.
    ContainerUsers,
    /// Reads the events of connection tracking, and all of it again after a loss.
    Conntrack,
    /// Asks container runtimes for names.
    Runtimes,
    /// Reads the kernel half's ring.
    KernelEvents,
    /// Anything that only works on what is open already: packets, the reconciler, sinks.
    Opened,
}

impl Job {
    /// The capabilities the job keeps, of those the process had.
    pub const fn needs(self) -> CapabilitySet {
        match self {
            Self::Starter => Self::Lookup
                .needs()
                .union(Self::KernelEvents.needs())
                .union(Self::Conntrack.needs())
                .union(Self::Runtimes.needs()),
            Self::Passes => CapabilitySet::SYS_PTRACE
                .union(CapabilitySet::DAC_READ_SEARCH)
                .union(CapabilitySet::SYS_ADMIN),
            Self::Lookup => Self::Passes
                .needs()
                // For taskstats, which tell when a process started.
                .union(CapabilitySet::NET_ADMIN)
                .union(CapabilitySet::BPF)
                .union(CapabilitySet::PERFMON),
            // Another process's root is for those who may trace it (man 5 proc_pid_root), and may be closed to others.
            Self::ContainerUsers => CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH),
            // Every question is refused without it, and so is the subscription, which may come as late as the
            // module; NET_BROADCAST is for the events of other namespaces (man 7 netlink).
            Self::Conntrack => CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_BROADCAST),
            // A socket is connected to by those who may write to it (man 7 unix): that of a user's own runtime is
            // closed to root too.
            Self::Runtimes => CapabilitySet::DAC_OVERRIDE,
            // Before Linux 5.19 every bpf(2) call is refused without it, that for the count of lost events
            // too (https://github.com/torvalds/linux/commit/c8644cd0efe7).
            Self::KernelEvents => CapabilitySet::BPF,
            Self::Opened => CapabilitySet::empty(),
        }
    }
}

/// Keeps on this thread what `job` needs and drops the rest, for good. Returns what is left.
pub fn renounce(job: Job) -> Result<CapabilitySet> {
    set_no_new_privs(true).context("forbidding new privileges (PR_SET_NO_NEW_PRIVS)")?;
    clear_ambient_capability_set().context("clearing the ambient capabilities")?;
    let had = capabilities(None).context("reading this thread's capabilities")?;
    let kept = CapabilitySets {
        effective: had.effective.intersection(job.needs()),
        permitted: had.permitted.intersection(job.needs()),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, kept).context("dropping this thread's capabilities")?;
    Ok(kept.effective)
}

/// The capabilities that this thread has in effect.
pub fn held() -> Result<CapabilitySet> {
    Ok(capabilities(None).context("reading this thread's capabilities")?.effective)
}

#[cfg(test)]
mod tests {
    use rustix::thread::{CapabilitySet, capabilities, no_new_privs};

    use super::{Job, held, renounce};

    /// Renounces on a thread of its own, as that cannot be taken back.
    fn check(jobs: &'static [Job]) {
        let before = held().expect("capabilities can be read");
        let renounced = std::thread::spawn(move || {
            for job in jobs {
                let left = renounce(*job).expect("dropping needs no privilege");
                assert_eq!(left, held().expect("capabilities can be read"));
            }
            assert!(no_new_privs().expect("the flag can be read"));
            let sets = capabilities(None).expect("capabilities can be read");
            let all = jobs.iter().fold(before, |kept, job| kept.intersection(job.needs()));
            assert_eq!(sets.effective, all, "{jobs:?}");
            assert_eq!(sets.inheritable, CapabilitySet::empty());
        });
        renounced.join().expect("the checks above hold");
        assert_eq!(held().expect("capabilities can be read"), before, "other threads keep theirs");
    }

    #[test]
    fn a_thread_keeps_what_its_job_needs_and_never_gains() {
        check(&[Job::Lookup]);
        check(&[Job::Starter, Job::Conntrack]);
        check(&[Job::Starter, Job::ContainerUsers]);
        check(&[Job::Starter, Job::Runtimes]);
        check(&[Job::Starter, Job::Passes]);
        check(&[Job::Starter, Job::KernelEvents]);
        check(&[Job::Starter, Job::Opened]);
        check(&[Job::Opened, Job::Lookup]);
    }
}
