//! The files that users get, as a folder, as one archive, and with their sums. The same commit gives the same bytes.

use std::env;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::notices;
use crate::shell;

/// What is taken as it is from the workspace.
const DOCUMENTS: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"];

/// Shells, and what each wants its completion script to be called.
const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "netsnoop.bash"), ("zsh", "_netsnoop"), ("fish", "netsnoop.fish")];

/// Sums of all files, as `sha256sum -c` takes them.
pub(super) const SUMS: &str = "SHA256SUMS";

/// Puts everything into `folder`; what an earlier call left there is replaced. Returns the archive.
pub(super) fn make(program: &Path, folder: &Path) -> Result<PathBuf> {
    let name = format!("netsnoop-{}-{}-linux", env!("CARGO_PKG_VERSION"), env::consts::ARCH);
    let tree = folder.join(&name);
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("removing {}", tree.display()))?;
    }
    let mut files = lay_out(program, &tree)?;
    let archive = folder.join(format!("{name}.tar.gz"));
    pack(folder, &name, &archive)?;
    files.push(archive.clone());
    files.sort();
    write_sums(folder, &files)?;
    Ok(archive)
}

/// The folder as it is unpacked; returns its files.
fn lay_out(program: &Path, tree: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut add = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = tree.join(name);
        let folder = path.parent().context("a file lies at /")?;
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        files.push(path.clone());
        Ok(path)
    };
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let own = add("netsnoop", &read(program)?)?;
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("making {} executable", own.display()))?;
    for name in DOCUMENTS {
        add(name, &read(&shell::workspace().join(name))?)?;
    }
    add("THIRD-PARTY-LICENSES.txt", notices::collect()?.as_bytes())?;
    for (shell, name) in COMPLETIONS {
        let script = shell::read(Command::new(&own).args(["completions", shell]))?;
        add(&format!("completions/{name}"), script.as_bytes())?;
    }
    add("man/netsnoop.1", shell::read(Command::new(&own).arg("man"))?.as_bytes())?;
    for command in commands(&shell::read(Command::new(&own).arg("--help"))?) {
        let page = shell::read(Command::new(&own).args(["man", command]))?;
        add(&format!("man/netsnoop-{command}.1"), page.as_bytes())?;
    }
    Ok(files)
}

/// The commands that a help text names, but the one that explains the others.
fn commands(help: &str) -> impl Iterator<Item = &str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let entries = listed.take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  "));
    // What is indented further goes on with the entry before.
    let names = entries.filter(|entry| !entry.starts_with(' ')).filter_map(|entry| entry.split(' ').next());
    names.filter(|name| *name != "help")
}

/// Every file with the time of the commit, of nobody in particular, in one order; gzip writes no time (`-n`).
fn pack(folder: &Path, name: &str, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=gnu", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .args(["--mode=u=rwX,go=rX", &format!("--mtime=@{}", epoch()?), "--use-compress-program=gzip -9n"])
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(folder)
        .arg(name);
    shell::run(&mut tar)
}

/// Seconds since 1970 of what is packed: SOURCE_DATE_EPOCH (<https://reproducible-builds.org/specs/source-date-epoch/>),
/// else the commit's.
fn epoch() -> Result<u64> {
    let text = match env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            let mut git = Command::new("git");
            git.current_dir(shell::workspace()).args(["log", "-1", "--format=%ct"]);
            shell::read(&mut git)
                .context("without git, SOURCE_DATE_EPOCH has to tell the date of the sources")?
        }
    };
    text.trim().parse().with_context(|| format!("'{}' are no seconds since 1970", text.trim()))
}

fn write_sums(folder: &Path, files: &[PathBuf]) -> Result<()> {
    let mut sums = String::new();
    for file in files {
        let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        for byte in Sha256::digest(&bytes) {
            write!(sums, "{byte:02x}").context("writing a sum")?;
        }
        let name = file.strip_prefix(folder).with_context(|| format!("{} lies elsewhere", file.display()))?;
        writeln!(sums, "  {}", name.display()).context("writing a name")?;
    }
    ensure!(!sums.is_empty(), "there is nothing to hand out");
    let path = folder.join(SUMS);
    fs::write(&path, sums).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_but_help() {
        let help = "About.\n\nUsage: netsnoop [OPTIONS] [COMMAND]\n\nCommands:\n  watch  Look\n         and look\n  list   \
                    List\n  help   Print this\n\nOptions:\n  -v  More\n";
        assert_eq!(commands(help).collect::<Vec<_>>(), ["watch", "list"]);
        assert_eq!(commands("").count(), 0);
    }
}
