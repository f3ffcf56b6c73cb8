//! What `/proc/<pid>/stat` and `/proc/<pid>/status` say of a process's identity.
//!
//! Read from bytes, not from text: a process chooses its own name, and one that is not UTF-8 must
//! not hide the process. Left out: everything that does not identify.

use super::{decimal, words};
use crate::process::Comm;

/// What `/proc/<pid>/stat` says (man 5 proc_pid_stat).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// The name of the thread group leader.
    pub comm: Comm,
    /// The process that is its parent; 0 if there is none in the reader's pid namespace.
    pub parent: u32,
    /// Whether it is a thread of the kernel.
    pub is_kernel_thread: bool,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
}

/// `PF_KTHREAD` in the flags of a task, unchanged since Linux 2.6.32:
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/sched.h>.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Decodes `/proc/<pid>/stat`; `None` if it is cut or no such text. The name may hold parentheses,
/// so it ends at the last one.
pub fn decode_stat(text: &[u8]) -> Option<Stat> {
    let text = text.strip_suffix(b"\n")?;
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let comm = Comm::new(text.get(open + 1..close)?);
    let mut fields = words(text.get(close + 1..)?);
    fields.next()?;
    // The state is field 3, the parent field 4, the flags field 9, the start time field 22.
    let parent = u32::try_from(decimal(fields.next()?)?).ok()?;
    let is_kernel_thread = decimal(fields.nth(4)?)? & KERNEL_THREAD != 0;
    let start_ticks = decimal(fields.nth(12)?)?;
    Some(Stat { comm, parent, is_kernel_thread, start_ticks })
}

/// The user ids of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserIds {
    /// Who it is.
    pub real: u32,
    /// The effective, saved and file system id.
    pub others: [u32; 3],
}

impl UserIds {
    /// Whether `uid` is one of them.
    pub fn contain(&self, uid: u32) -> bool {
        self.real == uid || self.others.contains(&uid)
    }
}

/// The user ids in `/proc/<pid>/status` (man 5 proc_pid_status), as the reader's user namespace has them.
pub fn decode_user_ids(text: &[u8]) -> Option<UserIds> {
    // The name comes first and escapes its newlines, so no process can forge this line.
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let line = lines.find(|line| line.starts_with(b"Uid:"))?.strip_suffix(b"\n")?;
    let mut ids = words(line).skip(1).map(|word| u32::try_from(decimal(word)?).ok());
    let mut next = || ids.next().flatten();
    Some(UserIds { real: next()?, others: [next()?, next()?, next()?] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    const REST: &str = "S 1 4321 4321 0 -1 4194560 1 0 0 0 1 2 3 4 20 0 1 0 778899 1000 2 3";

    fn check(comm: &[u8], expected: &[u8]) {
        let text = [b"4321 (", comm, format!(") {REST}\n").as_bytes()].concat();
        let stat = decode_stat(&text).unwrap();
        assert_eq!(stat.comm.as_bytes(), expected);
        assert_eq!((stat.is_kernel_thread, stat.start_ticks), (false, 778_899));
    }

    #[test]
    fn names_may_be_anything() {
        check(b"sh", b"sh");
        check(b"a) R 1 (b", b"a) R 1 (b");
        check(b"", b"");
        check(b"\xff\x1b[31m", b"\xff\x1b[31m");
        check(b"kworker/u8:1-events_unbound", b"kworker/u8:1-ev");
    }

    #[test]
    fn kernel_threads_have_their_flag() {
        // Linux 6.18.
        let text = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0\n";
        let stat = decode_stat(text).unwrap();
        assert_eq!(
            (stat.comm.as_bytes(), stat.is_kernel_thread, stat.start_ticks),
            (&b"kthreadd"[..], true, 3)
        );
    }

    #[test]
    fn the_real_uid_is_the_first_number() {
        for (text, expected) in [
            ("Name:\tx\nUid:\t10001\t0\t0\t0\nGid:\t1\n", Some((10001, [0, 0, 0]))),
            ("Name:\tUid:\\n\nUid:\t7\t8\t9\t10\n", Some((7, [8, 9, 10]))),
            ("Name:\tx\nUid:\t100\t1\n", None),
            ("Name:\tx\nUid:\t100\t1\t1\t1", None),
            ("Name:\tx\nUid:\n", None),
            ("", None),
        ] {
            let expected = expected.map(|(real, others)| UserIds { real, others });
            assert_eq!(decode_user_ids(text.as_bytes()), expected, "{text:?}");
        }
        let ids = UserIds { real: 7, others: [8, 9, 10] };
        assert!(ids.contain(7) && ids.contain(10) && !ids.contain(0));
    }

    proptest! {
        #[test]
        fn any_bytes_and_cuts_are_survived(text in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..90_usize) {
            let stat = decode_stat(&text);
            prop_assert!(stat.is_none() || text.contains(&b'('));
            prop_assert!(decode_user_ids(&text).is_none() || text.starts_with(b"Uid:") || text.contains(&b'\n'));
            let whole = format!("4321 (sh) {REST}\n");
            prop_assert_eq!(decode_stat(&whole.as_bytes()[..cut.min(whole.len() - 1)]), None);
        }
    }
}
