//! What the kernel half writes and the user half reads: record layouts, struct offsets, names and limits,
//! nothing else.
//!
//! Only fixed-width integers and byte arrays with explicit padding cross the border: a `bool`, an enum or
//! an `Option` made from bytes another program wrote would be undefined behaviour for a wrong value.
//! Decoding is the job of `netsnoop_core::kernel_record` and `netsnoop_core::listing_record`.
#![no_std]

pub mod limits;
pub mod listing;
pub mod offsets;
pub mod programs;
pub mod record;
