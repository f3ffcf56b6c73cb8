//! The programs, one hook and its twins a file.

mod inventory_iter;
mod process_lifecycle;
mod sock_addr;
mod sock_ops;
pub mod socket_state;
mod socket_use;
pub mod task_file_iter;
pub mod tcp_accept;
pub mod tcp_connect;
pub mod udp;
