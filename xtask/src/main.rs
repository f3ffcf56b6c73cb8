//! What a developer of netsnoop runs. Each subcommand is a file; this one only names them.

mod bench;
mod build_ebpf;
mod ci;
mod dist;
mod fuzz;
mod generated;
mod layers;
mod manifests;
mod prerequisites;
mod run;
mod shell;
mod test;
mod truth;
mod vm;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// netsnoop's development tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build netsnoop as you and start `netsnoop watch` as root
    Run(run::RunArguments),
    /// Run every test this machine can run, and say by name what was skipped and why
    Test(test::TestArguments),
    /// Everything CI checks: formatting, lints, layers, no_std, kernel object, tests, docs
    Ci(test::TestArguments),
    /// Run each fuzz target for a while
    Fuzz(fuzz::FuzzArguments),
    /// Check the one-way flow between crates and modules
    Layers,
    /// Build the kernel half anew, with rustup's nightly or Debian's compiler
    BuildEbpf(build_ebpf::BuildEbpfArguments),
    /// Measure what watching costs, beside other tools
    Bench(bench::BenchArguments),
    /// Play traffic whose owners are known, and score netsnoop's answers
    Truth(truth::TruthArguments),
    /// A player of `truth`
    #[command(hide = true)]
    TruthPlay(truth::PlayArguments),
    /// A holder of a network namespace of `truth`'s
    #[command(hide = true)]
    TruthHold(truth::HoldArguments),
    /// Build what is handed out: a static binary with manual pages and completions, as an archive
    Dist(dist::DistArguments),
    /// Render what deploy/ has for Kubernetes, and check it without a cluster
    Manifests(manifests::ManifestsArguments),
    /// Run the kernel-hook tests in guest kernels under QEMU
    VmTest(vm::VmArguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Run(arguments) => run::run(&arguments),
        Task::Test(arguments) => test::test(&arguments),
        Task::Ci(arguments) => ci::check_everything(&arguments),
        Task::Fuzz(arguments) => fuzz::fuzz(&arguments).map(|()| ExitCode::SUCCESS),
        Task::Layers => layers::check().map(|()| ExitCode::SUCCESS),
        Task::BuildEbpf(arguments) => build_ebpf::run(&arguments),
        Task::Bench(arguments) => bench::bench(&arguments),
        Task::Truth(arguments) => truth::truth(&arguments),
        Task::TruthPlay(arguments) => truth::play(&arguments),
        Task::TruthHold(arguments) => truth::hold(&arguments),
        Task::Dist(arguments) => dist::dist(&arguments),
        Task::Manifests(arguments) => manifests::manifests(&arguments),
        Task::VmTest(arguments) => vm::test(&arguments),
    };
    outcome.unwrap_or_else(|error| match writeln!(io::stderr().lock(), "xtask: {error:#}") {
        Ok(()) => ExitCode::FAILURE,
        // Nobody can be told; the exit code still can be.
        Err(_) => ExitCode::from(2),
    })
}
