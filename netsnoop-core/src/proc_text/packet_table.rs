//! Rows of `/proc/<pid>/net/packet` (man 5 proc_pid_net, man 7 packet).

use core::num::{NonZeroU32, NonZeroU64};

use super::{Rows, decimal, hexadecimal, words};

/// A packet socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketRow {
    /// `SOCK_RAW` (3), `SOCK_DGRAM` (2) or `SOCK_PACKET` (10).
    pub kind: u16,
    /// The protocol it takes (`ETH_P_*`); 0 none.
    pub protocol: u16,
    /// The interface it is bound to; `None` is all.
    pub interface: Option<NonZeroU32>,
    /// Bytes of memory that wait to be read.
    pub receive_queue: u32,
    /// The uid that made it.
    pub uid: u32,
    /// The socket inode.
    pub inode: Option<NonZeroU64>,
}

/// The rows of the table: `packet_seq_show` in
/// <https://github.com/torvalds/linux/blob/v6.12/net/packet/af_packet.c>.
pub fn packet_rows<'a>(text: &'a [u8]) -> Rows<'a, impl FnMut(&'a [u8]) -> Option<PacketRow>> {
    Rows::new(super::without_heading(text, b"sk"), decode_row)
}

fn decode_row(line: &[u8]) -> Option<PacketRow> {
    let mut fields = words(line);
    let mut number = |skip| u32::try_from(decimal(fields.nth(skip)?)?).ok();
    let kind = u16::try_from(number(2)?).ok()?;
    let protocol = u16::try_from(hexadecimal(fields.next()?)?).ok()?;
    let mut number = |skip| u32::try_from(decimal(fields.nth(skip)?)?).ok();
    let (interface, receive_queue, uid) = (NonZeroU32::new(number(0)?), number(1)?, number(0)?);
    let inode = NonZeroU64::new(decimal(fields.next()?)?);
    Some(PacketRow { kind, protocol, interface, receive_queue, uid, inode })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    // Linux 6.18.
    const TABLE: &str = "\
sk               RefCnt Type Proto  Iface R Rmem   User   Inode
0000000012fd6a08 3      3    0003   2     1 768    1000   21818 
00000000a2fd6a08 3      2    888e   0     0 0      0      21820 
";

    #[test]
    fn rows_and_what_is_none() {
        let mut rows = packet_rows(TABLE.as_bytes());
        let found: Vec<_> = rows.by_ref().collect();
        let row = |kind, protocol, interface, receive_queue, uid, inode| PacketRow {
            kind,
            protocol,
            interface: NonZeroU32::new(interface),
            receive_queue,
            uid,
            inode: NonZeroU64::new(inode),
        };
        assert_eq!(found, [row(3, 3, 2, 768, 1000, 21818), row(2, 0x888e, 0, 0, 0, 21820)]);
        assert_eq!(rows.rejected(), 0);
        let mut rows = packet_rows(b"0 3 70000 0003 2 1 0 0 1\n0 3 3 0003\n");
        assert_eq!((rows.by_ref().count(), rows.rejected()), (0, 2));
    }

    proptest! {
        #[test]
        fn any_bytes_and_cuts_are_survived(text in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..TABLE.len()) {
            let mut rows = packet_rows(&text);
            let lines = text.split(|byte| *byte == b'\n').count() as u64;
            prop_assert!(rows.by_ref().count() as u64 + rows.rejected() <= lines);
            let whole: Vec<_> = packet_rows(TABLE.as_bytes()).collect();
            let found: Vec<_> = packet_rows(&TABLE.as_bytes()[..cut]).collect();
            prop_assert!(whole.starts_with(&found));
        }
    }
}
