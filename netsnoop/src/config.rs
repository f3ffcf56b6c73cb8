//! What was decided from the command line: the only input of `pipeline`. Arguments, environment and terminal are
//! looked at here and nowhere later. What needs the node's files (user names) is left to those who read them.

mod agent;
mod cluster;
mod list;

use std::env;
use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{anyhow, bail, ensure};
use jiff::tz::TimeZone;
use netsnoop_core::attribution::{Rung, RungSet};
use netsnoop_core::connection::RecordEvent;
use netsnoop_core::packet::Direction;
use netsnoop_core::service::Services;

use crate::cli::{
    CaptureArgs, CaptureDirection, ColorChoice, CompareArgs, EbpfUse, GlobalArgs, KnowingArgs, OutputFormat,
    OwnerArgs, PodName, PrintArgs, ReportFormat, RungArgs, SelectArgs, UserSelector, WatchArgs,
};
use crate::failure::Failure;
use crate::sources::capture::ANY_INTERFACE;
use crate::sources::cluster::ClusterSettings;
use crate::sources::runtimes::{LabelKeys, RuntimeSettings, RuntimeSockets};

pub use agent::{
    AgentConfig, AgentSettings, JsonlSettings, Limits, OutputSettings, PeriodicFile, UserPattern, UserRules,
    parse as parse_agent_settings, read as read_agent_settings,
};
pub use list::{ListConfig, ListQuestion, ListShow};

/// What libpcap takes for "all of a packet" (MAXIMUM_SNAPLEN of tcpdump).
const WHOLE_PACKET: u32 = 262_144;

/// What is opened: where to capture, and which ways of knowing may be used.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Where to capture; `any` is all of the own namespace. Each once.
    pub interfaces: Vec<String>,
    /// Bytes to take of each packet, at least 1.
    pub snapshot_length: u32,
    /// Bytes the kernel may buffer for each interface; fits libpcap's `int`.
    pub buffer_bytes: u32,
    /// Whether to ask for promiscuous mode.
    pub promiscuous: bool,
    /// Packets going which way; [`Direction::Unknown`] is both.
    pub direction: Direction,
    /// The user's BPF expression.
    pub filter: Option<String>,
    /// The rungs that may be used.
    pub rungs: RungSet,
    /// The rungs of the way that runs beside for comparison, if one does. None is a kernel program.
    pub compared_with: Option<RungSet>,
    /// Whether the rungs were named one by one: those that fail are then a failure of the run.
    pub explicit_rungs: bool,
    /// Whether to fail if no kernel program works.
    pub ebpf_required: bool,
    /// How long a connection waits for its owners before it is shown.
    pub settle: Duration,
    /// The named services.
    pub services: Services,
    /// Whether what containers call their users is told, so that their passwd files are read.
    pub container_users: bool,
    /// The node's proc file system.
    pub proc_root: PathBuf,
    /// Who is asked for names of containers, and for which labels.
    pub runtimes: RuntimeSettings,
    /// Which API server is asked for names of pods and services elsewhere, if one is.
    pub cluster: Option<ClusterSettings>,
    /// 0 warnings, 1 what is going on, 2 and more the kernel programs' own words too.
    pub verbosity: u8,
}

/// What `netsnoop watch` is to do.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// What is opened.
    pub sources: SourceConfig,
    /// Which connections are shown.
    pub owners: OwnerSelectors,
    /// How many connections are shown before the end.
    pub count: Option<u64>,
    /// How they are shown.
    pub output: OutputConfig,
}

/// Which connections are shown; an empty list asks for nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnerSelectors {
    /// With one of these processes at an end.
    pub pids: Vec<u32>,
    /// With a process of one of these names at an end.
    pub comms: Vec<String>,
    /// With a process of one of these users at an end.
    pub users: Vec<UserSelector>,
    /// With one of these containers at an end.
    pub containers: Vec<String>,
    /// With one of these pods at an end.
    pub pods: Vec<PodName>,
    /// To one of these services.
    pub services: Vec<String>,
}

/// How connections are shown.
#[derive(Clone, Debug)]
pub struct OutputConfig {
    /// The format.
    pub format: OutputFormat,
    /// Which lines of a connection's life.
    pub events: RecordEvents,
    /// Whether user names are left out.
    pub numeric: bool,
    /// Whether lines are coloured.
    pub color: bool,
    /// Whether each line is written out at once, under load too.
    pub line_buffered: bool,
    /// The zone that text output's times are in.
    pub time_zone: TimeZone,
}

/// A set of record events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordEvents {
    open: bool,
    update: bool,
    close: bool,
}

impl RecordEvents {
    /// Those in `events`.
    pub fn new(events: &[RecordEvent]) -> Self {
        Self {
            open: events.contains(&RecordEvent::Open),
            update: events.contains(&RecordEvent::Update),
            close: events.contains(&RecordEvent::Close),
        }
    }

    /// Whether `event` is in.
    pub const fn contains(self, event: RecordEvent) -> bool {
        match event {
            RecordEvent::Open => self.open,
            RecordEvent::Update => self.update,
            RecordEvent::Close => self.close,
        }
    }
}

/// What `netsnoop compare` is to do.
#[derive(Clone, Debug)]
pub struct CompareConfig {
    /// What is opened.
    pub sources: SourceConfig,
    /// Which connections are compared.
    pub owners: OwnerSelectors,
    /// For how long.
    pub duration: Duration,
    /// How the result is printed.
    pub format: ReportFormat,
    /// Whether user names are left out.
    pub numeric: bool,
    /// Whether it is coloured.
    pub color: bool,
}

impl WatchConfig {
    /// Decides. What contradicts itself is a usage failure.
    pub fn decide(args: WatchArgs, global: &GlobalArgs) -> Result<Self, Failure> {
        let WatchArgs { capture, knowing, cluster, select, count, print, expression } = args;
        let knowing = Knowing::of_watch(&knowing).map_err(Failure::usage)?;
        let (services, owners) = selection(select).map_err(Failure::usage)?;
        let output = output(&print, global.color);
        let mut sources = SourceConfig::decide((capture, expression), knowing, services, global);
        sources.container_users = output.format == OutputFormat::Jsonl && !output.numeric;
        sources.cluster = cluster::cluster(cluster, global)?;
        Ok(Self { sources, owners, count, output })
    }
}

impl CompareConfig {
    /// Decides. What contradicts itself is a usage failure.
    pub fn decide(args: CompareArgs, global: &GlobalArgs) -> Result<Self, Failure> {
        let CompareArgs { duration, capture, rungs, select, output, numeric, expression } = args;
        let (services, owners) = selection(select).map_err(Failure::usage)?;
        let knowing = Knowing::of_both_ways(&rungs);
        Ok(Self {
            sources: SourceConfig::decide((capture, expression), knowing, services, global),
            owners,
            duration,
            format: output,
            numeric,
            color: is_colored(global.color),
        })
    }
}

/// Which rungs may be used, which must work, and how long they are waited for.
struct Knowing {
    rungs: RungSet,
    compared_with: Option<RungSet>,
    explicit_rungs: bool,
    ebpf_required: bool,
    settle: Duration,
}

impl Knowing {
    fn of_watch(knowing: &KnowingArgs) -> anyhow::Result<Self> {
        Ok(Self {
            rungs: allowed_rungs(knowing)?,
            compared_with: None,
            explicit_rungs: !knowing.rungs.rung.is_empty(),
            ebpf_required: knowing.ebpf == EbpfUse::Require,
            settle: knowing.rungs.settle,
        })
    }

    /// `--rung` chooses within each way; a way of which none is named keeps all of its own.
    fn of_both_ways(args: &RungArgs) -> Self {
        let chosen = |is_its_own: fn(Rung) -> bool| {
            let named = args.rung.iter().copied().filter(|rung| is_its_own(*rung)).collect::<Vec<_>>();
            let all = Rung::ALL.into_iter().filter(|rung| is_its_own(*rung)).collect();
            let mut rungs = RungSet::EMPTY;
            let chosen: Vec<Rung> = if named.is_empty() { all } else { named };
            chosen.into_iter().for_each(|rung| rungs.insert(rung));
            rungs
        };
        Self {
            rungs: chosen(needs_ebpf),
            compared_with: Some(chosen(|rung| !needs_ebpf(rung))),
            explicit_rungs: args.rung.iter().copied().any(needs_ebpf),
            ebpf_required: true,
            settle: args.settle,
        }
    }
}

impl SourceConfig {
    /// Whether single interfaces were asked for rather than all.
    pub fn names_interfaces(&self) -> bool {
        self.interfaces != [ANY_INTERFACE]
    }

    fn decide(
        (capture, expression): (CaptureArgs, Vec<String>),
        knowing: Knowing,
        services: Services,
        global: &GlobalArgs,
    ) -> Self {
        let filter = expression.join(" ");
        let filter = filter.trim();
        Self {
            snapshot_length: if capture.snapshot_length == 0 {
                WHOLE_PACKET
            } else {
                capture.snapshot_length
            },
            buffer_bytes: capture.buffer_size * 1024,
            promiscuous: capture.promisc,
            direction: direction(capture.direction),
            interfaces: interfaces(capture),
            filter: (!filter.is_empty()).then(|| filter.to_owned()),
            rungs: knowing.rungs,
            compared_with: knowing.compared_with,
            explicit_rungs: knowing.explicit_rungs,
            ebpf_required: knowing.ebpf_required,
            settle: knowing.settle,
            services,
            container_users: false,
            proc_root: global.proc_root.clone(),
            runtimes: runtimes(global),
            cluster: None,
            verbosity: global.verbose,
        }
    }
}

/// Who is asked for names of containers.
pub fn runtimes(global: &GlobalArgs) -> RuntimeSettings {
    let sockets = match global.runtime_socket.as_slice() {
        [] => RuntimeSockets::Usual,
        [one] if one.as_os_str() == "none" => RuntimeSockets::Only(Vec::new()),
        named => RuntimeSockets::Only(named.to_vec()),
    };
    RuntimeSettings { sockets, labels: LabelKeys::new(&global.pod_label) }
}

fn interfaces(capture: CaptureArgs) -> Vec<String> {
    let mut interfaces = Vec::new();
    for name in capture.interface {
        if !interfaces.contains(&name) {
            interfaces.push(name);
        }
    }
    interfaces
}

const fn direction(way: CaptureDirection) -> Direction {
    match way {
        CaptureDirection::In => Direction::In,
        CaptureDirection::Out => Direction::Out,
        CaptureDirection::Inout => Direction::Unknown,
    }
}

/// Whether a rung is a kernel program of ours.
const fn needs_ebpf(rung: Rung) -> bool {
    !matches!(rung, Rung::SockDiag | Rung::Proc)
}

fn allowed_rungs(knowing: &KnowingArgs) -> anyhow::Result<RungSet> {
    let named = knowing.rungs.rung.as_slice();
    let candidates = if named.is_empty() { Rung::ALL.as_slice() } else { named };
    let mut rungs = RungSet::EMPTY;
    for rung in candidates.iter().copied() {
        if knowing.ebpf != EbpfUse::Off || !needs_ebpf(rung) {
            rungs.insert(rung);
        } else if !named.is_empty() {
            bail!(
                "--rung {} is a kernel program, and --ebpf off forbids it: leave one of them out",
                rung.name()
            );
        }
    }
    if knowing.ebpf == EbpfUse::Require && !rungs.iter().any(needs_ebpf) {
        bail!(
            "--ebpf require needs a --rung that is a kernel program: leave --rung out, or name one of them"
        );
    }
    Ok(rungs)
}

fn selection(select: SelectArgs) -> anyhow::Result<(Services, OwnerSelectors)> {
    let services = Services::new(select.define);
    if let Some(unknown) = select.service.iter().find(|name| !services.knows(name)) {
        return Err(anyhow!(
            "--service {unknown}: no such service; name it with --define {unknown}=CIDR:PORT"
        ));
    }
    Ok((services, OwnerSelectors { services: select.service, ..owners(select.owners)? }))
}

fn owners(args: OwnerArgs) -> anyhow::Result<OwnerSelectors> {
    ensure!(
        args.container.iter().all(|name| !name.is_empty()),
        "--container '': a name or the beginning of an id is expected"
    );
    Ok(OwnerSelectors {
        pids: args.pid,
        comms: args.comm,
        users: args.user,
        containers: args.container,
        pods: args.pod,
        services: Vec::new(),
    })
}

fn output(print: &PrintArgs, color: ColorChoice) -> OutputConfig {
    let events = match (print.events.as_slice(), print.output) {
        ([], OutputFormat::Text) => [RecordEvent::Open].as_slice(),
        ([], OutputFormat::Jsonl) => RecordEvent::ALL.as_slice(),
        (named, _) => named,
    };
    OutputConfig {
        format: print.output,
        events: RecordEvents::new(events),
        numeric: print.numeric,
        color: is_colored(color),
        line_buffered: print.line_buffered,
        time_zone: TimeZone::system(),
    }
}

fn is_colored(choice: ColorChoice) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => terminal_takes_color(),
    }
}

/// NO_COLOR with any value but the empty one asks for none (no-color.org).
fn terminal_takes_color() -> bool {
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_some_and(|value| value == "dumb");
    stdout().is_terminal() && !refused && !dumb
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::failure::FailureKind;

    fn decide(line: &str) -> Result<WatchConfig, Failure> {
        let words = ["netsnoop", "watch"].into_iter().chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(Failure::usage)?;
        match cli.command {
            Some(Command::Watch(args)) => WatchConfig::decide(*args, &cli.global),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_asked_for_is_everything_live() {
        let config = decide("").unwrap();
        assert_eq!(config.sources.interfaces, ["any"]);
        assert_eq!((config.sources.snapshot_length, config.sources.buffer_bytes), (256, 8 << 20));
        assert_eq!((config.sources.promiscuous, config.sources.direction), (false, Direction::Unknown));
        assert_eq!(config.sources.filter, None);
        assert_eq!(
            (config.sources.rungs, config.sources.explicit_rungs, config.sources.ebpf_required),
            (RungSet::ALL, false, false)
        );
        assert_eq!(config.sources.settle, Duration::from_millis(100));
        assert_eq!(config.owners, OwnerSelectors::default());
        assert_eq!(config.output.events, RecordEvents::new(&[RecordEvent::Open]));
        assert_eq!(config.sources.proc_root, PathBuf::from("/proc"));
    }

    #[test]
    fn the_expression_is_last_or_between_and_the_letters_are_those_of_tcpdump() {
        let config = decide(
            "-i eth0 -i lo,eth0 -s 0 -B 1024 -p -Q in -n -l -c 3 tcp port 443 and not host 198.18.0.1 -v",
        );
        let config = config.unwrap();
        assert_eq!(config.sources.interfaces, ["eth0", "lo"]);
        assert_eq!((config.sources.snapshot_length, config.sources.buffer_bytes), (WHOLE_PACKET, 1 << 20));
        assert_eq!(config.sources.filter.as_deref(), Some("tcp port 443 and not host 198.18.0.1"));
        assert_eq!((config.count, config.sources.verbosity), (Some(3), 1));
        assert!(config.output.numeric && config.output.line_buffered);
        assert_eq!(decide("-- -1 < tcp[0]").unwrap().sources.filter.as_deref(), Some("-1 < tcp[0]"));
    }

    #[test]
    fn rungs_are_those_named_and_allowed() {
        let check = |line: &str, expected: &[Rung], explicit| {
            let config = decide(line).unwrap();
            assert_eq!(config.sources.rungs.iter().collect::<Vec<_>>(), expected, "{line}");
            assert_eq!(config.sources.explicit_rungs, explicit, "{line}");
        };
        check("--ebpf off", &[Rung::SockDiag, Rung::Proc], false);
        check("--rung proc --rung sockops", &[Rung::Sockops, Rung::Proc], true);
        check("--ebpf off --rung proc", &[Rung::Proc], true);
        check("--ebpf require --rung tp_btf,proc", &[Rung::TpBtf, Rung::Proc], true);
    }

    #[test]
    fn compare_has_all_of_each_way_of_which_no_rung_is_named() {
        let check = |line: &str, main: &[Rung], tables: &[Rung], explicit: bool| {
            let words = ["netsnoop", "compare"].into_iter().chain(line.split_whitespace());
            let cli = Cli::try_parse_from(words).unwrap();
            let Some(Command::Compare(args)) = cli.command else { panic!("{line}") };
            let sources = CompareConfig::decide(*args, &cli.global).unwrap().sources;
            assert_eq!(sources.rungs.iter().collect::<Vec<_>>(), main, "{line}");
            assert_eq!(sources.compared_with.unwrap().iter().collect::<Vec<_>>(), tables, "{line}");
            assert_eq!((sources.explicit_rungs, sources.ebpf_required), (explicit, true), "{line}");
        };
        let (programs, tables) = Rung::ALL.split_at(6);
        check("", programs, tables, false);
        check("--rung tp_btf", &[Rung::TpBtf], tables, true);
        check("--rung proc", programs, &[Rung::Proc], false);
        check("--rung proc,sockops", &[Rung::Sockops], &[Rung::Proc], true);
    }

    #[test]
    fn events_follow_the_format_unless_named() {
        let check = |line: &str, expected: &[RecordEvent]| {
            assert_eq!(decide(line).unwrap().output.events, RecordEvents::new(expected), "{line}");
        };
        check("-o jsonl", &RecordEvent::ALL);
        check("-o text --events open,close", &[RecordEvent::Open, RecordEvent::Close]);
        check("-o jsonl --events update", &[RecordEvent::Update]);
    }

    #[test]
    fn what_cannot_be_meant_is_a_usage_failure_that_names_the_flag() {
        let check = |line: &str, named: &str| {
            let failure = decide(line).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Usage, "{line}");
            assert!(failure.to_string().contains(named), "{line}: {failure}");
        };
        check("--service redis", "--define redis=");
        check("--ebpf off --rung kprobe", "--rung kprobe");
        check("--ebpf require --rung proc", "--ebpf require");
        check("--rung nfqueue", "--rung");
        check("-p --promisc", "--promisc");
        check("-c 0", "--count");
        check("--settle 5", "--settle");
        check("--user=", "--user");
        check("--container=", "--container");
        check("-s 262145", "--snapshot-length");
        check("--pid x", "--pid");
        check("--no-such-flag", "--no-such-flag");
    }

    #[test]
    fn every_option_of_watch_is_mirrored_in_the_environment() {
        use clap::CommandFactory;
        let cli = Cli::command();
        let watch = cli.find_subcommand("watch").unwrap();
        // Asking for a list, and a flag that does nothing, are no settings.
        let exempt = ["help", "version", "list_interfaces", "no_promiscuous_mode"];
        for arg in watch.get_arguments().chain(cli.get_arguments()) {
            if exempt.contains(&arg.get_id().as_str()) {
                continue;
            }
            let name = arg.get_long().unwrap_or(arg.get_id().as_str());
            let mirror = format!("NETSNOOP_{}", name.replace('-', "_").to_uppercase());
            assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(mirror.as_str()), "{name}");
        }
    }
}
