//! What the kernel half writes and the user half reads: record layouts and limits, nothing else.
//!
//! Only fixed-width integers and byte arrays with explicit padding live here: a `bool`, an enum or an
//! `Option` made from bytes another program wrote would be undefined behaviour for a wrong value.
//! Decoding is `netsnoop_core::kernel_record`'s job.
#![no_std]
