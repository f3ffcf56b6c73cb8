//! `cargo xtask test`: every test this machine can run, and by name what was left out and why.
//!
//! Everything is built by the caller. Only the integration tests of the agent run as root, one at a
//! time: cgroup programs and captures see the traffic of every other test on the machine.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::dist::static_build;
use crate::{dist, manifests, prerequisites, shell, truth, vm};

/// What `test` and `ci` take.
#[derive(clap::Args)]
pub(crate) struct TestArguments {
    /// Install what is missing without asking
    #[arg(long, short)]
    yes: bool,
    /// Leave out the tests in guest kernels
    #[arg(long)]
    without_vm: bool,
}

impl TestArguments {
    /// Whether to install what is missing without asking.
    pub(crate) const fn yes(&self) -> bool {
        self.yes
    }
}

/// What ran and what did not.
#[derive(Default)]
pub(crate) struct Tally {
    /// As libtest counts, so with those that left themselves out.
    passed: usize,
    failed: usize,
    /// What failed, as far as it has a name.
    failures: Vec<String>,
    skipped: Vec<String>,
    /// How many of `skipped` are in `passed` too.
    left_themselves_out: usize,
}

impl Tally {
    /// Notes that something was left out, and why.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        self.skipped.push(format!("{name}: {reason}"));
    }

    /// Notes that a guest ended without telling how its tests went.
    pub(crate) fn fail(&mut self, name: &str) {
        self.failed += 1;
        self.failures.push(format!("the rest of {name}: it ended before its tests did"));
    }

    /// Counts something that is no libtest test; its failing is named.
    pub(crate) fn count(&mut self, name: &str, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
            self.failures.push(name.to_owned());
        }
    }

    /// Reads a line of libtest's output. A test that finds out while it runs that it cannot says
    /// `skipped: NAME: WHY` and returns, which libtest counts as passed.
    pub(crate) fn read_line(&mut self, line: &str) {
        if let Some(skipped) = line.strip_prefix("skipped: ") {
            self.skipped.push(skipped.to_owned());
            self.left_themselves_out += 1;
        }
        // What a test that failed has said comes below such a line.
        if let Some(failed) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.failures.push(failed.to_owned());
        }
        let Some(counts) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for count in counts.1.split("; ") {
            match count.split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse::<usize>().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse::<usize>().unwrap_or(0),
                _ => {}
            }
        }
    }

    /// Says what was left out and what failed, then the closing line; the exit code follows from it.
    pub(crate) fn close(self) -> Result<ExitCode> {
        let Self { failed, failures, skipped, .. } = self;
        let mut text = String::new();
        for (title, named) in [("Left out on this machine:", &skipped), ("Failed:", &failures)] {
            if !named.is_empty() {
                text += &format!("\n{title}\n  {}\n", named.join("\n  "));
            }
        }
        let passed = self.passed.saturating_sub(self.left_themselves_out);
        text += &format!("\n{passed} passed, {failed} failed, {} skipped\n", skipped.len());
        io::stdout().lock().write_all(text.as_bytes()).context("writing the summary")?;
        Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The subcommand.
pub(crate) fn test(arguments: &TestArguments) -> Result<ExitCode> {
    prerequisites::ensure(arguments.yes)?;
    let mut tally = Tally::default();
    run_all(arguments, &mut tally)?;
    tally.close()
}

/// Like [`test()`], with what the caller has tallied before.
pub(crate) fn test_after(arguments: &TestArguments, mut tally: Tally) -> Result<ExitCode> {
    run_all(arguments, &mut tally)?;
    tally.close()
}

fn run_all(arguments: &TestArguments, tally: &mut Tally) -> Result<()> {
    ensure_others_may_pass(&shell::target_folder()?)?;
    let binaries = build()?;
    let netsnoop = build_release()?;
    let image = dist::check(tally)?;
    for binary in &binaries {
        binary.run(&netsnoop, image.as_deref(), tally)?;
    }
    run_doc_tests(tally)?;
    manifests::check(arguments.yes, &netsnoop, tally)?;
    truth::test_small(&netsnoop, tally)?;
    if arguments.without_vm {
        tally.skip("vm-test", "left out with --without-vm");
        return Ok(());
    }
    vm::test_defaults(&binaries, &netsnoop, tally)
}

/// The live tests play as users who start what cargo has built. Many a home is closed to them.
fn ensure_others_may_pass(target: &Path) -> Result<()> {
    let is_closed =
        |folder: &&Path| folder.metadata().is_ok_and(|found| found.permissions().mode() & 0o001 == 0);
    if let Some(closed) = target.ancestors().find(is_closed) {
        bail!(
            "tests play as users who have no way through {}; build in a folder that is open to them, as with \
             CARGO_TARGET_DIR=/var/tmp/netsnoop, or open that one with `chmod o+x`",
            closed.display()
        );
    }
    Ok(())
}

/// A test binary that cargo built.
pub(crate) struct TestBinary {
    /// The target's name (`live`, `netsnoop_core`).
    pub(crate) name: String,
    /// The file.
    pub(crate) executable: PathBuf,
    /// The folder of its crate, where cargo would start it.
    pub(crate) folder: PathBuf,
    needs_root: bool,
}

/// A line of `cargo --message-format=json`, as far as it matters here (the Cargo book, "External tools").
#[derive(Deserialize)]
struct BuildMessage {
    reason: String,
    manifest_path: Option<PathBuf>,
    executable: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds every test, and the examples and binaries they start.
pub(crate) fn build() -> Result<Vec<TestBinary>> {
    let mut cargo = shell::cargo();
    cargo.args(["test", "--workspace", "--locked", "--no-run", "--message-format=json-render-diagnostics"]);
    shell::say(&format!("$ {}", shell::show(&cargo)))?;
    let output = cargo.stderr(Stdio::inherit()).output().context("starting cargo")?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    let mut binaries = Vec::new();
    for line in output.stdout.lines() {
        let line = line.context("reading cargo's messages")?;
        let message: BuildMessage =
            serde_json::from_str(&line).with_context(|| format!("reading cargo's message {line}"))?;
        binaries.extend(test_binary(message));
    }
    binaries.sort_by(|a, b| (a.needs_root, &a.name).cmp(&(b.needs_root, &b.name)));
    Ok(binaries)
}

/// Builds netsnoop as its users run it, for the live tests: what they prove under load holds of no other build. That is
/// the static program, where one can be built.
pub(crate) fn build_release() -> Result<PathBuf> {
    let Some(obstacle) = static_build::obstacle()? else { return static_build::build() };
    shell::say(&format!("netsnoop is linked to libraries: {obstacle}"))?;
    let arguments = ["build", "--release", "--locked", "--package", "netsnoop", "--bin", "netsnoop"];
    shell::run(shell::cargo().args(arguments))?;
    Ok(shell::target_folder()?.join("release/netsnoop"))
}

fn test_binary(message: BuildMessage) -> Option<TestBinary> {
    let (target, profile) = (message.target?, message.profile?);
    let folder = message.manifest_path?.parent()?.to_owned();
    let is_test = message.reason == "compiler-artifact" && profile.test;
    let needs_root = folder.ends_with("netsnoop") && target.kind.iter().any(|kind| kind == "test");
    let executable = message.executable.filter(|_| is_test)?;
    Some(TestBinary { name: target.name, executable, folder, needs_root })
}

impl TestBinary {
    fn run(&self, netsnoop: &Path, image: Option<&Path>, tally: &mut Tally) -> Result<()> {
        if !self.needs_root {
            return self.run_by(Command::new(&self.executable), tally);
        }
        // sudo passes no environment on; env, started by it, does.
        let command = shell::find("env").context("looking for env").and_then(|env| shell::as_root(&env));
        match command {
            Ok(mut command) => {
                command.arg(format!("NETSNOOP_UNDER_TEST={}", netsnoop.display()));
                if let Some(image) = image {
                    command.arg(format!("NETSNOOP_IMAGE_UNDER_TEST={}", image.display()));
                }
                command.arg(&self.executable).arg("--test-threads=1");
                self.run_by(command, tally)
            }
            Err(error) => {
                tally.skip(&self.name, &format!("{error:#}"));
                Ok(())
            }
        }
    }

    fn run_by(&self, mut command: Command, tally: &mut Tally) -> Result<()> {
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        run_counted(&mut command, tally)
    }
}

fn run_doc_tests(tally: &mut Tally) -> Result<()> {
    run_counted(shell::cargo().args(["test", "--workspace", "--locked", "--doc"]), tally)
}

/// Runs a libtest binary, shows what it prints and counts it. One that dies before its closing line
/// is a failure too.
fn run_counted(command: &mut Command, tally: &mut Tally) -> Result<()> {
    let shown = shell::show(command);
    shell::say(&format!("$ {shown}"))?;
    let failed_before = tally.failed;
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("starting `{shown}`"))?;
    let lines = BufReader::new(child.stdout.take().context("the test has no standard output")?);
    for line in lines.split(b'\n') {
        let line = line.with_context(|| format!("reading what `{shown}` prints"))?;
        let line = String::from_utf8_lossy(&line);
        shell::pass_on(&line)?;
        tally.read_line(&line);
    }
    let status = child.wait().with_context(|| format!("waiting for `{shown}`"))?;
    if !status.success() && tally.failed == failed_before {
        shell::say(&format!("`{shown}` ended with {status} before it told its results"))?;
        tally.fail(&shown);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, create_dir, remove_dir, set_permissions};

    use super::*;

    #[test]
    fn a_folder_that_is_closed_to_others_is_named() {
        let home = std::env::temp_dir().join(format!("netsnoop-home-{}", std::process::id()));
        create_dir(&home).unwrap();
        let names_home = |mode| {
            set_permissions(&home, Permissions::from_mode(mode)).unwrap();
            let complaint = ensure_others_may_pass(&home.join("not/yet/made")).err();
            complaint.is_some_and(|error| error.to_string().contains(&format!("through {};", home.display())))
        };
        assert!(names_home(0o700) && names_home(0o750) && !names_home(0o711));
        remove_dir(&home).unwrap();
    }

    #[test]
    fn libtest_lines_are_counted_and_skips_are_not_passes() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "skipped: live::rungs::kprobe: this kernel has no kprobes",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "---- live::rungs::proc stdout ----",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            tally.read_line(line);
        }
        assert_eq!((tally.passed, tally.failed, tally.left_themselves_out), (4, 2, 1));
        assert_eq!(tally.skipped, ["live::rungs::kprobe: this kernel has no kprobes"]);
        assert_eq!(tally.failures, ["live::rungs::proc"]);
    }
}
