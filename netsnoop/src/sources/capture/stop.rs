//! Tells captures to end: those that read see it before their next batch, those that wait are woken.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::intake::Bell;

/// Shared by all captures and whoever ends them.
#[derive(Clone, Debug)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    /// Never taken once rung, so that it wakes all of them.
    bell: Bell,
}

impl Stop {
    /// One that nobody has asked for yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self { asked: Arc::default(), bell: Bell::new()? })
    }

    /// Asks for it.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.bell.ring();
    }

    /// Whether it was asked for.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl AsFd for Stop {
    /// Readable from when it is asked for.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
