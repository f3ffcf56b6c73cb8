//! Processes that run a new program, and processes that end. Both tracepoints come in the context of the process.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use aya_ebpf::macros::{btf_tracepoint, raw_tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, RawTracePointContext};
use netsnoop_common::limits::PATH_BYTES;
use netsnoop_common::record::{ExecRecord, ExitRecord, kind, rung};

use crate::current::fill_process;
use crate::emit::{emit, header};
use crate::globals::offset;
use crate::kernel_read::{address_of, read};

#[btf_tracepoint(function = "sched_process_exec")]
fn process_exec_btf(ctx: BtfTracePointContext) -> u32 {
    tell_exec(address_of(ctx.arg::<*const u8>(0)), address_of(ctx.arg::<*const u8>(2)), rung::TP_BTF);
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn process_exec_raw(ctx: RawTracePointContext) -> i32 {
    tell_exec(ctx.arg(0), ctx.arg(2), rung::RAW_TP);
    0
}

#[btf_tracepoint(function = "sched_process_exit")]
fn process_exit_btf(ctx: BtfTracePointContext) -> u32 {
    tell_exit(address_of(ctx.arg::<*const u8>(0)), rung::TP_BTF);
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn process_exit_raw(ctx: RawTracePointContext) -> i32 {
    tell_exit(ctx.arg(0), rung::RAW_TP);
    0
}

/// `sched_process_exec(task, old_pid, bprm)`.
#[inline(always)]
fn tell_exec(task: u64, bprm: u64, rung: u8) {
    emit::<ExecRecord>(|record| {
        record.header = header(kind::EXEC, rung);
        fill_process(&mut record.process, task);
        record.path_length = read_path(&mut record.path, bprm);
    });
}

/// Reads the path of the program that really runs (a script's interpreter) and tells its length. A program run by its
/// descriptor has only a made-up path below /dev/fd: none is told. One that fills the space may be cut off: likewise.
#[inline(always)]
fn read_path(path: &mut [u8; PATH_BYTES], bprm: u64) -> u32 {
    let interpreter: u64 = read(bprm, offset!(binprm_interp));
    if interpreter == 0 || interpreter == read::<u64>(bprm, offset!(binprm_fdpath)) {
        return 0;
    }
    // SAFETY: the helper writes at most so many bytes, and checks the address it reads from.
    let length = unsafe {
        bpf_probe_read_kernel_str(path.as_mut_ptr().cast(), PATH_BYTES as u32, interpreter as *const c_void)
    };
    if length > 0 && length < PATH_BYTES as i64 { length as u32 - 1 } else { 0 }
}

/// `sched_process_exit(task, ...)`. It comes for every thread; the process ends with its last one.
#[inline(always)]
fn tell_exit(task: u64, rung: u8) {
    let signal: u64 = read(task, offset!(task_signal));
    if signal == 0 || read::<u32>(signal, offset!(signal_live)) != 0 {
        return;
    }
    emit::<ExitRecord>(|record| {
        record.header = header(kind::EXIT, rung);
        fill_process(&mut record.process, task);
    });
}
