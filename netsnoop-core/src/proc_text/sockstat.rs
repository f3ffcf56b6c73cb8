//! `/proc/<pid>/net/sockstat`: how many sockets a namespace has, without walking a table.
//!
//! Left out: what the numbers say of memory, and `sockstat6`, whose sockets are counted in `used` too.

use super::{decimal, words};

/// The counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketCounts {
    /// Sockets of all families that belong to the namespace: those in TIME_WAIT, connection requests and most of the
    /// kernel's own are not counted (`sock_inuse_add` in
    /// <https://github.com/torvalds/linux/blob/v6.12/net/core/sock.c>; per namespace since Linux 4.16).
    pub used: u64,
    /// TCP sockets in TIME_WAIT, of this namespace.
    pub time_wait: u64,
}

/// Decodes the text; `None` if one of the counts is missing or unreadable.
pub fn decode_sockstat(text: &[u8]) -> Option<SocketCounts> {
    Some(SocketCounts { used: count(text, b"sockets:", b"used")?, time_wait: count(text, b"TCP:", b"tw")? })
}

fn count(text: &[u8], heading: &[u8], name: &[u8]) -> Option<u64> {
    let lines = text.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    let mut fields = lines.map(words).find_map(|mut fields| (fields.next()? == heading).then_some(fields))?;
    fields.find(|field| *field == name)?;
    decimal(fields.next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(u64, u64)>) {
        let found = decode_sockstat(text.as_bytes()).map(|counts| (counts.used, counts.time_wait));
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn both_counts_or_nothing() {
        // Linux 6.18.
        const TEXT: &str = "sockets: used 15\nTCP: inuse 1 orphan 0 tw 7 alloc 1 mem 0\nUDP: inuse 0 mem 0\n";
        check(TEXT, Some((15, 7)));
        check("sockets: used 15\nTCP: inuse 1 orphan 0 tw 7", None);
        check("sockets: used x\nTCP: inuse 1 orphan 0 tw 7\n", None);
        check("TCP: inuse 1 orphan 0 tw 7\n", None);
        check("sockets: used 15\n", None);
        check("", None);
        for cut in 0..TEXT.len() {
            let found = decode_sockstat(&TEXT.as_bytes()[..cut]);
            assert!(found.is_none_or(|counts| (counts.used, counts.time_wait) == (15, 7)), "cut at {cut}");
        }
    }
}
