//! `/proc/<pid>/net/{sockstat,sockstat6}`: how many sockets a namespace has, without walking a table.
//!
//! Left out: what the numbers say of memory.

use super::{decimal, words};

/// The counts of one of the two files. All of them are of one namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SocketCounts {
    /// Sockets of all families that belong to the namespace: those in TIME_WAIT, connection requests and most of the
    /// kernel's own are not counted (`sock_inuse_add` in
    /// <https://github.com/torvalds/linux/blob/v6.12/net/core/sock.c>; per namespace since Linux 4.16). `None` in
    /// `sockstat6`, which has no such count.
    pub used: Option<u64>,
    /// TCP sockets in TIME_WAIT, of both families. `None` in `sockstat6`, likewise.
    pub time_wait: Option<u64>,
    /// TCP sockets of the family that are bound to a port, those excepted.
    pub tcp: u64,
    /// UDP sockets that are bound to a port.
    pub udp: u64,
    /// UDP-Lite sockets that are bound to a port; `None` where the kernel has no UDP-Lite.
    pub udp_lite: Option<u64>,
    /// Raw sockets.
    pub raw: u64,
}

/// Decodes `sockstat`; `None` if one of the counts is missing or unreadable.
pub fn decode_sockstat(text: &[u8]) -> Option<SocketCounts> {
    Some(SocketCounts {
        used: Some(count(text, b"sockets:", b"used")?),
        time_wait: Some(count(text, b"TCP:", b"tw")?),
        tcp: count(text, b"TCP:", b"inuse")?,
        udp: count(text, b"UDP:", b"inuse")?,
        udp_lite: count(text, b"UDPLITE:", b"inuse"),
        raw: count(text, b"RAW:", b"inuse")?,
    })
}

/// Decodes `sockstat6`, likewise.
pub fn decode_sockstat6(text: &[u8]) -> Option<SocketCounts> {
    Some(SocketCounts {
        used: None,
        time_wait: None,
        tcp: count(text, b"TCP6:", b"inuse")?,
        udp: count(text, b"UDP6:", b"inuse")?,
        udp_lite: count(text, b"UDPLITE6:", b"inuse"),
        raw: count(text, b"RAW6:", b"inuse")?,
    })
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

    // Linux 6.18.
    const TEXT: &str = "sockets: used 15\nTCP: inuse 1 orphan 0 tw 7 alloc 1 mem 0\nUDP: inuse 2 mem 0\nUDPLITE: inuse 3\n\
                        RAW: inuse 4\nFRAG: inuse 9 memory 0\n";
    const TEXT6: &str =
        "TCP6: inuse 1\nUDP6: inuse 2\nUDPLITE6: inuse 3\nRAW6: inuse 4\nFRAG6: inuse 9 memory 0\n";
    const COUNTS6: SocketCounts =
        SocketCounts { used: None, time_wait: None, tcp: 1, udp: 2, udp_lite: Some(3), raw: 4 };
    const COUNTS: SocketCounts = SocketCounts { used: Some(15), time_wait: Some(7), ..COUNTS6 };

    fn check(text: &str, expected: Option<SocketCounts>) {
        assert_eq!(decode_sockstat(text.as_bytes()), expected, "{text:?}");
    }

    #[test]
    fn all_counts_or_nothing() {
        check(TEXT, Some(COUNTS));
        check(&TEXT.replace("UDPLITE: inuse 3\n", ""), Some(SocketCounts { udp_lite: None, ..COUNTS }));
        check(&TEXT.replace("used 15", "used x"), None);
        check(&TEXT.replace(" tw 7", ""), None);
        check(&TEXT.replace("RAW: inuse 4", "RAW: inuse"), None);
        check("", None);
        assert_eq!(decode_sockstat6(TEXT6.as_bytes()), Some(COUNTS6));
        assert_eq!(decode_sockstat6(TEXT.as_bytes()), None);
    }

    #[test]
    fn a_cut_text_gives_no_wrong_count() {
        for cut in 0..TEXT.len() {
            let found = decode_sockstat(&TEXT.as_bytes()[..cut]);
            assert!(found.is_none_or(|counts| counts == COUNTS), "cut at {cut}");
        }
        for cut in 0..TEXT6.len() {
            let found = decode_sockstat6(&TEXT6.as_bytes()[..cut]);
            assert!(found.is_none_or(|counts| counts == COUNTS6), "cut at {cut}");
        }
    }
}
