//! One boot under QEMU's own emulation (nested KVM hangs on some hosts), and what its console told.

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
const LIMIT: Duration = Duration::from_secs(600);

/// Boots, shows the console, counts the tests. A guest that ends without telling its exit code (a
/// panic, a hang) is a failure.
pub(crate) fn run(kernel: &Kernel, initramfs: &Path, tally: &mut Tally) -> Result<()> {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1536"])
        .args(["-display", "none", "-nodefaults", "-no-user-config", "-no-reboot", "-nic", "none"])
        .args(["-serial", "stdio", "-append", "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    shell::say(&format!("$ {}", shell::show(&qemu)))?;
    let mut child = qemu.spawn().context("starting QEMU")?;
    let console = child.stdout.take().context("QEMU has no standard output")?;
    let ended_well = follow(&read_lines(console), tally);
    end(&mut child)?;
    if !ended_well? {
        tally.fail(&format!("the guest {}", kernel.release));
    }
    Ok(())
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

/// Whether the guest said that its tests ended, well or not: how they went is in libtest's own lines.
fn follow(lines: &Receiver<String>, tally: &mut Tally) -> Result<bool> {
    let deadline = Instant::now() + LIMIT;
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        writeln!(io::stdout().lock(), "{line}").context("writing to standard output")?;
        tally.read_line(&line);
        if let Some(code) = line.strip_prefix("VM-EXIT ") {
            return Ok(code == "0" || code == "101");
        }
    }
    Ok(false)
}

fn end(qemu: &mut Child) -> Result<()> {
    if qemu.try_wait().context("asking after QEMU")?.is_none() {
        qemu.kill().context("ending QEMU")?;
    }
    qemu.wait().context("waiting for QEMU")?;
    Ok(())
}
