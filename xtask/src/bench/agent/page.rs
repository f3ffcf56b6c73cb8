//! What a page of metrics says: samples by name and labels, as netsnoop writes them.

use std::collections::HashMap;

use anyhow::{Context, Result};

/// A page.
pub(super) struct Page {
    samples: HashMap<String, f64>,
}

impl Page {
    /// Reads its text.
    pub(super) fn read(text: &str) -> Result<Self> {
        let mut samples = HashMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').with_context(|| format!("no sample: {line}"))?;
            let value = value.parse().with_context(|| format!("no number: {line}"))?;
            samples.insert(series.to_owned(), value);
        }
        Ok(Self { samples })
    }

    /// A sample's value; 0 if there is none.
    pub(super) fn value(&self, series: &str) -> u64 {
        // Counts of this size are exact.
        self.samples.get(series).map_or(0, |value| *value as u64)
    }

    /// All samples of a family, added up.
    pub(super) fn sum(&self, family: &str) -> u64 {
        self.family(family).map(|value| value as u64).sum()
    }

    /// How many samples a family has.
    pub(super) fn count(&self, family: &str) -> usize {
        self.family(family).count()
    }

    fn family(&self, family: &str) -> impl Iterator<Item = f64> {
        let is_of = move |series: &str| {
            series.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        self.samples.iter().filter(move |(series, _)| is_of(series)).map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn samples_are_found_and_families_added_up() {
        let text = "# HELP a b\n# TYPE a counter\na 1\na_total{x=\"1 2\"} 2\na_total{x=\"3\"} 4\n";
        let page = Page::read(text).expect("it is a page");
        assert_eq!((page.value("a"), page.value("a_total{x=\"1 2\"}"), page.value("b")), (1, 2, 0));
        assert_eq!((page.sum("a_total"), page.count("a_total"), page.count("a")), (6, 2, 1));
        assert!(Page::read("no_value").is_err());
    }
}
