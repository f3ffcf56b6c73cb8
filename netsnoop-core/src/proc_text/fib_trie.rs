//! The IPv4 addresses of a namespace, from `/proc/<pid>/net/fib_trie` (man 5 proc_pid_net).
//!
//! Left out: whole local networks (`127.0.0.0/8`, AnyIP routes), as they are no list of addresses, and
//! tables besides main and local, whose local routes serve transparent proxies and lie elsewhere.

use core::net::Ipv4Addr;

use alloc::vec::Vec;

use super::words;

/// The local addresses, each once, in order. Lines that say nothing of local addresses are most of
/// the text, so there is no count of rejected ones: what is not understood is not local.
pub fn local_addresses(text: &[u8]) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut leaf = None;
    let mut wanted = true;
    let mut rest = text;
    while let Some((line, after)) = super::split_once(rest, b'\n') {
        rest = after;
        let mut fields = words(line);
        match (fields.next(), fields.next(), fields.next()) {
            (Some(b"|--"), Some(address), None) => leaf = decode_address(address),
            (Some(b"/32"), Some(b"host"), Some(b"LOCAL")) if wanted => found.extend(leaf),
            (Some(b"Main:" | b"Local:"), None, None) => wanted = true,
            // Other tables are headed `Id 200:`.
            (Some(b"Id"), Some(_), None) => wanted = false,
            _ => {}
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn decode_address(digits: &[u8]) -> Option<Ipv4Addr> {
    let text = core::str::from_utf8(digits).ok()?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    // Linux 6.18 with multiple tables, shortened.
    const TEXT: &str = "\
Id 200:
  +-- 203.0.113.1/32 1 0 0
     |-- 203.0.113.1
        /32 host LOCAL
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     |-- 198.18.1.2
        /32 host LOCAL
     |-- 198.18.1.0
        /24 link UNICAST
Local:
     |-- 198.18.1.2
        /32 host LOCAL
";

    #[test]
    fn host_addresses_once_each() {
        let found: Vec<_> =
            local_addresses(TEXT.as_bytes()).into_iter().map(|address| address.to_string()).collect();
        assert_eq!(found, ["127.0.0.1", "198.18.1.2"]);
    }

    proptest! {
        #[test]
        fn any_bytes_and_cuts_are_survived(
            text in proptest::collection::vec(any::<u8>(), 0..500), cut in 0..TEXT.len()
        ) {
            prop_assert!(local_addresses(&text).len() <= text.len());
            let whole = local_addresses(TEXT.as_bytes());
            prop_assert!(local_addresses(&TEXT.as_bytes()[..cut]).iter().all(|address| whole.contains(address)));
        }
    }
}
