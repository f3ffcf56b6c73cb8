//! One boot under QEMU's own emulation (nested KVM hangs on some hosts), and what its console told.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::kernels::Kernel;
use crate::shell;
use crate::test::Tally;

/// After which a guest is taken to hang.
const LIMIT: Duration = Duration::from_secs(1200);

/// What a guest wrote.
pub(super) struct Written {
    /// Lines of the console.
    pub(super) console: Vec<String>,
    /// All of the second serial port.
    pub(super) answers: String,
}

/// Boots, shows the console, counts the tests. A guest that does not come to its end (a panic, a hang) is a
/// failure, and so is an errand that fails.
pub(super) fn run(kernel: &Kernel, initramfs: &Path, tally: &mut Tally) -> Result<Written> {
    let answers = initramfs.with_extension("answers");
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1536"])
        .args(["-display", "none", "-nodefaults", "-no-user-config", "-no-reboot", "-nic", "none"])
        .args(["-append", "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off", "-serial", "stdio"])
        .arg("-serial")
        .arg(format!("file:{}", answers.display()))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    shell::say(&format!("$ {}", shell::show(&qemu)))?;
    let mut child = qemu.spawn().context("starting QEMU")?;
    let console = child.stdout.take().context("QEMU has no standard output")?;
    let console = follow(&read_lines(console), tally);
    end(&mut child)?;
    let console = console?;
    if !console.iter().any(|line| line == "VM-EXIT") {
        tally.fail(&format!("the guest {}", kernel.release));
    }
    let answers = fs::read_to_string(&answers)
        .with_context(|| format!("reading the guest's answers in {}", answers.display()))?;
    Ok(Written { console, answers: answers.replace('\r', "") })
}

/// The console's lines from a thread of their own, so that waiting for one can time out.
fn read_lines(console: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).replace('\r', "");
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// All lines until the guest says that it has run all its errands, ends, or is taken to hang.
fn follow(lines: &Receiver<String>, tally: &mut Tally) -> Result<Vec<String>> {
    let deadline = Instant::now() + LIMIT;
    let mut console = Vec::new();
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        writeln!(io::stdout().lock(), "{line}").context("writing to standard output")?;
        tally.read_line(&line);
        if let Some((errand, code)) =
            line.strip_prefix("VM-ERRAND ").and_then(|errand| errand.rsplit_once(' '))
        {
            // With 101 libtest says that tests failed, which are counted one by one.
            tally.count(errand, code == "0" || code == "101");
        }
        let ended = line == "VM-EXIT";
        console.push(line);
        if ended {
            break;
        }
    }
    Ok(console)
}

fn end(qemu: &mut Child) -> Result<()> {
    if qemu.try_wait().context("asking after QEMU")?.is_none() {
        qemu.kill().context("ending QEMU")?;
    }
    qemu.wait().context("waiting for QEMU")?;
    Ok(())
}
