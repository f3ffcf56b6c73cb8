//! `cargo xtask dist`: what users get, below `dist` in cargo's target folder.
//!
//! Left out: packages of distributions and container images.

mod notices;
mod package;
pub(crate) mod static_build;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::test::Tally;
use crate::{prerequisites, shell};

/// What `dist` takes.
#[derive(clap::Args)]
pub(crate) struct DistArguments {
    /// Install what is missing without asking
    #[arg(long, short)]
    yes: bool,
}

/// The subcommand.
pub(crate) fn dist(arguments: &DistArguments) -> Result<ExitCode> {
    prerequisites::ensure(arguments.yes)?;
    if let Some(obstacle) = static_build::obstacle()? {
        bail!("a static netsnoop cannot be built here: {obstacle}");
    }
    let archive = package::make(&static_build::build()?, &shell::target_folder()?.join("dist"))?;
    shell::say(&format!("{} and beside it what is in it, with {}", archive.display(), package::SUMS))?;
    Ok(ExitCode::SUCCESS)
}

/// As a part of all checks: makes everything twice; the sums must agree.
pub(crate) fn check(tally: &mut Tally) -> Result<()> {
    if let Some(obstacle) = static_build::obstacle()? {
        tally.skip("cargo xtask dist", obstacle);
        return Ok(());
    }
    let program = static_build::build()?;
    let target = shell::target_folder()?;
    let mut sums = Vec::new();
    for folder in [target.join("dist"), target.join("dist-again")] {
        package::make(&program, &folder)?;
        let path = folder.join(package::SUMS);
        sums.push(fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
    }
    tally.count("cargo xtask dist, twice the same", sums.windows(2).all(|pair| pair[0] == pair[1]));
    Ok(())
}
