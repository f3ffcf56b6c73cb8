//! `cargo xtask build-ebpf`: the kernel object, from source to what is committed beside it.
//!
//! Building the agent needs stable Rust alone, because the object is committed. This makes it anew, with whichever
//! compiler of `toolchain` is here. Two compilers never give equal bytes, so beside the object stands what made it,
//! and the hash of what it was made from.

mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::shell;
use crate::test::Tally;
use toolchain::{Compiler, MISSING, Toolchain, Versions};

const OBJECT: &str = "netsnoop-ebpf/netsnoop.bpf.o";
/// Where a rebuilt object goes that cannot be compared.
const FRESH: &str = "target/fresh.bpf.o";
const ORIGIN: &str = "netsnoop-ebpf/netsnoop.bpf.json";
/// What the object depends on, files and folders.
const SOURCES: [&str; 5] = [
    "netsnoop-common/Cargo.toml",
    "netsnoop-common/src",
    "netsnoop-ebpf/Cargo.lock",
    "netsnoop-ebpf/Cargo.toml",
    "netsnoop-ebpf/src",
];

/// What `build-ebpf` takes.
#[derive(clap::Args)]
pub(crate) struct BuildEbpfArguments {
    /// Change nothing: fail if the committed object is older than its sources, then rebuild and compare
    #[arg(long)]
    check: bool,
    /// Use this compiler; by default the first that is complete. Nightly's LLVM must not be newer than bpf-linker's
    #[arg(long)]
    compiler: Option<Compiler>,
}

/// What the committed object was made from and with.
#[derive(Serialize, Deserialize)]
struct Origin {
    sources_sha256: String,
    object_sha256: String,
    made_with: Versions,
}

/// The subcommand.
pub(crate) fn run(arguments: &BuildEbpfArguments) -> Result<ExitCode> {
    let toolchain = Toolchain::find(arguments.compiler)?.context(MISSING)?;
    if arguments.check {
        check_sources()?;
        compare(&toolchain)?;
    } else {
        make(&toolchain)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Like `--check`, but a machine that cannot rebuild the object only says so.
pub(crate) fn check(tally: &mut Tally) -> Result<()> {
    check_sources()?;
    match Toolchain::find(None)? {
        Some(toolchain) => compare(&toolchain),
        None => {
            tally.skip("rebuilding the kernel object", MISSING);
            Ok(())
        }
    }
}

fn make(toolchain: &Toolchain) -> Result<()> {
    let object = toolchain.build()?;
    let origin = Origin {
        sources_sha256: hash_sources()?,
        object_sha256: hash(&object),
        made_with: toolchain.versions.clone(),
    };
    let mut text =
        serde_json::to_string_pretty(&origin).context("writing down where the object comes from")?;
    text.push('\n');
    for (path, content) in [(OBJECT, object.as_slice()), (ORIGIN, text.as_bytes())] {
        fs::write(shell::workspace().join(path), content).with_context(|| format!("writing {path}"))?;
    }
    shell::say(&format!("{OBJECT}: {} bytes", object.len()))
}

/// Fails if the sources have changed since the committed object was made, or the object itself has.
fn check_sources() -> Result<()> {
    let origin = read_origin()?;
    ensure!(
        origin.sources_sha256 == hash_sources()?,
        "{OBJECT} is older than its sources: run `cargo xtask build-ebpf` and commit what it writes"
    );
    ensure!(
        origin.object_sha256 == hash(&read(Path::new(OBJECT))?),
        "{OBJECT} is not the one that {ORIGIN} tells of: run `cargo xtask build-ebpf`"
    );
    Ok(())
}

/// Rebuilds, and compares with what is committed if the same toolchain made that. Else the fresh object is what
/// everything built after this embeds, so that the tests load that.
fn compare(toolchain: &Toolchain) -> Result<()> {
    let fresh = toolchain.build()?;
    let Origin { object_sha256, made_with, .. } = read_origin()?;
    if made_with != toolchain.versions {
        let path = shell::workspace().join(FRESH);
        // With CARGO_TARGET_DIR set elsewhere the folder may be missing.
        fs::create_dir_all(shell::workspace().join("target")).context("making the folder target")?;
        fs::write(&path, &fresh).with_context(|| format!("writing {FRESH}"))?;
        shell::embed_object(path);
        return shell::say(&format!(
            "{OBJECT} was made with {made_with}, so bytes are not compared: what is tested from here on is {FRESH}"
        ));
    }
    ensure!(
        object_sha256 == hash(&fresh),
        "{OBJECT} was made with the toolchain that is here, which gives other bytes for the same sources now"
    );
    shell::say(&format!("{OBJECT} is what its sources give"))
}

fn read_origin() -> Result<Origin> {
    let text = read(Path::new(ORIGIN))?;
    serde_json::from_slice(&text).with_context(|| format!("understanding {ORIGIN}"))
}

/// One hash over the name, length and content of every source file, in the order of names.
fn hash_sources() -> Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        list_files(Path::new(source), &mut files)?;
    }
    files.sort();
    let mut all = Sha256::new();
    for file in files {
        let content = read(&file)?;
        all.update(format!("{}\0{}\0", file.display(), content.len()));
        all.update(content);
    }
    Ok(hex(&all.finalize()))
}

fn list_files(path: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    let full = shell::workspace().join(path);
    if !full.is_dir() {
        into.push(path.to_owned());
        return Ok(());
    }
    let act = || format!("listing {}", path.display());
    for entry in fs::read_dir(&full).with_context(act)? {
        list_files(&path.join(entry.with_context(act)?.file_name()), into)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(shell::workspace().join(path)).with_context(|| format!("reading {}", path.display()))
}

fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
