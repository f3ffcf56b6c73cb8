//! Which programs the object holds, what each attaches to, and what each is there to tell.
//!
//! Names are the contract with the kernel half (`netsnoop_common::programs`). How to attach is
//! `attach`'s, which of them to try is `plan`'s.

use std::fmt;

use netsnoop_core::attribution::Rung;

/// One program of the object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Program {
    /// The name of its function.
    pub name: &'static str,
    /// The rung it belongs to.
    pub rung: Rung,
    /// What it tells.
    pub tells: Topic,
    /// What it attaches to.
    pub hook: Hook,
}

/// What a program tells. Programs with the same topic stand in for each other between rungs, and
/// complete each other within one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topic {
    /// Who connects, at the moment it starts.
    Connect,
    /// Who accepts.
    Accept,
    /// Who sends datagrams.
    Send,
    /// Who receives datagrams.
    Receive,
    /// How TCP connections go on and end, and who listens.
    State,
    /// The first use of a socket by a process, whichever call it is made with.
    Use,
    /// Which programs processes run, and when they end.
    Process,
}

impl Topic {
    /// All topics, in the order they are tried in.
    pub const ALL: [Self; 7] =
        [Self::Connect, Self::Accept, Self::Send, Self::Receive, Self::State, Self::Use, Self::Process];
}

/// What a program attaches to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// A kernel function by kprobe or kretprobe, whichever the program is.
    Kprobe(&'static str),
    /// The entry of a kernel function.
    Fentry(&'static str),
    /// The return of a kernel function.
    Fexit(&'static str),
    /// TCP callbacks of the root cgroup.
    SockOps,
    /// Socket-address hooks of the root cgroup.
    SockAddr,
    /// A tracepoint, with typed arguments.
    BtfTracepoint(&'static str),
    /// A tracepoint, with untyped arguments.
    RawTracepoint(&'static str),
    /// A system call's tracepoint, which only tracefs can name.
    Syscall(&'static str),
}

/// Every program but the iterator, which is not attached until it is read.
pub const PROGRAMS: [Program; 27] = {
    use Hook::{BtfTracepoint, Fentry, Fexit, Kprobe, RawTracepoint, SockAddr, SockOps, Syscall};
    use Rung::{Fentry as OnFentry, Kprobe as OnKprobe, RawTp, Sockops, TpBtf};
    use Topic::{Accept, Connect, Process, Receive, Send, State, Use};
    [
        program("tcp_connect_kprobe", OnKprobe, Connect, Kprobe("tcp_connect")),
        program("tcp_accept_kretprobe", OnKprobe, Accept, Kprobe("inet_csk_accept")),
        program("udp_sendmsg_kprobe", OnKprobe, Send, Kprobe("udp_sendmsg")),
        program("udpv6_sendmsg_kprobe", OnKprobe, Send, Kprobe("udpv6_sendmsg")),
        program("udp_receive_kprobe", OnKprobe, Receive, Kprobe("skb_consume_udp")),
        program("tcp_connect_fentry", OnFentry, Connect, Fentry("tcp_connect")),
        program("tcp_accept_fexit", OnFentry, Accept, Fexit("inet_csk_accept")),
        program("udp_sendmsg_fentry", OnFentry, Send, Fentry("udp_sendmsg")),
        program("udpv6_sendmsg_fentry", OnFentry, Send, Fentry("udpv6_sendmsg")),
        program("udp_receive_fentry", OnFentry, Receive, Fentry("skb_consume_udp")),
        program("sock_ops", Sockops, Connect, SockOps),
        program("sock_addr_sendmsg4", Sockops, Send, SockAddr),
        program("sock_addr_sendmsg6", Sockops, Send, SockAddr),
        program("sock_addr_recvmsg4", Sockops, Receive, SockAddr),
        program("sock_addr_recvmsg6", Sockops, Receive, SockAddr),
        program("accept_exit", TpBtf, Accept, Syscall("sys_exit_accept")),
        program("accept4_exit", TpBtf, Accept, Syscall("sys_exit_accept4")),
        program("socket_state_btf", TpBtf, State, BtfTracepoint("inet_sock_set_state")),
        program("send_length_btf", TpBtf, Use, BtfTracepoint("sock_send_length")),
        program("recv_length_btf", TpBtf, Use, BtfTracepoint("sock_recv_length")),
        program("process_exec_btf", TpBtf, Process, BtfTracepoint("sched_process_exec")),
        program("process_exit_btf", TpBtf, Process, BtfTracepoint("sched_process_exit")),
        program("socket_state_raw", RawTp, State, RawTracepoint("inet_sock_set_state")),
        program("send_length_raw", RawTp, Use, RawTracepoint("sock_send_length")),
        program("recv_length_raw", RawTp, Use, RawTracepoint("sock_recv_length")),
        program("process_exec_raw", RawTp, Process, RawTracepoint("sched_process_exec")),
        program("process_exit_raw", RawTp, Process, RawTracepoint("sched_process_exit")),
    ]
};

/// The iterator over all files of all processes.
pub const TASK_FILE_ITER: &str = "task_file_iter";

/// The program that lists all processes and sockets. It is loaded alone, without the others.
pub const INVENTORY_ITER: &str = "inventory_iter";

const fn program(name: &'static str, rung: Rung, tells: Topic, hook: Hook) -> Program {
    Program { name, rung, tells, hook }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kprobe(function) => write!(f, "kprobe {function}"),
            Self::Fentry(function) => write!(f, "fentry {function}"),
            Self::Fexit(function) => write!(f, "fexit {function}"),
            Self::SockOps => f.write_str("sock_ops of the root cgroup"),
            Self::SockAddr => f.write_str("socket addresses of the root cgroup"),
            Self::BtfTracepoint(name) => write!(f, "BTF tracepoint {name}"),
            Self::RawTracepoint(name) => write!(f, "raw tracepoint {name}"),
            Self::Syscall(name) => write!(f, "tracepoint syscalls:{name}"),
        }
    }
}
