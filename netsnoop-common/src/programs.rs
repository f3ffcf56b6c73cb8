//! The programs, maps and globals of the object, by name. Loading and attaching them is the agent's.
//!
//! A program's function name says what it does and, where it has twins, on which rung it does so.
//!
//! | rung | program | type, attach point | records |
//! | --- | --- | --- | --- |
//! | kprobe | `tcp_connect_kprobe` | kprobe `tcp_connect` | connect |
//! | | `tcp_accept_kretprobe` | kretprobe `inet_csk_accept` | accept |
//! | | `udp_sendmsg_kprobe` | kprobe `udp_sendmsg` | first send |
//! | | `udpv6_sendmsg_kprobe` | kprobe `udpv6_sendmsg` | first send |
//! | | `udp_receive_kprobe` | kprobe `skb_consume_udp` | first receive |
//! | fentry | `tcp_connect_fentry` | fentry `tcp_connect` | connect |
//! | | `tcp_accept_fexit` | fexit `inet_csk_accept` | accept |
//! | | `udp_sendmsg_fentry`, `udpv6_sendmsg_fentry`, `udp_receive_fentry` | fentry, as the kprobes | first send, first receive |
//! | sockops | `sock_ops` | sock_ops at the cgroup v2 root | connect, listen |
//! | | `sock_addr_sendmsg4`, `sock_addr_sendmsg6` | cgroup/sendmsg4, cgroup/sendmsg6 | first send |
//! | | `sock_addr_recvmsg4`, `sock_addr_recvmsg6` | cgroup/recvmsg4, cgroup/recvmsg6 | first receive |
//! | tp_btf | `socket_state_btf` | BTF tracepoint `inet_sock_set_state` | connect (if [`CONNECT_BY_STATE`]), listen, established, closed |
//! | | `send_length_btf`, `recv_length_btf` | BTF tracepoints `sock_send_length`, `sock_recv_length`, Linux 6.3 or later | first send, first receive |
//! | | `process_exec_btf`, `process_exit_btf` | BTF tracepoints `sched_process_exec`, `sched_process_exit` | exec, exit |
//! | raw_tp | `socket_state_raw`, `send_length_raw`, `recv_length_raw`, `process_exec_raw`, `process_exit_raw` | raw tracepoints, as the BTF ones | the same; sockets have a cookie only if somebody asked for it |
//! | tp_btf or raw_tp, see [`ACCEPT_EXIT_RUNG`] | `accept_exit`, `accept4_exit` | tracepoints syscalls:`sys_exit_accept`, syscalls:`sys_exit_accept4` | accept |
//! | iterator | `task_file_iter` | iter/task_file | holder, written to the iterator's file |
//! | | `inventory_iter` | iter/task_file | [`listing`](crate::listing), written to the iterator's file |

/// Ring buffer of records; one event a record.
pub const EVENTS: &str = "EVENTS";

/// Per-CPU array of one u64: records that found no room in [`EVENTS`].
pub const LOST: &str = "LOST";

/// LRU hash of (socket, process, peer) already told of.
pub const USES: &str = "USES";

/// LRU hash of sockets in SYN_SENT and their owners.
pub const CONNECTING: &str = "CONNECTING";

/// Array of one [`Progress`](crate::listing::Progress): how far `inventory_iter` has come.
pub const PROGRESS: &str = "PROGRESS";

/// Global: [`KernelOffsets`](crate::offsets::KernelOffsets).
pub const OFFSETS: &str = "OFFSETS";

/// Global, u32: 1 if no stronger connect hook is attached, so that `socket_state_*` must tell connects. Default 0.
pub const CONNECT_BY_STATE: &str = "CONNECT_BY_STATE";

/// Global, u32: the rung that `accept_exit` and `accept4_exit` name in their records. Default
/// [`TP_BTF`](crate::record::rung::TP_BTF).
pub const ACCEPT_EXIT_RUNG: &str = "ACCEPT_EXIT_RUNG";

/// Global, u32: 1 if programs at BTF tracepoints may ask for a socket's cookie (Linux 5.12). Default 0.
pub const MAKES_COOKIES: &str = "MAKES_COOKIES";

/// Global, u32: how many arguments the kernel's `inet_csk_accept` takes: 4 before Linux 6.10, then 2. Default 2.
pub const ACCEPT_ARGUMENTS: &str = "ACCEPT_ARGUMENTS";
