//! The wall clock set while netsnoop runs, in guests alone: a machine's own clock is not for tests to set.

use std::env;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::lab::watch::Watch;
use crate::lab::{Lab, patience, skip};

/// The wall clock, which shows again what it should when this is dropped.
struct SetClock {
    began: Instant,
    showed: Timespec,
}

impl SetClock {
    fn new() -> Self {
        Self { began: Instant::now(), showed: clock_gettime(ClockId::Realtime) }
    }

    /// Sets it beside what it should show.
    fn set(&self, beside: i64) {
        let passed = Timespec::try_from(self.began.elapsed()).unwrap();
        let should = self.showed + passed;
        clock_settime(ClockId::Realtime, Timespec { tv_sec: should.tv_sec + beside, ..should }).unwrap();
    }
}

impl Drop for SetClock {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[test]
fn a_wall_clock_that_is_set_changes_no_owner_and_no_duration() {
    let name = "clock::a_wall_clock_that_is_set_changes_no_owner_and_no_duration";
    if env::var_os("NETSNOOP_TEST_SETS_CLOCK").is_none() {
        skip(name, "sets the wall clock, so it runs in guests (cargo xtask vm-test)");
        return;
    }
    let Some(lab) = Lab::new(name) else { return };
    let address = lab.server.v4(7107);
    let _server = lab.server().serve(&format!("serve tcp {address}"));
    for way in ["auto", "off"] {
        let watch = Watch::start(&lab, &format!("-i any --ebpf {way}"));
        let clock = SetClock::new();
        for beside in [3600, -7200, -1, 5] {
            let began = Instant::now();
            let held = lab.client().start(&format!("connect hold {address}"));
            let over_it = held.wait_for("connect");
            clock.set(beside);
            let deadline = Instant::now() + patience();
            // Records follow the clock shortly after, and name owners at once.
            loop {
                // Held, as without hooks only who is still there can be named.
                let running = lab.client().start(&format!("connect hold {address}"));
                let client = running.wait_for("connect");
                let record = watch.wait_for("a connection after that", |record| {
                    Some(record.client.endpoint()) == client.local && record.event == "open"
                });
                let pid = record.client.process.as_ref().map(|process| process.pid);
                assert_eq!(pid, Some(client.pid), "{way} {beside}: {record:#?}");
                running.finish();
                let told: Timestamp = record.timestamp.parse().unwrap();
                let off = told.duration_until(Timestamp::now());
                if SignedDuration::ZERO <= off && off < SignedDuration::try_from(began.elapsed()).unwrap() {
                    break;
                }
                assert!(Instant::now() < deadline, "{way} {beside}: {off} behind the clock: {record:#?}");
            }
            held.finish();
            let ended = watch.wait_for("the end of the one before", |record| {
                Some(record.client.endpoint()) == over_it.local && record.event == "close"
            });
            let lasted = ended.connection.duration_ns.map(Duration::from_nanos);
            assert!(lasted.is_some_and(|lasted| lasted <= began.elapsed()), "{way} {beside}: {ended:#?}");
            let pid = ended.client.process.as_ref().map(|process| process.pid);
            assert_eq!(pid, Some(over_it.pid), "{way} {beside}: {ended:#?}");
        }
        assert!(watch.stop().status.success());
    }
}
