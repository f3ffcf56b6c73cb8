//! `/proc/<pid>/uid_map`: what a user of the node is called by number inside a user namespace (man 7 user_namespaces,
//! "User and group ID mappings"), as a reader in the node's own user namespace sees it.

/// The number inside of the user whose number on the node is `uid`; `None` if the namespace does not have it.
pub fn decode_inside(text: &[u8], uid: u32) -> Option<u32> {
    let text = core::str::from_utf8(text).ok()?;
    text.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (inside, outside, length) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        let offset = uid.checked_sub(outside)?;
        if offset < length { inside.checked_add(offset) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_user_has_the_number_that_its_range_gives() {
        let check = |text: &str, uid: u32, expected: Option<u32>| {
            assert_eq!(decode_inside(text.as_bytes(), uid), expected, "{text} {uid}");
        };
        // Of a process in the initial namespace, Linux 6.12.
        let whole = "         0          0 4294967295\n";
        check(whole, 0, Some(0));
        check(whole, 10_001, Some(10_001));
        check(whole, u32::MAX, None);
        // Of a rootless container: root is the user itself, others come from /etc/subuid.
        let rootless = "         0       1000          1\n         1     100000      65536\n";
        check(rootless, 1000, Some(0));
        check(rootless, 100_032, Some(33));
        check(rootless, 165_536, None);
        check(rootless, 0, None);
        for broken in ["", "0 1000", "a b c", "4294967295 5 10"] {
            check(broken, 6, None);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9 \\n]{0,80}", uid in any::<u32>()) {
            decode_inside(text.as_bytes(), uid);
        }
    }
}
