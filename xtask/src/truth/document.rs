//! docs/accuracy.md: the tables of a full run, with what they hold for.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::table::{self, Column};
use super::ways::Way;
use super::{classes, figures};
use crate::generated::Generated;
use crate::shell;

const PAGE: Generated = Generated {
    path: "docs/accuracy.md",
    begin: "<!-- cargo xtask truth --write -->",
    end: "<!-- end of what the command wrote -->",
};

/// Writes the tables into the document.
pub(crate) fn write(columns: &[Column], unavailable: &[(Way, String)], netsnoop: &Path) -> Result<()> {
    let mut text = setting(netsnoop)?;
    for (way, why) in unavailable {
        writeln!(text, "Left out on this machine: `{way}`, {}.", why.trim_end_matches('.'))?;
    }
    writeln!(text, "\n{}", table::render_figures(columns)?)?;
    text += "In percent; in parentheses what is required, in bold where it is not reached.\n\n";
    for column in columns {
        for fault in figures::faults(&column.score, column.way.standard, false) {
            writeln!(text, "- Not good enough: {}: {fault}.", column.way)?;
        }
        for (class, why) in &column.score.skipped {
            writeln!(text, "- Left out on this machine: {class} ({}): {why}.", column.way)?;
        }
    }
    writeln!(text, "\n{}", table::render_reasons(columns)?)?;
    writeln!(text, "Right process by class, client end / server end, in percent:\n")?;
    writeln!(text, "{}", table::render_classes(columns)?)?;
    for line in table::render_limits(columns)?.lines() {
        writeln!(text, "- {line}")?;
    }
    writeln!(text, "\n| class | what is played |\n|---|---|")?;
    for class in classes::judged() {
        writeln!(text, "| {} | {} |", class.name, class.about)?;
    }
    PAGE.write(&text)
}

/// When, where, with what.
fn setting(netsnoop: &Path) -> Result<String> {
    let date = shell::read(Command::new("date").args(["--utc", "+%F"]))?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel's version")?;
    // What follows the version is the distributor's and says nothing here.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let version = shell::read(Command::new(netsnoop).arg("--version"))?;
    let version = version.lines().next().unwrap_or_default();
    Ok(format!("{}, Linux {kernel}, {version}; every class, each way in a run of its own.\n", date.trim()))
}
