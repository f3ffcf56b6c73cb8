//! Scores as tables in Markdown that a terminal can show as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::Result;

use super::classes;
use super::figures::{FIGURES, percent};
use super::score::{Group, Score, Tally};
use super::told::{Role, Transport};
use super::ways::{Standard, Way};

/// A score and the way it is of.
pub(crate) struct Column {
    pub(crate) way: Way,
    pub(crate) score: Score,
}

/// The figures by way. What a way is judged by has the bound behind it.
pub(crate) fn render_figures(columns: &[Column]) -> Result<String> {
    let mut text = heading("", columns)?;
    let mut row = |what: &str, cell: &dyn Fn(&Column) -> String| -> Result<()> {
        write!(text, "| {what} |")?;
        for column in columns {
            write!(text, " {} |", cell(column))?;
        }
        text.push('\n');
        Ok(())
    };
    row("connections played", &|column| column.score.connections.to_string())?;
    row("wrong owner, user or namespace", &|column| bounded(column.score.wrong()))?;
    row("wrong where nothing tells it from right¹", &|column| column.score.misled().to_string())?;
    for figure in FIGURES {
        row(figure.what, &|column| {
            let standard = column.way.standard;
            let tally = figure.measure(&column.score, standard);
            let share = share(&tally);
            match figure.least(standard) {
                Some(least) if !figure.holds(&tally, standard) => format!("**{share} (< {least})**"),
                Some(least) => format!("{share} (≥ {least})"),
                None => share,
            }
        })?;
    }
    for (what, role) in [("TCP client", Role::Client), ("TCP server", Role::Server)] {
        let what = format!("right process, {what} end, socket shorter than 20 ms");
        row(&what, &|column| {
            let fits =
                |group: &Group| group.is_short && group.role == role && group.transport == Transport::Tcp;
            share(&column.score.tally(fits, |answers| &answers.process))
        })?;
    }
    row("records too many", &|column| bounded(column.score.doubled()))?;
    row("ledger", &|column| {
        let balances = column.score.imbalance.is_none();
        if balances { "balances".to_owned() } else { "**does not balance**".to_owned() }
    })?;
    Ok(text)
}

/// Why ends have no process, by way.
pub(crate) fn render_reasons(columns: &[Column]) -> Result<String> {
    let tallies: Vec<Tally> =
        columns.iter().map(|column| column.score.tally(|_| true, |answers| &answers.process)).collect();
    let reasons: BTreeSet<&String> = tallies.iter().flat_map(|tally| tally.unattributed.keys()).collect();
    let mut text = heading("ends without a process", columns)?;
    let mut row = |what: &str, count: &dyn Fn(&Tally) -> u64| -> Result<()> {
        let cells: Vec<String> = tallies.iter().map(|tally| count(tally).to_string()).collect();
        writeln!(text, "| {what} | {} |", cells.join(" | "))?;
        Ok(())
    };
    row("all ends", &Tally::asked)?;
    for reason in reasons {
        row(reason, &|tally| tally.unattributed.get(reason).copied().unwrap_or_default())?;
    }
    row("no record", &|tally| tally.missed)?;
    Ok(text)
}

/// For each class and way: the share of right processes, client end / server end; ¹ where the reason is the kernel's.
pub(crate) fn render_classes(columns: &[Column]) -> Result<String> {
    let mut text = heading("class", columns)?;
    for class in classes::judged() {
        let played = |column: &Column| column.score.rows.iter().any(|row| row.group.class == class.name);
        if !columns.iter().any(played) {
            continue;
        }
        write!(text, "| {} |", class.name)?;
        for column in columns {
            let ends = [Role::Client, Role::Server].map(|role| {
                let fits = |group: &Group| group.class == class.name && group.role == role;
                share(&column.score.tally(fits, |answers| &answers.process))
            });
            let mark = if class.limits(column.way.standard).next().is_some() { "¹" } else { "" };
            write!(text, " {}{mark} |", ends.join(" / "))?;
        }
        text.push('\n');
    }
    Ok(text)
}

/// The classes that cannot reach their figure in one of the columns, and the kernel's reason.
pub(crate) fn render_limits(columns: &[Column]) -> Result<String> {
    let mut text = String::new();
    for class in classes::judged() {
        let mut reasons: Vec<&str> = Vec::new();
        for limit in columns.iter().flat_map(|column| class.limits(column.way.standard)) {
            if !reasons.contains(&limit.because) {
                reasons.push(limit.because);
            }
        }
        for because in reasons {
            writeln!(text, "¹ {}: {because}.", class.name)?;
        }
    }
    Ok(text)
}

/// What was not right, by way and class.
pub(crate) fn render_shortfalls(columns: &[Column]) -> Result<String> {
    let mut text = String::new();
    for column in columns {
        let mut classes: BTreeMap<&str, Tally> = BTreeMap::new();
        for row in &column.score.rows {
            classes.entry(&row.group.class).or_default().join(&row.answers.process);
        }
        classes.retain(|_, tally| tally.right < tally.asked());
        if classes.is_empty() {
            continue;
        }
        writeln!(text, "{}:", column.way)?;
        for (class, tally) in classes {
            let mut parts: Vec<String> =
                tally.unattributed.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            for (count, what) in [(tally.missed, "missed"), (tally.wrong, "WRONG")] {
                if count > 0 {
                    parts.push(format!("{count} {what}"));
                }
            }
            writeln!(text, "  {class}: {} of {} right; {}", tally.right, tally.asked(), parts.join(", "))?;
        }
    }
    Ok(text)
}

fn heading(first: &str, columns: &[Column]) -> Result<String> {
    let mut text = format!("| {first} |");
    for column in columns {
        write!(text, " {} |", title(column.way))?;
    }
    text.push_str("\n|---|");
    for _ in columns {
        text.push_str("---|");
    }
    text.push('\n');
    Ok(text)
}

fn title(way: Way) -> String {
    match way.standard {
        Standard::Rung | Standard::Tables => format!("{way} alone"),
        Standard::Full | Standard::WithoutEbpf => format!("`--ebpf {way}`"),
    }
}

/// A count that must be zero.
fn bounded(count: u64) -> String {
    if count == 0 { "0 (= 0)".to_owned() } else { format!("**{count} (= 0)**") }
}

/// A share in percent with as many digits as it takes not to hide a single miss.
fn share(tally: &Tally) -> String {
    let percent = percent(tally);
    if tally.asked() == 0 {
        "-".to_owned()
    } else if tally.right == tally.asked() {
        "100".to_owned()
    } else if percent > 99.0 {
        format!("{percent:.2}")
    } else {
        format!("{percent:.1}")
    }
}
