//! Entering a network namespace for one act and coming back, and the cookie that names its instance.
//!
//! A namespace belongs to a thread, so a visitor stays on the thread that made it: one that the
//! pipeline, or a function here, started for this. Nothing keeps a namespace alive: the file that
//! stands for one is closed as soon as it was visited.

use std::fs::File;
use std::marker::PhantomData;
use std::mem::size_of;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::Context;
use netsnoop_core::namespace::NamespaceKey;
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Why a visit did not happen.
#[derive(Debug)]
pub(super) enum VisitError {
    /// This thread may not enter (setns needs CAP_SYS_ADMIN, man 2 setns).
    Denied,
    /// The namespace is gone, or is another one than was meant.
    Gone,
    /// Anything else the kernel said.
    Failed(Errno),
}

impl From<Errno> for VisitError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::PERM | Errno::ACCESS => Self::Denied,
            Errno::NOENT | Errno::SRCH => Self::Gone,
            other => Self::Failed(other),
        }
    }
}

/// A thread that can step into namespaces and back.
#[derive(Debug)]
pub(super) struct NamespaceVisitor {
    home: OwnedFd,
    home_inode: u32,
    away: bool,
    /// Makes it neither `Send` nor `Sync`: another thread's home is not this one's.
    of_this_thread: PhantomData<*const ()>,
}

impl NamespaceVisitor {
    /// Notes where this thread is at home. `/proc/thread-self` since Linux 3.17 (man 5 proc).
    pub(super) fn new() -> anyhow::Result<Self> {
        let path = "/proc/thread-self/ns/net";
        let home: OwnedFd = File::open(path)
            .with_context(|| format!("open {path} to find the own network namespace"))?
            .into();
        let home_inode = inode_of(home.as_fd())?;
        Ok(Self { home, home_inode, away: false, of_this_thread: PhantomData })
    }

    /// The inode of the thread's own namespace.
    pub(super) const fn home_inode(&self) -> u32 {
        self.home_inode
    }

    /// The thread's own namespace.
    pub(super) fn home(&self) -> BorrowedFd<'_> {
        self.home.as_fd()
    }

    /// Does `work` inside the namespace that `target` stands for. The thread's own namespace needs no
    /// privilege.
    pub(super) fn visit<T>(
        &mut self,
        target: BorrowedFd<'_>,
        work: impl FnOnce(NamespaceKey) -> T,
    ) -> Result<T, VisitError> {
        let inode = inode_of(target)?;
        if inode != self.home_inode {
            move_into_link_name_space(target, Some(LinkNameSpaceType::Network))?;
            self.away = true;
        } else if self.away {
            self.return_home()?;
        }
        let result = work(NamespaceKey { inode, cookie: cookie_here() });
        if self.away {
            self.return_home()?;
        }
        Ok(result)
    }

    /// If this fails the thread stays where it is; every later visit starts with a setns, so that no
    /// work is ever done in the wrong namespace.
    fn return_home(&mut self) -> Result<(), VisitError> {
        move_into_link_name_space(self.home.as_fd(), Some(LinkNameSpaceType::Network))?;
        self.away = false;
        Ok(())
    }
}

/// The inode that names the namespace of an open `/proc/<pid>/ns/net` or nsfs mount.
pub(super) fn inode_of(namespace: BorrowedFd<'_>) -> Result<u32, Errno> {
    u32::try_from(fstat(namespace)?.st_ino).or(Err(Errno::OVERFLOW))
}

/// The cookie of the namespace this thread is in; `None` before Linux 5.14, which has no such option:
/// `SO_NETNS_COOKIE` in <https://github.com/torvalds/linux/blob/v5.14/net/core/sock.c>.
fn cookie_here() -> Option<NonZeroU64> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).ok()?;
    // SAFETY: the descriptor is open for the call, `cookie` is writable and `length` is its size in
    // bytes, which the kernel never exceeds; any bit pattern is a u64.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if status == 0 { NonZeroU64::new(cookie) } else { None }
}

/// Runs `work` on a thread of its own, which may go to other namespaces while the caller's stays.
pub(super) fn on_own_thread<T: Send>(
    work: impl FnOnce(NamespaceVisitor) -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netsnoop-netns".into())
            .spawn_scoped(scope, || work(NamespaceVisitor::new()?))
            .context("start a thread that visits network namespaces")?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl From<VisitError> for Errno {
    fn from(error: VisitError) -> Self {
        match error {
            VisitError::Denied => Self::PERM,
            VisitError::Gone => Self::NOENT,
            VisitError::Failed(errno) => errno,
        }
    }
}
