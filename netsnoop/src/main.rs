//! The `netsnoop` binary: parse, log, run, exit code. The one place where an error is printed.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use env_logger::Builder;
use log::LevelFilter;
use netsnoop::cli::Cli;
use netsnoop::failure::Failure;

fn main() -> ExitCode {
    // Usage errors end here, with exit code 2.
    let cli = Cli::parse();
    start_log(cli.global.verbose);
    match netsnoop::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => print_failure(&failure),
    }
}

/// Prints the failure and tells its exit code; if stderr is gone, the code is all that is left to tell.
fn print_failure(failure: &Failure) -> ExitCode {
    match writeln!(io::stderr(), "netsnoop: {failure}") {
        Ok(()) | Err(_) => failure.exit_code(),
    }
}

/// Our own words by verbosity; of the libraries only their warnings.
fn start_log(verbosity: u8) {
    let ours = match verbosity {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    };
    Builder::new().filter_level(LevelFilter::Warn).filter_module("netsnoop", ours).init();
}
