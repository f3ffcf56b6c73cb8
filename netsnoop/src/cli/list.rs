//! `netsnoop list` as typed, with the letters of ss where ss has them.

use std::time::Duration;

use anyhow::Context;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, ValueEnum};
use netsnoop_core::attribution::Rung;
use netsnoop_core::service::Cidr;

use super::OwnerArgs;
use super::values::{self, Place};

/// What stands below the options of `netsnoop list --help`.
pub const LIST_HELP: &str = "\
Shows the sockets of all network namespaces of the node, each with every process that holds it. What
nobody holds says why: (time_wait), (orphan), (awaits_accept) and so on. Letters are those of ss;
without -l or a state all sockets are shown, as with ss -a. What could not be seen is told at the end.

FILTER  [state NAME | exclude NAME]... [EXPRESSION]
  NAME is a TCP state (established, syn-sent, syn-recv, fin-wait-1, fin-wait-2, time-wait, closed,
  close-wait, last-ack, listening, closing), all, connected (neither listening nor closed),
  synchronized (connected, but not syn-sent), bucket (time-wait, syn-recv) or big (the others).
  EXPRESSION is made of src WHERE, dst WHERE, sport = :PORT and dport = :PORT (also != < > <= >=)
  with and, or, not and parentheses. WHERE is ADDRESS[/PREFIX][:PORT], :PORT or the path of a Unix
  socket, in which * stands for anything; @ begins an abstract name.

EXAMPLES
  netsnoop list                              every socket of every namespace
  netsnoop list -tl --port 8080              who listens on port 8080?
  netsnoop list --who 198.18.1.13:6379       who holds this address, and who talks to it?
  netsnoop list dst 198.18.0.0/15            which pods talk to these addresses?
  netsnoop list --pid 4711                   what does this process hold?
  netsnoop list --pod tools/web-1 -t state established
  netsnoop list --summary                    which namespaces are there, and who is in them?
  netsnoop list --who /run/dbus/system_bus_socket
  netsnoop list -t --sort=-recv-q            whose programs do not read what they are sent?
  netsnoop list -tu --watch 2                what comes (+), changes (~) and goes (-)
  netsnoop list -o json > sockets.json       for machines (docs/schema/socket-v1.schema.json)

It works without privileges for your own processes, and inside a container for that container's.

EXIT CODES  0 done, also if nothing was found; 1 the run failed; 2 usage; 77 the way that --via
            names is not to be had here.";

/// `netsnoop list`, with ss's letters where ss has them.
#[derive(Args, Clone, Debug)]
#[command(after_help = LIST_HELP)]
pub struct ListArgs {
    /// Which kinds of sockets.
    #[command(flatten)]
    pub kinds: KindArgs,
    /// Where they are.
    #[command(flatten)]
    pub places: PlaceArgs,
    /// Who holds them.
    #[command(flatten)]
    pub owners: OwnerArgs,
    /// How they are shown.
    #[command(flatten)]
    pub show: ShowArgs,
    /// Read them this way only [default: the first that works]
    #[arg(long, value_name = "WAY", value_parser = values::listing_way())]
    #[arg(env = "NETSNOOP_VIA", hide_env = true, help_heading = "Ways of knowing")]
    pub via: Option<Rung>,
    /// States and addresses, as ss takes them; see below
    #[arg(value_name = "FILTER", env = "NETSNOOP_FILTER", hide_env = true)]
    pub filter: Vec<String>,
}

/// Options that choose kinds and states. Naming several kinds shows them all.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Kinds")]
pub struct KindArgs {
    /// TCP sockets, MPTCP too
    #[arg(short, long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_TCP", hide_env = true)]
    pub tcp: bool,
    /// UDP sockets
    #[arg(short, long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_UDP", hide_env = true)]
    pub udp: bool,
    /// UDP-Lite sockets
    #[arg(long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_UDPLITE", hide_env = true)]
    pub udplite: bool,
    /// SCTP sockets
    #[arg(short = 'S', long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_SCTP", hide_env = true)]
    pub sctp: bool,
    /// DCCP sockets
    #[arg(short, long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_DCCP", hide_env = true)]
    pub dccp: bool,
    /// Raw IP sockets, and the echo sockets of ping
    #[arg(short = 'w', long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_RAW", hide_env = true)]
    pub raw: bool,
    /// Packet sockets
    #[arg(short = '0', long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_PACKET", hide_env = true)]
    pub packet: bool,
    /// Unix sockets
    #[arg(short = 'x', long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_UNIX", hide_env = true)]
    pub unix: bool,
    /// Netlink sockets
    #[arg(long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_NETLINK", hide_env = true)]
    pub netlink: bool,
    /// Vsock sockets
    #[arg(long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_VSOCK", hide_env = true)]
    pub vsock: bool,
    /// IPv4 sockets only
    #[arg(short = '4', long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_IPV4", hide_env = true)]
    pub ipv4: bool,
    /// IPv6 sockets only
    #[arg(short = '6', long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_IPV6", hide_env = true)]
    pub ipv6: bool,
    /// Those that listen, or are bound and not connected
    #[arg(short, long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_LISTENING", hide_env = true)]
    pub listening: bool,
    /// In any state: what is shown without -l and a state, too
    #[arg(short, long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_ALL", hide_env = true)]
    pub all: bool,
}

/// Options that choose places.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Places")]
pub struct PlaceArgs {
    /// Who holds this? Sockets with this at either end, and those bound to any address where it is local
    #[arg(long, value_name = "ADDRESS:PORT|PATH", env = "NETSNOOP_WHO", hide_env = true)]
    pub who: Option<Place>,
    /// With this port at either end (repeatable, as all below)
    #[arg(long, value_delimiter = ',', value_parser = values::parse_port, env = "NETSNOOP_PORT", hide_env = true)]
    pub port: Vec<u16>,
    /// With an address of this block at either end
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = values::block)]
    #[arg(env = "NETSNOOP_ADDRESS", hide_env = true)]
    pub address: Vec<Cidr>,
    /// In this network namespace: a name of `ip netns`, a pod as NS/NAME, or the inode of /proc/PID/ns/net
    #[arg(long, value_name = "NAME|INODE", value_delimiter = ',', env = "NETSNOOP_NETNS", hide_env = true)]
    pub netns: Vec<String>,
}

/// Options of the output.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct ShowArgs {
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    #[arg(env = "NETSNOOP_OUTPUT", hide_env = true)]
    pub output: ListFormat,
    /// Print namespaces in place of sockets: their names, processes, users, containers and sockets by state
    #[arg(short, long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_SUMMARY", hide_env = true)]
    pub summary: bool,
    /// Sort by netid, state, recv-q, send-q, local, peer, port, user, netns, container, process or pid; a dash before it
    /// is for the other way round (--sort=-recv-q)
    #[arg(long, value_name = "KEY", value_delimiter = ',', allow_hyphen_values = true, value_parser = sort_order)]
    #[arg(env = "NETSNOOP_SORT", hide_env = true)]
    pub sort: Vec<SortOrder>,
    /// Look again and again, and mark what has come (+), changed (~) and gone (-)
    #[arg(long, value_name = "SECS", value_parser = values::pause, env = "NETSNOOP_WATCH", hide_env = true)]
    pub watch: Option<Duration>,
    /// Print inodes, cookies and descriptors too
    #[arg(short, long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_EXTENDED", hide_env = true)]
    pub extended: bool,
    /// Print uids, not user names
    #[arg(short, long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_NUMERIC", hide_env = true)]
    pub numeric: bool,
    /// Print no header
    #[arg(short = 'H', long, value_parser = BoolishValueParser::new(), env = "NETSNOOP_NO_HEADER", hide_env = true)]
    pub no_header: bool,
    /// Accepted for ss's sake: processes are always shown
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub processes: bool,
}

/// How sockets are printed.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListFormat {
    /// A table.
    Text,
    /// One JSON object with sockets, namespaces and what could not be seen (docs/schema/socket-v1.schema.json).
    Json,
    /// A JSON object for each socket.
    Jsonl,
}

/// What sockets are sorted by.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum SortKey {
    /// Kind of socket.
    Netid,
    /// State.
    State,
    /// Bytes or connections waiting to be taken.
    RecvQ,
    /// Bytes waiting to be sent.
    SendQ,
    /// Local address and port.
    Local,
    /// Peer's address and port.
    Peer,
    /// Local port.
    Port,
    /// User, by uid.
    User,
    /// Network namespace, by inode.
    Netns,
    /// Pod or container.
    Container,
    /// Name of the first process that holds it.
    Process,
    /// Pid of that process.
    Pid,
}

/// A key and which way round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SortOrder {
    /// The key.
    pub key: SortKey,
    /// Whether the largest comes first.
    pub descending: bool,
}

/// Parses a key with an optional dash before it.
fn sort_order(text: &str) -> anyhow::Result<SortOrder> {
    let (name, descending) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
    let keys = SortKey::value_variants().iter().filter_map(|key| Some((*key, key.to_possible_value()?)));
    let names: Vec<String> = keys.clone().map(|(_, value)| value.get_name().to_owned()).collect();
    let found = keys.into_iter().find(|(_, value)| value.get_name() == name);
    found
        .map(|(key, _)| SortOrder { key, descending })
        .with_context(|| format!("one of {} is expected", names.join(", ")))
}
