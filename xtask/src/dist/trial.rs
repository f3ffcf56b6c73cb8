//! What other programs say of the Debian package: dpkg installs it below an empty folder and takes it away again, lintian
//! and systemd look for faults. What is not on this machine is left out by name.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{contents, debian};
use crate::shell;
use crate::test::Tally;

/// On systemd's scale from 0 (safe) to 100: above it the unit has lost a wall. What is left is what watching a node takes.
const EXPOSURE_MAX: u32 = 40;

/// Tries the package in `folder`.
pub(super) fn run(folder: &Path, tally: &mut Tally) -> Result<()> {
    let package = folder.join(debian::name());
    let root = folder.join("trial");
    let installed = "the Debian package, put in and taken out";
    if shell::is_root() {
        attempt("dpkg", installed, tally, |dpkg| {
            install(dpkg, &package, &root)?;
            purge(dpkg, &root)
        })?;
    } else {
        tally.skip(installed, "dpkg needs root to give files to root");
    }
    attempt("lintian", "the Debian package, by lintian", tally, |lintian| {
        shell::run(Command::new(lintian).args(["--fail-on", "error"]).arg(&package))
    })?;
    attempt("systemd-analyze", "the systemd unit", tally, |analyze| check_unit(analyze, &root))
}

/// Counts how it goes with a program, or says that this is not here.
fn attempt(
    program: &str,
    what: &str,
    tally: &mut Tally,
    act: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let Some(path) = shell::find(program) else {
        tally.skip(what, &format!("needs {program}"));
        return Ok(());
    };
    let outcome = act(&path);
    tally.count(what, outcome.is_ok());
    outcome.or_else(|error| shell::say(&format!("{what}: {error:#}")))
}

/// The package's scripts know by DPKG_ROOT that the machine's own services are not meant (man 1 dpkg).
fn dpkg(program: &Path, root: &Path) -> Command {
    let mut dpkg = Command::new(program);
    dpkg.arg(format!("--root={}", root.display()));
    dpkg.args(["--log=/dev/null", "--force-script-chrootless"]);
    dpkg
}

/// Installs it where nothing is yet; each file must be as the package's list says.
fn install(program: &Path, package: &Path, root: &Path) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("removing {}", root.display()))?;
    }
    let state = root.join("var/lib/dpkg");
    for folder in ["info", "updates"] {
        let folder = state.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    }
    fs::write(state.join("status"), "").with_context(|| format!("writing in {}", state.display()))?;
    shell::run(dpkg(program, root).arg("--install").arg(package))?;
    let differs = shell::read(dpkg(program, root).args(["--verify", "netsnoop"]))?;
    ensure!(differs.is_empty(), "installed otherwise than packed:\n{differs}");
    let settings = root.join("etc/netsnoop/netsnoop.yaml");
    let mut netsnoop = Command::new(root.join("usr/bin/netsnoop"));
    shell::run(netsnoop.args(["agent", "--check", "--config"]).arg(settings))
}

/// Takes it away; nothing of it may be left.
fn purge(program: &Path, root: &Path) -> Result<()> {
    // What an agent has written.
    let state = root.join("var/lib/private/netsnoop");
    fs::create_dir_all(&state).with_context(|| format!("making {}", state.display()))?;
    shell::run(dpkg(program, root).args(["--purge", "netsnoop"]))?;
    for gone in ["usr", "etc", "var/lib/private/netsnoop"] {
        ensure!(!root.join(gone).exists(), "/{gone} is left behind");
    }
    Ok(())
}

/// The unit, starting a program that is there.
fn check_unit(program: &Path, folder: &Path) -> Result<()> {
    let unit = contents::document("deploy/systemd/netsnoop.service")?.text;
    let path = folder.join("netsnoop.service");
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::write(&path, unit.replace("/usr/bin/netsnoop", "/bin/true"))
        .with_context(|| format!("writing {}", path.display()))?;
    shell::run(Command::new(program).args(["verify", "--man=no"]).arg(&path))?;
    if !shell::read(Command::new(program).arg("--help"))?.contains("--offline") {
        // Before systemd 250 only units that run are judged.
        return Ok(());
    }
    let judged = ["security", "--no-pager", "--offline=true", &format!("--threshold={EXPOSURE_MAX}")];
    shell::read(Command::new(program).args(judged).arg(&path)).map(drop)
}
