//! The one clock: nanoseconds since boot (CLOCK_BOOTTIME). Reading a clock is the agent's business.

use core::num::NonZeroU64;
use core::ops::{Add, Sub};
use core::time::Duration;

/// How far the stamp of a packet may be from what the clock of all else showed then: the wall clock that stamps packets
/// may be slewed by 500 ppm (man 2 adjtimex), and is compared with the other once a second.
pub(crate) const PACKET_CLOCK_ERROR: Duration = Duration::from_micros(500);

/// A moment, in nanoseconds since boot, suspend included. One more is held, so that none takes no room of its own: a
/// connection has a dozen moments, most of which never come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestamp(NonZeroU64);

impl Timestamp {
    /// The moment `nanos` nanoseconds after boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later, as stamps of two sources may cross.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.as_nanos().saturating_sub(earlier.as_nanos()))
    }
}

/// The moment of the boot.
impl Default for Timestamp {
    fn default() -> Self {
        Self::from_nanos(0)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, by: Duration) -> Self {
        Self::from_nanos(self.as_nanos().saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_saturate_and_none_takes_no_room() {
        let nanos = Duration::from_nanos;
        let boot = Timestamp::default();
        assert_eq!((boot.as_nanos(), (boot + nanos(5)).as_nanos()), (0, 5));
        assert_eq!((boot + nanos(5) - nanos(9), (boot + nanos(5)).since(boot)), (boot, nanos(5)));
        let last = Timestamp::from_nanos(u64::MAX);
        assert_eq!((last + nanos(1), boot.since(last)), (last, Duration::ZERO));
        assert_eq!(size_of::<Option<Timestamp>>(), size_of::<u64>());
    }
}
