//! The `netsnoop` binary: parse, run, exit code.
fn main() {}
