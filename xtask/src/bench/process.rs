//! What a process has used, as `/proc` tells: CPU time in ticks of 10 ms, memory at its peak.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// USER_HZ, 100 on every architecture (man 5 proc_pid_stat).
const TICKS_PER_SECOND: f64 = 100.0;
/// How often a process is looked at that is waited for to become quiet.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks without any CPU time used after which it is quiet.
const QUIET_LOOKS: u32 = 6;
/// One that is never quiet is not waited for longer.
const QUIET_PATIENCE: Duration = Duration::from_secs(6);

/// CPU seconds that a process, its threads and the children it waited for have used. Works until it is waited for.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("reading /proc/{pid}/stat"))?;
    // Fields 14 to 17: utime, stime, cutime, cstime; the name before them may hold anything.
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 =
        after_name.split_whitespace().skip(11).take(4).map(|field| field.parse().unwrap_or(0.0)).sum();
    Ok(ticks / TICKS_PER_SECOND)
}

/// MiB of memory it had at most so far; gone once it has ended.
pub(crate) fn peak_mebibytes(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("reading /proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM: it has ended")?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().context("reading VmHWM")?;
    Ok(kibibytes / 1024.0)
}

/// Waits until a process has used no CPU time for a while: it has started, or has worked off what it was given.
pub(crate) fn wait_until_quiet(pid: u32) -> Result<()> {
    let patience = Instant::now() + QUIET_PATIENCE;
    let mut used = cpu_seconds(pid)?;
    let mut quiet = 0;
    while quiet < QUIET_LOOKS && Instant::now() < patience {
        thread::sleep(LOOK_EVERY);
        let now = cpu_seconds(pid)?;
        quiet = if now > used { 0 } else { quiet + 1 };
        used = now;
    }
    Ok(())
}
