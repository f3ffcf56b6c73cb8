//! What a test needs and may not be there: root, and programs. A test that lacks one says so and leaves itself out.

use std::io::Write;
use std::process::{Command, Stdio};

/// Whether this is root and has these programs, as `test` needs. If not, it says so in a line that `cargo xtask test`
/// collects, not through `println!`, which libtest keeps to itself.
pub(crate) fn has(test: &str, programs: &[&str]) -> bool {
    let lacking = if rustix::process::geteuid().is_root() {
        programs.iter().find(|program| !starts(program)).copied()
    } else {
        Some("root")
    };
    if let Some(lacking) = lacking {
        writeln!(std::io::stdout().lock(), "\nskipped: {test}: needs {lacking}").unwrap();
    }
    lacking.is_none()
}

fn starts(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}
