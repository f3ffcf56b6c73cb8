//! `cargo xtask dist`: what users get, below `dist` in cargo's target folder.
//!
//! Left out: putting any of it into a registry or a repository.

mod contents;
mod debian;
mod image;
mod notices;
mod package;
pub(crate) mod static_build;
mod sums;
mod tree;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::test::Tally;
use crate::{prerequisites, shell};
use contents::Contents;

/// What `dist` takes.
#[derive(clap::Args)]
pub(crate) struct DistArguments {
    /// Install what is missing without asking
    #[arg(long, short)]
    yes: bool,
    /// Make it twice, which must give the same bytes, and have dpkg, lintian and systemd look at it, as all tests do
    #[arg(long)]
    check: bool,
}

/// The subcommand.
pub(crate) fn dist(arguments: &DistArguments) -> Result<ExitCode> {
    prerequisites::ensure(arguments.yes)?;
    if arguments.check {
        let mut tally = Tally::default();
        check(&mut tally)?;
        return tally.close();
    }
    if let Some(obstacle) = static_build::obstacle()? {
        bail!("a static netsnoop cannot be built here: {obstacle}");
    }
    let folder = shell::target_folder()?.join("dist");
    package::write(&package::make(&Contents::gather(&static_build::build()?)?)?, &folder)?;
    shell::say(&format!("{} has it all, with {}", folder.display(), package::SUMS))?;
    Ok(ExitCode::SUCCESS)
}

/// As a part of all checks: makes everything twice, which must give the same bytes, and tries the Debian package. Returns
/// the image's file.
pub(crate) fn check(tally: &mut Tally) -> Result<Option<PathBuf>> {
    if let Some(obstacle) = static_build::obstacle()? {
        tally.skip("cargo xtask dist", obstacle);
        return Ok(None);
    }
    let program = static_build::build()?;
    let make = || package::make(&Contents::gather(&program)?);
    let files = make()?;
    tally.count("cargo xtask dist, twice the same", files == make()?);
    let folder = shell::target_folder()?.join("dist");
    package::write(&files, &folder)?;
    trial::run(&folder, tally)?;
    Ok(Some(folder.join(package::image_name())))
}
