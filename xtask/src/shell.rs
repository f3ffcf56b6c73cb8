//! Other programs: where they are, how they are started, and what is said when they fail.
//!
//! Every command is printed before it runs, so that a reader of a log can repeat it by hand.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// The folder of the workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The kernel object that is embedded instead of the committed one, if any.
static EMBEDDED_OBJECT: OnceLock<PathBuf> = OnceLock::new();

/// Has every later [`cargo`] embed this kernel object; the first one named stays.
pub(crate) fn embed_object(path: PathBuf) {
    EMBEDDED_OBJECT.get_or_init(|| path);
}

/// The cargo that started this, in the workspace.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo.current_dir(workspace());
    if let Some(object) = EMBEDDED_OBJECT.get() {
        cargo.env("NETSNOOP_EBPF_OBJECT", object);
    }
    cargo
}

/// Says one line to the developer.
pub(crate) fn say(line: &str) -> Result<()> {
    writeln!(io::stderr().lock(), "{line}").context("writing to standard error")
}

/// The longest line that is passed on in one piece: what keeps the output of a CI run may cut those that are longer.
const LONGEST: usize = 900;

/// Prints a line of another program's output. A very long one, as that of an assertion that compares texts, goes on
/// several: each line of the texts, whose ends such an assertion spells `\n`, on one of its own.
pub(crate) fn pass_on(line: &str) -> Result<()> {
    let mut text = pieces(line).join("\n");
    text.push('\n');
    io::stdout().lock().write_all(text.as_bytes()).context("writing to standard output")
}

fn pieces(line: &str) -> Vec<&str> {
    if line.len() <= LONGEST {
        return vec![line];
    }
    let mut pieces = Vec::new();
    for mut rest in line.split_inclusive("\\n") {
        while rest.len() > LONGEST {
            let (piece, more) = rest.split_at(rest.floor_char_boundary(LONGEST));
            pieces.push(piece);
            rest = more;
        }
        pieces.push(rest);
    }
    pieces
}

/// Says what went wrong where no error can be handed on, as in a `drop`.
pub(crate) fn warn(line: &str) {
    match say(line) {
        // Without a standard error there is nobody left to tell.
        Ok(()) | Err(_) => {}
    }
}

/// Runs `command` to its end; its failing is an error that names it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    say(&format!("$ {shown}"))?;
    let status = command.status().with_context(|| format!("starting `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// What `command` prints on standard output; its failing is an error with what it said.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.output().with_context(|| format!("starting `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("reading what `{shown}` printed"))
}

/// Runs `command` with `text` for its standard input; its failing is an error with what it said.
pub(crate) fn feed(command: &mut Command, text: &str) -> Result<()> {
    let shown = show(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting `{shown}`"))?;
    // It is closed at once, which is the end of the text.
    let mut input = child.stdin.take().with_context(|| format!("`{shown}` has no standard input"))?;
    let handed = input.write_all(text.as_bytes());
    drop(input);
    let output = child.wait_with_output().with_context(|| format!("waiting for `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    handed.with_context(|| format!("handing `{shown}` its text"))
}

/// The command as one would type it, near enough to read and copy.
pub(crate) fn show(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| {
            let word = word.to_string_lossy();
            if word.contains([' ', '"', '$', '*', ';']) { format!("'{word}'") } else { word.into_owned() }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Where `program` is, in PATH or in the folders of system programs that PATH of an ordinary user lacks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that runs `program` as root: directly if we are, else through NETSNOOP_RUNNER (split at
/// spaces) or sudo.
pub(crate) fn as_root(program: &Path) -> Result<Command> {
    let runner = env::var("NETSNOOP_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace();
    if let Some(first) = words.next() {
        let mut command = Command::new(first);
        command.args(words).arg(program);
        return Ok(command);
    }
    if is_root() {
        return Ok(Command::new(program));
    }
    let sudo = find("sudo").with_context(|| {
        format!(
            "{} needs root and there is no sudo; become root, or name a command that makes one in NETSNOOP_RUNNER",
            program.display()
        )
    })?;
    let mut command = Command::new(sudo);
    command.arg(program);
    Ok(command)
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> Result<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let text = read(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("reading the output of `cargo metadata`")?;
    Ok(metadata.target_directory)
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, pieces};

    #[test]
    fn a_long_line_goes_on_several_and_loses_nothing() {
        let table = format!("  left: \"| {} |\\n| b |\\n\"", "a".repeat(LONGEST));
        assert_eq!(pieces(&table).len(), 4);
        for line in ["", "short", "left: \"two\\nlines\"", &table, &"ä".repeat(LONGEST)] {
            assert_eq!(pieces(line).concat(), line);
            assert!(pieces(line).iter().all(|piece| piece.len() <= LONGEST), "{line}");
        }
        assert_eq!(pieces("left: \"two\\nlines\"").len(), 1);
    }
}
