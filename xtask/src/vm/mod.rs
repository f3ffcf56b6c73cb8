//! `cargo xtask vm-test`: the live tests of the ladder in guest kernels, where hooks work that this
//! machine's kernel may lack. The same test binary runs there as here.

mod guest;
mod kernels;
mod qemu;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::test::{self, Tally, TestBinary};
use crate::{prerequisites, shell};

/// The kernel that `cargo xtask test` boots.
const DEFAULT_SERIES: &str = "6.12";

/// The tests of the live binary that are about hooks, not about the machine.
const FILTER: &str = "ladder::";

/// Programs of this machine that the guest's making needs, and the Debian package of each.
const NEEDED: [(&str, &str); 7] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("ip", "iproute2"),
];

/// What `vm-test` takes.
#[derive(clap::Args)]
pub(crate) struct VmArguments {
    /// Kernel series to boot, of those Debian has: 5.10, 6.1, 6.12, 6.18, 7.2, 7.3
    #[arg(default_value = DEFAULT_SERIES)]
    series: Vec<String>,
    /// Run only the live tests whose names contain this
    #[arg(long, default_value = FILTER)]
    filter: String,
    /// Install what is missing without asking
    #[arg(long, short)]
    yes: bool,
}

/// The subcommand: here what cannot be had is an error.
pub(crate) fn test(arguments: &VmArguments) -> Result<ExitCode> {
    prerequisites::ensure(arguments.yes)?;
    let missing = missing_programs();
    anyhow::ensure!(missing.is_empty(), "guest kernels need {missing}");
    let binaries = test::build()?;
    let guest =
        Guest { live: live_binary(&binaries)?, netsnoop: &test::build_release()?, filter: &arguments.filter };
    let mut tally = Tally::default();
    for series in &arguments.series {
        let kernel = kernels::fetch(series).with_context(|| format!("fetching a {series} kernel"))?;
        run_in(&kernel, &guest, &mut tally)?;
    }
    tally.close()
}

/// As a part of all tests: what cannot be had is named and left out.
pub(crate) fn test_defaults(binaries: &[TestBinary], netsnoop: &Path, tally: &mut Tally) -> Result<()> {
    let missing = missing_programs();
    if !missing.is_empty() {
        tally.skip("vm-test", &format!("guest kernels need {missing}"));
        return Ok(());
    }
    let guest = Guest { live: live_binary(binaries)?, netsnoop, filter: FILTER };
    match kernels::fetch(DEFAULT_SERIES) {
        Ok(kernel) => run_in(&kernel, &guest, tally),
        Err(error) => {
            tally.skip(&format!("vm-test {DEFAULT_SERIES}"), &format!("no such kernel to be had: {error:#}"));
            Ok(())
        }
    }
}

/// What runs in a guest.
struct Guest<'a> {
    live: &'a TestBinary,
    /// The netsnoop under test.
    netsnoop: &'a Path,
    /// Which of the live tests.
    filter: &'a str,
}

fn missing_programs() -> String {
    NEEDED
        .iter()
        .filter(|(program, _)| shell::find(program).is_none())
        .map(|(program, package)| format!("{program} (apt-get install {package})"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn live_binary(binaries: &[TestBinary]) -> Result<&TestBinary> {
    binaries.iter().find(|binary| binary.name == "live").context("cargo built no test named live")
}

fn run_in(kernel: &kernels::Kernel, guest: &Guest<'_>, tally: &mut Tally) -> Result<()> {
    let started = Instant::now();
    shell::say(&format!("booting {} for the tests named {}", kernel.release, guest.filter))?;
    let initramfs = guest::pack(kernel, guest).context("packing the guest's files")?;
    qemu::run(kernel, &initramfs, tally).with_context(|| format!("running {} in QEMU", kernel.release))?;
    shell::say(&format!("guest {} took {:.0} s", kernel.release, started.elapsed().as_secs_f64()))
}
