//! One program: from the object to the kernel, and onto its hook. Each may fail alone, with its reason.
//!
//! What is attached stays so while the `aya::Ebpf` it came from lives.

use std::cell::OnceCell;
use std::fs::File;

use aya::Btf;
use aya::programs::{
    BtfTracePoint, CgroupAttachMode, CgroupSockAddr, FEntry, FExit, KProbe, ProgramError, RawTracePoint,
    SockOps, TracePoint,
};
use aya::util::KernelVersion;

use super::mounts::{open_cgroup_root, with_tracefs};
use super::programs::{Hook, Program};
use super::report::{Cause, Failure};

/// What attaching needs beside the program.
#[derive(Debug)]
pub(super) struct Attacher<'a> {
    btf: &'a Btf,
    cgroup_root: OnceCell<Result<File, Failure>>,
}

impl<'a> Attacher<'a> {
    pub(super) const fn new(btf: &'a Btf) -> Self {
        Self { btf, cgroup_root: OnceCell::new() }
    }

    /// Loads `program` of `object` and attaches it.
    pub(super) fn attach(&self, object: &mut aya::Ebpf, program: &Program) -> Result<(), Failure> {
        let loaded = object.program_mut(program.name).ok_or_else(|| {
            Failure::plain(Cause::Other, format!("the kernel half has no program {}", program.name))
        })?;
        let step = Step { hook: program.hook };
        match program.hook {
            Hook::Kprobe(function) => {
                let probe: &mut KProbe = step.loading(loaded.try_into())?;
                step.loading(probe.load())?;
                step.attaching(probe.attach(function, 0)).map(drop)
            }
            Hook::Fentry(function) => {
                let entry: &mut FEntry = step.loading(loaded.try_into())?;
                step.loading(entry.load(function, self.btf))?;
                step.attaching(entry.attach()).map(drop)
            }
            Hook::Fexit(function) => {
                let exit: &mut FExit = step.loading(loaded.try_into())?;
                step.loading(exit.load(function, self.btf))?;
                step.attaching(exit.attach()).map(drop)
            }
            Hook::BtfTracepoint(name) => {
                let tracepoint: &mut BtfTracePoint = step.loading(loaded.try_into())?;
                step.loading(tracepoint.load(name, self.btf))?;
                step.attaching(tracepoint.attach()).map(drop)
            }
            Hook::RawTracepoint(name) => {
                let tracepoint: &mut RawTracePoint = step.loading(loaded.try_into())?;
                step.loading(tracepoint.load())?;
                step.attaching(tracepoint.attach(name)).map(drop)
            }
            Hook::Syscall(name) => attach_to_syscall(step, step.loading(loaded.try_into())?, name),
            Hook::SockOps => {
                let cgroup = self.cgroup_root()?;
                let callbacks: &mut SockOps = step.loading(loaded.try_into())?;
                step.loading(callbacks.load())?;
                step.attaching(callbacks.attach(cgroup, cgroup_mode())).map(drop)
            }
            Hook::SockAddr => {
                let cgroup = self.cgroup_root()?;
                let hook: &mut CgroupSockAddr = step.loading(loaded.try_into())?;
                step.loading(hook.load())?;
                step.attaching(hook.attach(cgroup, cgroup_mode())).map(drop)
            }
        }
    }

    fn cgroup_root(&self) -> Result<&File, Failure> {
        let root = self
            .cgroup_root
            .get_or_init(|| open_cgroup_root().map_err(|error| Failure::new(Cause::CgroupRoot, &error)));
        root.as_ref().map_err(Clone::clone)
    }
}

fn attach_to_syscall(step: Step, tracepoint: &mut TracePoint, name: &str) -> Result<(), Failure> {
    step.loading(tracepoint.load())?;
    let attached = with_tracefs(|| tracepoint.attach("syscalls", name));
    let attached = attached.map_err(|error| Failure::new(Cause::Tracefs, &error))?;
    step.attaching(attached).map(drop)
}

/// Links to a cgroup are side by side of themselves and refuse to be told so; the older attach without a
/// link (before Linux 5.7, <https://github.com/torvalds/linux/commit/af6eea57437a>) must be told.
fn cgroup_mode() -> CgroupAttachMode {
    let has_links = KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(5, 7, 0));
    if has_links { CgroupAttachMode::Single } else { CgroupAttachMode::AllowMultiple }
}

/// What is being done, for the text of a failure.
#[derive(Clone, Copy)]
struct Step {
    hook: Hook,
}

impl Step {
    fn loading<T>(self, result: Result<T, ProgramError>) -> Result<T, Failure> {
        result.map_err(|error| Failure::of_program("loading for", &self.hook.to_string(), &error))
    }

    fn attaching<T>(self, result: Result<T, ProgramError>) -> Result<T, Failure> {
        result.map_err(|error| Failure::of_program("attaching to", &self.hook.to_string(), &error))
    }
}
