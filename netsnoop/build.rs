//! Puts the commit into `netsnoop --version` (without git, or outside a repository, it says `unknown`), and tells
//! which kernel object to embed: the committed one, unless NETSNOOP_EBPF_OBJECT names another.

use std::env;
use std::io::{self, Write};
use std::process::Command;

const OBJECT_VARIABLE: &str = "NETSNOOP_EBPF_OBJECT";
const COMMITTED_OBJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../netsnoop-ebpf/netsnoop.bpf.o");

fn main() -> io::Result<()> {
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let mut cargo = io::stdout();
    writeln!(cargo, "cargo::rustc-env=NETSNOOP_COMMIT={commit}")?;
    writeln!(cargo, "cargo::rerun-if-changed=build.rs")?;
    // The log of HEAD is written by every commit and checkout, HEAD itself only by a change of branch.
    if let Some(log) = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]) {
        writeln!(cargo, "cargo::rerun-if-changed={log}")?;
    }
    writeln!(cargo, "cargo::rerun-if-env-changed={OBJECT_VARIABLE}")?;
    let object = env::var(OBJECT_VARIABLE).unwrap_or_else(|_| COMMITTED_OBJECT.to_owned());
    writeln!(cargo, "cargo::rerun-if-changed={object}")?;
    writeln!(cargo, "cargo::rustc-env={OBJECT_VARIABLE}={object}")
}

/// What git prints; `None` for whatever reason it does not.
fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
