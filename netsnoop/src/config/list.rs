//! What `netsnoop list` is to do, decided from the command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use netsnoop_core::attribution::Rung;
use netsnoop_core::inventory::{ProtocolGroup, ProtocolSet};
use netsnoop_core::service::Cidr;

use super::{OwnerSelectors, is_colored, owners, runtimes};
use crate::cli::{
    Condition, GlobalArgs, KindArgs, ListArgs, ListFormat, Place, PlaceArgs, SocketWords, SortOrder, StateSet,
};
use crate::failure::Failure;
use crate::sources::runtimes::RuntimeSettings;

/// Kinds with addresses and ports of the Internet protocols.
const INTERNET: [ProtocolGroup; 7] = [
    ProtocolGroup::Tcp,
    ProtocolGroup::Udp,
    ProtocolGroup::UdpLite,
    ProtocolGroup::Dccp,
    ProtocolGroup::Sctp,
    ProtocolGroup::Icmp,
    ProtocolGroup::Raw,
];

/// What `netsnoop list` is to do.
#[derive(Clone, Debug)]
pub struct ListConfig {
    /// The node's proc file system.
    pub proc_root: PathBuf,
    /// Who is asked for names of containers, and for which labels.
    pub runtimes: RuntimeSettings,
    /// The way to read sockets; `None` is the first that works.
    pub via: Option<Rung>,
    /// Which sockets are shown.
    pub question: ListQuestion,
    /// How they are shown.
    pub show: ListShow,
    /// How long to wait before looking again; `None` looks once.
    pub watch: Option<Duration>,
    /// Whether sockets that come and go in the ordinary course of things are worth a word.
    pub verbose: bool,
}

/// Which sockets are shown. What is empty or `None` asks for nothing.
#[derive(Clone, Debug)]
pub struct ListQuestion {
    /// Of these kinds.
    pub protocols: ProtocolSet,
    /// Of IPv4 (`true`) or IPv6 only.
    pub only_v4: Option<bool>,
    /// In one of these states.
    pub states: StateSet,
    /// That fulfil this.
    pub condition: Option<Condition>,
    /// With this at either end, or bound to any address where this one is local.
    pub who: Option<Place>,
    /// With one of these ports at either end.
    pub ports: Vec<u16>,
    /// With an address of one of these blocks at either end.
    pub addresses: Vec<Cidr>,
    /// In one of these namespaces, by name or inode.
    pub namespaces: Vec<String>,
    /// Held by one of these.
    pub owners: OwnerSelectors,
}

/// How sockets are shown.
#[derive(Clone, Debug)]
pub struct ListShow {
    /// The format.
    pub format: ListFormat,
    /// Whether namespaces are shown in place of sockets.
    pub summary: bool,
    /// What sockets are sorted by, before the usual order.
    pub sort: Vec<SortOrder>,
    /// Whether inodes, cookies and descriptors are shown.
    pub extended: bool,
    /// Whether user names are left out.
    pub numeric: bool,
    /// Whether there is a header.
    pub header: bool,
    /// Whether it is coloured.
    pub color: bool,
    /// Whether a new look takes the place of the last one, as on a terminal, and is not written below it.
    pub redraw: bool,
}

impl ListConfig {
    /// Decides. What contradicts itself is a usage failure.
    pub fn decide(args: ListArgs, global: &GlobalArgs) -> Result<Self, Failure> {
        decide(args, global).map_err(Failure::usage)
    }
}

fn decide(args: ListArgs, global: &GlobalArgs) -> anyhow::Result<ListConfig> {
    let ListArgs { kinds, places, owners: owner_args, show, via, filter } = args;
    let words = SocketWords::parse(&filter)?;
    ensure!(
        show.watch.is_none() || (show.output != ListFormat::Jsonl && !show.summary),
        "--watch marks differences in whole looks at sockets: it goes neither with -o jsonl (use -o json, an object a \
         look) nor with --summary",
    );
    let question = ListQuestion {
        only_v4: (kinds.ipv4 != kinds.ipv6).then_some(kinds.ipv4),
        protocols: protocols(&kinds, &places, &words),
        states: words.states.unwrap_or(states_of_letters(&kinds)),
        condition: words.condition,
        who: places.who,
        ports: places.port,
        addresses: places.address,
        namespaces: places.netns,
        owners: owners(owner_args)?,
    };
    let color = is_colored(global.color);
    Ok(ListConfig {
        proc_root: global.proc_root.clone(),
        runtimes: runtimes(global),
        via,
        question,
        show: ListShow {
            format: show.output,
            summary: show.summary,
            sort: show.sort,
            extended: show.extended,
            numeric: show.numeric,
            header: !show.no_header,
            color,
            redraw: std::io::IsTerminal::is_terminal(&std::io::stdout()),
        },
        watch: show.watch,
        verbose: global.verbose > 0,
    })
}

const fn states_of_letters(kinds: &KindArgs) -> StateSet {
    if kinds.listening && !kinds.all { StateSet::LISTENING } else { StateSet::ALL }
}

/// The kinds that were named; else those that can have what else was named, which spares reading the others.
fn protocols(kinds: &KindArgs, places: &PlaceArgs, words: &SocketWords) -> ProtocolSet {
    let named = [
        (kinds.tcp, ProtocolGroup::Tcp),
        (kinds.udp, ProtocolGroup::Udp),
        (kinds.udplite, ProtocolGroup::UdpLite),
        (kinds.sctp, ProtocolGroup::Sctp),
        (kinds.dccp, ProtocolGroup::Dccp),
        (kinds.raw, ProtocolGroup::Raw),
        (kinds.raw, ProtocolGroup::Icmp),
        (kinds.packet, ProtocolGroup::Packet),
        (kinds.unix, ProtocolGroup::Unix),
        (kinds.netlink, ProtocolGroup::Netlink),
        (kinds.vsock, ProtocolGroup::Vsock),
    ];
    let named: Vec<_> = named.into_iter().filter(|(is_named, _)| *is_named).map(|(_, group)| group).collect();
    if !named.is_empty() {
        return set_of(&named);
    }
    let asks_for_addresses =
        kinds.ipv4 || kinds.ipv6 || !places.port.is_empty() || !places.address.is_empty();
    match (&places.who, &words.condition) {
        (Some(Place::Unix(_)), _) => set_of(&[ProtocolGroup::Unix]),
        (Some(Place::Internet { .. }), _) => set_of(&INTERNET),
        (None, _) if asks_for_addresses => set_of(&INTERNET),
        (None, Some(condition)) if !names_unix(condition) => set_of(&INTERNET),
        _ => ProtocolSet::ALL,
    }
}

fn set_of(groups: &[ProtocolGroup]) -> ProtocolSet {
    let mut set = ProtocolSet::EMPTY;
    groups.iter().for_each(|group| set.insert(*group));
    set
}

/// Whether sockets without an address of the Internet protocols can fulfil it.
fn names_unix(condition: &Condition) -> bool {
    match condition {
        Condition::All(all) | Condition::Any(all) => all.iter().any(names_unix),
        // What is no such socket is not there either.
        Condition::Not(_) => true,
        Condition::Source(place) | Condition::Destination(place) => matches!(place, Place::Unix(_)),
        Condition::SourcePort(..) | Condition::DestinationPort(..) => false,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command, SortKey};
    use crate::failure::FailureKind;

    fn decide(line: &str) -> Result<ListConfig, Failure> {
        let words = ["netsnoop", "list"].into_iter().chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(Failure::usage)?;
        match cli.command {
            Some(Command::List(args)) => ListConfig::decide(*args, &cli.global),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn letters_are_those_of_ss() {
        let check = |line: &str, groups: &[ProtocolGroup], states: StateSet| {
            let question = decide(line).unwrap().question;
            assert_eq!((question.protocols, question.states), (set_of(groups), states), "{line}");
        };
        check("-tunap", &[ProtocolGroup::Tcp, ProtocolGroup::Udp], StateSet::ALL);
        check("-tulpn", &[ProtocolGroup::Tcp, ProtocolGroup::Udp], StateSet::LISTENING);
        check("-lt -a", &[ProtocolGroup::Tcp], StateSet::ALL);
        check("-x", &[ProtocolGroup::Unix], StateSet::ALL);
        check("-w0", &[ProtocolGroup::Raw, ProtocolGroup::Icmp, ProtocolGroup::Packet], StateSet::ALL);
        check("-4", &INTERNET, StateSet::ALL);
        check("--port 80 -l", &INTERNET, StateSet::LISTENING);
        check("--who 198.18.0.1:80", &INTERNET, StateSet::ALL);
        check("--who /run/x", &[ProtocolGroup::Unix], StateSet::ALL);
        check("sport = :80", &INTERNET, StateSet::ALL);
        assert_eq!(decide("").unwrap().question.protocols, ProtocolSet::ALL);
        assert_eq!(decide("not src :80").unwrap().question.protocols, ProtocolSet::ALL);
        assert_eq!(decide("-4").unwrap().question.only_v4, Some(true));
        assert_eq!(decide("-46").unwrap().question.only_v4, None);
    }

    #[test]
    fn a_state_takes_the_place_of_a_letter() {
        let question = decide("-l state established").unwrap().question;
        assert_eq!(Some(question.states), SocketWords::parse(&["state established".into()]).unwrap().states);
    }

    #[test]
    fn sorting_and_showing_are_as_said() {
        let config = decide("--sort=-recv-q,netid -H -e -n --watch 2").unwrap();
        let order = |key, descending| SortOrder { key, descending };
        assert_eq!(config.show.sort, [order(SortKey::RecvQ, true), order(SortKey::Netid, false)]);
        assert!(!config.show.header && config.show.extended && config.show.numeric);
        assert_eq!(config.watch, Some(Duration::from_secs(2)));
        assert_eq!(decide("--via proc").unwrap().via, Some(Rung::Proc));
    }

    #[test]
    fn what_cannot_be_meant_is_a_usage_failure_that_names_it() {
        let check = |line: &str, named: &str| {
            let failure = decide(line).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Usage, "{line}");
            assert!(failure.to_string().contains(named), "{line}: {failure}");
        };
        check("--via kprobe", "--via");
        check("--sort size", "--sort");
        check("--watch 0", "--watch");
        check("--watch 2 -o jsonl", "-o json,");
        check("--watch 2 --summary", "--summary");
        check("--port http", "'http' is no port");
        check("--who redis", "--who");
        check("--address 198.18.0.0/33", "--address");
        check("--container=", "--container");
        check("state open", "'open' is no state");
        check("-o csv", "--output");
    }

    #[test]
    fn every_option_is_mirrored_in_the_environment() {
        use clap::CommandFactory;
        let cli = Cli::command();
        let list = cli.find_subcommand("list").unwrap();
        for arg in list.get_arguments().filter(|arg| !["help", "processes"].contains(&arg.get_id().as_str()))
        {
            let name = arg.get_long().unwrap_or(arg.get_id().as_str());
            let mirror = format!("NETSNOOP_{}", name.replace('-', "_").to_uppercase());
            assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(mirror.as_str()), "{name}");
        }
    }
}
