//! Any bytes as a record of a kernel program, from the ring and from the iterator's file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netsnoop_core::kernel_record::{decode, decode_held_socket};

fuzz_target!(|record: &[u8]| {
    let event = decode(record);
    let held = decode_held_socket(record);
    // The kinds of the two are apart.
    assert!(event.is_err() || held.is_err());
});
