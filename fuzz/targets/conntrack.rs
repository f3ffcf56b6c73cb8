//! Any bytes as a message of connection tracking, of each kind: what is read is of a connection that is translated.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netsnoop_core::conntrack::decode;
use netsnoop_core::translation::TranslationChange;

fuzz_target!(|message: &[u8]| {
    let Some((kind, body)) = message.split_first_chunk::<2>() else { return };
    if let Ok(Some(change)) = decode(u16::from_be_bytes(*kind), body) {
        let (TranslationChange::Began(translation) | TranslationChange::Ended(translation)) = change;
        assert!(translation.translates());
        assert_eq!(translation.original.transport, translation.reply.transport);
    }
});
