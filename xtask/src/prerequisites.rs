//! What must be on the machine before cargo can build netsnoop, and how to get it there.
//!
//! The C compiler is not looked for: cargo needed one to link this program.

use std::env;
use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::process::{self, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell;

/// A distribution family, by its package tool.
struct PackageTool {
    program: &'static str,
    /// Run first, where an old package list makes an install fail.
    refresh: Option<&'static [&'static str]>,
    install: &'static [&'static str],
    libpcap: &'static str,
}

const PACKAGE_TOOLS: [PackageTool; 5] = [
    PackageTool {
        program: "apt-get",
        refresh: Some(&["update"]),
        install: &["install", "-y", "--no-install-recommends"],
        libpcap: "libpcap-dev",
    },
    PackageTool { program: "dnf", refresh: None, install: &["install", "-y"], libpcap: "libpcap-devel" },
    PackageTool { program: "apk", refresh: None, install: &["add"], libpcap: "libpcap-dev" },
    PackageTool {
        program: "pacman",
        refresh: None,
        install: &["-S", "--needed", "--noconfirm"],
        libpcap: "libpcap",
    },
    PackageTool {
        program: "zypper",
        refresh: None,
        install: &["--non-interactive", "install"],
        libpcap: "libpcap-devel",
    },
];

/// Makes sure libpcap can be linked: installs its package if the developer agrees (`yes`, CI=true, or
/// an answer at a prompt), else fails with the exact command.
pub(crate) fn ensure(yes: bool) -> Result<()> {
    if links_libpcap()? {
        return Ok(());
    }
    let Some(tool) = PACKAGE_TOOLS.iter().find(|tool| shell::find(tool.program).is_some()) else {
        bail!("libpcap's development files are missing, and no known package tool is here to install them");
    };
    let mut commands = install_commands(tool);
    let typed = commands.iter().map(shell::show).collect::<Vec<_>>().join(" && ");
    if !(yes || env::var_os("CI").is_some_and(|ci| ci == "true") || agreed(&typed)?) {
        bail!("libpcap's development files are missing; install them with: {typed}  (or add --yes)");
    }
    for command in &mut commands {
        shell::run(command)?;
    }
    if !links_libpcap()? {
        bail!("`{typed}` went well, but `cc ... -lpcap` still fails; see if LIBRARY_PATH hides the library");
    }
    Ok(())
}

fn install_commands(tool: &PackageTool) -> Vec<Command> {
    let steps = tool.refresh.into_iter().map(<[_]>::to_vec);
    let install = [tool.install, &[tool.libpcap]].concat();
    steps
        .chain([install])
        .map(|words| {
            let mut command = if shell::is_root() {
                Command::new(tool.program)
            } else {
                let mut sudo = Command::new("sudo");
                sudo.arg(tool.program);
                sudo
            };
            command.args(words);
            command
        })
        .collect()
}

/// Links an empty program against libpcap, as cargo will. Headers and pkg-config do not matter: the
/// `pcap` crate declares the functions itself.
fn links_libpcap() -> Result<bool> {
    let program = env::temp_dir().join(format!("netsnoop-links-libpcap-{}", process::id()));
    let mut compiler = Command::new("cc")
        .args(["-x", "c", "-", "-lpcap", "-o"])
        .arg(&program)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("starting the C compiler `cc` to see whether libpcap links")?;
    compiler
        .stdin
        .take()
        .context("the C compiler has no standard input")?
        .write_all(b"int main(void) { return 0; }\n")
        .context("handing the C compiler a program")?;
    let linked = compiler.wait().context("waiting for the C compiler")?.success();
    if linked {
        fs::remove_file(&program).with_context(|| format!("removing {}", program.display()))?;
    }
    Ok(linked)
}

fn agreed(typed: &str) -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    let mut terminal = io::stderr().lock();
    write!(terminal, "libpcap's development files are missing. Run `{typed}` now? [y/N] ")
        .context("asking on standard error")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("reading the answer")?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
