//! The command line as typed: every flag parses to its final type. What the flags mean together is decided in
//! `config`; nothing here looks at the system.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "doc comments here are the help text, where brackets mean optional"
)]

mod agent;
mod cluster;
mod global;
mod list;
mod socket_words;
mod values;

use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use netsnoop_core::attribution::Rung;
use netsnoop_core::connection::RecordEvent;
use netsnoop_core::service::ServiceRule;

pub use agent::{AGENT_HELP, AgentArgs};
pub use cluster::{ClusterArgs, KubeServer};
pub use global::{ColorChoice, GlobalArgs};
pub use list::{KindArgs, LIST_HELP, ListArgs, ListFormat, PlaceArgs, ShowArgs, SortKey, SortOrder};
pub use socket_words::{Comparison, Condition, SocketWords, StateSet};
pub use values::{Place, PodName, UserSelector};
pub(crate) use values::{block as address_block, interval, listen_address};

use crate::sources::capture::ANY_INTERFACE;

/// What bare `netsnoop` prints.
pub const EXAMPLES: &str = "\
Which user, pod, container and process on this node talks to which service?

  netsnoop watch                                  every new connection, with both owners
  netsnoop watch --user alice tcp port 5432       alice's connections to PostgreSQL
  netsnoop list -tl --port 8080                   who listens on port 8080, in any namespace
  netsnoop agent --config netsnoop.yaml           who depends on which service, as metrics
  netsnoop compare                                what eBPF and /proc know of the same traffic
  netsnoop doctor                                 what this kernel and these privileges allow

Most of it needs root. `netsnoop help` lists everything.
";

const WATCH_HELP: &str = "\
Each line tells one connection: local time, protocol, owner of the client end, client -> server,
owner of the server end, service, evidence, and the state if it is not plainly established. -- in
place of -> means that nobody can say which end asked. An owner that nobody can name is shown in
parentheses with the reason, for example (remote).

EXAMPLES
  netsnoop watch                               every new connection of every network namespace
  netsnoop watch -i eth0 -c 10 tcp port 443    ten TLS connections seen on eth0
  netsnoop watch --pod tools/web-1             what this pod talks to, and who talks to it
  netsnoop watch --define redis=198.18.1.13:6379 --service redis
  netsnoop watch -o jsonl > connections.jsonl  records with a JSON Schema, for machines
  netsnoop watch --ebpf off                    packets and /proc only

FILTERS
  Repeating one owner filter widens it, naming several narrows it: --user a --user b --comm curl
  shows curl run by a or b. They match if one end of the connection fits all of them; --service
  looks at the connection. Put -- before an expression with words that begin with a dash.

ENVIRONMENT
  Options may also be given as NETSNOOP_ and their long name (NETSNOOP_OUTPUT=jsonl). Repeatable
  ones take a list with commas in both places. NO_COLOR stops colours.

EXIT CODES  0 done; 1 the run failed; 2 usage; 77 a privilege or kernel feature is missing.";

const COMPARE_HELP: &str = "\
Two ways look at the same packets at the same time: ebpf has the kernel programs and their socket
iterator, proc has sock_diag and the files of /proc. Neither is told what the other finds. For each
end of a connection that is on this node, the result says whether both name the same owner, only one
does and why the other does not, or they disagree; and how long each took from the first sight of a
connection to its owner. Connections that were there before are compared too, but not timed.

What crosses no interface that is captured on, as a pod's talk to itself, only eBPF can know:
it is counted with the reason not_captured, which is no fault of /proc.

EXAMPLES
  netsnoop compare                             ten seconds of everything
  netsnoop compare --duration 1m tcp port 443  a minute of TLS
  netsnoop compare --rung tp_btf --rung proc   these two against each other
  netsnoop compare -o json > compared.json     for machines (docs/schema/compare-v1.schema.json)

--rung chooses within each way: a way of which none is named keeps all of its own.

EXIT CODES  0 done, also if they disagree; 1 the run failed; 2 usage; 77 a privilege or kernel
            feature is missing, as when no kernel program works: there is nothing to compare then.";

const MAIN_HELP: &str = "\
Exit codes: 0 done; 1 the run failed; 2 usage; 77 a privilege or kernel feature is missing.";

/// Which user, pod, container and process on this node talks to which service?
#[derive(Parser, Clone, Debug)]
#[command(name = "netsnoop", version, long_version = LONG_VERSION, after_help = MAIN_HELP)]
#[command(about = "Which user, pod, container and process on this node talks to which service?", long_about = None)]
// As with tcpdump and ss, whose users type -nn: of what is said again the last counts.
#[command(args_override_self = true)]
pub struct Cli {
    /// What to do; without it, examples are shown.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options that every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
}

const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("NETSNOOP_COMMIT"),
    "\nfeatures: capture (libpcap), ebpf (embedded object), iterator, sock_diag, proc",
);

/// A command.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Show connections with the owners of both ends, as they happen
    Watch(Box<WatchArgs>),
    /// Show every socket of every network namespace with whoever holds it
    List(Box<ListArgs>),
    /// Count connections by user, pod and service, always on, for Prometheus and other machines
    Agent(Box<AgentArgs>),
    /// Run eBPF and /proc side by side on live traffic, and tell where their owners agree and differ
    Compare(Box<CompareArgs>),
    /// Tell what this kernel and these privileges allow, and the remedy for what they do not
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print a manual page
    #[command(hide = true)]
    Man {
        /// Of this command; of netsnoop itself if absent
        command: Option<String>,
    },
}

/// `netsnoop doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// How to print the result
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: ReportFormat,
}

/// `netsnoop watch`, with tcpdump's letters where tcpdump has them.
#[derive(Args, Clone, Debug)]
#[command(after_help = WATCH_HELP)]
pub struct WatchArgs {
    /// How packets are captured.
    #[command(flatten)]
    pub capture: CaptureArgs,
    /// Which ways of knowing are used.
    #[command(flatten)]
    pub knowing: KnowingArgs,
    /// What the cluster is asked.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Which connections are shown.
    #[command(flatten)]
    pub select: SelectArgs,
    /// End after this many connections
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    #[arg(env = "NETSNOOP_COUNT", hide_env = true, help_heading = "Connections")]
    pub count: Option<u64>,
    /// How they are shown.
    #[command(flatten)]
    pub print: PrintArgs,
    /// Only packets that this BPF expression matches (man 7 pcap-filter)
    #[arg(value_name = "EXPRESSION", env = "NETSNOOP_EXPRESSION", hide_env = true)]
    pub expression: Vec<String>,
}

/// `netsnoop compare`.
#[derive(Args, Clone, Debug)]
#[command(after_help = COMPARE_HELP)]
pub struct CompareArgs {
    /// Compare for this long; Ctrl-C ends it earlier, with the result so far
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::comparison_time)]
    #[arg(env = "NETSNOOP_DURATION", hide_env = true)]
    pub duration: Duration,
    /// How packets are captured.
    #[command(flatten)]
    pub capture: CaptureArgs,
    /// Which rungs are used.
    #[command(flatten)]
    pub rungs: RungArgs,
    /// Which connections are compared.
    #[command(flatten)]
    pub select: SelectArgs,
    /// How to print the result
    #[arg(short, long, value_name = "FORMAT", default_value = "text", help_heading = "Output")]
    pub output: ReportFormat,
    /// Print uids, not user names
    #[arg(short, long, value_parser = BoolishValueParser::new(), help_heading = "Output")]
    #[arg(env = "NETSNOOP_NUMERIC", hide_env = true)]
    pub numeric: bool,
    /// Only packets that this BPF expression matches (man 7 pcap-filter)
    #[arg(value_name = "EXPRESSION", env = "NETSNOOP_EXPRESSION", hide_env = true)]
    pub expression: Vec<String>,
}

/// Options of the capture.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Capture")]
pub struct CaptureArgs {
    /// Capture on this interface (repeatable); named, it shows only connections with packets there
    #[arg(short, long, value_name = "IFACE", value_delimiter = ',', default_value = ANY_INTERFACE)]
    #[arg(env = "NETSNOOP_INTERFACE", hide_env = true)]
    pub interface: Vec<String>,
    /// List the interfaces that packets can be captured on, and exit
    #[arg(short = 'D', long)]
    pub list_interfaces: bool,
    /// Take this many bytes of each packet; 0 is all of them
    #[arg(short, long, value_name = "BYTES", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=262_144), env = "NETSNOOP_SNAPSHOT_LENGTH", hide_env = true)]
    pub snapshot_length: u32,
    /// Let the kernel buffer this much for each interface
    #[arg(short = 'B', long, value_name = "KIB", default_value_t = 8192)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=2_097_151), env = "NETSNOOP_BUFFER_SIZE", hide_env = true)]
    pub buffer_size: u32,
    /// Put the interfaces into promiscuous mode
    #[arg(long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_PROMISC", hide_env = true)]
    pub promisc: bool,
    /// Accepted for tcpdump's sake: promiscuous mode is off unless --promisc is given
    #[arg(short = 'p', long, conflicts_with = "promisc")]
    pub no_promiscuous_mode: bool,
    /// Only packets going this way
    #[arg(
        short = 'Q',
        long,
        value_name = "WAY",
        default_value = "inout",
        env = "NETSNOOP_DIRECTION",
        hide_env = true
    )]
    pub direction: CaptureDirection,
}

/// Options about the ways of knowing.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Ways of knowing")]
pub struct KnowingArgs {
    /// Whether to use kernel programs: as far as they work, not at all, or not without them
    #[arg(long, value_name = "USE", default_value = "auto", env = "NETSNOOP_EBPF", hide_env = true)]
    pub ebpf: EbpfUse,
    /// Which rungs are used.
    #[command(flatten)]
    pub rungs: RungArgs,
}

/// Options about the rungs of the ladder.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Ways of knowing")]
pub struct RungArgs {
    /// Use only this rung of the ladder that `doctor` prints (repeatable)
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = values::rung())]
    #[arg(env = "NETSNOOP_RUNG", hide_env = true)]
    pub rung: Vec<Rung>,
    /// How long to wait for a better answer before a connection is shown
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = values::settle)]
    #[arg(env = "NETSNOOP_SETTLE", hide_env = true)]
    pub settle: Duration,
}

/// Options that choose by owner. To connections they mean one of the ends, to sockets whoever holds them.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Owners")]
pub struct OwnerArgs {
    /// Of this process (repeatable, as all below)
    #[arg(long, value_delimiter = ',', env = "NETSNOOP_PID", hide_env = true)]
    pub pid: Vec<u32>,
    /// Of a process of this name
    #[arg(long, value_name = "NAME", value_delimiter = ',', env = "NETSNOOP_COMM", hide_env = true)]
    pub comm: Vec<String>,
    /// Of a process of this user
    #[arg(long, value_name = "NAME|UID", value_delimiter = ',', env = "NETSNOOP_USER", hide_env = true)]
    pub user: Vec<UserSelector>,
    /// Of this container, by name or by four or more first characters of its id
    #[arg(long, value_name = "ID|NAME", value_delimiter = ',', env = "NETSNOOP_CONTAINER", hide_env = true)]
    pub container: Vec<String>,
    /// Of this pod
    #[arg(long, value_name = "NS/NAME", value_delimiter = ',', env = "NETSNOOP_POD", hide_env = true)]
    pub pod: Vec<PodName>,
}

/// Options that choose connections.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connections")]
pub struct SelectArgs {
    /// By the owner of an end.
    #[command(flatten)]
    pub owners: OwnerArgs,
    /// To this service, which --define has named
    #[arg(long, value_name = "NAME", value_delimiter = ',', env = "NETSNOOP_SERVICE", hide_env = true)]
    pub service: Vec<String>,
    /// Name a service: NAME=[CIDR][:PORT][/tcp|/udp], as redis=198.18.1.13:6379, db=[2001:db8::]/64:5432/tcp, dns=:53
    #[arg(long, value_name = "NAME=WHERE", value_delimiter = ',', value_parser = values::service_rule)]
    #[arg(env = "NETSNOOP_DEFINE", hide_env = true)]
    pub define: Vec<ServiceRule>,
}

/// Options of the output.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct PrintArgs {
    /// How to print connections
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    #[arg(env = "NETSNOOP_OUTPUT", hide_env = true)]
    pub output: OutputFormat,
    /// Which lines of a connection's life to print [default: open for text, all for jsonl]
    #[arg(long, value_delimiter = ',', value_parser = values::record_event(), env = "NETSNOOP_EVENTS", hide_env = true)]
    pub events: Vec<RecordEvent>,
    /// Print uids, not user names
    #[arg(short, long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_NUMERIC", hide_env = true)]
    pub numeric: bool,
    /// Write out every line at once, under load too
    #[arg(short, long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_LINE_BUFFERED", hide_env = true)]
    pub line_buffered: bool,
}

/// Packets going which way.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum CaptureDirection {
    /// Received.
    In,
    /// Sent.
    Out,
    /// Both.
    Inout,
}

/// Whether to use kernel programs.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum EbpfUse {
    /// As far as they work.
    Auto,
    /// Not at all.
    Off,
    /// Fail if none works.
    Require,
}

/// How connections are printed.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutputFormat {
    /// An aligned line each.
    Text,
    /// A JSON object each (docs/schema/connection-v1.schema.json).
    Jsonl,
}

/// How the result of `doctor` and `compare` is printed.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReportFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_said_again_overrides_and_what_is_a_list_grows() {
        let parse = |line: &str| Cli::try_parse_from(line.split_whitespace()).unwrap().command.unwrap();
        let Command::List(list) = parse("netsnoop list -tt -nn -o json -o jsonl --port 1 --port 2,3") else {
            panic!("another command")
        };
        assert!(list.kinds.tcp && list.show.numeric);
        assert_eq!((list.show.output, list.places.port), (ListFormat::Jsonl, vec![1, 2, 3]));
        assert!(matches!(parse("netsnoop watch -nn -i lo"), Command::Watch(_)));
    }

    #[test]
    fn the_examples_and_the_documentation_name_only_what_there_is() {
        let mut cli = Cli::command();
        cli.build();
        let options: BTreeSet<String> = cli
            .get_subcommands()
            .flat_map(clap::Command::get_arguments)
            .filter_map(|arg| arg.get_long().map(str::to_owned))
            .collect();
        let check = |text: &str| {
            // The options of what builds and installs it are not netsnoop's.
            let lines = text
                .lines()
                .filter(|line| !["cargo xtask", "helm "].iter().any(|other| line.contains(other)));
            let words = lines.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-'));
            for option in words
                .filter_map(|word| word.strip_prefix("--"))
                .filter(|option| option.starts_with(char::is_alphabetic))
            {
                assert!(options.contains(option), "--{option}");
            }
        };
        check(EXAMPLES);
        check(WATCH_HELP);
        check(COMPARE_HELP);
        check(LIST_HELP);
        check(AGENT_HELP);
        check(include_str!("../../README.md"));
    }

    #[test]
    fn examples_parse() {
        let commands =
            |text: &'static str| text.lines().filter_map(|line| line.trim().strip_prefix("netsnoop "));
        for command in
            [EXAMPLES, WATCH_HELP, COMPARE_HELP, LIST_HELP, AGENT_HELP].into_iter().flat_map(commands)
        {
            // Two spaces begin the explanation, and the shell takes what follows `>`.
            let command = command.split("  ").next().unwrap().split(" > ").next().unwrap();
            let words = ["netsnoop"].into_iter().chain(command.split_whitespace());
            assert!(Cli::try_parse_from(words).is_ok(), "{command}");
        }
    }
}
