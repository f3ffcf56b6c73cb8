//! netsnoop as its users run it: real traffic between network namespaces that the tests make, and the
//! records compared with what the traffic programs say they did.
//!
//! Needs root, `ip`, `nsenter` and `unshare`; without them each test says that it was left out.
//! `cargo xtask test` runs these one at a time, since cgroup programs see the whole machine's traffic;
//! every test judges records of its own namespaces only.

mod agent;
mod alone;
mod bytes;
mod capabilities;
mod clock;
mod cluster;
mod compare;
mod containerd;
mod doctor;
mod failing;
mod identity;
mod lab;
mod ladder;
mod least_privilege;
mod list;
mod load;
mod names;
mod nat;
mod own_image;
mod owners;
mod restarts;
mod scenarios;
