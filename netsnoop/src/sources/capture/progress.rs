//! Up to when every capture has handed over what its interfaces saw.
//!
//! Only who looks owners up in tables needs to know: see `netsnoop_core::reconcile`, port reuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use netsnoop_core::time::Timestamp;

/// One capture's share of what all have read.
#[derive(Debug)]
pub struct Progress {
    all: Arc<[AtomicU64]>,
    own: usize,
}

impl Progress {
    /// A share for each of `captures` captures.
    pub fn of(captures: usize) -> Vec<Self> {
        let all: Arc<[AtomicU64]> = (0..captures).map(|_| AtomicU64::new(0)).collect();
        (0..captures).map(|own| Self { all: all.clone(), own }).collect()
    }

    /// This capture's buffer was found empty at `moment`. Returns up to when all captures have read everything.
    pub(super) fn emptied(&self, moment: Timestamp) -> Timestamp {
        if let Some(own) = self.all.get(self.own) {
            own.store(moment.as_nanos(), Ordering::Relaxed);
        }
        let until = self.all.iter().map(|capture| capture.load(Ordering::Relaxed)).min();
        Timestamp::from_nanos(until.unwrap_or_default())
    }
}

impl Drop for Progress {
    /// A capture that has ended holds nothing back any more.
    fn drop(&mut self) {
        if let Some(own) = self.all.get(self.own) {
            own.store(u64::MAX, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_capture_counts_until_it_ends() {
        let mut shares = Progress::of(2).into_iter();
        let (one, other) = (shares.next().unwrap(), shares.next().unwrap());
        let at = Timestamp::from_nanos;
        assert_eq!(one.emptied(at(7)), at(0));
        assert_eq!(other.emptied(at(5)), at(5));
        assert_eq!(one.emptied(at(9)), at(5));
        drop(other);
        assert_eq!(one.emptied(at(10)), at(10));
    }
}
