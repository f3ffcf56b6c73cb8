//! When a frame was stamped, in boot time. libpcap tells wall time, and the wall clock may be set while frames wait in the
//! kernel's buffer: those before that moment and those after it differ by as much as it was set.
//!
//! What decides is that a frame was stamped after the buffer was last empty and before now. Reading clocks is the
//! caller's.

use std::time::Duration;

use netsnoop_core::time::Timestamp;

use crate::clock::WallClock;

/// A wall clock that moved by more was set; by less, it is being steered or was read badly.
const GRAIN: Duration = Duration::from_millis(1);
/// How often a clock that is being steered is followed.
const FOLLOWS: Duration = Duration::from_secs(1);
/// How far a stamp may lie beside its time before anything is looked at again.
const SLACK: Duration = Duration::from_millis(10);
/// How much earlier than the buffer was empty a frame may have been stamped: what stamps it may be held up before
/// it puts it there.
const HELD_UP: Duration = Duration::from_secs(1);

/// Turns stamps into boot time.
#[derive(Debug)]
pub(super) struct Stamps {
    wall: WallClock,
    /// The clock before it was set, and when that was noticed: until then the buffer may hold frames of that time.
    before: Option<(WallClock, Timestamp)>,
    followed: Timestamp,
    emptied: Timestamp,
    now: Timestamp,
    /// Frames whose stamp no clock explains, and which got the nearest time that is possible.
    pub(super) unexplained: u64,
}

impl Stamps {
    /// As clocks are before any frame is read; some may wait.
    pub(super) fn new(wall: WallClock, opened: Timestamp, now: Timestamp) -> Self {
        Self { wall, before: None, followed: now, emptied: opened, now, unexplained: 0 }
    }

    /// Takes the clocks as they are now.
    pub(super) fn look(&mut self, wall: WallClock, now: Timestamp) {
        self.now = now;
        if self.wall.distance(wall) > GRAIN {
            log::info!("the wall clock was set: it moved by {:?}", self.wall.distance(wall));
            self.before = Some((self.wall, now));
        } else if now.since(self.followed) < FOLLOWS {
            return;
        }
        (self.wall, self.followed) = (wall, now);
    }

    /// Everything stamped until `at` has been read.
    pub(super) fn emptied(&mut self, at: Timestamp) {
        self.emptied = at;
        self.before = self.before.filter(|(_, noticed)| *noticed > at);
    }

    /// The boot time of a stamp. The clocks are asked for again only if it cannot be.
    pub(super) fn convert(
        &mut self,
        since_epoch: Duration,
        clocks: impl FnOnce() -> (WallClock, Timestamp),
    ) -> Timestamp {
        let at = self.wall.to_boot(since_epoch);
        if self.distance(at) <= SLACK {
            return at;
        }
        let (wall, now) = clocks();
        self.look(wall, now);
        let before = self.before.map(|(wall, _)| wall);
        let possible = [Some(self.wall), before].into_iter().flatten().map(|wall| wall.to_boot(since_epoch));
        let at = possible.min_by_key(|at| self.distance(*at)).unwrap_or(at);
        if self.distance(at) > HELD_UP {
            self.unexplained += 1;
            return at.clamp(self.emptied.min(now), now);
        }
        at.min(now)
    }

    /// How far a time is from those that are possible.
    fn distance(&self, at: Timestamp) -> Duration {
        at.since(self.now).max(self.emptied.since(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn milli(number: u64) -> Timestamp {
        Timestamp::from_nanos(number * 1_000_000)
    }

    /// A clock of a machine that booted so long after the epoch.
    fn booted(millis: u64) -> WallClock {
        WallClock::booted_at(millis * 1_000_000)
    }

    /// Frames stamped at these times by these clocks, which are read when another clock is shown by then.
    struct Scene {
        stamps: Stamps,
        now: u64,
        shown: u64,
    }

    impl Scene {
        fn new() -> Self {
            Self { stamps: Stamps::new(booted(HOUR), milli(0), milli(0)), now: 0, shown: HOUR }
        }

        fn at(&mut self, now: u64) -> &mut Self {
            self.now = now;
            self.stamps.look(booted(self.shown), milli(now));
            self
        }

        #[track_caller]
        fn check(&mut self, stamped: u64, by: u64, expected: u64) -> &mut Self {
            let clocks = (booted(self.shown), milli(self.now));
            let at = self.stamps.convert(Duration::from_millis(by + stamped), || clocks);
            assert_eq!(at, milli(expected), "stamped at {stamped} by {by}, read at {}", self.now);
            self
        }

        fn emptied(&mut self) -> &mut Self {
            self.stamps.emptied(milli(self.now));
            self
        }
    }

    #[test]
    fn frames_from_before_and_after_the_clock_was_set_have_their_own_times() {
        // By an hour and by a second, forward and back.
        for set in [2 * HOUR, HOUR + 1000, HOUR - 1000, 60_000] {
            let mut scene = Scene::new();
            scene.at(100).check(90, HOUR, 90).emptied();
            scene.shown = set;
            // Noticed only as the new ones are read.
            scene.check(101, HOUR, 101);
            scene.now = 105;
            scene.check(104, set, 104).check(102, HOUR, 102).check(105, set, 105);
            scene.at(106).check(103, HOUR, 103).check(105, set, 105).emptied();
            scene.at(200).check(150, set, 150);
            assert_eq!(scene.stamps.unexplained, 0, "{set}");
            assert!(scene.stamps.before.is_none());
        }
    }

    #[test]
    fn a_stamp_that_no_clock_explains_is_put_where_it_may_have_been() {
        let mut scene = Scene::new();
        scene.at(5000).emptied().at(5010);
        scene.check(5005, 3 * HOUR, 5010).check(5005, 0, 5000);
        assert_eq!(scene.stamps.unexplained, 2);
        // Late on its way to the buffer, or a little ahead of a clock that was read badly.
        scene.check(4500, HOUR, 4500).check(5015, HOUR, 5015).check(5300, HOUR, 5010);
        assert_eq!(scene.stamps.unexplained, 2);
    }

    #[test]
    fn a_clock_that_is_steered_is_followed_now_and_then() {
        let mut scene = Scene::new();
        let steered = WallClock::booted_at(HOUR * 1_000_000 + 500_000);
        scene.stamps.look(steered, milli(900));
        assert_eq!(scene.stamps.wall.distance(booted(HOUR)), Duration::ZERO);
        scene.stamps.look(steered, milli(1000));
        assert_eq!(scene.stamps.wall.distance(steered), Duration::ZERO);
        assert!(scene.stamps.before.is_none());
    }
}
