//! `cargo xtask run`: builds as the caller, starts only netsnoop as root.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{prerequisites, shell};

/// What `run` takes.
#[derive(clap::Args)]
pub(crate) struct RunArguments {
    /// Build without optimisation: quicker to build, slower to run
    #[arg(long)]
    debug: bool,
    /// Install what is missing without asking
    #[arg(long, short)]
    yes: bool,
    /// Arguments of `netsnoop watch`
    #[arg(last = true)]
    watch: Vec<OsString>,
}

/// Builds, then becomes `netsnoop watch`: with exec there is nobody between the terminal and netsnoop,
/// so signals and the exit code are netsnoop's own.
pub(crate) fn run(arguments: &RunArguments) -> Result<ExitCode> {
    prerequisites::ensure(arguments.yes)?;
    let mut build = shell::cargo();
    build.args(["build", "--locked", "--package", "netsnoop", "--bin", "netsnoop"]);
    if !arguments.debug {
        build.arg("--release");
    }
    shell::run(&mut build)?;
    let binary =
        shell::target_folder()?.join(if arguments.debug { "debug" } else { "release" }).join("netsnoop");
    let mut watch = shell::as_root(&binary)?;
    watch.arg("watch").args(&arguments.watch);
    shell::say(&format!("$ {}", shell::show(&watch)))?;
    let error = watch.exec();
    Err(error).with_context(|| format!("starting `{}`", shell::show(&watch)))
}
