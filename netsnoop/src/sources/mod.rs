//! Where observations come from. A source reads, stamps and hands over; it decides nothing.

pub mod capture;
pub mod ebpf;
pub mod lookup;
pub mod proc_walk;
pub mod process_facts;
pub mod sock_diag;
pub mod topology;
