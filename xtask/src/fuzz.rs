//! `cargo xtask fuzz`: each fuzz target for a while, from its committed seeds, with stable Rust.
//!
//! What is found on the way is kept in the target folder, so the next run goes on from there; an input that
//! breaks a target is left in fuzz/artifacts and belongs into its seeds once it is mended.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// The targets, each a file in fuzz/targets and a folder in fuzz/seeds.
const TARGETS: [&str; 6] = ["packet", "proc_text", "kernel_record", "conntrack", "dns_answer", "reconcile"];

/// What cargo-fuzz, too, asks the compiler for; none of it needs a nightly. `fuzzing` is the cfg that crates
/// know such builds by.
const FLAGS: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// What `fuzz` takes.
#[derive(clap::Args)]
pub(crate) struct FuzzArguments {
    /// How long to run each target
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

/// The subcommand.
pub(crate) fn fuzz(arguments: &FuzzArguments) -> Result<()> {
    run(arguments.seconds)
}

/// Builds all targets and runs each for `seconds`.
pub(crate) fn run(seconds: u32) -> Result<()> {
    if shell::find("c++").is_none() {
        bail!("the fuzzer's runtime is C++ and there is no c++; on Debian: apt-get install g++");
    }
    let folder = shell::workspace().join("fuzz");
    let kept = shell::target_folder()?.join("fuzz");
    let host = host()?;
    // With a named target the flags stay away from build scripts, which have no fuzzer to link with.
    let mut build = shell::cargo();
    build
        .current_dir(&folder)
        .args(["build", "--release", "--locked", "--target", &host, "--target-dir"])
        .arg(&kept)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    shell::run(&mut build)?;
    for target in TARGETS {
        let corpus = kept.join("corpus").join(target);
        let artifacts = folder.join("artifacts").join(target);
        for made in [&corpus, &artifacts] {
            fs::create_dir_all(made).with_context(|| format!("making {}", made.display()))?;
        }
        let mut fuzzer = Command::new(kept.join(&host).join("release").join(target));
        fuzzer
            .arg(format!("-max_total_time={seconds}"))
            // An input that takes long or fills the memory is a fault as much as a panic is; that a busy machine lets one
            // wait for some seconds is none.
            .args(["-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=0"])
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(&corpus)
            .arg(folder.join("seeds").join(target));
        shell::run(&mut fuzzer)?;
    }
    Ok(())
}

/// The target triple of this machine.
fn host() -> Result<String> {
    let version = shell::read(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}
