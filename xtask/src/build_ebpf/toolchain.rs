//! Compilers that can build the kernel half, and how: rustup's nightly where that has `rust-src`, else Debian's
//! compiler, which brings `core` for the target. What they give is stripped of debug information and must not name
//! any folder of this machine.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use object::build::elf::{Builder, SectionData};
use object::elf::{SHT_STRTAB, STB_LOCAL, STT_FUNC};
use serde::{Deserialize, Serialize};

use crate::shell;

/// Said where neither compiler is complete.
pub(super) const MISSING: &str = "nothing here can build the kernel half. Install either
  rustup toolchain install nightly --component rust-src && cargo install bpf-linker --version 0.13.0 --locked
or, on Debian 12 or later,
  apt-get install -y --no-install-recommends rustc-web libstd-rust-web-dev-bpf llvm-22-dev &&
  PATH=/usr/lib/llvm-22/bin:$PATH RUSTFLAGS='-L /usr/lib/llvm-22/lib' cargo install bpf-linker --version 0.13.0 \
--locked --no-default-features --features llvm-22";

const TARGET: &str = "bpfel-unknown-none";
/// kprobes read registers, so their programs are of one architecture, whatever machine builds them.
const ARCHITECTURE: &str = "x86_64";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// What made an object: equal versions give equal bytes.
#[derive(Serialize, Deserialize, PartialEq, Eq, Clone)]
pub(super) struct Versions {
    rustc: String,
    bpf_linker: String,
    architecture: String,
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {} for {}", self.rustc, self.bpf_linker, self.architecture)
    }
}

/// A compiler and a linker that can build the kernel half.
pub(super) struct Toolchain {
    pub(super) versions: Versions,
    compiler: Compiler,
    /// Where Debian's LLVM is, for a linker that was built against it.
    llvm: Option<PathBuf>,
}

/// Which compiler.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Compiler {
    /// rustup's nightly, which builds `core` itself
    Nightly,
    /// Debian's, which has `core` for the target
    Debian,
}

impl Compiler {
    fn rustc(self) -> Command {
        match self {
            Self::Nightly => {
                let mut rustc = Command::new("rustup");
                rustc.args(["run", "nightly", "rustc"]);
                rustc
            }
            Self::Debian => Command::new(DEBIAN_RUSTC),
        }
    }

    /// Whether it is here, with `core` for the target or its source.
    fn is_complete(self) -> bool {
        let (question, below) = match self {
            Self::Nightly => (&["--print", "sysroot"][..], "lib/rustlib/src/rust/library/core"),
            Self::Debian => (&["--print", "target-libdir", "--target", TARGET][..], ""),
        };
        printed(self.rustc().args(question)).is_some_and(|folder| Path::new(&folder).join(below).is_dir())
    }

    fn cargo(self) -> Command {
        match self {
            Self::Nightly => {
                let mut cargo = Command::new("rustup");
                cargo.args(["run", "nightly", "cargo", "build", "-Zbuild-std=core"]);
                cargo
            }
            Self::Debian => {
                let mut cargo = shell::cargo();
                // aya-ebpf and inline assembly for the target use features that only nightly allows.
                cargo.arg("build").env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
        }
    }
}

impl Toolchain {
    /// The wanted one, or the first, if it is complete.
    pub(super) fn find(wanted: Option<Compiler>) -> Result<Option<Self>> {
        let llvm = newest_llvm()?;
        let mut linker = Command::new("bpf-linker");
        let linker = printed(with_libraries(&mut linker, llvm.as_deref()).arg("--version"));
        let candidates = wanted.map_or(vec![Compiler::Nightly, Compiler::Debian], |compiler| vec![compiler]);
        let compiler = candidates.into_iter().find(|compiler| compiler.is_complete());
        let (Some(bpf_linker), Some(compiler)) = (linker, compiler) else { return Ok(None) };
        let rustc = shell::read(compiler.rustc().arg("--version"))?.trim().to_owned();
        let versions = Versions { rustc, bpf_linker, architecture: ARCHITECTURE.to_owned() };
        Ok(Some(Self { versions, compiler, llvm }))
    }

    /// Builds the object as it is committed.
    pub(super) fn build(&self) -> Result<Vec<u8>> {
        let target = shell::target_folder()?.join("ebpf");
        let mut cargo = self.compiler.cargo();
        cargo
            .current_dir(shell::workspace().join("netsnoop-ebpf"))
            .args(["--release", "--locked", "--target", TARGET, "--target-dir"])
            .arg(&target)
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags(&target)?)
            .env("AYA_BPF_TARGET_ARCH", ARCHITECTURE)
            .env_remove("RUSTFLAGS")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER");
        shell::run(with_libraries(&mut cargo, self.llvm.as_deref()))?;
        let path = target.join(TARGET).join("release/netsnoop");
        let linked = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let object = strip(&linked).with_context(|| format!("stripping {}", path.display()))?;
        for (folder, _) in self.folders(&target)? {
            let name = folder.as_os_str().as_encoded_bytes();
            ensure!(
                !object.windows(name.len()).any(|window| window == name),
                "the object still names the folder {} of this machine",
                folder.display()
            );
        }
        Ok(object)
    }

    fn flags(&self, target: &Path) -> Result<OsString> {
        let mut flags = OsString::from("-Clinker=bpf-linker\x1f-Cdebuginfo=2\x1f-Clink-arg=--btf");
        for (folder, name) in self.folders(target)? {
            flags.push("\x1f--remap-path-prefix=");
            flags.push(folder);
            flags.push("=");
            flags.push(name);
        }
        Ok(flags)
    }

    /// Folders of this machine that line information would name, and what it says instead. Of two that fit, the
    /// compiler takes the later.
    fn folders(&self, target: &Path) -> Result<Vec<(PathBuf, &'static str)>> {
        let workspace = shell::workspace().canonicalize().context("resolving the workspace's folder")?;
        let sysroot = shell::read(self.compiler.rustc().args(["--print", "sysroot"]))?;
        let mut folders = vec![(workspace, "netsnoop"), (target.to_owned(), "target")];
        let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
        folders.extend(env::var_os("CARGO_HOME").map(PathBuf::from).or(home).map(|cargo| (cargo, "cargo")));
        if let Compiler::Nightly = self.compiler {
            folders.push((PathBuf::from(sysroot.trim()), "rust"));
        }
        Ok(folders)
    }
}

/// The folder of Debian's newest LLVM.
fn newest_llvm() -> Result<Option<PathBuf>> {
    let folder = Path::new("/usr/lib");
    let act = || format!("listing {}", folder.display());
    let mut newest: Option<(u32, PathBuf)> = None;
    for entry in fs::read_dir(folder).with_context(act)? {
        let path = entry.with_context(act)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let version = name.strip_prefix("llvm-").and_then(|version| version.parse().ok());
        if let Some(version) =
            version.filter(|version| newest.as_ref().is_none_or(|(other, _)| version > other))
        {
            newest = Some((version, path.join("lib")));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

fn with_libraries<'a>(command: &'a mut Command, llvm: Option<&Path>) -> &'a mut Command {
    match llvm {
        Some(llvm) => command.env("LD_LIBRARY_PATH", llvm),
        None => command,
    }
}

/// The one line a program prints about itself; `None` if it cannot be asked.
fn printed(command: &mut Command) -> Option<String> {
    shell::read(command).map(|text| text.trim().to_owned()).ok()
}

/// Takes out the debug information, and names that come from where the sources lie. BTF, which the kernel and the
/// loader read, stays.
fn strip(linked: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(linked)?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        section.delete = name.starts_with(".debug_") || name.starts_with(".rel.debug_");
    }
    builder.delete_orphans();
    // Mangled names hold a hash of the folder that a path dependency is in; nobody asks for local functions by name.
    let local_functions = builder
        .symbols
        .iter_mut()
        .filter(|symbol| symbol.st_bind() == STB_LOCAL && symbol.st_type() == STT_FUNC);
    for (number, function) in local_functions.enumerate() {
        function.name = format!("local_{number}").into_bytes().into();
    }
    // The linker keeps all names in one table; the writer wants those of sections in a table of their own.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}
