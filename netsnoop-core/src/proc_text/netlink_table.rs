//! Rows of `/proc/<pid>/net/netlink` (man 5 proc_pid_net, man 7 netlink).

use core::num::NonZeroU64;

use super::{Rows, decimal, words};

/// A netlink socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NetlinkRow {
    /// The netlink family (`NETLINK_ROUTE` is 0).
    pub family: u16,
    /// Its own address; 0 is the kernel's.
    pub port_id: u32,
    /// Bytes of memory that wait to be read.
    pub receive_queue: u32,
    /// Bytes of memory that wait to be sent.
    pub send_queue: u32,
    /// The socket inode.
    pub inode: Option<NonZeroU64>,
}

/// The rows of the table: `netlink_native_seq_show` in
/// <https://github.com/torvalds/linux/blob/v6.12/net/netlink/af_netlink.c>.
pub fn netlink_rows<'a>(text: &'a [u8]) -> Rows<'a, impl FnMut(&'a [u8]) -> Option<NetlinkRow>> {
    Rows::new(super::without_heading(text, b"sk"), decode_row)
}

fn decode_row(line: &[u8]) -> Option<NetlinkRow> {
    let mut fields = words(line);
    let mut number = |skip| decimal(fields.nth(skip)?);
    let family = u16::try_from(number(1)?).ok()?;
    let port_id = u32::try_from(number(0)?).ok()?;
    let receive_queue = u32::try_from(number(1)?).ok()?;
    let send_queue = u32::try_from(number(0)?).ok()?;
    let inode = NonZeroU64::new(number(3)?);
    Some(NetlinkRow { family, port_id, receive_queue, send_queue, inode })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    // Linux 6.18.
    const TABLE: &str = "\
sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode   
00000000d9b0d6a8 0   0          00000000 0        0        0     2        0        12      
00000000f9b0d6a8 15  4294963101 00000001 768      32       0     2        0        21830   
";

    #[test]
    fn the_kernels_and_others() {
        let mut rows = netlink_rows(TABLE.as_bytes());
        let found: Vec<_> = rows.by_ref().collect();
        let row = |family, port_id, receive_queue, send_queue, inode| NetlinkRow {
            family,
            port_id,
            receive_queue,
            send_queue,
            inode: NonZeroU64::new(inode),
        };
        assert_eq!(found, [row(0, 0, 0, 0, 12), row(15, 4_294_963_101, 768, 32, 21830)]);
        assert_eq!(rows.rejected(), 0);
        let mut rows = netlink_rows(b"0 0 -4195 00000000 0 0 0 2 0 12\n0 0 1\n");
        assert_eq!((rows.by_ref().count(), rows.rejected()), (0, 2));
    }

    proptest! {
        #[test]
        fn any_bytes_and_cuts_are_survived(text in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..TABLE.len()) {
            let mut rows = netlink_rows(&text);
            let lines = text.split(|byte| *byte == b'\n').count() as u64;
            prop_assert!(rows.by_ref().count() as u64 + rows.rejected() <= lines);
            let whole: Vec<_> = netlink_rows(TABLE.as_bytes()).collect();
            let found: Vec<_> = netlink_rows(&TABLE.as_bytes()[..cut]).collect();
            prop_assert!(whole.starts_with(&found));
        }
    }
}
