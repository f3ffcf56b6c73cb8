//! What machines read: a socket or namespace a line, or one object with all of a look
//! (docs/schema/socket-v1.schema.json). The record of a socket is in `socket_record`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

use netsnoop_core::inventory::Unseen;
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use super::look::Look;
use super::order::Row;
use super::socket_record::{Facts, Netns, SCHEMA_VERSION, Socket, plain_state_name};
use super::summary::{Contents, contents};
use crate::sinks::escape::TerminalSafeJson;
use crate::sinks::kubernetes_keys::Kubernetes;
use crate::sinks::schema::{ContainerKeys, Moment, User};

/// Writes a line for each socket.
pub(super) fn write_lines(out: &mut impl Write, rows: &[Row<'_>], facts: Facts<'_>) -> io::Result<()> {
    for row in rows {
        write_line(out, &Socket::new(row, facts))?;
    }
    Ok(())
}

/// Writes one object: sockets unless they are not wanted, the namespaces in `places`, and what was not seen.
pub(super) fn write_object(
    out: &mut impl Write,
    (look, rows): (&Look, Option<&[Row<'_>]>),
    places: &[u32],
    facts: Facts<'_>,
) -> io::Result<()> {
    let inventory = &look.inventory;
    let contents = contents(inventory);
    let lasted = inventory.finished.since(inventory.started);
    write_line(
        out,
        &Object {
            schema_version: SCHEMA_VERSION,
            timestamp: Moment::new(inventory.started, facts.clock),
            rung: inventory.rung.name(),
            duration_ns: u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX),
            sockets: rows.map(|rows| Rows { rows, facts }),
            namespaces: namespaces(look, &contents, places, facts).collect(),
            unseen: inventory.unseen.iter().map(UnseenKeys::from).collect(),
        },
    )
}

/// Writes a line for each of the namespaces in `places`.
pub(super) fn write_namespaces(
    out: &mut impl Write,
    look: &Look,
    places: &[u32],
    facts: Facts<'_>,
) -> io::Result<()> {
    let contents = contents(&look.inventory);
    namespaces(look, &contents, places, facts).try_for_each(|namespace| write_line(out, &namespace))
}

fn namespaces<'a>(
    look: &'a Look,
    contents: &'a [Contents<'a>],
    places: &'a [u32],
    facts: Facts<'a>,
) -> impl Iterator<Item = Namespace<'a>> {
    places.iter().filter_map(move |place| Namespace::new(look, *place, contents.get(*place as usize)?, facts))
}

fn write_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, TerminalSafeJson);
    value.serialize(&mut serializer).map_err(io::Error::from)?;
    out.write_all(b"\n")
}

#[derive(Serialize)]
struct Object<'a> {
    schema_version: u32,
    timestamp: Moment,
    rung: &'static str,
    duration_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sockets: Option<Rows<'a>>,
    namespaces: Vec<Namespace<'a>>,
    unseen: Vec<UnseenKeys>,
}

/// Rows that become objects one by one as they are written.
struct Rows<'a> {
    rows: &'a [Row<'a>],
    facts: Facts<'a>,
}

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.rows.len()))?;
        for row in self.rows {
            list.serialize_element(&Socket::new(row, self.facts))?;
        }
        list.end()
    }
}

#[derive(Serialize)]
struct UnseenKeys {
    what: &'static str,
    reason: &'static str,
    count: u64,
}

impl From<&Unseen> for UnseenKeys {
    fn from(unseen: &Unseen) -> Self {
        Self { what: unseen.what.name(), reason: unseen.why.name(), count: unseen.count }
    }
}

#[derive(Serialize)]
struct Namespace<'a> {
    schema_version: u32,
    netns: Netns<'a>,
    processes: u64,
    users: Vec<User<'a>>,
    containers: Vec<Tenant<'a>>,
    sockets: Counts,
}

#[derive(Serialize)]
struct Tenant<'a> {
    container: ContainerKeys<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k8s: Option<Kubernetes<'a>>,
}

#[derive(Serialize)]
struct Counts {
    total: u64,
    by_state: BTreeMap<Cow<'static, str>, u64>,
}

impl<'a> Namespace<'a> {
    fn new(look: &'a Look, place: u32, contents: &Contents<'a>, facts: Facts<'a>) -> Option<Self> {
        let key = look.inventory.namespaces.get(place as usize)?.key;
        let tenant =
            |container| Tenant { container: ContainerKeys::new(container), k8s: Kubernetes::new(container) };
        let by_state = contents.by_state.iter();
        Some(Self {
            schema_version: SCHEMA_VERSION,
            netns: Netns { inode: key.inode, cookie: key.cookie, name: look.name_of(place) },
            processes: contents.processes,
            users: contents.uids.iter().map(|uid| facts.user(*uid)).collect(),
            containers: contents.containers.values().copied().map(tenant).collect(),
            sockets: Counts {
                total: contents.sockets,
                by_state: by_state
                    .map(|(state, count)| {
                        (plain_state_name(*state).unwrap_or(Cow::Borrowed("unknown")), *count)
                    })
                    .collect(),
            },
        })
    }
}
