//! Connect and listen where there are no kprobes: two sockops callbacks, at the cgroup v2 root, that run in the
//! context of connect(2) and listen(2). The other callbacks come in any context and are left alone, as are the
//! callback flags: setting them would overwrite those of other programs.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use netsnoop_common::record::{kind, rung};

use crate::emit::emit_act;
use crate::kernel_read::address_of;
use crate::programs::tcp_connect::tell_connect;

/// Since Linux 4.13 and 4.19, <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/bpf.h>.
const BPF_SOCK_OPS_TCP_CONNECT_CB: u32 = 3;
const BPF_SOCK_OPS_TCP_LISTEN_CB: u32 = 11;

#[sock_ops]
fn sock_ops(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => tell_connect(full_socket(&ctx), rung::SOCKOPS),
        BPF_SOCK_OPS_TCP_LISTEN_CB => {
            emit_act(kind::LISTEN, rung::SOCKOPS, full_socket(&ctx), |_| {});
        }
        _ => {}
    }
    1
}

/// The address of the `struct sock`, which has a cookie from here on.
#[inline(always)]
fn full_socket(ctx: &SockOpsContext) -> u64 {
    // SAFETY: the context is valid while the program runs; the verifier turns this into a read of the real field.
    let sk = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if sk.is_null() {
        return 0;
    }
    // SAFETY: sockops programs may pass their context (since Linux 4.13). Asking makes the cookie, which is then in
    // the socket for every program to read.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    address_of(sk)
}
