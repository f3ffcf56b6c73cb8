//! The truth file: one line for each end of a connection that a player opened, another when it closed it. What a
//! player says of itself is what /proc shows of it, so that it holds in pid namespaces too. Whether netsnoop
//! agrees is not judged here.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Which end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// The one that asked.
    Client,
    /// The one that was asked.
    Server,
}

/// The transport protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Transport {
    /// TCP, and MPTCP, whose packets are TCP's.
    Tcp,
    /// UDP.
    Udp,
}

/// The process that owns an end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// In the pid namespace of the /proc that is mounted here.
    pub(crate) pid: u32,
    /// Field 22 of /proc/PID/stat: clock ticks since boot.
    pub(crate) start_ticks: u64,
    /// Real user.
    pub(crate) uid: u32,
}

impl Owner {
    /// The process that asks. Read anew each time, since fork, exec and setuid change it.
    pub(crate) fn this_process() -> Result<Self> {
        Self::of_process("self")
    }

    /// A process by its name in /proc.
    pub(crate) fn of_process(name: &str) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{name}/{file}");
            fs::read_to_string(&path).with_context(|| format!("reading {path}"))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        let (before, after) = stat.rsplit_once(')').context("a process has no name")?;
        let pid = before.split(' ').next().and_then(|word| word.parse().ok());
        let start_ticks = after.split_whitespace().nth(19).and_then(|word| word.parse().ok());
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next());
        Ok(Self {
            pid: pid.context("a process has no pid")?,
            start_ticks: start_ticks.context("a process has no start time")?,
            uid: uid.and_then(|uid| uid.parse().ok()).context("a process has no user")?,
        })
    }
}

/// The inode of the network namespace of the thread that asks.
pub(crate) fn this_netns() -> Result<u64> {
    netns_of("thread-self")
}

/// The inode of a process's network namespace, by the process's name in /proc.
pub(crate) fn netns_of(name: &str) -> Result<u64> {
    let link = format!("/proc/{name}/ns/net");
    Ok(fs::metadata(&link).with_context(|| format!("looking at {link}"))?.ino())
}

/// Nanoseconds since boot, suspended time included.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    // Since boot both are positive.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// An end of a connection, when it came to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Opened {
    /// Unique in a run.
    pub(crate) id: String,
    /// The class that was played.
    pub(crate) class: String,
    pub(crate) role: Role,
    pub(crate) transport: Transport,
    /// The end's own address, as its program sees it.
    pub(crate) local: SocketAddr,
    /// The other end's, as this program sees it.
    pub(crate) remote: SocketAddr,
    /// Nobody, for an end that no process has: a closed port, a forged packet's sender.
    pub(crate) owner: Option<Owner>,
    /// The inode of its socket's namespace; none if it has no socket here.
    pub(crate) netns: Option<u64>,
    /// Nanoseconds since boot, taken just before the connection was asked for, just after it was accepted.
    pub(crate) at: u64,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
enum Line {
    Opened(Opened),
    Closed { id: String, at: u64 },
    Inhabitant { netns: u64, user: u32 },
}

/// Writes `line` to the truth file, which is a player's standard output and opened for appending: lines of
/// several processes do not mix, as each is one write.
fn append(line: &Line) -> Result<()> {
    let mut text = serde_json::to_string(line).context("rendering a line of truth")?;
    text.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("writing a line of truth")
}

/// Tells the truth about an end; the answer is what its closing is told by.
pub(crate) fn opened(mut end: Opened) -> Result<Told> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    // The player that tells need not be the owner it tells of.
    let teller = Owner::this_process()?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    end.id = format!("{}.{}.{number}", teller.pid, teller.start_ticks);
    let told = Told { id: end.id.clone() };
    append(&Line::Opened(end)).map(|()| told)
}

/// Tells that this process's user is at home in this thread's namespace, too, where it may open no end.
pub(crate) fn inhabitant() -> Result<()> {
    append(&Line::Inhabitant { netns: this_netns()?, user: Owner::this_process()?.uid })
}

/// An end that was told of and is not yet closed.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    id: String,
}

impl Told {
    /// Tells that its socket is closed now.
    pub(crate) fn closed(self) -> Result<()> {
        append(&Line::Closed { id: self.id, at: now() })
    }
}

/// An end with all that was told of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct End {
    /// How it began.
    #[serde(flatten)]
    pub(crate) opened: Opened,
    /// When its socket was closed; none if it outlived its class.
    pub(crate) closed: Option<u64>,
}

/// Who is in which namespace without an end of its own: the namespace's inode, and the user.
pub(crate) fn inhabitants(path: &Path) -> Result<Vec<(u64, u32)>> {
    let of_line = |line| match line {
        Line::Inhabitant { netns, user } => Some((netns, user)),
        Line::Opened(_) | Line::Closed { .. } => None,
    };
    Ok(lines(path)?.into_iter().filter_map(of_line).collect())
}

fn lines(path: &Path) -> Result<Vec<Line>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let read = |line: &str| {
        serde_json::from_str(after_cut(line)).with_context(|| format!("reading the line of truth {line}"))
    };
    text.lines().map(read).collect()
}

/// A player that is killed while it writes over the border of a page leaves half a line, and the next line begins behind
/// it (`generic_perform_write`, <https://github.com/torvalds/linux/blob/v6.12/mm/filemap.c>). That end was not told.
fn after_cut(line: &str) -> &str {
    line.rfind(r#"{"line":"#).and_then(|start| line.get(start..)).unwrap_or(line)
}

/// Reads the ends, in the order of opening.
pub(crate) fn read(path: &Path) -> Result<Vec<End>> {
    let mut ends: BTreeMap<String, End> = BTreeMap::new();
    let mut closings = Vec::new();
    for line in lines(path)? {
        match line {
            Line::Inhabitant { .. } => {}
            Line::Opened(opened) => {
                ends.insert(opened.id.clone(), End { opened, closed: None });
            }
            Line::Closed { id, at } => closings.push((id, at)),
        }
    }
    for (id, at) in closings {
        ends.get_mut(&id).with_context(|| format!("{id} was closed and never opened"))?.closed = Some(at);
    }
    let mut ends: Vec<End> = ends.into_values().collect();
    ends.sort_by_key(|end| end.opened.at);
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::after_cut;

    #[test]
    fn half_a_line_is_left_out() {
        let whole = r#"{"line":"closed","id":"7","at":1}"#;
        assert_eq!(after_cut(whole), whole);
        assert_eq!(after_cut(&format!(r#"{{"line":"opened","id":"2141.{whole}"#)), whole);
    }
}
