//! netsnoop's logic: bytes in, attributed connections out.
//!
//! There is no file, socket, clock, thread or log in here, and `no_std` makes that a compile error
//! rather than a promise. Time is an argument. The agent (`netsnoop`) feeds [`observation::Observation`]s
//! to the [`reconcile::Reconciler`] and takes [`connection::ConnectionRecord`]s out of it.
//!
//! Layers, each knowing only those to its left:
//! vocabulary (`time` `five_tuple` `namespace` `socket` `process` `attribution` `translation` `resolution`) <- decoders
//! (`packet` `proc_text` `kernel_record` `conntrack` `server_name` `dns_answer` `passwd`) <- `observation` <- `reconcile` -> `connection` <- `comparison`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        reason = "a test fails by panicking"
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod attribution;
pub mod cluster;
pub mod comparison;
pub mod connection;
pub mod conntrack;
pub mod diag_message;
pub mod dns_answer;
pub mod five_tuple;
pub mod inventory;
pub mod kernel_record;
pub mod ledger;
pub mod listing_record;
pub mod namespace;
pub mod observation;
pub mod packet;
pub mod passwd;
pub mod proc_text;
pub mod process;
pub mod reconcile;
pub mod resolution;
pub mod segments;
pub mod server_name;
pub mod service;
pub mod socket;
pub mod socket_match;
pub mod time;
pub mod translation;
