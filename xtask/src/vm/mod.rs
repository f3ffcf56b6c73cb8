//! `cargo xtask vm-test`: the live tests of the ladder in guest kernels, where hooks work that this
//! machine's kernel may lack. The same test binary runs there as here.

mod answers;
mod errands;
mod kernels;
mod page;
mod qemu;
mod stage;

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};

use self::answers::Answers;
use self::errands::Condition;
use self::kernels::Kernel;
use self::page::Visit;
use self::qemu::Written;
use crate::test::{self, Tally, TestBinary};
use crate::{prerequisites, shell};

/// What `cargo xtask test` boots.
const DEFAULT: [(&str, &[Condition]); 2] = [("5.10", &[Condition::Plain]), ("6.12", &Condition::ALL)];

/// Programs of this machine that the guest's making needs, and the Debian package of each.
const NEEDED: [(&str, &str); 8] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
];

/// What `vm-test` takes.
#[derive(clap::Args)]
pub(crate) struct VmArguments {
    /// Kernel series to boot, of those Debian has: 5.10, 6.1, 6.12, 6.18, 7 (the newest). By default what CI boots
    series: Vec<String>,
    /// Every series, in every condition
    #[arg(long, conflicts_with_all = ["series", "condition"])]
    all: bool,
    /// In which condition a named series is booted
    #[arg(long, default_value = "plain", requires = "series")]
    condition: Vec<Condition>,
    /// Run the live tests whose names contain this, in place of those about hooks
    #[arg(long)]
    filter: Option<String>,
    /// Put what was last told by each kernel, now or earlier, into docs/kernels.md
    #[arg(long, conflicts_with = "filter")]
    write: bool,
    /// Install what is missing without asking
    #[arg(long, short)]
    yes: bool,
}

impl VmArguments {
    fn boots(&self) -> Vec<(&str, &[Condition])> {
        if self.all {
            kernels::SERIES.iter().map(|series| (*series, &Condition::ALL[..])).collect()
        } else if self.series.is_empty() {
            DEFAULT.into()
        } else {
            self.series.iter().map(|series| (series.as_str(), &*self.condition)).collect()
        }
    }
}

/// The subcommand: here it is an error if no guest can be made at all.
pub(crate) fn test(arguments: &VmArguments) -> Result<ExitCode> {
    prerequisites::ensure(arguments.yes)?;
    let missing = missing_programs();
    anyhow::ensure!(missing.is_empty(), "guest kernels need {missing}");
    let binaries = test::build()?;
    let this = env::current_exe().context("looking for this program's file")?;
    let programs = Programs {
        live: live_binary(&binaries)?,
        netsnoop: &test::build_release()?,
        truth: if arguments.filter.is_none() { Some(&this) } else { None },
        filter: arguments.filter.as_deref(),
    };
    let mut tally = Tally::default();
    let mut tour = Tour { programs, tally: &mut tally, missing: Vec::new() };
    for (series, conditions) in arguments.boots() {
        tour.boot(series, conditions)?;
    }
    if arguments.write {
        page::PAGE.write(&page::render(&visits()?, &tour.missing)?)?;
    }
    tally.close()
}

/// What each kernel told last in each condition.
fn visits() -> Result<Vec<Visit>> {
    let mut visits = Vec::new();
    for series in kernels::SERIES {
        let folder = kernels::folder(series)?;
        for condition in Condition::ALL {
            if let Some(written) = Written::kept(&folder.join(condition.file()))? {
                let answers = Answers::read(&written.answers, &written.console);
                let answers = answers.with_context(|| format!("reading what {series} told"))?;
                visits.push(Visit { condition, answers });
            }
        }
    }
    Ok(visits)
}

/// As a part of all tests: what cannot be had is named and left out.
pub(crate) fn test_defaults(binaries: &[TestBinary], netsnoop: &Path, tally: &mut Tally) -> Result<()> {
    let missing = missing_programs();
    if !missing.is_empty() {
        tally.skip("vm-test", &format!("guest kernels need {missing}"));
        return Ok(());
    }
    let this = env::current_exe().context("looking for this program's file")?;
    let programs = Programs { live: live_binary(binaries)?, netsnoop, truth: Some(&this), filter: None };
    let mut tour = Tour { programs, tally, missing: Vec::new() };
    for (series, conditions) in DEFAULT {
        tour.boot(series, conditions)?;
    }
    Ok(())
}

/// What runs in guests.
struct Programs<'a> {
    live: &'a TestBinary,
    /// The netsnoop under test.
    netsnoop: &'a Path,
    /// This program, which is the truth bench too; `None` if that is left out.
    truth: Option<&'a Path>,
    /// Which of the live tests, if not those for the condition.
    filter: Option<&'a str>,
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

/// One kernel after the other.
struct Tour<'a> {
    programs: Programs<'a>,
    tally: &'a mut Tally,
    /// Kernels that could not be had, with why.
    missing: Vec<String>,
}

impl Tour<'_> {
    /// Boots the newest kernel of `series` once for each condition.
    fn boot(&mut self, series: &str, conditions: &[Condition]) -> Result<()> {
        let kernel = match kernels::fetch(series) {
            Ok(kernel) => kernel,
            Err(error) => {
                self.tally
                    .skip(&format!("vm-test {series}"), &format!("no such kernel to be had: {error:#}"));
                self.missing.push(format!("{series}: {error:#}"));
                return Ok(());
            }
        };
        let stage = stage::lay_out(&kernel, &self.programs).context("laying out the guest's files")?;
        for condition in conditions {
            self.visit(&kernel, &stage, *condition)
                .with_context(|| format!("running {} in QEMU", kernel.release))?;
        }
        Ok(())
    }

    fn visit(&mut self, kernel: &Kernel, stage: &stage::Stage, condition: Condition) -> Result<()> {
        let started = Instant::now();
        shell::say(&format!("booting {}, {}", kernel.release, condition.title()))?;
        let init = errands::script(condition, &self.programs, &stage.modules)?;
        let initramfs = stage.pack(&init).context("packing the guest's files")?;
        let written = qemu::run(kernel, &initramfs, self.tally)?;
        if let Err(error) = Answers::read(&written.answers, &written.console) {
            self.tally.count(&format!("reading what {} told ({error})", kernel.release), false);
        } else if self.programs.filter.is_none() {
            written.keep(&kernel.folder.join(condition.file()))?;
        }
        shell::say(&format!("guest {} took {:.0} s", kernel.release, started.elapsed().as_secs_f64()))
    }
}
