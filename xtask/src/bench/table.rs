//! Medians and ratios, as a table in Markdown that a terminal can show as it is.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::measure::Figures;

/// One line of the table.
pub(crate) struct Row {
    /// Who.
    pub(crate) name: &'static str,
    /// Its runs, at least one.
    pub(crate) runs: Vec<Figures>,
}

/// The middle one; of an even number the mean of the two in the middle. Zero of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    let lower = values.len().saturating_sub(1) / 2;
    let at = |place: usize| values.get(place).copied().unwrap_or_default();
    f64::midpoint(at(lower), at(upper))
}

impl Row {
    fn median(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        median(self.runs.iter().map(figure))
    }

    fn range(&self, figure: impl Fn(&Figures) -> f64) -> (f64, f64) {
        let values = || self.runs.iter().map(&figure);
        (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max))
    }

    fn owners_named(&self, connections: u64) -> String {
        let named = self.runs.iter().map(|run| run.owners_named).collect::<Option<Vec<_>>>();
        let share = |named: u64| named as f64 * 100.0 / connections as f64;
        named.map_or_else(|| "-".to_owned(), |named| format!("{:.1} %", median(named.into_iter().map(share))))
    }

    fn lost(&self) -> String {
        let lost = self.runs.iter().map(|run| run.lost).sum::<Option<u64>>();
        lost.map_or_else(|| "-".to_owned(), |lost| lost.to_string())
    }
}

/// The table; the first row is what the others are compared with. `unwatched` is the load alone.
pub(crate) fn render(rows: &[Row], unwatched: &Row, connections: u64) -> Result<String> {
    let first = rows.first().context("nobody was measured")?;
    let per = 100_000.0 / connections as f64;
    let cpu = |run: &Figures| run.cpu_seconds * per;
    let memory = |run: &Figures| run.peak_mebibytes;
    let added = |row: &Row| {
        (row.median(|run| run.load_cpu_seconds) - unwatched.median(|run| run.load_cpu_seconds)) * per
    };
    let mut text = String::from(
        "| | CPU s per 100,000 connections (least to most) | to netsnoop's | peak RSS MiB | to netsnoop's \
         | CPU s added to the load | owners named | lost |\n|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let (least, most) = row.range(cpu);
        writeln!(
            text,
            "| {} | {:.2} ({least:.2} to {most:.2}) | {:.2} | {:.1} | {:.2} | {:+.2} | {} | {} |",
            row.name,
            row.median(cpu),
            row.median(cpu) / first.median(cpu),
            row.median(memory),
            row.median(memory) / first.median(memory),
            added(row),
            row.owners_named(connections),
            row.lost(),
        )
        .context("rendering the table")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{Figures, Row, median, render};

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }

    #[test]
    fn figures_are_for_100_000_connections_and_compared_with_the_first() {
        let run = |cpu_seconds, load_cpu_seconds, owners_named, lost| Figures {
            cpu_seconds,
            peak_mebibytes: cpu_seconds * 10.0,
            load_cpu_seconds,
            load_seconds: 1.0,
            owners_named,
            lost,
        };
        let unwatched = Row { name: "nobody", runs: vec![run(0.0, 2.0, None, None)] };
        let rows = [
            Row { name: "one", runs: vec![run(1.0, 2.5, Some(50_000), Some(0)); 3] },
            Row { name: "other", runs: vec![run(0.5, 2.0, None, None), run(1.5, 2.0, None, None)] },
        ];
        let table = render(&rows, &unwatched, 50_000).expect("there are rows");
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| one | 2.00 (2.00 to 2.00) | 1.00 | 10.0 | 1.00 | +1.00 | 100.0 % | 0 |",
                "| other | 2.00 (1.00 to 3.00) | 1.00 | 10.0 | 1.00 | +0.00 | - | - |",
            ]
        );
    }
}
