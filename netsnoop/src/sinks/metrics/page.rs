//! Prometheus's text format, version 0.0.4, written straight into one buffer: at ten thousand series, samples as objects
//! with labels of their own would be tens of megabytes for each scrape.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use std::fmt::{self, Display, Write};
use std::time::Duration;

/// What a family of samples is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// A page of metrics.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// Begins a family; its samples follow.
    pub(super) fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { page: self, name }
    }

    /// A family that is one sample.
    pub(super) fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).sample("", value);
    }

    /// The text.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }

    fn put(&mut self, text: fmt::Arguments<'_>) {
        if let Err(fmt::Error) = self.0.write_fmt(text) {
            log::error!("a metric's value cannot be shown");
        }
    }
}

/// A family of samples.
pub(super) struct Family<'a> {
    page: &'a mut Page,
    name: &'a str,
}

impl Family<'_> {
    /// A sample; `labels` as [`labels`] makes them.
    pub(super) fn sample(&mut self, labels: &str, value: impl Display) {
        self.part("", labels, value);
    }

    /// A histogram: counts by upper bound as it is written, each without those below it, and the count and sum of all.
    pub(super) fn histogram(
        &mut self,
        labels: &str,
        buckets: impl IntoIterator<Item = (&'static str, u64)>,
        (count, sum): (u64, Duration),
    ) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut so_far = 0;
        for (bound, within) in buckets {
            so_far += within;
            self.part("_bucket", &format!("{labels}{comma}le=\"{bound}\""), so_far);
        }
        self.part("_bucket", &format!("{labels}{comma}le=\"+Inf\""), count);
        self.part("_sum", labels, sum.as_secs_f64());
        self.part("_count", labels, count);
    }

    /// A sample of a part of the family, such as `_count`.
    fn part(&mut self, part: &str, labels: &str, value: impl Display) {
        let name = self.name;
        if labels.is_empty() {
            self.page.put(format_args!("{name}{part} {value}\n"));
        } else {
            self.page.put(format_args!("{name}{part}{{{labels}}} {value}\n"));
        }
    }
}

/// Names and values of labels as they stand between braces.
pub(super) fn labels(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for letter in value.chars() {
            match letter {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                letter => text.push(letter),
            }
        }
        text.push('"');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_as_the_format_wants_it() {
        let mut page = Page::default();
        page.single("netsnoop_up", Kind::Gauge, "Whether it is.", 1);
        let mut family = page.family("netsnoop_x_total", Kind::Counter, "Of x.");
        family.sample(&labels(&[("user", "a\"b\\c\nd"), ("pod", "")]), 3);
        let mut family = page.family("netsnoop_x_seconds", Kind::Histogram, "How long.");
        family.histogram("", [("0.1", 1), ("1", 3)], (5, Duration::from_millis(500)));
        let expected = "\
# HELP netsnoop_up Whether it is.
# TYPE netsnoop_up gauge
netsnoop_up 1
# HELP netsnoop_x_total Of x.
# TYPE netsnoop_x_total counter
netsnoop_x_total{user=\"a\\\"b\\\\c\\nd\",pod=\"\"} 3
# HELP netsnoop_x_seconds How long.
# TYPE netsnoop_x_seconds histogram
netsnoop_x_seconds_bucket{le=\"0.1\"} 1
netsnoop_x_seconds_bucket{le=\"1\"} 4
netsnoop_x_seconds_bucket{le=\"+Inf\"} 5
netsnoop_x_seconds_sum 0.5
netsnoop_x_seconds_count 5
";
        assert_eq!(String::from_utf8(page.into_bytes()).unwrap(), expected);
    }
}
