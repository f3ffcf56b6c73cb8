//! What there is in each namespace: processes, users, containers, and sockets by state.

use std::collections::{BTreeMap, BTreeSet};

use netsnoop_core::inventory::Inventory;
use netsnoop_core::process::Container;
use netsnoop_core::socket::TcpState;

use super::Users;
use super::look::Look;
use super::table::{Column, Table};
use super::text::state_name;
use crate::sinks::container_name::ContainerName;
use crate::sinks::escape::Escaped;
use crate::sinks::line::Paint;

/// Users and containers named in a line; the rest are counted.
const SHOWN: usize = 4;

/// What is in one namespace.
#[derive(Debug, Default)]
pub(super) struct Contents<'a> {
    pub(super) processes: u64,
    pub(super) uids: BTreeSet<u32>,
    /// By id.
    pub(super) containers: BTreeMap<&'a str, &'a Container>,
    pub(super) sockets: u64,
    pub(super) by_state: BTreeMap<TcpState, u64>,
}

/// Counts what is in each namespace.
pub(super) fn contents(inventory: &Inventory) -> Vec<Contents<'_>> {
    let mut all: Vec<Contents<'_>> = inventory.namespaces.iter().map(|_| Contents::default()).collect();
    for listed in &inventory.processes {
        let Some(contents) = listed.namespace.and_then(|place| all.get_mut(place as usize)) else { continue };
        contents.processes += 1;
        contents.uids.insert(listed.process.uid);
        let container = listed.container.as_deref();
        contents.containers.extend(container.map(|container| (&*container.id, container)));
    }
    for socket in &inventory.sockets {
        let Some(contents) = socket.namespace.and_then(|place| all.get_mut(place as usize)) else { continue };
        contents.sockets += 1;
        *contents.by_state.entry(socket.state).or_default() += 1;
    }
    all
}

/// The namespaces at `places` as a table.
pub(super) fn table(look: &Look, places: &[u32], users: &Users, color: bool) -> Table {
    let columns = vec![
        Column::number("Netns"),
        Column::text("Name", 36),
        Column::number("Processes"),
        Column::text("Users", 36),
        Column::optional("Pods/Containers", 48),
        Column::number("Sockets"),
        Column::text("States", usize::MAX),
    ];
    let mut table = Table::new(columns, color, places.len());
    let all = contents(&look.inventory);
    for place in places.iter().copied() {
        let index = place as usize;
        let (Some(contents), Some(namespace)) = (all.get(index), look.inventory.namespaces.get(index)) else {
            continue;
        };
        let name = look.name_of(place);
        table.cell(Paint::Plain, namespace.key.inode);
        table.cell(Paint::Plain, Escaped(name.as_deref().unwrap_or_default()));
        table.cell(Paint::Plain, contents.processes);
        let uids = contents.uids.iter().map(|uid| match users.get(uid) {
            Some(name) => Escaped(name).to_string(),
            None => uid.to_string(),
        });
        some_of(&mut table, Paint::User, uids);
        let containers = contents.containers.values().map(|container| ContainerName(container).to_string());
        some_of(&mut table, Paint::Container, containers);
        table.cell(Paint::Plain, contents.sockets);
        let states = contents.by_state.iter().map(|(state, count)| match state_name(*state) {
            Some(name) => format!("{name}:{count}"),
            None => format!("?:{count}"),
        });
        table.cell(Paint::Plain, states.collect::<Vec<_>>().join(" "));
    }
    table
}

/// A cell with the first few of `words`, and how many more there are.
fn some_of(table: &mut Table, paint: Paint, words: impl ExactSizeIterator<Item = String>) {
    let more = words.len().saturating_sub(SHOWN);
    table.put(paint, words.take(SHOWN).collect::<Vec<_>>().join(" "));
    if more > 0 {
        table.put(Paint::Faint, format_args!(" +{more}"));
    }
    table.end_cell();
}
