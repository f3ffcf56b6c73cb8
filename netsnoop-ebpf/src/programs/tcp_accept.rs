//! The moment a process accepts a socket, in its own context: what `inet_csk_accept` returns (its arguments changed in
//! Linux 6.10, its result never), and, on kernels without probes, the file that accept(2) or accept4(2) made.

use aya_ebpf::macros::{fexit, kretprobe, tracepoint};
use aya_ebpf::programs::{FExitContext, RetProbeContext, TracePointContext};
use aya_log_ebpf::debug;
use netsnoop_common::record::{kind, rung};

use crate::current::current_task;
use crate::emit::emit_act;
use crate::first_use::Use;
use crate::globals::{accept_arguments, accept_exit_rung, offset};
use crate::kernel_read::{address_of, read, read_at};
use crate::socket::{IPPROTO_MPTCP, IPPROTO_TCP, internet_protocol, set_isn_of_peer};

/// Where a syscall exit tracepoint has the result: after the common fields and the syscall's number
/// (/sys/kernel/tracing/events/syscalls/sys_exit_accept4/format, since Linux 2.6.34).
const RESULT: usize = 16;

/// man 7 inode.
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

#[kretprobe]
fn tcp_accept_kretprobe(ctx: RetProbeContext) -> u32 {
    tell_accept(ctx.ret::<u64>(), rung::KPROBE);
    0
}

#[fexit(function = "inet_csk_accept")]
fn tcp_accept_fexit(ctx: FExitContext) -> u32 {
    // The result stands behind the arguments, and the verifier takes a constant place only. Where that place is another
    // one there is a helper for it (Linux 5.17).
    let accepted =
        if accept_arguments() == 4 { address_of(ctx.arg::<*const u8>(4)) } else { ctx.ret().unwrap_or(0) };
    tell_accept(accepted, rung::FENTRY);
    0
}

#[tracepoint]
fn accept_exit(ctx: TracePointContext) -> u32 {
    tell_accepted_file(&ctx);
    0
}

#[tracepoint]
fn accept4_exit(ctx: TracePointContext) -> u32 {
    tell_accepted_file(&ctx);
    0
}

#[inline(always)]
fn tell_accepted_file(ctx: &TracePointContext) {
    // SAFETY: the context of a syscall exit is at least 24 bytes long.
    let Ok(fd) = (unsafe { ctx.read_at::<i64>(RESULT) }) else { return };
    if fd < 0 {
        return;
    }
    let sk = socket_of_file(file_of_descriptor(current_task(), fd as u64));
    if sk == 0 {
        debug!(&(), "accept gave descriptor {}, and no socket is behind it any more", fd);
    }
    tell_accept(sk, accept_exit_rung());
}

/// The `struct file` behind a descriptor of `task`. Another thread may have closed it meanwhile: then it is zero or
/// another file, whose socket, if it is one, the process holds as well.
#[inline(always)]
fn file_of_descriptor(task: u64, fd: u64) -> u64 {
    let table: u64 = read(read(task, offset!(task_files)), offset!(files_fdt));
    if fd >= read::<u32>(table, offset!(fdtable_max_fds)) as u64 {
        return 0;
    }
    let files: u64 = read(table, offset!(fdtable_fd));
    read_at(files.wrapping_add(fd.wrapping_mul(8)))
}

/// The `struct sock` of a file; zero if it is no socket.
#[inline(always)]
pub fn socket_of_file(file: u64) -> u64 {
    if is_socket(read(file, offset!(file_f_inode))) {
        read(read(file, offset!(file_private_data)), offset!(socket_sk))
    } else {
        0
    }
}

/// Whether the inode at this address is a socket's.
#[inline(always)]
pub fn is_socket(inode: u64) -> bool {
    read::<u16>(inode, offset!(inode_i_mode)) & S_IFMT == S_IFSOCK
}

#[inline(always)]
fn tell_accept(sk: u64, rung: u8) {
    if !matches!(internet_protocol(sk), Some(IPPROTO_TCP | IPPROTO_MPTCP)) {
        return;
    }
    emit_act(kind::ACCEPT, rung, sk, |record| {
        set_isn_of_peer(&mut record.socket);
        Use::note(record);
    });
}
