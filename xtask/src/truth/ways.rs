//! The ways of knowing that are scored, and how `netsnoop watch` is told to use each.

use std::fmt::{self, Display};

/// By which figures a way is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standard {
    /// Those of all ways together.
    Full,
    /// Those without kernel programs.
    WithoutEbpf,
    /// Kernel programs of one rung alone: no wrong owner; the rest is reported.
    Rung,
    /// Tables of one kind alone: the same.
    Tables,
}

impl Standard {
    pub(crate) const ALL: [Self; 4] = [Self::Full, Self::WithoutEbpf, Self::Rung, Self::Tables];
}

/// A way of knowing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// Its name for --way and in tables.
    pub(crate) name: &'static str,
    /// What `netsnoop watch` is given.
    pub(crate) arguments: [&'static str; 2],
    pub(crate) standard: Standard,
}

const fn alone(name: &'static str, standard: Standard) -> Way {
    Way { name, arguments: ["--rung", name], standard }
}

/// All ways, in the order of the table's columns.
pub(crate) const WAYS: [Way; 10] = [
    Way { name: "auto", arguments: ["--ebpf", "auto"], standard: Standard::Full },
    Way { name: "off", arguments: ["--ebpf", "off"], standard: Standard::WithoutEbpf },
    alone("kprobe", Standard::Rung),
    alone("fentry", Standard::Rung),
    alone("sockops", Standard::Rung),
    alone("tp_btf", Standard::Rung),
    alone("raw_tp", Standard::Rung),
    alone("iterator", Standard::Tables),
    alone("sock_diag", Standard::Tables),
    alone("proc", Standard::Tables),
];

impl Display for Way {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name)
    }
}

/// A way by its name.
pub(crate) fn parse(name: &str) -> Result<Way, String> {
    WAYS.into_iter().find(|way| way.name == name).ok_or_else(|| {
        let names = WAYS.map(|way| way.name).join(", ");
        format!("there is no such way; there are {names}")
    })
}
