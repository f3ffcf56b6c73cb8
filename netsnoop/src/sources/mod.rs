//! Where observations come from. A source reads, stamps and hands over; it decides nothing.

pub mod capture;
pub mod conntrack;
pub mod container_users;
pub mod ebpf;
mod holders;
pub mod inventory;
pub mod link_events;
pub mod lookup;
mod namespace_index;
mod netlink;
mod netlink_receive;
mod netns;
mod pod_names;
pub(crate) mod proc_fs;
pub mod proc_walk;
mod process_exits;
pub mod process_facts;
mod process_start;
mod rtnetlink;
pub(crate) mod sock_diag;
mod socket_lookup;
mod socket_tables;
mod taskstats;
pub mod topology;
mod topology_changes;
