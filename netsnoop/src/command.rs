//! From the parsed command line to the command: what needs no pipeline is done here, `watch` is handed over.

use std::io::{self, ErrorKind, Write};

use anyhow::{Context, anyhow};
use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{AgentArgs, Cli, Command, CompareArgs, EXAMPLES, GlobalArgs, ReportFormat, WatchArgs};
use crate::config::{AgentConfig, CompareConfig, ListConfig, WatchConfig, runtimes};
use crate::doctor::{self, DoctorSettings};
use crate::failure::Failure;
use crate::listing;
use crate::pipeline;
use crate::sources::capture;

/// Does what the command line asks for.
pub fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Some(Command::Watch(args)) => watch(*args, &cli.global),
        Some(Command::List(args)) => listing::run(&ListConfig::decide(*args, &cli.global)?),
        Some(Command::Agent(args)) => agent(*args, &cli.global),
        Some(Command::Compare(args)) => compare(*args, &cli.global),
        Some(Command::Doctor(args)) => doctor(args.output, &cli.global),
        Some(Command::Completions { shell }) => completions(shell),
        Some(Command::Man { command }) => man(command.as_deref()),
        None => print(EXAMPLES.as_bytes()),
    }
}

fn watch(args: WatchArgs, global: &GlobalArgs) -> Result<(), Failure> {
    if args.capture.list_interfaces {
        return list_interfaces();
    }
    pipeline::watch(&WatchConfig::decide(args, global)?)
}

fn agent(args: AgentArgs, global: &GlobalArgs) -> Result<(), Failure> {
    if args.capture.list_interfaces {
        return list_interfaces();
    }
    let check = args.check;
    let config = AgentConfig::decide(args, global)?;
    if check {
        return print(format!("{}: nothing is wrong\n", config.file.display()).as_bytes());
    }
    pipeline::agent(&config)
}

fn compare(args: CompareArgs, global: &GlobalArgs) -> Result<(), Failure> {
    if args.capture.list_interfaces {
        return list_interfaces();
    }
    pipeline::compare(&CompareConfig::decide(args, global)?)
}

fn list_interfaces() -> Result<(), Failure> {
    let mut list = Vec::new();
    capture::list_interfaces(&mut list)?;
    print(&list)
}

fn doctor(format: ReportFormat, global: &GlobalArgs) -> Result<(), Failure> {
    let diagnosis = doctor::examine(&DoctorSettings {
        proc_root: global.proc_root.clone(),
        runtimes: runtimes(global),
        log: global.verbose >= 2,
    });
    let mut text = Vec::new();
    match format {
        ReportFormat::Text => diagnosis.write_text(&mut text),
        ReportFormat::Json => diagnosis.write_json(&mut text),
    }
    .context("rendering the diagnosis")?;
    print(&text)?;
    if diagnosis.usable {
        return Ok(());
    }
    Err(Failure::unavailable(anyhow!(
        "no way of knowing who owns a connection works here; the remedies are above"
    )))
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "netsnoop", &mut script);
    print(&script)
}

/// The manual page of netsnoop or of one of its commands.
fn man(command: Option<&str>) -> Result<(), Failure> {
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    let page = match command {
        None => cli,
        Some(name) => {
            let found = cli.find_subcommand(name).filter(|command| !command.is_hide_set());
            let found = found.ok_or_else(|| Failure::usage(anyhow!("there is no command '{name}'")))?;
            found.clone()
        }
    };
    print(manual_page(page)?.as_bytes())
}

fn manual_page(command: clap::Command) -> anyhow::Result<String> {
    let act = "rendering the manual page";
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text).context(act)?;
    let text = String::from_utf8(text).context(act)?;
    // What stands below the options is laid out already. The next section is filled again (man 7 groff_man, "SH").
    Ok(text.replacen(".SH EXTRA\n", ".SH EXTRA\n.nf\n", 1))
}

/// Writes a finished text to standard output. A reader that went away is no failure.
fn print(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::from(anyhow!(error).context("writing to standard output")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_page_leaves_examples_as_they_are_laid_out() {
        let mut cli = Cli::command().disable_help_subcommand(true);
        cli.build();
        let page = manual_page(cli.find_subcommand("agent").unwrap().clone()).unwrap();
        assert!(page.contains(".SH EXTRA\n.nf\nThe file names services"), "{page}");
    }
}
