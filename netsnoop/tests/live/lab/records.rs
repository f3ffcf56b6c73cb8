//! netsnoop's JSON lines as tests read them, each held to the published schema.

use std::net::{IpAddr, SocketAddr};

use jsonschema::Validator;
use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::Deserialize;
use serde_json::Value;

use super::traffic::Truth;

/// The schema that the repository publishes.
pub(crate) struct Schema(Validator);

impl Schema {
    pub(crate) fn read() -> Self {
        let text = include_str!("../../../../docs/schema/connection-v1.schema.json");
        Self(jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap())
    }

    /// A line, which must be valid.
    pub(crate) fn parse(&self, line: &str) -> Record {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        if let Err(error) = self.0.validate(&value) {
            panic!("against the schema: {error} in {line}");
        }
        serde_json::from_value(value).unwrap_or_else(|error| panic!("{error} in {line}"))
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Record {
    pub(crate) event: String,
    /// RFC 3339.
    pub(crate) timestamp: String,
    pub(crate) connection: Connection,
    pub(crate) network: Network,
    pub(crate) client: End,
    pub(crate) server: End,
    pub(crate) service: Option<Named>,
    pub(crate) nat: Option<Nat>,
    pub(crate) io: Option<Io>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Connection {
    pub(crate) id: String,
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) preexisting: bool,
    pub(crate) duration_ns: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Network {
    pub(crate) transport: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Nat {
    pub(crate) client: Option<Given>,
    pub(crate) server: Option<Given>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Given {
    address: IpAddr,
    port: u16,
}

impl Given {
    pub(crate) fn endpoint(self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Io {
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    pub(crate) source: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct End {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) netns: Option<Netns>,
    pub(crate) process: Option<Process>,
    pub(crate) user: Option<User>,
    pub(crate) container: Option<Container>,
    pub(crate) k8s: Option<Value>,
    pub(crate) attribution: Attribution,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Netns {
    pub(crate) inode: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// RFC 3339.
    pub(crate) start_time: String,
    pub(crate) name: String,
    pub(crate) executable: Option<Executable>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Executable {
    pub(crate) path: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct User {
    pub(crate) id: u32,
    pub(crate) name: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) runtime: Option<String>,
    pub(crate) user: Option<User>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Attribution {
    pub(crate) level: String,
    pub(crate) evidence: Option<String>,
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) shared_with: Vec<Process>,
}

impl Process {
    /// Whether it is the process that told `truth`: pid and, to the tick, start; and a traffic program.
    pub(crate) fn is(&self, truth: &Truth) -> bool {
        let started = boot_as_unix_nanos() + i128::from(truth.start_ticks) * 10_000_000;
        let told: jiff::Timestamp = self.start_time.parse().unwrap();
        let apart = (told.as_nanosecond() - started).abs();
        // Two ticks: the two clocks are read one after the other, here and in netsnoop.
        let program = self.executable.as_ref().is_none_or(|executable| executable.path.ends_with("/traffic"));
        self.pid == truth.pid && apart < 20_000_000 && self.name == "traffic" && program
    }
}

impl End {
    pub(crate) fn endpoint(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Whether all that it says of its owner is what `truth` says; saying nothing is not wrong.
    pub(crate) fn agrees_with(&self, truth: &Truth) -> bool {
        self.process.as_ref().is_none_or(|process| process.is(truth))
            && self.user.as_ref().is_none_or(|user| user.id == truth.uid)
            && self.netns.as_ref().is_none_or(|netns| netns.inode == truth.netns)
            && (self.attribution.shared_with.is_empty()
                || self.attribution.shared_with.iter().any(|process| process.is(truth)))
    }

    /// The owner must be the process that told `truth`, by one of these kinds of evidence.
    #[track_caller]
    pub(crate) fn must_be(&self, truth: &Truth, evidence: &[&str]) {
        let complete = self.process.is_some() && self.user.is_some() && self.netns.is_some();
        let named = complete && self.attribution.level == "process";
        let because = self.attribution.evidence.as_deref().unwrap_or("nothing");
        assert!(
            named && self.agrees_with(truth) && evidence.contains(&because),
            "owner must be {truth:?} by {evidence:?}, but is {self:?}"
        );
    }
}

impl End {
    /// The same of a server's end. Where looks may tell it, by who listens too, they may come late on a busy machine:
    /// then it has no name, because somebody else may have served the port until then.
    #[track_caller]
    pub(crate) fn must_be_server(&self, truth: &Truth, evidence: &[&str]) {
        let by_looks = evidence.contains(&"listener");
        if !(by_looks && self.is_doubted() && self.agrees_with(truth)) {
            self.must_be(truth, evidence);
        }
    }

    fn is_doubted(&self) -> bool {
        self.process.is_none() && self.attribution.reason.as_deref() == Some("ambiguous")
    }
}

impl Record {
    /// Whether all that tables tell of the owners is told.
    pub(crate) fn is_answered(&self) -> bool {
        self.client.process.is_some() && (self.server.process.is_some() || self.server.is_doubted())
    }
}

/// The wall time of boot in nanoseconds since the Unix epoch: the distance of the two clocks where nothing came
/// between their readings, which makes it larger.
fn boot_as_unix_nanos() -> i128 {
    let nanos = |time: Timespec| i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    let distance = || {
        let boot = nanos(clock_gettime(ClockId::Boottime));
        nanos(clock_gettime(ClockId::Realtime)) - boot
    };
    (0..5).map(|_| distance()).min().unwrap()
}
