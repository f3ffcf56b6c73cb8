//! Lines of a passwd file (man 5 passwd), of the node or of a container. Left out: where it is, and whether to believe it.

use alloc::string::String;
use alloc::sync::Arc;

/// Name and uid of a line; `None` for anything else (comments, NIS markers, broken lines).
pub fn decode_line(line: &[u8]) -> Option<(Arc<str>, u32)> {
    let line = String::from_utf8_lossy(line);
    let mut fields = line.split(':');
    let (name, _password, uid) = (fields.next()?, fields.next()?, fields.next()?);
    let is_name = !name.is_empty() && !name.starts_with(['#', '+', '-']);
    // A uid that is no number makes the line none of a user's.
    is_name.then(|| uid.parse().map(|uid| (Arc::from(name), uid)).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_a_name_and_a_uid_or_nothing() {
        let check = |line: &[u8], expected: Option<(&str, u32)>| {
            let found = decode_line(line);
            let found = found.as_ref().map(|(name, uid)| (&**name, *uid));
            assert_eq!(found, expected, "{}", String::from_utf8_lossy(line));
        };
        check(b"root:x:0:0::/:/bin/sh", Some(("root", 0)));
        check(b"short:x:7", Some(("short", 7)));
        check(b"\xff\xfe:x:4:4", Some(("\u{fffd}\u{fffd}", 4)));
        for nothing in
            [&b""[..], b"#a:x:1:1", b"+nis:x:2:2", b"-nis:x:2:2", b"no colons", b"bad:x:uid:3", b":x:1"]
        {
            check(nothing, None);
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..64)) {
            decode_line(&line);
        }
    }
}
