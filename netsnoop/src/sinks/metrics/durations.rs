//! How long connections lasted, by size, as a Prometheus histogram.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::page::Family;

/// Upper bounds in milliseconds, with how they are written in seconds: from a local answer to what stays open for an hour.
const BOUNDS: [(u64, &str); 11] = [
    (1, "0.001"),
    (5, "0.005"),
    (25, "0.025"),
    (100, "0.1"),
    (500, "0.5"),
    (1000, "1"),
    (5000, "5"),
    (30_000, "30"),
    (60_000, "60"),
    (600_000, "600"),
    (3_600_000, "3600"),
];

/// Counts by size; those beyond the last bound are in the count alone.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Durations {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: Duration,
}

impl Durations {
    /// Counts one.
    pub(super) fn add(&mut self, lasted: Duration) {
        let fits = |(bound, _): &(u64, &str)| lasted <= Duration::from_millis(*bound);
        if let Some(bucket) = BOUNDS.iter().position(fits).and_then(|place| self.buckets.get_mut(place)) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum += lasted;
    }

    /// Writes the samples; `labels` are those of all.
    pub(super) fn write(&self, family: &mut Family<'_>, labels: &str) {
        let buckets = BOUNDS.iter().zip(self.buckets).map(|((_, bound), count)| (*bound, count));
        family.histogram(labels, buckets, (self.count, self.sum));
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::{Kind, Page};
    use super::*;

    #[test]
    fn buckets_hold_all_that_is_shorter_and_the_last_holds_all() {
        let mut durations = Durations::default();
        for millis in [1, 2, 99, 100, 4_000_000] {
            durations.add(Duration::from_millis(millis));
        }
        let mut page = Page::default();
        durations.write(&mut page.family("x", Kind::Histogram, "X."), "service=\"a\"");
        let text = String::from_utf8(page.into_bytes()).unwrap();
        for line in [
            "x_bucket{service=\"a\",le=\"0.001\"} 1",
            "x_bucket{service=\"a\",le=\"0.005\"} 2",
            "x_bucket{service=\"a\",le=\"0.1\"} 4",
            "x_bucket{service=\"a\",le=\"3600\"} 4",
            "x_bucket{service=\"a\",le=\"+Inf\"} 5",
            "x_sum{service=\"a\"} 4000.202",
            "x_count{service=\"a\"} 5",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
        }
    }
}
