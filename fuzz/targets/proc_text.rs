//! Any bytes as the text of a `/proc` file. The first byte chooses the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netsnoop_core::proc_text::net_table::{ByteOrder, inet_rows, unix_rows};
use netsnoop_core::proc_text::{
    Rows, cgroup, fd_link, fib_trie, if_inet6, netlink_table, packet_table, process, sctp_tables,
};

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, text)) = bytes.split_first() else { return };
    match choice % 13 {
        0 => check_rows(text, inet_rows(text, ByteOrder::Little)),
        1 => check_rows(text, inet_rows(text, ByteOrder::Big)),
        2 => check_rows(text, unix_rows(text)),
        3 => check_rows(text, if_inet6::addresses(text)),
        4 => assert!(fib_trie::local_addresses(text).len() <= text.len()),
        5 => drop(cgroup::decode_cgroup_file(text)),
        6 => drop(fd_link::decode_socket_link(text)),
        7 => drop(process::decode_stat(text)),
        8 => drop(process::decode_user_ids(text)),
        9 => check_rows(text, packet_table::packet_rows(text)),
        10 => check_rows(text, netlink_table::netlink_rows(text)),
        11 => check_rows(text, sctp_tables::endpoint_rows(text)),
        _ => check_rows(text, sctp_tables::association_rows(text)),
    }
});

/// Every line is a row, rejected, or the heading.
fn check_rows<'a, R, D: FnMut(&'a [u8]) -> Option<R>>(text: &[u8], mut rows: Rows<'a, D>) {
    let found = rows.by_ref().count() as u64;
    let lines = text.split_inclusive(|byte| *byte == b'\n').count() as u64;
    let told = found + rows.rejected();
    assert!(told == lines || told + 1 == lines);
}
