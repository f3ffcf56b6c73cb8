//! How long looking at the system took, by what was looked at. What looks at it counts here; metrics show it.

use std::time::{Duration, Instant};

use crate::counters::Counter;

/// Upper bounds in microseconds, with how they are written in seconds: from one process to a walk over a large node.
const BOUNDS: [(u64, &str); 9] = [
    (100, "0.0001"),
    (1000, "0.001"),
    (5000, "0.005"),
    (25_000, "0.025"),
    (100_000, "0.1"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (5_000_000, "5"),
    (30_000_000, "30"),
];

/// What is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scan {
    /// All sockets and their holders, by netlink and `/proc`.
    Walk,
    /// All sockets and their holders, by the BPF iterator.
    Iterator,
    /// A few sockets of one namespace and their holders.
    Lookup,
    /// The TCP sockets of one namespace, without their holders.
    Pass,
    /// Which processes are in which network namespace.
    NamespaceIndex,
    /// One process: its program, its container.
    ProcessFacts,
    /// All namespaces, interfaces and addresses.
    Topology,
}

impl Scan {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Walk,
        Self::Iterator,
        Self::Lookup,
        Self::Pass,
        Self::NamespaceIndex,
        Self::ProcessFacts,
        Self::Topology,
    ];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Walk => "walk",
            Self::Iterator => "iterator",
            Self::Lookup => "lookup",
            Self::Pass => "pass",
            Self::NamespaceIndex => "namespace_index",
            Self::ProcessFacts => "process_facts",
            Self::Topology => "topology",
        }
    }
}

/// How long they took.
#[derive(Debug, Default)]
pub struct ScanTimes([Times; Scan::ALL.len()]);

#[derive(Debug, Default)]
struct Times {
    /// By size; those beyond the last bound are in the count alone.
    buckets: [Counter; BOUNDS.len()],
    count: Counter,
    nanos: Counter,
}

/// One kind's times, as they are now.
#[derive(Clone, PartialEq, Debug)]
pub struct ScanReport {
    /// Upper bounds as they are written in seconds, and how many took no longer than that but longer than the one before.
    pub buckets: Vec<(&'static str, u64)>,
    /// How many there were.
    pub count: u64,
    /// How long all of them took.
    pub sum: Duration,
}

/// Counts how long it has lived when it is dropped, however the scan ends.
#[derive(Debug)]
pub struct Timing<'a> {
    times: Option<&'a Times>,
    began: Instant,
}

impl ScanTimes {
    /// Times a scan of this kind until the answer is dropped.
    pub fn begin(&self, scan: Scan) -> Timing<'_> {
        Timing { times: self.0.get(scan as usize), began: Instant::now() }
    }

    /// The times of this kind.
    pub fn report(&self, scan: Scan) -> Option<ScanReport> {
        let times = self.0.get(scan as usize)?;
        let buckets = BOUNDS.iter().zip(&times.buckets).map(|((_, bound), count)| (*bound, count.get()));
        Some(ScanReport {
            buckets: buckets.collect(),
            count: times.count.get(),
            sum: Duration::from_nanos(times.nanos.get()),
        })
    }
}

impl Times {
    fn add(&self, took: Duration) {
        let fits = |(bound, _): &(u64, &str)| took <= Duration::from_micros(*bound);
        if let Some(bucket) = BOUNDS.iter().position(fits).and_then(|place| self.buckets.get(place)) {
            bucket.add(1);
        }
        self.count.add(1);
        self.nanos.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
}

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        if let Some(times) = self.times {
            times.add(self.began.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_times_of_its_own_in_the_order_of_all() {
        let times = ScanTimes::default();
        for (place, scan) in Scan::ALL.into_iter().enumerate() {
            assert_eq!(scan as usize, place, "{scan:?}");
            drop(times.begin(scan));
        }
        let counts: Vec<_> =
            Scan::ALL.into_iter().map(|scan| times.report(scan).map(|all| all.count)).collect();
        assert_eq!(counts, [Some(1); Scan::ALL.len()]);
    }

    #[test]
    fn what_took_longest_is_in_the_count_alone() {
        let times = ScanTimes::default();
        for millis in [1, 2, 25, 30_000, 30_001] {
            times.0[0].add(Duration::from_millis(millis));
        }
        let report = times.report(Scan::Walk).unwrap();
        let counts: Vec<_> = report.buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [0, 1, 1, 1, 0, 0, 0, 0, 1]);
        assert_eq!((report.count, report.sum), (5, Duration::from_millis(60_029)));
    }
}
