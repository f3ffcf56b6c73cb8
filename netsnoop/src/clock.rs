//! The edge's clock: what time it is since boot, and how boot time and wall time translate.

use std::time::Duration;

use netsnoop_core::time::Timestamp;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Now, in nanoseconds since boot (CLOCK_BOOTTIME, the clock of `bpf_ktime_get_boot_ns`).
pub fn now() -> Timestamp {
    Timestamp::from_nanos(nanos(clock_gettime(ClockId::Boottime)))
}

/// How long this thread has kept a core at work (man 2 clock_gettime, CLOCK_THREAD_CPUTIME_ID).
pub fn spent_by_thread() -> Duration {
    Duration::from_nanos(nanos(clock_gettime(ClockId::ThreadCPUTime)))
}

/// How often both clocks are read for one distance.
const READINGS: usize = 3;

/// The distance between wall time and boot time at one moment.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    boot_as_unix_nanos: u64,
}

impl WallClock {
    /// Reads both clocks. The distance changes when the wall clock is set, so long-running users
    /// read it anew now and then.
    pub fn read() -> Self {
        // The nearest of a few readings: this thread may be held up between two clocks.
        let readings = (0..READINGS).map(|_| {
            let before = now().as_nanos();
            let wall = nanos(clock_gettime(ClockId::Realtime));
            let width = now().as_nanos() - before;
            (width, wall.saturating_sub(before + width / 2))
        });
        Self { boot_as_unix_nanos: readings.min().map_or(0, |(_, distance)| distance) }
    }

    /// A clock of a machine that booted at a given time since the epoch: for records of another machine or run.
    pub const fn booted_at(unix_nanos: u64) -> Self {
        Self { boot_as_unix_nanos: unix_nanos }
    }

    /// This one, or `new` if that is another clock by more than `grain`.
    pub fn unless_within(self, grain: Duration, new: Self) -> Self {
        if self.distance(new) > grain { new } else { self }
    }

    /// By how much two readings differ.
    pub const fn distance(self, other: Self) -> Duration {
        Duration::from_nanos(self.boot_as_unix_nanos.abs_diff(other.boot_as_unix_nanos))
    }

    /// The boot time of a wall time (since the Unix epoch); zero for one before boot.
    pub fn to_boot(self, since_epoch: Duration) -> Timestamp {
        let wall = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        Timestamp::from_nanos(wall.saturating_sub(self.boot_as_unix_nanos))
    }

    /// Nanoseconds since the Unix epoch at boot time `at`.
    pub const fn to_unix_nanos(self, at: Timestamp) -> u64 {
        self.boot_as_unix_nanos.saturating_add(at.as_nanos())
    }
}

fn nanos(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_moves_only_when_the_wall_clock_was_set() {
        let check = |new: u64, expected: u64| {
            let clock = WallClock::booted_at(10_000_000)
                .unless_within(Duration::from_millis(1), WallClock::booted_at(new));
            assert_eq!(clock.to_unix_nanos(Timestamp::from_nanos(0)), expected);
        };
        check(10_000_300, 10_000_000);
        check(9_000_000, 10_000_000);
        check(8_999_999, 8_999_999);
        check(3_600_000_000_000, 3_600_000_000_000);
    }
}
