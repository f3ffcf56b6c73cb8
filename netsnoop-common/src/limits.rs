//! Sizes that both halves must agree on, and bounds of the tables in the kernel.

/// Bytes of the ring `EVENTS`. At 15,000 short connections a second, both ends local, programs write
/// about 16 MB a second: this is half a second of not being read. A power of two of pages, as the kernel
/// asks (Documentation/bpf/ringbuf.rst); the loader may choose another.
pub const RING_BYTES: u32 = 8 << 20;

/// Longest executable path an exec record carries, with its NUL; a longer one is left out.
pub const PATH_BYTES: usize = 256;

/// A thread name with its NUL: TASK_COMM_LEN, <https://github.com/torvalds/linux/blob/v6.12/include/linux/sched.h>.
pub const COMM_BYTES: usize = 16;

/// Entries of the table of (socket, process, peer) already told of. A forgotten entry costs one repeated event.
pub const USES: u32 = 1 << 16;

/// Entries of the table of sockets in SYN_SENT with their owners, where no stronger connect hook is at work.
pub const CONNECTING: u32 = 1 << 14;
