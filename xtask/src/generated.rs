//! The part of a document that a command writes, between two lines that a person placed.

use std::fs;

use anyhow::{Context, Result};

use crate::shell;

/// Where generated text goes.
pub(crate) struct Generated {
    /// The document, from the workspace's folder.
    pub(crate) path: &'static str,
    /// The line before it.
    pub(crate) begin: &'static str,
    /// The line after it.
    pub(crate) end: &'static str,
}

impl Generated {
    /// Whether this is what stands between the two lines.
    pub(crate) fn holds(&self, text: &str) -> Result<bool> {
        let Self { path, begin, end } = self;
        let place = shell::workspace().join(path);
        let page = fs::read_to_string(&place).with_context(|| format!("reading {}", place.display()))?;
        Ok(page.contains(&format!("{begin}\n{text}{end}")))
    }

    /// Replaces what stands between the two lines.
    pub(crate) fn write(&self, text: &str) -> Result<()> {
        let Self { path, begin, end } = self;
        let place = shell::workspace().join(path);
        let page = fs::read_to_string(&place).with_context(|| format!("reading {}", place.display()))?;
        let (before, rest) =
            page.split_once(begin).with_context(|| format!("{path} has no line `{begin}`"))?;
        let (_, after) = rest.split_once(end).with_context(|| format!("{path} has no line `{end}`"))?;
        fs::write(&place, format!("{before}{begin}\n{text}{end}{after}"))
            .with_context(|| format!("writing {}", place.display()))
    }
}
