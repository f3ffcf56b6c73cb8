//! The wall clock as records tell it: compared with boot time anew now and then, since it may be set meanwhile.

use std::time::Duration;

use netsnoop_core::time::Timestamp;

use crate::clock::{self, WallClock};

/// How often boot time and wall time are compared anew.
const HOLDS: Duration = Duration::from_secs(1);
/// A wall clock that moved by less was not set: records keep telling the same start for the same process.
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

    /// As it is for a record of `at`.
    pub(super) fn at(&mut self, at: Timestamp) -> WallClock {
        if at.since(self.read) >= HOLDS {
            self.clock = self.clock.reread(GRAIN);
            self.read = at;
        }
        self.clock
    }
}
