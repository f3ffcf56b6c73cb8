//! Who talks to what: 50 users, 20 services, and peers without a name, all in one namespace.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::tenant::Made;
use crate::shell;

/// Users, one process each.
pub(super) const TENANTS: u64 = 50;
/// Services.
pub(super) const SERVICES: usize = 20;
/// Where peers listen.
pub(super) const PEERS_PORT: u16 = 7200;
/// In all.
const PER_SECOND: u64 = 15_000;
const FIRST_UID: u32 = 20_001;
/// Services below this number are known by their addresses, the others by their ports.
const BY_ADDRESS: usize = 10;
/// Where the services are that are known by their ports.
const SHARED: Ipv4Addr = Ipv4Addr::new(198, 18, 2, 1);
/// Where users are when they talk to peers.
const OWN: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Where peers are: 131,072 addresses that this node answers for, without them being its own.
const PEERS: &str = "198.18.0.0/15";

/// Where a service listens.
pub(super) fn service(place: usize) -> SocketAddr {
    let number = u8::try_from(place).unwrap_or(u8::MAX);
    if place < BY_ADDRESS {
        SocketAddr::from((by_address(place), 7000))
    } else {
        SocketAddr::from((SHARED, 7000 + u16::from(number)))
    }
}

fn by_address(place: usize) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 1, u8::try_from(place + 1).unwrap_or(u8::MAX))
}

/// What the agent is to call it.
pub(super) fn service_name(place: usize) -> String {
    format!("service-{place}")
}

/// One of the peers, none of which is a service.
pub(super) fn peer(number: u64) -> SocketAddr {
    let [.., high, middle, low] = (number + 768).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(198, 18 + high, middle, low), PEERS_PORT))
}

/// The agent's settings: the services, and where it is asked.
pub(super) fn settings(listen: &str, series: usize) -> String {
    let services = (0..SERVICES).map(|place| {
        let (name, at) = (service_name(place), service(place));
        if place < BY_ADDRESS {
            format!("  - {{name: {name}, addresses: ['{}']}}\n", at.ip())
        } else {
            format!("  - {{name: {name}, ports: [{}]}}\n", at.port())
        }
    });
    let services: String = services.collect();
    let users = format!("{}-{}", uid(0), uid(TENANTS - 1));
    // Who asks for the metrics makes connections too: those are not counted.
    format!(
        "services:\n{services}users: {{include: [{users}]}}\noutputs: {{http: {{listen: '{listen}'}}}}\n\
         limits: {{series: {series}}}\n"
    )
}

/// The services and all tenants, ready to begin.
pub(super) struct Scene {
    services: Child,
    tenants: Vec<Part>,
}

struct Part {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Scene {
    /// Starts all; the tenants share `count`, of which each does as much.
    pub(super) fn start(count: u64, peers: bool) -> Result<Self> {
        for address in [OWN, SHARED].into_iter().chain((0..BY_ADDRESS).map(by_address)) {
            shell::read(Command::new("ip").args(["addr", "add", &format!("{address}/32"), "dev", "lo"]))?;
        }
        let peers_route = ["route", "add", "local", PEERS, "dev", "lo", "src", &OWN.to_string()];
        shell::read(Command::new("ip").args(peers_route))?;
        let services = Part::start(&["bench", "serve-agent"])?.child;
        let (count, per_second) = ((count / TENANTS).to_string(), (PER_SECOND / TENANTS).to_string());
        let tenant = |number: u64| {
            let (uid, number) = (uid(number).to_string(), number.to_string());
            let words = ["bench", "tenant", "--uid", &uid, "--number", &number, "--count", &count];
            let kind: &[&str] = if peers { &["--peers"] } else { &[] };
            Part::start(&[&words, &["--per-second", &per_second][..], kind].concat())
        };
        let tenants = (0..TENANTS).map(tenant).collect::<Result<_>>()?;
        Ok(Self { services, tenants })
    }

    /// Has the tenants begin, and waits until all are done.
    pub(super) fn play(&mut self) -> Result<Vec<Made>> {
        self.tenants.iter_mut().for_each(|tenant| drop(tenant.child.stdin.take()));
        self.tenants.iter_mut().map(Part::finish).collect()
    }

    /// Ends the services.
    pub(super) fn end(mut self) -> Result<()> {
        drop(self.services.stdin.take());
        let status = self.services.wait().context("waiting for the services")?;
        ensure!(status.success(), "the services ended with {status}");
        Ok(())
    }
}

fn uid(number: u64) -> u32 {
    FIRST_UID + u32::try_from(number).unwrap_or_default()
}

impl Part {
    /// Starts a part of this program and waits until it is ready.
    fn start(words: &[&str]) -> Result<Self> {
        let itself = std::env::current_exe().context("looking for this program's file")?;
        let mut child = Command::new(itself)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a part of the load")?;
        let output = BufReader::new(child.stdout.take().context("a part of the load has no output")?);
        let mut part = Self { child, output };
        let line = part.line()?;
        ensure!(line == "\"ready\"\n", "a part of the load is not ready: {line}");
        Ok(part)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).context("reading what a part of the load tells")?;
        Ok(line)
    }

    fn finish(&mut self) -> Result<Made> {
        let line = self.line()?;
        let status = self.child.wait().context("waiting for a tenant")?;
        ensure!(status.success(), "a tenant ended with {status}");
        serde_json::from_str(&line).with_context(|| format!("reading what a tenant told: {line}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{peer, service};

    #[test]
    fn peers_are_distinct_and_are_no_services() {
        let peers: HashSet<_> = (0..130_000).map(|number| peer(number).ip()).collect();
        assert_eq!(peers.len(), 130_000);
        assert!((0..super::SERVICES).all(|place| !peers.contains(&service(place).ip())));
        assert_eq!(peer(0).to_string(), "198.18.3.0:7200");
        assert_eq!(peer(100_000).to_string(), "198.19.137.160:7200");
    }
}
