//! Values that flags take: text to type. No file, no name service: a user name stays a name here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::SignedDuration;
use netsnoop_core::attribution::Rung;
use netsnoop_core::connection::RecordEvent;
use netsnoop_core::five_tuple::Transport;
use netsnoop_core::service::{Cidr, ServiceName, ServiceRule, Where};

/// Longest wait that still makes lines live.
const LONGEST_SETTLE: Duration = Duration::from_secs(60);

/// Longest comparison: what is compared is held until its end.
const LONGEST_COMPARISON: Duration = Duration::from_secs(24 * 60 * 60);

/// Between two looks of `list --watch`: a look costs something, and a terminal shows no more.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// Between two writings of the same file.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// A user as `--user` names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UserSelector {
    /// By number.
    Uid(u32),
    /// By name.
    Name(String),
}

impl FromStr for UserSelector {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ensure!(!text.is_empty(), "a user name or uid is expected");
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Uid(text.parse().context("a uid has 32 bits")?));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

/// A pod as `--pod` names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodName {
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl FromStr for PodName {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => bail!("NAMESPACE/NAME is expected, for example tools/web-1"),
        }
    }
}

/// Where an end of a socket is, as `--who`, `src` and `dst` name it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// An address, a block of them, a port, or an address with a port.
    Internet {
        /// The addresses; `None` is any.
        addresses: Option<Cidr>,
        /// The port; `None` is any.
        port: Option<u16>,
    },
    /// The path of a Unix socket, `@` before the name of an abstract one. `*` stands for any characters.
    Unix(String),
}

impl FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with(['/', '@']) {
            return Ok(Self::Unix(text.to_owned()));
        }
        let (block, port) = split_port(text)?;
        let port = port.filter(|port| *port != "*").map(parse_port).transpose()?;
        let addresses = parse_block(&block)?;
        ensure!(
            addresses.is_some() || port.is_some(),
            "an ADDRESS, ADDRESS/PREFIX, :PORT, ADDRESS:PORT or the /path of a Unix socket is expected"
        );
        Ok(Self::Internet { addresses, port })
    }
}

/// Parses an address or a block of addresses.
pub(crate) fn block(text: &str) -> anyhow::Result<Cidr> {
    let text = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    parse_block(text)?.map(canonical).context("an ADDRESS or ADDRESS/PREFIX is expected")
}

/// Parses a port's number. Names are not looked up: what a port serves is not told by its number.
pub(super) fn parse_port(text: &str) -> anyhow::Result<u16> {
    text.parse().with_context(|| format!("'{text}' is no port"))
}

/// Parses how long to wait between two looks, such as `2s`; a bare number is in seconds.
pub(super) fn pause(text: &str) -> anyhow::Result<Duration> {
    let pause = match text.parse::<u32>() {
        Ok(seconds) => Duration::from_secs(seconds.into()),
        Err(_) => duration(text, LONGEST_PAUSE)?,
    };
    ensure!(pause >= SHORTEST_PAUSE && pause <= LONGEST_PAUSE, "between 100ms and 1h is expected");
    Ok(pause)
}

/// Parses how often a file is written, such as `15s`.
pub(crate) fn interval(text: &str) -> anyhow::Result<Duration> {
    let interval = duration(text, LONGEST_PAUSE)?;
    ensure!(interval >= SHORTEST_INTERVAL, "the shortest is {} s", SHORTEST_INTERVAL.as_secs());
    Ok(interval)
}

/// Where to listen. An IPv4 address may stand in brackets too: one line of settings then serves a node of either
/// family, whose address is filled in.
pub(crate) fn listen_address(text: &str) -> anyhow::Result<SocketAddr> {
    let bracketed = || {
        let (address, port) = text.strip_prefix('[')?.split_once("]:")?;
        Some(SocketAddr::from((address.parse::<Ipv4Addr>().ok()?, port.parse().ok()?)))
    };
    let address = text.parse().or_else(|error| bracketed().ok_or(error));
    address.context("ADDRESS:PORT is expected, as 127.0.0.1:9774 or [2001:db8::1]:9774")
}

/// Parses the name of a way to read every socket.
pub(super) fn listing_way() -> impl TypedValueParser<Value = Rung> {
    const WAYS: [Rung; 3] = [Rung::Iterator, Rung::SockDiag, Rung::Proc];
    PossibleValuesParser::new(WAYS.map(Rung::name)).try_map(|name| {
        WAYS.into_iter().find(|rung| rung.name() == name).ok_or_else(|| anyhow!("no such way"))
    })
}

/// Parses a rung's name.
pub(super) fn rung() -> impl TypedValueParser<Value = Rung> {
    PossibleValuesParser::new(Rung::ALL.map(Rung::name)).try_map(|name| {
        Rung::ALL.into_iter().find(|rung| rung.name() == name).ok_or_else(|| anyhow!("no such rung"))
    })
}

/// Parses an event's name.
pub(super) fn record_event() -> impl TypedValueParser<Value = RecordEvent> {
    PossibleValuesParser::new(RecordEvent::ALL.map(RecordEvent::name)).try_map(|name| {
        RecordEvent::ALL
            .into_iter()
            .find(|event| event.name() == name)
            .ok_or_else(|| anyhow!("no such event"))
    })
}

/// Parses how long to wait for owners, such as `100ms`.
pub(super) fn settle(text: &str) -> anyhow::Result<Duration> {
    duration(text, LONGEST_SETTLE)
}

/// Parses how long to compare, such as `10s`.
pub(super) fn comparison_time(text: &str) -> anyhow::Result<Duration> {
    duration(text, LONGEST_COMPARISON)
}

fn duration(text: &str, longest: Duration) -> anyhow::Result<Duration> {
    // What the reader of durations says of it is meant for programmers.
    let duration: Option<SignedDuration> = text.parse().ok();
    let duration = duration.context("a duration is a number with a unit, for example 100ms or 2s")?;
    ensure!(!duration.is_negative(), "a duration is not negative");
    let duration = duration.unsigned_abs();
    ensure!(duration <= longest, "the longest is {} s", longest.as_secs());
    Ok(duration)
}

/// Parses `NAME=[CIDR][:PORT][/tcp|/udp]`; IPv6 with a port has its address in brackets.
pub(super) fn service_rule(text: &str) -> anyhow::Result<ServiceRule> {
    let (name, place) =
        text.split_once('=').context("NAME=WHERE is expected, for example redis=198.18.1.13:6379")?;
    ensure!(!name.is_empty(), "the service has no name");
    ensure!(!name.contains(char::is_control), "the service's name has control characters");
    let (place, transport) = split_transport(place);
    let (block, port) = split_port(place)?;
    let place = parse_block(&block)?.map(canonical).map_or(Where::Anywhere, Where::In);
    let ports = port.map(parse_port).transpose()?.map(|port| port..=port);
    let anywhere = matches!(place, Where::Anywhere);
    ensure!(!anywhere || ports.is_some(), "the service has neither an address nor a port");
    Ok(ServiceRule { service: ServiceName::Given(Arc::from(name)), place, ports, transport })
}

fn split_transport(place: &str) -> (&str, Option<Transport>) {
    for transport in Transport::ALL {
        let rest = place.strip_suffix(transport.name()).and_then(|rest| rest.strip_suffix('/'));
        if let Some(rest) = rest {
            return (rest, Some(transport));
        }
    }
    (place, None)
}

/// Splits what stands before the port from the port, and takes the brackets away.
fn split_port(place: &str) -> anyhow::Result<(String, Option<&str>)> {
    if let Some(bracketed) = place.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']').context("the address's bracket is not closed")?;
        let (length, port) = match rest.split_once(':') {
            Some((length, port)) => (length, Some(port)),
            None => (rest, None),
        };
        return Ok((format!("{address}{length}"), port));
    }
    match place.split_once(':') {
        // More than one colon without brackets is an IPv6 address, all of it.
        Some((_, rest)) if rest.contains(':') => Ok((place.to_owned(), None)),
        Some((block, port)) => Ok((block.to_owned(), Some(port))),
        None => Ok((place.to_owned(), None)),
    }
}

fn parse_block(text: &str) -> anyhow::Result<Option<Cidr>> {
    if text.is_empty() || text == "*" {
        return Ok(None);
    }
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().with_context(|| format!("'{address}' is no address"))?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        Some(length) => length.parse().with_context(|| format!("'{length}' is no prefix length"))?,
        None => longest,
    };
    Ok(Some(Cidr::new(address, length).with_context(|| format!("a prefix here has at most {longest} bits"))?))
}

/// IPv4 addresses that IPv6 sockets have are told as those of IPv4, so a service's are meant so too (RFC 4291,
/// section 2.5.5.2).
fn canonical(block: Cidr) -> Cidr {
    let within_mapped = block.prefix_length().checked_sub(96);
    let mapped = within_mapped.filter(|_| block.network().to_canonical().is_ipv4());
    mapped.and_then(|length| Cidr::new(block.network().to_canonical(), length)).unwrap_or(block)
}

#[cfg(test)]
mod tests {
    use netsnoop_core::five_tuple::Endpoint;
    use netsnoop_core::service::Services;

    use super::*;

    #[test]
    fn a_service_definition_matches_just_what_it_says() {
        let check = |definition: &str, transport, address: &str, port, expected: bool| {
            let services = Services::new(vec![service_rule(definition).unwrap()]);
            let found = services.find(transport, Endpoint::new(address.parse().unwrap(), port), &[]);
            assert_eq!(found.is_some(), expected, "{definition} {transport:?} {address} {port}");
        };
        check("redis=198.18.1.13:6379", Transport::Tcp, "198.18.1.13", 6379, true);
        check("redis=198.18.1.13:6379", Transport::Tcp, "198.18.1.14", 6379, false);
        check("redis=198.18.1.13:6379/tcp", Transport::Udp, "198.18.1.13", 6379, false);
        check("lab=198.18.0.0/15", Transport::Udp, "198.19.255.255", 1, true);
        check("dns=:53/udp", Transport::Udp, "2001:db8::1", 53, true);
        check("dns=*:53", Transport::Tcp, "198.18.0.1", 53, true);
        check("db=[2001:db8::]/64:5432", Transport::Tcp, "2001:db8::9", 5432, true);
        check("db=[2001:db8::]/64:5432", Transport::Tcp, "2001:db8:1::9", 5432, false);
        check("net=2001:db8::/32", Transport::Tcp, "2001:db8:1::9", 1, true);
        check("host=2001:db8::1/udplite", Transport::UdpLite, "2001:db8::1", 1, true);
        check("mapped=[::ffff:198.18.1.13]:6379", Transport::Tcp, "198.18.1.13", 6379, true);
        check("mapped=::ffff:198.18.1.13/120", Transport::Tcp, "198.18.1.200", 1, true);
        check("mapped=::ffff:198.18.1.13/120", Transport::Tcp, "198.18.2.13", 1, false);
        check("all=::/0", Transport::Tcp, "198.18.2.13", 1, false);
    }

    #[test]
    fn what_is_no_service_definition_says_why() {
        let check = |definition: &str, reason: &str| {
            let message = format!("{:#}", service_rule(definition).unwrap_err());
            assert!(message.contains(reason), "{definition}: {message}");
        };
        check("redis", "NAME=WHERE");
        check("=198.18.0.1", "no name");
        check("x=", "neither an address nor a port");
        check("x=/tcp", "neither an address nor a port");
        check("x=198.18.0.1:70000", "'70000' is no port");
        check("x=198.18.0.1/33", "at most 32 bits");
        check("x=redis.example:6379", "'redis.example' is no address");
        check("x=[2001:db8::1", "bracket");
        check("x\u{1b}=:1", "control");
    }

    #[test]
    fn an_address_to_listen_on_may_be_filled_into_brackets() {
        let check = |text: &str, heard: &str| assert_eq!(listen_address(text).unwrap().to_string(), heard);
        check("127.0.0.1:9774", "127.0.0.1:9774");
        check("[198.18.1.10]:9774", "198.18.1.10:9774");
        check("[2001:db8::1]:9774", "[2001:db8::1]:9774");
        for wrong in
            ["9774", "[]:9774", "2001:db8::1:9774", "[198.18.1.10]", "[198.18.1.10]:port", "node:9774"]
        {
            assert!(listen_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_users_may_be_numbers() {
        assert_eq!(settle("100ms").unwrap(), Duration::from_millis(100));
        assert_eq!(settle("0s").unwrap(), Duration::ZERO);
        for wrong in ["100", "-1s", "2m", "soon", ""] {
            assert!(settle(wrong).is_err(), "{wrong}");
        }
        assert_eq!("10001".parse::<UserSelector>().unwrap(), UserSelector::Uid(10001));
        assert_eq!("tools.foo".parse::<UserSelector>().unwrap(), UserSelector::Name("tools.foo".into()));
        assert!("4294967296".parse::<UserSelector>().is_err());
        assert!("tools/web-1".parse::<PodName>().is_ok());
        for wrong in ["web-1", "/web-1", "tools/", "a/b/c"] {
            assert!(wrong.parse::<PodName>().is_err(), "{wrong}");
        }
    }
}
