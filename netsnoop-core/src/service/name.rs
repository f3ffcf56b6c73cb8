//! Names by which a service may be known besides its addresses, and the patterns that rules have for them.

use core::fmt;

use alloc::string::{String, ToString};
use alloc::sync::Arc;

use regex::Regex;
use thiserror::Error;

/// How a connection's name was learnt, weakest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NameKind {
    /// The workload resolved it to the server's address.
    Dns,
    /// TLS: the server name of the ClientHello (RFC 6066, section 3).
    Sni,
    /// HTTP/1: the Host field (RFC 9110, section 7.2).
    Host,
}

impl NameKind {
    /// All kinds, weakest first.
    pub const ALL: [Self; 3] = [Self::Dns, Self::Sni, Self::Host];

    /// The key in the configuration and in rules as they are told.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Sni => "sni",
            Self::Host => "host",
        }
    }
}

/// A name that a connection's server was called by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LearntName {
    /// How it is known.
    pub kind: NameKind,
    /// In lower case, without the final dot and without a port.
    pub text: Arc<str>,
}

impl LearntName {
    /// Takes a name as it was seen.
    pub fn new(kind: NameKind, seen: &str) -> Self {
        Self { kind, text: normalized(seen).into() }
    }
}

fn normalized(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.to_ascii_lowercase()
}

/// What a rule says of a name.
#[derive(Clone, Debug)]
pub enum NamePattern {
    /// This name.
    Exact(Arc<str>),
    /// Any name below this one, at any depth; without the `*.` it was written with.
    Below(Arc<str>),
    /// Any name in which the expression is found.
    Expression(Regex),
}

/// Why a text is no pattern.
#[derive(Clone, PartialEq, Eq, Error, Debug)]
pub enum BadPattern {
    /// Nothing stands there.
    #[error("a name is expected")]
    Empty,
    /// A star elsewhere than in front.
    #[error("a * stands only in front, as *.example.org; for more write /a regular expression/")]
    Star,
    /// A port or an IPv6 address, which are not looked for in names.
    #[error("a name has no ':'; a port is told by `ports`, an address by `addresses`")]
    Colon,
    /// A character no name has.
    #[error("{0:?} is no part of a host name")]
    Character(char),
    /// No regular expression.
    #[error("no regular expression: {0}")]
    Expression(String),
}

impl NamePattern {
    /// Reads `name`, `*.name` or `/regular expression/`.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        if let Some(expression) = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            return Self::expression(expression);
        }
        let (below, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if name.is_empty() {
            return Err(BadPattern::Empty);
        }
        if name.contains('*') {
            return Err(BadPattern::Star);
        }
        if name.contains(':') {
            return Err(BadPattern::Colon);
        }
        // Underscores are in names that are looked up, though not in those of hosts (RFC 8552).
        let is_odd = |letter: &char| !letter.is_ascii_alphanumeric() && !matches!(letter, '-' | '.' | '_');
        if let Some(odd) = name.chars().find(is_odd) {
            return Err(BadPattern::Character(odd));
        }
        let name = Arc::from(normalized(name));
        Ok(if below { Self::Below(name) } else { Self::Exact(name) })
    }

    /// Takes a regular expression, to be found anywhere in a name.
    pub fn expression(text: &str) -> Result<Self, BadPattern> {
        if text.is_empty() {
            return Err(BadPattern::Empty);
        }
        Regex::new(text)
            .map(Self::Expression)
            .map_err(|error| BadPattern::Expression(one_line(&error.to_string())))
    }

    /// The part of `name` that fits, if it fits: all of it, or what the expression found.
    pub fn find<'a>(&self, name: &'a str) -> Option<&'a str> {
        match self {
            Self::Exact(wanted) => (**wanted == *name).then_some(name),
            Self::Below(parent) => {
                let rest = name.strip_suffix(&**parent)?;
                (rest.len() > 1 && rest.ends_with('.')).then_some(name)
            }
            Self::Expression(expression) => expression.find(name).map(|found| found.as_str()),
        }
    }

    /// How much it fixes: an exact name more than a wildcard, a longer wildcard more than a shorter one,
    /// any wildcard more than an expression.
    pub(super) fn precision(&self) -> (u8, usize) {
        match self {
            Self::Exact(_) => (2, 0),
            Self::Below(parent) => (1, parent.len()),
            Self::Expression(_) => (0, 0),
        }
    }
}

/// The last line says what is wrong; those before draw where, which one line cannot.
fn one_line(error: &str) -> String {
    let last = error.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_string()
}

/// As it was written.
impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::Expression(expression) => write!(f, "/{}/", expression.as_str()),
        }
    }
}
