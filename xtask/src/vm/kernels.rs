//! Guest kernels: Debian's cloud images, unpacked and never installed.
//!
//! The machine's own package configuration is left alone: apt gets lists, sources and a cache of its
//! own below cargo's target folder. The mirror is whichever the machine itself uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// A kernel ready to boot.
pub(crate) struct Kernel {
    /// Its release, as `uname -r` prints it.
    pub(crate) release: String,
    /// The compressed image.
    pub(crate) image: PathBuf,
    /// The folder whose `lib/modules/RELEASE` has its modules.
    pub(crate) root: PathBuf,
    /// Where all that belongs to it is kept, for files made for it.
    pub(crate) folder: PathBuf,
}

/// The series Debian has, oldest first; a bare 7 is the newest of them.
pub(crate) const SERIES: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7"];

/// Where Debian keeps a series. The package names carry the point release, so the newest is looked up.
fn suite_of(series: &str) -> Result<&'static str> {
    Ok(match series {
        "5.10" => "bullseye-security",
        "6.1" => "bookworm-security",
        "6.12" => "trixie-security",
        "6.18" | "7" => "trixie-backports",
        _ => bail!("no Debian suite with a {series} kernel is known; known are {}", SERIES.join(" ")),
    })
}

/// The newest kernel of `series`, from an earlier call or from Debian's mirror.
pub(crate) fn fetch(series: &str) -> Result<Kernel> {
    let suite = suite_of(series)?;
    let folder = folder(series)?;
    let root = folder.join("root");
    if let Ok(kernel) = unpacked(&folder) {
        return Ok(kernel);
    }
    let apt = Apt::new(&folder, suite)?;
    shell::run(apt.command("apt-get").args(["update", "-qq"]))?;
    let package = newest_image(&apt, series)?;
    for name in packages_of(&apt, &package)? {
        shell::run(apt.command("apt-get").args(["download", "-qq", &name]).current_dir(&folder))?;
    }
    for archive in files_in(&folder)?.iter().filter(|path| path.extension().is_some_and(|end| end == "deb")) {
        shell::run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&root))?;
    }
    if !root.join("lib").exists() {
        // From trixie on the packages hold usr/lib alone; depmod and modprobe look below lib.
        std::os::unix::fs::symlink("usr/lib", root.join("lib")).context("linking lib to usr/lib")?;
    }
    let kernel = unpacked(&folder)?;
    let depmod = shell::find("depmod").context("looking for depmod")?;
    shell::run(Command::new(depmod).arg("-b").arg(&root).arg(&kernel.release))?;
    Ok(kernel)
}

/// Where all that belongs to a series is kept.
pub(super) fn folder(series: &str) -> Result<PathBuf> {
    Ok(shell::target_folder()?.join("vm").join(series))
}

fn unpacked(folder: &Path) -> Result<Kernel> {
    let root = folder.join("root");
    let modules = files_in(&root.join("lib/modules"))?;
    let modules = modules.first().context("no modules in the kernel package")?;
    let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let image = [root.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")]
        .into_iter()
        .find(|image| image.is_file())
        .context("no image in the kernel package")?;
    Ok(Kernel { release, image, root, folder: folder.to_owned() })
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let reading = || format!("reading {}", folder.display());
    fs::read_dir(folder).with_context(reading)?.map(|entry| Ok(entry.with_context(reading)?.path())).collect()
}

/// An apt with sources and state of its own.
struct Apt {
    configuration: PathBuf,
}

impl Apt {
    fn new(folder: &Path, suite: &str) -> Result<Self> {
        let state = folder.join("apt");
        for part in ["lists/partial", "cache/archives/partial"] {
            let path = state.join(part);
            fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        }
        let sources = state.join("sources.list");
        let mirror = mirror_for(suite)?;
        fs::write(&sources, format!("deb {mirror} {suite} main\n")).context("writing apt's sources")?;
        let state_shown = state.display();
        let configuration = state.join("apt.conf");
        let text = format!(
            "Dir::Etc::SourceList \"{state_shown}/sources.list\";\nDir::Etc::SourceParts \"/dev/null\";\n\
             Dir::State::Lists \"{state_shown}/lists\";\nDir::Cache \"{state_shown}/cache\";\n\
             APT::Architectures {{ \"amd64\"; }};\nAcquire::Languages \"none\";\n\
             APT::Sandbox::User \"root\";\nAcquire::Retries \"5\";\n"
        );
        fs::write(&configuration, text).context("writing apt's configuration")?;
        Ok(Self { configuration })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.configuration);
        command
    }
}

/// The mirror the machine itself uses for security suites or for all others.
fn mirror_for(suite: &str) -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let mirrors = shell::read(&mut targets)?;
    let wants_security = suite.ends_with("-security");
    mirrors
        .lines()
        .find(|uri| uri.contains("debian") && uri.contains("security") == wants_security)
        .map(str::to_owned)
        .with_context(|| format!("this machine's apt has no Debian mirror for {suite}"))
}

/// The newest image package of the series.
fn newest_image(apt: &Apt, series: &str) -> Result<String> {
    let pattern = format!("^linux-image-{}[.-].*cloud-amd64$", series.replace('.', "\\."));
    let found = shell::read(apt.command("apt-cache").args(["search", "--names-only", &pattern]))?;
    found
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .max_by_key(|name| version_of(name))
        .map(str::to_owned)
        .with_context(|| format!("Debian has no package that matches {pattern}"))
}

/// The numbers in a package's name, so that -99 sorts before -100.
fn version_of(name: &str) -> Vec<u32> {
    name.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// The image package, and from 7.x on those its parts are split into.
fn packages_of(apt: &Apt, image: &str) -> Result<Vec<String>> {
    let dependencies = shell::read(apt.command("apt-cache").args(["depends", "--important", image]))?;
    let parts = dependencies
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .filter(|name| ["linux-binary-", "linux-modules-"].iter().any(|prefix| name.starts_with(prefix)))
        .map(str::to_owned);
    Ok(std::iter::once(image.to_owned()).chain(parts).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn point_releases_sort_by_number() {
        let mut names = ["linux-image-6.12.100+deb13-cloud-amd64", "linux-image-6.12.9+deb13-cloud-amd64"];
        names.sort_by_key(|name| version_of(name));
        assert_eq!(names[1], "linux-image-6.12.100+deb13-cloud-amd64");
    }
}
