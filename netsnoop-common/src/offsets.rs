//! Where the running kernel keeps the fields that programs read: filled from its BTF by the loader and
//! handed over as the global `OFFSETS`, so that one object serves every kernel.

/// The offset of a field this kernel has not: programs skip the read and take zero.
pub const ABSENT: u32 = u32::MAX;

/// Where to look an offset up in BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The struct.
    pub structure: &'static str,
    /// The member, with dots into nested structs; anonymous structs and unions on the way have no name.
    pub path: &'static str,
}

macro_rules! offsets {
    ($($(#[$why:meta])* $name:ident: $structure:literal $path:literal,)*) => {
        /// Byte offsets, each [`ABSENT`] if the kernel has no such field.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct KernelOffsets {
            $(
                #[doc = concat!("`", $structure, "`: `", $path, "`.")]
                $(#[$why])*
                pub $name: u32,
            )*
        }

        impl KernelOffsets {
            /// What each offset is, in the order of the fields: an array of `u32` in this order is the struct.
            pub const FIELDS: [Field; size_of::<Self>() / size_of::<u32>()] =
                [$(Field { structure: $structure, path: $path },)*];

            /// No field is known.
            pub const NONE: Self = Self { $($name: ABSENT,)* };
        }
    };
}

offsets! {
    task_tgid: "task_struct" "tgid",
    task_flags: "task_struct" "flags",
    task_group_leader: "task_struct" "group_leader",
    task_start_boottime: "task_struct" "start_boottime",
    task_comm: "task_struct" "comm",
    task_cred: "task_struct" "cred",
    task_cgroups: "task_struct" "cgroups",
    task_files: "task_struct" "files",
    task_signal: "task_struct" "signal",
    signal_live: "signal_struct" "live",
    cred_uid: "cred" "uid",
    cred_gid: "cred" "gid",
    css_set_dfl_cgrp: "css_set" "dfl_cgrp",
    cgroup_kn: "cgroup" "kn",
    kernfs_node_id: "kernfs_node" "id",
    files_fdt: "files_struct" "fdt",
    fdtable_fd: "fdtable" "fd",
    fdtable_max_fds: "fdtable" "max_fds",
    file_f_inode: "file" "f_inode",
    file_private_data: "file" "private_data",
    inode_i_mode: "inode" "i_mode",
    inode_i_ino: "inode" "i_ino",
    socket_sk: "socket" "sk",
    /// With the next one: a `struct socket` is followed by its inode, without a pointer to it.
    socket_alloc_socket: "socket_alloc" "socket",
    socket_alloc_vfs_inode: "socket_alloc" "vfs_inode",
    skc_daddr: "sock_common" "skc_daddr",
    skc_rcv_saddr: "sock_common" "skc_rcv_saddr",
    skc_dport: "sock_common" "skc_dport",
    skc_num: "sock_common" "skc_num",
    skc_family: "sock_common" "skc_family",
    skc_state: "sock_common" "skc_state",
    skc_net: "sock_common" "skc_net",
    skc_v6_daddr: "sock_common" "skc_v6_daddr",
    skc_v6_rcv_saddr: "sock_common" "skc_v6_rcv_saddr",
    skc_cookie: "sock_common" "skc_cookie",
    sk_protocol: "sock" "sk_protocol",
    sk_uid: "sock" "sk_uid",
    sk_err: "sock" "sk_err",
    sk_socket: "sock" "sk_socket",
    sk_cgrp_data: "sock" "sk_cgrp_data",
    /// SOCK_DONE is set in here when the peer's FIN arrived.
    skc_flags: "sock_common" "skc_flags",
    inet_sport: "inet_sock" "inet_sport",
    tcp_write_seq: "tcp_sock" "write_seq",
    tcp_snd_una: "tcp_sock" "snd_una",
    tcp_rcv_nxt: "tcp_sock" "rcv_nxt",
    tcp_bytes_acked: "tcp_sock" "bytes_acked",
    tcp_bytes_received: "tcp_sock" "bytes_received",
    tcp_bytes_sent: "tcp_sock" "bytes_sent",
    tcp_bytes_retrans: "tcp_sock" "bytes_retrans",
    net_inum: "net" "ns.inum",
    net_cookie: "net" "net_cookie",
    msghdr_msg_name: "msghdr" "msg_name",
    skb_head: "sk_buff" "head",
    skb_network_header: "sk_buff" "network_header",
    skb_transport_header: "sk_buff" "transport_header",
    binprm_interp: "linux_binprm" "interp",
    binprm_fdpath: "linux_binprm" "fdpath",
    task_nsproxy: "task_struct" "nsproxy",
    nsproxy_net_ns: "nsproxy" "net_ns",
    skc_bound_dev_if: "sock_common" "skc_bound_dev_if",
    sk_type: "sock" "sk_type",
    sk_wmem_alloc: "sock" "sk_wmem_alloc",
    sk_rmem_alloc: "sock" "sk_backlog.rmem_alloc",
    sk_ack_backlog: "sock" "sk_ack_backlog",
    sk_max_ack_backlog: "sock" "sk_max_ack_backlog",
    sk_receive_queue: "sock" "sk_receive_queue",
    sk_receive_queue_length: "sock" "sk_receive_queue.qlen",
    skb_len: "sk_buff" "len",
    icsk_requests: "inet_connection_sock" "icsk_accept_queue.qlen",
    tcp_copied_seq: "tcp_sock" "copied_seq",
    mptcp_first: "mptcp_sock" "first",
    udp_forward_deficit: "udp_sock" "forward_deficit",
    unix_addr: "unix_sock" "addr",
    unix_peer: "unix_sock" "peer",
    /// Bytes that wait to be read, since Linux 6.17; before, only a walk over all of them tells.
    unix_inq_len: "unix_sock" "inq_len",
    unix_address_len: "unix_address" "len",
    unix_address_name: "unix_address" "name",
    packet_num: "packet_sock" "num",
    packet_ifindex: "packet_sock" "ifindex",
    netlink_portid: "netlink_sock" "portid",
    vsock_local_cid: "vsock_sock" "local_addr.svm_cid",
    vsock_local_port: "vsock_sock" "local_addr.svm_port",
    vsock_remote_cid: "vsock_sock" "remote_addr.svm_cid",
    vsock_remote_port: "vsock_sock" "remote_addr.svm_port",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_in_the_order_of_the_struct() {
        let place = |field: Field| {
            KernelOffsets::FIELDS.iter().position(|candidate| *candidate == field).map(|place| place * 4)
        };
        for (structure, path, offset) in [
            ("task_struct", "tgid", core::mem::offset_of!(KernelOffsets, task_tgid)),
            ("net", "ns.inum", core::mem::offset_of!(KernelOffsets, net_inum)),
            ("linux_binprm", "fdpath", core::mem::offset_of!(KernelOffsets, binprm_fdpath)),
        ] {
            assert_eq!(place(Field { structure, path }), Some(offset), "{structure}.{path}");
        }
    }
}
