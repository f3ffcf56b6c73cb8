//! `cargo xtask ci`: exactly what CI runs, in the order in which a fault is cheapest to find.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::test::{Tally, TestArguments};
use crate::{build_ebpf, fuzz, layers, prerequisites, shell, test};

/// A bare target that has `core` and `alloc` but no `std`: what builds for it cannot touch a system.
const BARE_TARGET: &str = "x86_64-unknown-none";
/// How long each fuzz target runs: a smoke test that keeps the seeds working, not a search.
const FUZZ_SECONDS: u32 = 15;

/// Runs every check; the first that fails ends it, but of the tests all run.
pub(crate) fn check_everything(arguments: &TestArguments) -> Result<ExitCode> {
    prerequisites::ensure(arguments.yes())?;
    let mut tally = Tally::default();
    check_format(&mut tally)?;
    check_lints(&mut tally)?;
    layers::check()?;
    check_core_is_bare(&mut tally)?;
    check_docs()?;
    build_ebpf::check(&mut tally)?;
    smoke_fuzz(&mut tally)?;
    test::test_after(arguments, tally)
}

fn check_format(tally: &mut Tally) -> Result<()> {
    if !has_component("fmt") {
        tally.skip("cargo fmt --check", "this toolchain has no rustfmt");
        return Ok(());
    }
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))?;
    // The kernel half is a workspace of its own.
    shell::run(shell::cargo().args(["fmt", "--check", "--manifest-path", "netsnoop-ebpf/Cargo.toml"]))
}

fn check_lints(tally: &mut Tally) -> Result<()> {
    if !has_component("clippy") {
        tally.skip("cargo clippy", "this toolchain has no clippy");
        return Ok(());
    }
    let scope = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    shell::run(shell::cargo().args(scope))
}

/// Whether a cargo subcommand works: rustup leaves a stub where a component is not installed.
fn has_component(subcommand: &str) -> bool {
    shell::cargo()
        .args([subcommand, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// `layers` proves from the source that core is no_std; building for a target without std proves it
/// of its dependencies too.
fn check_core_is_bare(tally: &mut Tally) -> Result<()> {
    let library =
        shell::read(Command::new("rustc").args(["--print", "target-libdir", "--target", BARE_TARGET]))
            .context("asking rustc for its targets")?;
    if !std::path::Path::new(library.trim()).is_dir() {
        tally.skip("core for a bare target", "this toolchain has no x86_64-unknown-none");
        return Ok(());
    }
    let build = ["check", "--locked", "--package", "netsnoop-core", "--target", BARE_TARGET];
    shell::run(shell::cargo().args(build))
}

fn smoke_fuzz(tally: &mut Tally) -> Result<()> {
    if shell::find("c++").is_none() {
        tally.skip("cargo xtask fuzz", "no C++ compiler for the fuzzer's runtime");
        return Ok(());
    }
    fuzz::run(FUZZ_SECONDS)
}

fn check_docs() -> Result<()> {
    let mut doc = shell::cargo();
    doc.args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings");
    shell::run(&mut doc)
}
