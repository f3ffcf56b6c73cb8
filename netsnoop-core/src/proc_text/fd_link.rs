//! Which socket a link in `/proc/<pid>/fd` stands for (man 5 proc_pid_fd).

use core::num::NonZeroU64;

/// The socket inode of a link target, `None` if it is no socket. Nobody can forge one: the target of
/// a file is an absolute path, and pipes and anonymous inodes have prefixes of their own.
pub fn decode_socket_link(target: &[u8]) -> Option<NonZeroU64> {
    let digits = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    NonZeroU64::new(super::decimal(digits)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_sockets_count() {
        for (target, expected) in [
            ("socket:[21817]", Some(21817)),
            ("socket:[0]", None),
            ("socket:[]", None),
            ("socket:[1", None),
            ("socket:[99999999999999999999]", None),
            ("/tmp/socket:[1]", None),
            ("pipe:[21817]", None),
            ("anon_inode:[eventpoll]", None),
            ("", None),
        ] {
            assert_eq!(decode_socket_link(target.as_bytes()).map(NonZeroU64::get), expected, "{target}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(target in proptest::collection::vec(any::<u8>(), 0..64)) {
            if decode_socket_link(&target).is_some() {
                prop_assert!(target.starts_with(b"socket:["));
            }
        }
    }
}
