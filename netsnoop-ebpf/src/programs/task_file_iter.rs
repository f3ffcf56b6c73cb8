//! Who holds which socket, for every process at once: a BPF iterator over all files (Linux 5.8), which writes one record
//! for each IPv4 or IPv6 socket descriptor to the file it is read through. Descriptors in flight over a Unix socket,
//! io_uring's fixed files, and sockets not yet accepted are nobody's and do not come here.

use core::mem::zeroed;

use aya_ebpf::bindings::seq_file;
use aya_ebpf::helpers::generated::bpf_seq_write;
use netsnoop_common::record::{Header, SocketRecord, VERSION, kind, rung};

use crate::current::fill_process;
use crate::kernel_read::address_of;
use crate::programs::tcp_accept::socket_of_file;
use crate::socket::{
    IPPROTO_MPTCP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, fill_socket, internet_protocol,
};

/// `struct bpf_iter__task_file`, <https://github.com/torvalds/linux/blob/v6.12/kernel/bpf/task_iter.c>: each member
/// is aligned to 8 bytes.
#[repr(C)]
pub struct Context {
    pub meta: *const Meta,
    pub task: *const u8,
    pub fd: u64,
    pub file: *const u8,
}

/// `struct bpf_iter_meta`, the first member.
#[repr(C)]
pub struct Meta {
    pub seq: *mut seq_file,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
fn task_file_iter(ctx: *const Context) -> u32 {
    // SAFETY: the kernel gives a valid context; task and file are null after the last element.
    let (task, file) = unsafe { ((*ctx).task, (*ctx).file) };
    if task.is_null() || file.is_null() {
        return 0;
    }
    let sk = socket_of_file(address_of(file));
    match internet_protocol(sk) {
        Some(IPPROTO_TCP | IPPROTO_MPTCP | IPPROTO_UDP | IPPROTO_UDPLITE) => {}
        _ => return 0,
    }
    // SAFETY: zero is a value of a record.
    let mut record: SocketRecord = unsafe { zeroed() };
    record.header =
        Header { boot_nanos: 0, version: VERSION, kind: kind::HOLDER, rung: rung::ITERATOR, padding: [0; 5] };
    fill_process(&mut record.process, address_of(task));
    fill_socket(&mut record.socket, sk);
    if record.process.tgid != 0 {
        // SAFETY: meta and its seq_file are valid while the program runs; the record is on the stack, wholly written.
        // A full buffer is no loss: the kernel hands what fits to the reader and comes back to this file.
        unsafe {
            bpf_seq_write((*(*ctx).meta).seq, (&raw const record).cast(), size_of::<SocketRecord>() as u32)
        };
    }
    0
}
