//! One boot under QEMU's own emulation (nested KVM hangs on some hosts), and what its console told.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::kernels::Kernel;
use crate::shell;
use crate::test::Tally;

/// After which a guest is taken to hang.
const LIMIT: Duration = Duration::from_secs(1200);

/// On a busy host a guest's CPUs starve. Without its check of the timer a kernel does not panic of it while it boots, and
/// without its watchdog it does not take itself for locked up, which it says in the midst of what tests print
/// (<https://docs.kernel.org/admin-guide/kernel-parameters.html>, `no_timer_check`, `nowatchdog`).
const COMMAND_LINE: &str =
    "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off no_timer_check nowatchdog";

/// What a guest wrote.
#[derive(Serialize, Deserialize)]
pub(super) struct Written {
    /// Lines of the console.
    pub(super) console: Vec<String>,
    /// All of the second serial port.
    pub(super) answers: String,
}

impl Written {
    /// Keeps it in a file, for a page that is put together from several runs.
    pub(super) fn keep(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self).context("rendering what the guest wrote")?;
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// What was kept; `None` if nothing was.
    pub(super) fn kept(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("understanding {}", path.display())).map(Some)
    }
}

/// Boots, shows the console, counts the tests. A guest that does not come to its end (a panic, a hang) is a
/// failure, and so is an errand that fails.
pub(super) fn run(kernel: &Kernel, initramfs: &Path, tally: &mut Tally) -> Result<Written> {
    let answers = initramfs.with_extension("answers");
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1536"])
        .args(["-display", "none", "-nodefaults", "-no-user-config", "-no-reboot", "-nic", "none"])
        .args(["-append", COMMAND_LINE, "-serial", "stdio"])
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
    let mut tested = false;
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        shell::pass_on(&line)?;
        match line.strip_prefix("skipped: ").and_then(|skipped| skipped.split_once(": ")) {
            // What the truth bench leaves out is no test that libtest counts.
            Some((name, why)) if tested => tally.skip(name, why),
            _ => tally.read_line(&line),
        }
        if let Some((errand, code)) =
            line.strip_prefix("VM-ERRAND ").and_then(|errand| errand.rsplit_once(' '))
        {
            tested |= errand == "live tests";
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
