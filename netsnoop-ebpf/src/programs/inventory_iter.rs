//! Every process and every socket it holds, of every family: a BPF iterator over all files (Linux 5.8), for lists of
//! all there is. Each process is written once, before its sockets, as most of what is read of it is the same for all.
//! Left out is what no descriptor refers to, see `task_file_iter`.

use aya_ebpf::bindings::seq_file;
use aya_ebpf::helpers::generated::bpf_seq_write;
use netsnoop_common::listing::{
    ProcessListing, Progress, SocketListing, Start, UNIX_PATH_BYTES, VERSION, kind,
};

use crate::current::{NOBODY, fill_process};
use crate::globals::offset;
use crate::kernel_read::{address_of, read, read_to};
use crate::listed_socket::fill_listing;
use crate::maps::PROGRESS;
use crate::programs::task_file_iter::Context;
use crate::programs::tcp_accept::is_socket;

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
fn inventory_iter(ctx: *const Context) -> u32 {
    // SAFETY: the kernel gives a valid context; task and file are null after the last element.
    let (task, file, fd, seq) = unsafe { ((*ctx).task, (*ctx).file, (*ctx).fd, (*(*ctx).meta).seq) };
    if task.is_null() || file.is_null() {
        return 0;
    }
    let Some(progress) = PROGRESS.get_ptr_mut(0) else { return 0 };
    // SAFETY: the array has one entry, which only this program uses, and one reader reads its file at a time.
    let progress = unsafe { &mut *progress };
    let (task, file) = (address_of(task), address_of(file));
    // A full buffer is no loss: the kernel takes back what was written for this file, hands the rest to the reader and
    // comes back to this file. So a process counts as told of only once all is written.
    let told = (progress.task == task || write_process(progress, task, seq))
        && write_socket(progress, (file, fd as u32), seq);
    progress.task = if told { task } else { 0 };
    0
}

/// Whether it was written, or is not to be written: a kernel thread.
#[inline(always)]
fn write_process(progress: &mut Progress, task: u64, seq: *mut seq_file) -> bool {
    let record = &mut progress.process;
    record.process = NOBODY;
    fill_process(&mut record.process, task);
    if record.process.tgid == 0 {
        return true;
    }
    record.start = start(kind::PROCESS, size_of::<ProcessListing>(), 0);
    record.cgroups = read(task, offset!(task_cgroups));
    let net: u64 = read(read(task, offset!(task_nsproxy)), offset!(nsproxy_net_ns));
    record.netns_inode = read(net, offset!(net_inum));
    record.padding = [0; 4];
    // SAFETY: the seq_file is valid while the program runs; the record lies in a map, wholly written.
    let status = unsafe { bpf_seq_write(seq, (&raw mut *record).cast(), size_of::<ProcessListing>() as u32) };
    status == 0
}

/// Whether it was written, or is not to be written: no socket.
#[inline(always)]
fn write_socket(progress: &mut Progress, (file, fd): (u64, u32), seq: *mut seq_file) -> bool {
    let inode: u64 = read(file, offset!(file_f_inode));
    if !is_socket(inode) {
        return true;
    }
    read_to(&mut progress.socket.inode, inode, offset!(inode_i_ino));
    let sk: u64 = read(read(file, offset!(file_private_data)), offset!(socket_sk));
    fill_listing(progress, sk);
    let mut path_length = progress.socket.path_length as usize;
    // The verifier does not follow numbers through memory, so the bound is set anew.
    if path_length > UNIX_PATH_BYTES {
        path_length = UNIX_PATH_BYTES;
    }
    let length = size_of::<SocketListing>() + path_length;
    progress.socket.start = start(kind::SOCKET, length, fd);
    // SAFETY: as above; the path follows the record without a gap, and is as long as its field at most.
    let status = unsafe { bpf_seq_write(seq, (&raw mut progress.socket).cast(), length as u32) };
    status == 0
}

#[inline(always)]
fn start(kind: u8, length: usize, fd: u32) -> Start {
    Start { version: VERSION, kind, length: length as u16, fd }
}
