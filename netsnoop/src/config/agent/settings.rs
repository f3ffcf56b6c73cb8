//! What the agent's file says. Left out: the services it names (`services`), and whom it counts (`users`).

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use netsnoop_core::service::{Cidr, Services};

use super::reading::{Item, Problems, Section};
use super::services::services;
use super::users::{UserPattern, UserRules};
use crate::cli::{address_block, interval, listen_address};

/// Where metrics are served unless the file says otherwise: to this node alone.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9774);
/// How often the textfile is written: as often as a usual node_exporter is asked.
const TEXTFILE_EVERY: Duration = Duration::from_secs(15);
/// How often counts are written that are to survive: what a crash may lose.
const STATE_EVERY: Duration = Duration::from_secs(30);
/// How often bytes of connections that live are told: as often as a usual Prometheus asks.
const BYTES_EVERY: Duration = Duration::from_secs(15);
/// Sets of labels that connections are counted by, before the rest is counted together.
const SERIES: usize = 10_000;
/// Records that wait for an output: two seconds of 15,000 connections a second with two lines each.
const QUEUE: usize = 65_536;
/// When a file of records is put aside, and how many of those are kept.
const FILE_BYTES: u64 = 64 << 20;
const FILES_KEPT: usize = 3;

const KEYS: [&str; 11] = [
    "services",
    "users",
    "outputs",
    "state",
    "bytes",
    "limits",
    "toolforge_metric",
    "http_service_regexes",
    "ips_to_service",
    "ips_to_listen_to",
    "interesting_users_prefix",
];
/// Those of the ancestor.
const ANCESTORS_KEYS: [&str; 4] =
    ["http_service_regexes", "ips_to_service", "ips_to_listen_to", "interesting_users_prefix"];

/// What the file says.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// The services.
    pub services: Services,
    /// Whose connections are counted.
    pub users: UserRules,
    /// Servers whose connections are looked at; empty for all.
    pub destinations: Vec<Cidr>,
    /// Where results go.
    pub outputs: OutputSettings,
    /// Where counts survive a restart.
    pub state: Option<PeriodicFile>,
    /// How often is told what connections have exchanged while they live.
    pub bytes_every: Duration,
    /// How much is held.
    pub limits: Limits,
    /// Whether the ancestor's metric is written too.
    pub toolforge_metric: bool,
}

/// Where results go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OutputSettings {
    /// Metrics over HTTP.
    pub http: Option<SocketAddr>,
    /// Metrics in a file, for node_exporter's textfile collector.
    pub textfile: Option<PeriodicFile>,
    /// Records as lines.
    pub jsonl: Option<JsonlSettings>,
}

/// A file that is written again and again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeriodicFile {
    /// Where.
    pub path: PathBuf,
    /// How often it is written.
    pub every: Duration,
}

/// Records as lines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JsonlSettings {
    /// The file; `None` is standard output.
    pub path: Option<PathBuf>,
    /// Beyond this size a file is put aside.
    pub max_bytes: u64,
    /// How many files put aside are kept.
    pub keep: usize,
}

/// How much is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Sets of labels that connections are counted by.
    pub series: usize,
    /// Records that may wait for an output.
    pub queue: usize,
}

/// Reads the text of `file`. All that is wrong in it is in the error, a line each.
pub(super) fn read(file: &Path, text: &str) -> anyhow::Result<AgentSettings> {
    let mut problems = Problems::new(file);
    let node = problems.parse(text);
    let root = node.as_ref().map(Item::root);
    let settings =
        root.map(|root| root.section(&mut problems, &KEYS)).map(|root| settings(&mut problems, &root));
    match settings {
        Some(settings) => problems.settle(settings),
        None => Err(anyhow::Error::msg(problems.to_string())),
    }
}

fn settings(problems: &mut Problems, root: &Section<'_>) -> AgentSettings {
    let ancestral = ANCESTORS_KEYS.iter().any(|key| root.has(key));
    let settings = AgentSettings {
        services: services(problems, root),
        users: users(problems, root),
        destinations: root.parse_list(problems, "ips_to_listen_to", address_block),
        outputs: root.item("outputs").map(|item| outputs(problems, item)).unwrap_or_default(),
        state: root
            .item("state")
            .and_then(|item| periodic_file(problems, item, file_path, PeriodicFile::state)),
        bytes_every: bytes_every(problems, root),
        limits: limits(problems, root),
        toolforge_metric: root.parse(problems, "toolforge_metric", truth).unwrap_or(ancestral),
    };
    if let Some(outputs) = root.item("outputs") {
        refuse_shared_files(problems, outputs, &settings);
    }
    settings
}

/// Two that write one file undo each other's work.
fn refuse_shared_files(problems: &mut Problems, outputs: &Item<'_>, settings: &AgentSettings) {
    let OutputSettings { textfile, jsonl, .. } = &settings.outputs;
    let periodic = [textfile, &settings.state].into_iter().flatten().map(|file| &file.path);
    let mut known = HashSet::new();
    for path in jsonl.iter().filter_map(|jsonl| jsonl.path.as_ref()).chain(periodic) {
        if !known.insert(path) {
            outputs.refuse(
                problems,
                format!("{} is written to by more than one of outputs and state", path.display()),
            );
        }
    }
}

/// The rules of a service: each of its places with each of its ports.
fn users(problems: &mut Problems, root: &Section<'_>) -> UserRules {
    let section = root.item("users").map(|item| item.section(problems, &["include", "exclude"]));
    let mut patterns = |key| {
        section
            .as_ref()
            .map_or_else(Vec::new, |section| section.parse_list(problems, key, UserPattern::parse))
    };
    let (mut include, exclude) = (patterns("include"), patterns("exclude"));
    include.extend(root.parse(problems, "interesting_users_prefix", UserPattern::prefix));
    UserRules::new(include, exclude)
}

fn outputs(problems: &mut Problems, item: &Item<'_>) -> OutputSettings {
    let section = item.section(problems, &["http", "textfile", "jsonl"]);
    let http = section.has("http").then(|| {
        let http = section.item("http").map(|item| item.section(problems, &["listen"]));
        let listen = http.and_then(|http| http.parse(problems, "listen", listen_address));
        listen.unwrap_or(DEFAULT_LISTEN)
    });
    let textfile = section
        .item("textfile")
        .and_then(|item| periodic_file(problems, item, textfile_path, PeriodicFile::textfile));
    let jsonl = section.has("jsonl").then(|| jsonl(problems, section.item("jsonl")));
    OutputSettings { http, textfile, jsonl }
}

fn periodic_file(
    problems: &mut Problems,
    item: &Item<'_>,
    path: fn(&str) -> anyhow::Result<PathBuf>,
    usual: fn(PathBuf) -> PeriodicFile,
) -> Option<PeriodicFile> {
    let section = item.section(problems, &["path", "interval"]);
    if !section.has("path") {
        item.refuse(problems, "a file has a path");
    }
    let every = section.parse(problems, "interval", interval);
    let file = usual(section.parse(problems, "path", path)?);
    Some(PeriodicFile { every: every.unwrap_or(file.every), ..file })
}

fn jsonl(problems: &mut Problems, item: Option<&Item<'_>>) -> JsonlSettings {
    let Some(section) = item.map(|item| item.section(problems, &["path", "max_size", "keep"])) else {
        return JsonlSettings::at(None);
    };
    let path = section.parse(problems, "path", file_path);
    let defaults = JsonlSettings::at(path);
    JsonlSettings {
        max_bytes: section.parse(problems, "max_size", bytes).unwrap_or(defaults.max_bytes),
        keep: section.parse(problems, "keep", |text| within(text, 0..=1000)).unwrap_or(defaults.keep),
        ..defaults
    }
}

fn bytes_every(problems: &mut Problems, root: &Section<'_>) -> Duration {
    let section = root.item("bytes").map(|item| item.section(problems, &["interval"]));
    let every = section.and_then(|section| section.parse(problems, "interval", interval));
    every.unwrap_or(BYTES_EVERY)
}

fn limits(problems: &mut Problems, root: &Section<'_>) -> Limits {
    let section = root.item("limits").map(|item| item.section(problems, &["series", "queue"]));
    let mut limit = |key, range| section.as_ref()?.parse(problems, key, |text| within(text, range));
    Limits {
        series: limit("series", 1..=1_000_000).unwrap_or(SERIES),
        queue: limit("queue", 16..=1 << 20).unwrap_or(QUEUE),
    }
}

impl OutputSettings {
    /// As they are if nothing is said: metrics over HTTP, to this node.
    pub fn or_default(self) -> Self {
        if self == Self::default() { Self { http: Some(DEFAULT_LISTEN), ..self } } else { self }
    }
}

impl PeriodicFile {
    /// Metrics at `path`, written as often as usual.
    pub const fn textfile(path: PathBuf) -> Self {
        Self { path, every: TEXTFILE_EVERY }
    }

    /// Counts at `path`, written as often as usual.
    pub const fn state(path: PathBuf) -> Self {
        Self { path, every: STATE_EVERY }
    }
}

impl JsonlSettings {
    /// A file at `path`, or standard output, with the usual bounds.
    pub fn at(path: Option<PathBuf>) -> Self {
        let path = path.filter(|path| *path != *Path::new("-"));
        Self { path, max_bytes: FILE_BYTES, keep: FILES_KEPT }
    }
}

fn file_path(text: &str) -> anyhow::Result<PathBuf> {
    ensure!(!text.is_empty(), "a path is expected");
    Ok(text.into())
}

/// node_exporter reads no other names.
fn textfile_path(text: &str) -> anyhow::Result<PathBuf> {
    let path = PathBuf::from(text);
    ensure!(path.extension().is_some_and(|extension| extension == "prom"), "the name must end in .prom");
    Ok(path)
}

/// A size such as `64MiB`; a bare number is in bytes.
fn bytes(text: &str) -> anyhow::Result<u64> {
    let (digits, unit) =
        text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit.trim() {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => bail!("a size is a number with KiB, MiB or GiB"),
    };
    let number: u64 = digits.parse().context("a size begins with a number")?;
    let size = number.checked_mul(1 << shift).context("so large a file there is not")?;
    ensure!(size >= 4096, "a file of less than 4KiB holds no records");
    Ok(size)
}

fn truth(text: &str) -> anyhow::Result<bool> {
    text.parse().ok().context("true or false is expected")
}

fn within(text: &str, range: RangeInclusive<usize>) -> anyhow::Result<usize> {
    let number = text.parse().ok().context("a number is expected")?;
    ensure!(range.contains(&number), "{} to {} is allowed", range.start(), range.end());
    Ok(number)
}
