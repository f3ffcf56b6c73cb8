//! The kernel half, from the user side: load, attach, read.

pub mod btf;
