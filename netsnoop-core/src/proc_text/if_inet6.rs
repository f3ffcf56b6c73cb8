//! The IPv6 addresses of a namespace, from `/proc/<pid>/net/if_inet6` (man 5 proc_pid_net).
//!
//! Left out: prefix, scope and flags. A tentative address cannot send yet, but will soon.

use core::net::Ipv6Addr;

use super::{Rows, hexadecimal, words};

/// The addresses, in the kernel's order; printed in network order on every machine.
pub fn addresses<'a>(text: &'a [u8]) -> Rows<'a, impl FnMut(&'a [u8]) -> Option<Ipv6Addr>> {
    Rows::new(text, decode_row)
}

fn decode_row(line: &[u8]) -> Option<Ipv6Addr> {
    let mut fields = words(line);
    let digits = fields.next().filter(|digits| digits.len() == 32)?;
    // The interface name is the sixth column; a line without it was not written by this kernel.
    fields.nth(4)?;
    let mut octets = [0; 16];
    for (to, word) in octets.chunks_exact_mut(4).zip(digits.chunks_exact(8)) {
        to.copy_from_slice(&hexadecimal(word)?.to_be_bytes());
    }
    Some(Ipv6Addr::from(octets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    // Linux 6.18.
    const TEXT: &str = "\
00000000000000000000000000000001 01 80 10 80       lo
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
20010db8000000000000000000000002 04 40 00 82     eth0
";

    #[test]
    fn addresses_of_every_interface() {
        let mut rows = addresses(TEXT.as_bytes());
        let found: Vec<_> = rows.by_ref().map(|address| address.to_string()).collect();
        assert_eq!(found, ["::1", "fe80::fc:ff:fe00:1", "2001:db8::2"]);
        assert_eq!(rows.rejected(), 0);
        let mut bad = addresses(b"0001 01 80 10 80 lo\nzz000000000000000000000000000001 01 80 10 80 lo\n");
        assert_eq!(bad.by_ref().count(), 0);
        assert_eq!(bad.rejected(), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_and_cuts_are_survived(
            text in proptest::collection::vec(any::<u8>(), 0..500), cut in 0..TEXT.len()
        ) {
            let lines = text.split(|byte| *byte == b'\n').count();
            prop_assert!(addresses(&text).count() <= lines);
            prop_assert!(addresses(&TEXT.as_bytes()[..cut]).count() <= 3);
        }
    }
}
