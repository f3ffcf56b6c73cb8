//! The guest's whole userland as an initramfs: the programs it is to run, what they start, their libraries.
//!
//! Every file keeps the path it has here, because tests find netsnoop by the path cargo built it at. What is
//! run in which order is `errands`'.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Programs;
use super::kernels::Kernel;
use crate::shell;

/// Programs of this machine that the tests and the truth bench start.
const STARTED: [&str; 7] = ["sh", "ip", "nft", "nsenter", "unshare", "busybox", "setpriv"];

/// Modules that their networks and netsnoop's lookups need; what is built in needs none.
const MODULES: [&str; 15] = [
    "veth",
    "bridge",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "unix_diag",
    "sctp",
    "sctp_diag",
    "nf_tables",
    "nft_chain_nat",
    "nft_masq",
    "nft_nat",
    "nft_ct",
    "nf_conntrack",
    "nf_conntrack_netlink",
];

/// Lays out the files of a guest with this kernel, all but its init.
pub(super) fn lay_out(kernel: &Kernel, programs: &Programs<'_>) -> Result<Stage> {
    let stage = Stage::new(kernel.folder.join("stage"))?;
    let live = programs.live;
    let built = live.executable.parent().and_then(Path::parent).context("the test binary lies at /")?;
    let traffic = built.join("examples/traffic");
    for program in [&live.executable, programs.netsnoop, &traffic] {
        stage.add_program(program)?;
    }
    if let Some(xtask) = programs.truth {
        stage.add_program(xtask)?;
    }
    for name in STARTED {
        let path = shell::find(name).with_context(|| format!("{name} is not on this machine"))?;
        stage.add_program(&path)?;
    }
    // The tests' working folder; nothing in it is read.
    stage.place(&live.folder.join("Cargo.toml"))?;
    // Programs that look up root's name find it.
    fs::write(stage.root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").context("writing etc/passwd")?;
    let world_writable = fs::Permissions::from_mode(0o1777);
    fs::set_permissions(stage.root.join("tmp"), world_writable).context("opening the guest's tmp to all")?;
    let modules = stage.add_modules(kernel)?;
    Ok(Stage { modules, ..stage })
}

/// The folder that becomes the guest's `/`.
pub(super) struct Stage {
    root: PathBuf,
    /// The file names of its modules below `/modules`, in the order to insert them.
    pub(super) modules: Vec<String>,
}

impl Stage {
    fn new(root: PathBuf) -> Result<Self> {
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
        }
        for folder in [
            "usr/bin",
            "usr/sbin",
            "usr/lib",
            "usr/lib64",
            "proc",
            "sys",
            "dev",
            "run",
            "tmp",
            "modules",
            "etc",
        ] {
            let path = root.join(folder);
            fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), root.join(name)).with_context(|| format!("linking {name}"))?;
        }
        Ok(Self { root, modules: Vec::new() })
    }

    /// Where a file of this machine is in the guest.
    fn place(&self, path: &Path) -> Result<PathBuf> {
        let place = self
            .root
            .join(path.strip_prefix("/").with_context(|| format!("{} is relative", path.display()))?);
        let folder = place.parent().context("a file lies at /")?;
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(place)
    }

    fn add_file(&self, path: &Path) -> Result<()> {
        let place = self.place(path)?;
        fs::copy(path, &place).with_context(|| format!("copying {}", path.display()))?;
        Ok(())
    }

    /// A program without its debug information (a third of the guest's memory otherwise), and the libraries it loads.
    fn add_program(&self, path: &Path) -> Result<()> {
        let place = self.place(path)?;
        let stripped =
            Command::new("strip").arg("-g").arg("-o").arg(&place).arg(path).stderr(Stdio::null()).status();
        if !stripped.is_ok_and(|status| status.success()) {
            self.add_file(path)?;
        }
        let listed = Command::new("ldd").arg(path).output().context("starting ldd")?;
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        // A line is `name => /path (address)` or `/path (address)`; a static program has neither.
        let libraries: BTreeSet<&str> =
            text.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':')).collect();
        for library in libraries {
            if !self.place(Path::new(library))?.exists() {
                self.add_file(Path::new(library))?;
            }
        }
        Ok(())
    }

    /// The modules with all they depend on, in the order to insert them, uncompressed.
    fn add_modules(&self, kernel: &Kernel) -> Result<Vec<String>> {
        let modprobe = shell::find("modprobe").context("looking for modprobe")?;
        let mut names: Vec<String> = Vec::new();
        for module in MODULES {
            let mut depends = Command::new(&modprobe);
            depends.arg("-d").arg(&kernel.root).args(["-S", &kernel.release, "--show-depends", module]);
            for line in shell::read(&mut depends)?.lines() {
                // `builtin NAME` needs nothing.
                let Some(path) = line.trim().strip_prefix("insmod ") else { continue };
                let name = self.add_module(Path::new(path.trim()))?;
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        Ok(names)
    }

    fn add_module(&self, path: &Path) -> Result<String> {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (name, unpacker) = match file.rsplit_once('.') {
            Some((name, "xz")) => (name.to_owned(), Some("xz")),
            Some((name, "zst")) => (name.to_owned(), Some("zstd")),
            _ => (file, None),
        };
        let place = self.root.join("modules").join(&name);
        let Some(unpacker) = unpacker else {
            fs::copy(path, &place).with_context(|| format!("copying {}", path.display()))?;
            return Ok(name);
        };
        let unpacked = Command::new(unpacker)
            .arg("-dc")
            .arg(path)
            .output()
            .with_context(|| format!("starting {unpacker} to unpack {}", path.display()))?;
        ensure!(unpacked.status.success(), "{unpacker} cannot unpack {}", path.display());
        fs::write(&place, unpacked.stdout).with_context(|| format!("writing {}", place.display()))?;
        Ok(name)
    }

    /// Packs all of it, with this shell script as init, and returns the archive.
    pub(super) fn pack(&self, init: &str) -> Result<PathBuf> {
        let path = self.root.join("init");
        fs::write(&path, init).context("writing the guest's init")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("making init executable")?;
        let archive = self.root.with_extension("cpio");
        self.archive(&archive)?;
        Ok(archive)
    }

    fn archive(&self, archive: &Path) -> Result<()> {
        let output = fs::File::create(archive).with_context(|| format!("making {}", archive.display()))?;
        let list = shell::read(Command::new("find").arg(".").current_dir(&self.root))?;
        let mut cpio = Command::new("cpio");
        cpio.args(["--quiet", "-o", "-H", "newc"]).current_dir(&self.root).stdout(output);
        shell::feed(&mut cpio, &list)
    }
}
