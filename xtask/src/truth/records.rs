//! netsnoop's JSON lines, folded into connections: what was last said of each.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use jiff::Timestamp;
use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::Deserialize;

use super::told::{Owner, Role, Transport};

/// A clock tick of /proc/PID/stat (USER_HZ is 100 on every architecture, man 5 proc_pid_stat).
const TICK_NANOS: i64 = 10_000_000;
/// Boot's wall time is read here and in netsnoop, a little apart, and ticks are rounded.
const TICKS_APART: i64 = 2;

/// A line, as far as it is judged.
#[derive(Clone, Debug, Deserialize)]
struct Line {
    event: String,
    connection: About,
    network: Network,
    client: End,
    server: End,
    #[serde(default)]
    nat: Translated,
}

#[derive(Clone, Debug, Deserialize)]
struct About {
    id: String,
    start: Option<Timestamp>,
    role: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Network {
    transport: String,
}

/// What the other side saw, where it was something else.
#[derive(Clone, Copy, Default, Debug, Deserialize)]
struct Translated {
    client: Option<Address>,
    server: Option<Address>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Address {
    address: IpAddr,
    port: u16,
}

impl Address {
    const fn socket(self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

/// An end, as netsnoop tells it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct End {
    #[serde(flatten)]
    address: Address,
    pub(crate) netns: Option<Netns>,
    pub(crate) process: Option<Process>,
    pub(crate) user: Option<User>,
    pub(crate) attribution: Attribution,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Netns {
    pub(crate) inode: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct User {
    pub(crate) id: u32,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Process {
    pid: u32,
    start_time: Timestamp,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Attribution {
    pub(crate) level: String,
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) shared_with: Vec<Process>,
}

/// A connection, as netsnoop last told it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) transport: Transport,
    /// Nanoseconds since boot; none if it is older than netsnoop.
    pub(crate) start: Option<u64>,
    /// How it is known which end is the client.
    pub(crate) role: String,
    client: End,
    server: End,
    nat: Translated,
    /// All of its lines, for showing.
    pub(crate) lines: Vec<String>,
}

impl Connection {
    /// One of its ends.
    pub(crate) const fn end(&self, role: Role) -> &End {
        match role {
            Role::Client => &self.client,
            Role::Server => &self.server,
        }
    }

    /// An end's own address and its peer's, as the program at that end sees them: each sees what translation has made of
    /// the other.
    pub(crate) fn view(&self, role: Role) -> (SocketAddr, SocketAddr) {
        let (client, server) = (self.client.address, self.server.address);
        match role {
            Role::Client => (client.socket(), server.socket()),
            Role::Server => {
                let own = self.nat.server.unwrap_or(server);
                (own.socket(), self.nat.client.unwrap_or(client).socket())
            }
        }
    }
}

/// Turns wall times into times since boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The wall time of boot.
    boot_nanos: i64,
}

impl Clock {
    pub(crate) fn read() -> Result<Self> {
        let nanos = |time: Timespec| time.tv_sec * 1_000_000_000 + time.tv_nsec;
        // What comes between the two readings makes the distance smaller.
        let distance = |_| nanos(clock_gettime(ClockId::Realtime)) - nanos(clock_gettime(ClockId::Boottime));
        let boot_nanos = (0..5).map(distance).max().context("the clocks were not read")?;
        Ok(Self { boot_nanos })
    }

    /// For a machine that booted at this wall time.
    #[cfg(test)]
    pub(crate) const fn booted_at(boot_nanos: i64) -> Self {
        Self { boot_nanos }
    }

    fn since_boot(self, time: Timestamp) -> i64 {
        // Nanoseconds since 1970 fit until the year 2262.
        i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX) - self.boot_nanos
    }

    /// Whether a process that netsnoop names is this one: its pid, and its start to the tick.
    pub(crate) fn is(self, process: &Process, owner: &Owner) -> bool {
        let started = self.since_boot(process.start_time) / TICK_NANOS;
        let apart = started - i64::try_from(owner.start_ticks).unwrap_or(i64::MAX);
        process.pid == owner.pid && apart.abs() <= TICKS_APART
    }
}

/// Folds lines into connections, in the order in which they were first told.
pub(crate) fn fold(text: &str, clock: Clock) -> Result<Vec<Connection>> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut connections: Vec<Connection> = Vec::new();
    for text in text.lines() {
        let line: Line = serde_json::from_str(text).with_context(|| format!("reading netsnoop's {text}"))?;
        let transport = match &*line.network.transport {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            _ => continue,
        };
        let mut connection = Connection {
            transport,
            start: line.connection.start.map(|start| clock.since_boot(start).max(0).unsigned_abs()),
            role: line.connection.role,
            client: line.client,
            server: line.server,
            nat: line.nat,
            lines: Vec::new(),
        };
        let place = *places.entry(line.connection.id).or_insert(connections.len());
        match connections.get_mut(place) {
            Some(known) => {
                connection.lines = std::mem::take(&mut known.lines);
                connection.lines.push(format!("{} {text}", line.event));
                *known = connection;
            }
            None => {
                connection.lines.push(format!("{} {text}", line.event));
                connections.push(connection);
            }
        }
    }
    Ok(connections)
}
