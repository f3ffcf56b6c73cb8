//! The filter words of `netsnoop list`, which are those of ss (man 8 ss, "STATE-FILTER" and "EXPRESSION"): text to
//! conditions. Left out: names of hosts and services, and ss's conditions on devices, marks and cgroups.

use anyhow::{Context, Result, bail, ensure};
use netsnoop_core::socket::TcpState;

use super::values::{Place, parse_port};

/// Parentheses deeper than this are no question of a person.
const DEPTH_MAX: usize = 32;

/// A set of socket states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateSet(u16);

impl StateSet {
    /// Every state, those not known here too.
    pub const ALL: Self = Self(u16::MAX);
    /// None.
    const EMPTY: Self = Self(0);
    /// What `-l` shows.
    pub const LISTENING: Self = Self::EMPTY.with(TcpState::LISTEN).with(TcpState::CLOSE);

    const CONNECTED: Self = Self::ALL.without(Self::LISTENING);
    const BUCKET: Self = Self::EMPTY.with(TcpState::TIME_WAIT).with(TcpState::SYN_RECV);

    /// States that are not known here share bit 0, which is no state's number.
    const fn bit(state: TcpState) -> u16 {
        match state.0 {
            number @ 1..=11 => 1 << number,
            // To ss a request socket is in the state of the socket it stands for.
            12 => 1 << TcpState::SYN_RECV.0,
            _ => 1,
        }
    }

    const fn with(self, state: TcpState) -> Self {
        Self(self.0 | Self::bit(state))
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether it is in.
    pub const fn contains(self, state: TcpState) -> bool {
        self.0 & Self::bit(state) != 0
    }

    /// The states that a word stands for.
    fn of_word(word: &str) -> Result<Self> {
        Ok(match word.to_ascii_lowercase().as_str() {
            "all" => Self::ALL,
            "connected" => Self::CONNECTED,
            "synchronized" => Self::CONNECTED.without(Self::EMPTY.with(TcpState::SYN_SENT)),
            "bucket" => Self::BUCKET,
            "big" => Self::ALL.without(Self::BUCKET),
            "closed" | "close" | "unconnected" | "unconn" => Self::EMPTY.with(TcpState::CLOSE),
            "syn-rcv" => Self::EMPTY.with(TcpState::SYN_RECV),
            "listen" => Self::EMPTY.with(TcpState::LISTEN),
            "estab" => Self::EMPTY.with(TcpState::ESTABLISHED),
            name => {
                let state = (1..=11).map(TcpState).find(|state| state.name() == Some(name));
                Self::EMPTY
                    .with(state.with_context(|| format!("'{word}' is no state; see `netsnoop list --help`"))?)
            }
        })
    }
}

/// How two ports compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// They are the same.
    Equal,
    /// They differ.
    Differs,
    /// The socket's is smaller.
    Below,
    /// It is larger.
    Above,
    /// It is not larger.
    AtMost,
    /// It is not smaller.
    AtLeast,
}

impl Comparison {
    fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "=" | "==" | "eq" => Self::Equal,
            "!=" | "ne" | "neq" => Self::Differs,
            "<" | "lt" => Self::Below,
            ">" | "gt" => Self::Above,
            "<=" | "le" | "leq" => Self::AtMost,
            ">=" | "ge" | "geq" => Self::AtLeast,
            _ => return None,
        })
    }

    /// Whether it holds of the socket's port and the one that was named.
    pub const fn holds(self, port: u16, named: u16) -> bool {
        match self {
            Self::Equal => port == named,
            Self::Differs => port != named,
            Self::Below => port < named,
            Self::Above => port > named,
            Self::AtMost => port <= named,
            Self::AtLeast => port >= named,
        }
    }
}

/// What a socket has to fulfil.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// All of these.
    All(Vec<Self>),
    /// One of these.
    Any(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// Its own end is here.
    Source(Place),
    /// Its peer is here.
    Destination(Place),
    /// About its own port.
    SourcePort(Comparison, u16),
    /// About its peer's port.
    DestinationPort(Comparison, u16),
}

/// The words, understood.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SocketWords {
    /// The states that were named.
    pub states: Option<StateSet>,
    /// The expression.
    pub condition: Option<Condition>,
}

impl SocketWords {
    /// Understands them; how they are spread over arguments does not matter.
    pub fn parse(words: &[String]) -> Result<Self> {
        let text = words.join(" ");
        let mut words = Words { rest: tokens(&text), depth: 0 };
        let states = words.states()?;
        if words.rest.is_empty() {
            return Ok(Self { states, condition: None });
        }
        let condition = words.any()?;
        match words.rest.first() {
            None => Ok(Self { states, condition: Some(condition) }),
            Some(word) => bail!("'{word}' is not expected there"),
        }
    }
}

/// Words, parentheses and exclamation marks, each for itself.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    for mut word in text.split_whitespace() {
        while let Some(at) = word.find(['(', ')']) {
            let (before, from) = word.split_at(at);
            let (parenthesis, after) = from.split_at(1);
            tokens.extend((!before.is_empty()).then_some(before));
            tokens.push(parenthesis);
            word = after;
        }
        if let Some(after) = word.strip_prefix('!').filter(|after| !after.is_empty() && *after != "=") {
            tokens.push("!");
            word = after;
        }
        tokens.extend((!word.is_empty()).then_some(word));
    }
    tokens
}

struct Words<'a> {
    rest: Vec<&'a str>,
    depth: usize,
}

impl<'a> Words<'a> {
    fn take(&mut self) -> Option<&'a str> {
        (!self.rest.is_empty()).then(|| self.rest.remove(0))
    }

    fn take_if(&mut self, words: &[&str]) -> Option<&'a str> {
        self.rest.first().is_some_and(|word| words.contains(word)).then(|| self.rest.remove(0))
    }

    /// `state` adds to what was named before, `exclude` takes away; the first `exclude` takes away from all.
    fn states(&mut self) -> Result<Option<StateSet>> {
        let mut states = None;
        while let Some(word) = self.take_if(&["state", "exclude"]) {
            let name = self.take().with_context(|| format!("after '{word}' a state is expected"))?;
            let named = StateSet::of_word(name)?;
            states = Some(match word {
                "state" => states.unwrap_or(StateSet::EMPTY).and(named),
                _ => states.unwrap_or(StateSet::ALL).without(named),
            });
        }
        ensure!(states != Some(StateSet::EMPTY), "these states exclude each other: no socket is left");
        Ok(states)
    }

    fn any(&mut self) -> Result<Condition> {
        let mut conditions = vec![self.all()?];
        while self.take_if(&["or", "|", "||"]).is_some() {
            conditions.push(self.all()?);
        }
        Ok(single_or(conditions, Condition::Any))
    }

    /// Conditions that follow each other without a word between them hold together.
    fn all(&mut self) -> Result<Condition> {
        let mut conditions = vec![self.one()?];
        while !self.rest.is_empty() && !matches!(self.rest.first(), Some(&("or" | "|" | "||" | ")"))) {
            self.take_if(&["and", "&", "&&"]);
            conditions.push(self.one()?);
        }
        Ok(single_or(conditions, Condition::All))
    }

    fn one(&mut self) -> Result<Condition> {
        ensure!(self.depth < DEPTH_MAX, "more than {DEPTH_MAX} conditions lie inside of each other");
        self.depth += 1;
        let condition = match self.take().context("a condition is expected at the end")? {
            "not" | "!" => Condition::Not(Box::new(self.one()?)),
            "(" => {
                let inner = self.any()?;
                ensure!(self.take() == Some(")"), "a parenthesis is not closed");
                inner
            }
            "src" => Condition::Source(self.place("src")?),
            "dst" => Condition::Destination(self.place("dst")?),
            "sport" => self.port("sport", Condition::SourcePort)?,
            "dport" => self.port("dport", Condition::DestinationPort)?,
            word @ ("state" | "exclude") => bail!("'{word}' has to stand before the other conditions"),
            word => bail!("'{word}' is no condition; src, dst, sport and dport begin one"),
        };
        self.depth -= 1;
        Ok(condition)
    }

    fn place(&mut self, word: &str) -> Result<Place> {
        // ss takes an equals sign here, too.
        self.take_if(&["=", "==", "eq"]);
        let place = self.take().with_context(|| format!("after '{word}' an address is expected"))?;
        place.parse().with_context(|| format!("{word} {place}"))
    }

    fn port(&mut self, word: &str, make: fn(Comparison, u16) -> Condition) -> Result<Condition> {
        let comparison = self.rest.first().and_then(|word| Comparison::of_word(word));
        if comparison.is_some() {
            self.take();
        }
        let port = self.take().with_context(|| format!("after '{word}' a port is expected"))?;
        Ok(make(comparison.unwrap_or(Comparison::Equal), parse_port(port.strip_prefix(':').unwrap_or(port))?))
    }
}

fn single_or(mut conditions: Vec<Condition>, make: fn(Vec<Condition>) -> Condition) -> Condition {
    if conditions.len() == 1 { conditions.remove(0) } else { make(conditions) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SocketWords> {
        SocketWords::parse(&[text.to_owned()])
    }

    fn states_of(text: &str) -> Vec<u8> {
        let states = parse(text).unwrap().states.unwrap();
        (0..=13).filter(|number| states.contains(TcpState(*number))).collect()
    }

    #[test]
    fn states_are_those_of_ss() {
        let check = |text: &str, expected: &[u8]| assert_eq!(states_of(text), expected, "{text}");
        check("state established", &[1]);
        check("state ESTABLISHED state time-wait", &[1, 6]);
        check("state syn-recv", &[3, 12]);
        check("state connected", &[0, 1, 2, 3, 4, 5, 6, 8, 9, 11, 12, 13]);
        check("state synchronized", &[0, 1, 3, 4, 5, 6, 8, 9, 11, 12, 13]);
        check("state bucket", &[3, 6, 12]);
        check("state big", &[0, 1, 2, 4, 5, 7, 8, 9, 10, 11, 13]);
        check("state all exclude listening exclude closed", &[0, 1, 2, 3, 4, 5, 6, 8, 9, 11, 12, 13]);
        check("exclude connected", &[7, 10]);
        check("state unconnected", &[7]);
        check(
            "state closing state last-ack state close-wait state fin-wait-1 state fin-wait-2",
            &[4, 5, 8, 9, 11],
        );
    }

    #[test]
    fn conditions_bind_as_in_ss() {
        let check = |text: &str, expected: Condition| {
            assert_eq!(parse(text).unwrap().condition, Some(expected), "{text}");
        };
        let source = |place: &str| Condition::Source(place.parse().unwrap());
        let destination = |place: &str| Condition::Destination(place.parse().unwrap());
        check("src 198.18.0.0/15", source("198.18.0.0/15"));
        check("state established dst = [2001:db8::]/32:443", destination("[2001:db8::]/32:443"));
        check("src /run/*.sock", source("/run/*.sock"));
        check("sport = :22", Condition::SourcePort(Comparison::Equal, 22));
        check("sport 22", Condition::SourcePort(Comparison::Equal, 22));
        check("dport != :443", Condition::DestinationPort(Comparison::Differs, 443));
        check("dport ge 1024", Condition::DestinationPort(Comparison::AtLeast, 1024));
        check(
            "(dport = :80 or sport == 80) and !src :1",
            Condition::All(vec![
                Condition::Any(vec![
                    Condition::DestinationPort(Comparison::Equal, 80),
                    Condition::SourcePort(Comparison::Equal, 80),
                ]),
                Condition::Not(Box::new(source(":1"))),
            ]),
        );
    }

    #[test]
    fn what_cannot_be_understood_is_said() {
        let check = |text: &str, reason: &str| {
            let message = format!("{:#}", parse(text).unwrap_err());
            assert!(message.contains(reason), "{text}: {message}");
        };
        check("state", "after 'state' a state is expected");
        check("state open", "'open' is no state");
        check("state listening exclude listening", "no socket is left");
        check("src redis.example", "src redis.example: 'redis.example' is no address");
        check("sport = http", "'http' is no port");
        check("port 80", "'port' is no condition");
        check("( src :1", "not closed");
        check("src :1 )", "')' is not expected");
        check("src :1 state all", "before the other conditions");
        check("src", "after 'src'");
        check("not", "a condition is expected");
        check(&"(".repeat(100_000), "inside of each other");
    }
}
