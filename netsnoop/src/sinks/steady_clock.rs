//! The wall clock as records tell it: compared with boot time anew now and then, since it may be set meanwhile.

use std::time::Duration;

use netsnoop_core::time::Timestamp;

use crate::clock::{self, WallClock};

/// How often boot time and wall time are compared anew: for so long may records tell the time before the clock was set.
const HOLDS: Duration = Duration::from_millis(100);
/// A wall clock that moved by less was not set: two readings differ by the time between their two clocks, and records
/// keep telling the same start for the same process.
const GRAIN: Duration = Duration::from_millis(1);

/// The clock.
pub(super) struct SteadyClock {
    clock: WallClock,
    read: Timestamp,
}

impl SteadyClock {
    /// As it is now.
    pub(super) fn read() -> Self {
        Self { clock: WallClock::read(), read: clock::now() }
    }

    /// As it is for a record that is written now.
    pub(super) fn now(&mut self) -> WallClock {
        self.at(clock::now(), WallClock::read)
    }

    /// As it is at `now`. A record's own time is never asked: it may lie anywhere.
    fn at(&mut self, now: Timestamp, read: impl FnOnce() -> WallClock) -> WallClock {
        if now.since(self.read) >= HOLDS {
            self.clock = self.clock.unless_within(GRAIN, read());
            self.read = now;
        }
        self.clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_told_within_a_tenth_of_a_second() {
        let milli = |number: u64| Timestamp::from_nanos(number * 1_000_000);
        let mut steady = SteadyClock { clock: WallClock::booted_at(5_000_000), read: milli(0) };
        let mut check = |now: u64, shown: u64, expected: u64| {
            let clock = steady.at(milli(now), || WallClock::booted_at(shown));
            assert_eq!(clock.to_unix_nanos(milli(0)), expected, "{now}");
        };
        check(99, 3_600_000_000_000, 5_000_000);
        check(100, 3_600_000_000_000, 3_600_000_000_000);
        check(200, 3_600_000_900_000, 3_600_000_000_000);
        check(300, 0, 0);
    }
}
