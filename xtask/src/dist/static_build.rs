//! netsnoop as one file that loads no library: for containers that have nothing else.
//!
//! The C library is glibc's static one, as rustup's standard library for the host is there anyway. libpcap is the
//! distribution's archive without the parts that reach for other libraries. The bytes do not depend on where it was built.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::shell;

/// Where the program lies below cargo's target folder and the target's name.
const PROGRAM: &str = "dist/netsnoop";

/// Parts of libpcap that capture what is no network interface by libraries of others, some of which have no static form:
/// D-Bus messages (libdbus) and RDMA devices (libibverbs). Each offers two functions to the list of capture sources in
/// <https://github.com/the-tcpdump-group/libpcap/blob/libpcap-1.10.3/pcap.c#L578-L610>.
const FOREIGN_PARTS: [(&str, &str); 2] = [("pcap-dbus.o", "dbus"), ("pcap-rdmasniff.o", "rdmasniff")];

/// What stands in for such a part: no device is its, and it has none to list.
const STAND_IN: &str = "\
void *PART_create(const char *device, char *error, int *is_ours)
{
    (void)device;
    (void)error;
    *is_ours = 0;
    return 0;
}

int PART_findalldevs(void *devices, char *error)
{
    (void)devices;
    (void)error;
    return 0;
}
";

/// Why no static program can be built here; `None` if it can.
pub(crate) fn obstacle() -> Result<Option<&'static str>> {
    Ok(match (libpcap_archive()?, shell::find("ar")) {
        (None, _) => Some("there is no static libpcap, which Debian's and Ubuntu's libpcap-dev have"),
        (_, None) => Some("ar (binutils) is not on this machine"),
        _ => None,
    })
}

/// Builds it and returns the file.
pub(crate) fn build() -> Result<PathBuf> {
    let target = host()?;
    let libpcap = lay_out_libpcap()?;
    let mut cargo = shell::cargo();
    cargo
        .args(["build", "--locked", "--profile", "dist", "--target", &target])
        .args(["--package", "netsnoop", "--bin", "netsnoop"])
        .env("LIBPCAP_LIBDIR", &libpcap)
        // These take the place of whatever flags the caller's environment has.
        .env("CARGO_ENCODED_RUSTFLAGS", flags()?.join("\x1f"));
    shell::run(&mut cargo)?;
    Ok(shell::target_folder()?.join(target).join(PROGRAM))
}

/// The target this machine builds for.
pub(crate) fn host() -> Result<String> {
    let text = shell::read(Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}

/// Static, and without the paths of this machine in panic messages.
fn flags() -> Result<Vec<String>> {
    let workspace = fs::canonicalize(shell::workspace()).context("looking for the workspace's folder")?;
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    Ok(vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        remap(&cargo_home()?, "/cargo"),
        remap(&workspace, "/netsnoop"),
    ])
}

/// <https://doc.rust-lang.org/cargo/guide/cargo-home.html>
fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home: OsString = env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
    Ok(Path::new(&home).join(".cargo"))
}

/// The C compiler's idea of where the archive is; a name alone means that it knows none.
fn libpcap_archive() -> Result<Option<PathBuf>> {
    let path = shell::read(Command::new("cc").arg("-print-file-name=libpcap.a"))?;
    let path = PathBuf::from(path.trim());
    Ok(path.is_absolute().then_some(path))
}

/// A folder with a static libpcap alone, so that the linker finds no other.
fn lay_out_libpcap() -> Result<PathBuf> {
    let archive = libpcap_archive()?.context("there is no static libpcap (libpcap.a)")?;
    let folder = shell::target_folder()?.join("static-libpcap");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let own = folder.join("libpcap.a");
    fs::copy(&archive, &own).with_context(|| format!("copying {}", archive.display()))?;
    let members = shell::read(Command::new("ar").arg("t").arg(&own))?;
    for (member, part) in
        FOREIGN_PARTS.iter().filter(|(member, _)| members.lines().any(|line| line == *member))
    {
        let stand_in = folder.join(member);
        compile(&STAND_IN.replace("PART", part), &stand_in)?;
        // Replaces the member of the same name.
        shell::run(Command::new("ar").arg("rD").arg(&own).arg(&stand_in))?;
    }
    Ok(folder)
}

fn compile(text: &str, object: &Path) -> Result<()> {
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-fPIE", "-x", "c", "-", "-c", "-o"]).arg(object).stdin(Stdio::piped());
    let shown = shell::show(&compiler);
    let mut compiler = compiler.spawn().with_context(|| format!("starting `{shown}`"))?;
    let mut input = compiler.stdin.take().context("the C compiler has no standard input")?;
    input.write_all(text.as_bytes()).context("handing the C compiler a program")?;
    drop(input);
    let status = compiler.wait().context("waiting for the C compiler")?;
    ensure!(status.success(), "`{shown}` ended with {status}");
    Ok(())
}
