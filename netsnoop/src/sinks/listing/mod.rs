//! What `netsnoop list` shows of a look: which sockets, in which order, and how.
//!
//! [`open`] turns the configuration into a [`Listing`], which takes one inventory after the other. Left out: reading
//! them, and waiting between two.

mod difference;
mod ends;
mod json;
mod look;
mod order;
mod selection;
mod socket_record;
mod summary;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod unseen;

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;

use netsnoop_core::inventory::Inventory;

use self::difference::{Change, Known};
use self::look::{Look, Seen};
use self::order::Row;
use self::selection::Selection;
use self::socket_record::Facts;
use crate::cli::{ListFormat, SortOrder};
use crate::clock::{self, WallClock};
use crate::config::{ListConfig, ListShow};
use crate::counters::Counters;
use crate::failure::Failure;
use crate::memory::room_for;
use crate::sinks::uids_of;
use crate::sinks::user_names::UserNames;

/// Names of users by uid.
type Users = HashMap<u32, Arc<str>>;

/// Sockets that were asked for, and how they are shown.
pub struct Listing {
    selection: Selection,
    show: ListShow,
    names: UserNames,
    verbose: bool,
    asks_who: bool,
    look: Option<Look>,
    /// The look before, where differences are marked.
    before: Option<Look>,
    marks: bool,
}

/// Opens what the configuration asks for. A user that nobody knows is a usage failure.
pub fn open(config: &ListConfig, counters: Arc<Counters>) -> Result<Listing, Failure> {
    let users = &config.question.owners.users;
    // Names are not read if nobody wants one.
    let mut names = if config.show.numeric && users.is_empty() {
        UserNames::none()
    } else {
        UserNames::open(&config.proc_root, counters, clock::now())
    };
    let uids = uids_of(users, &mut names)?;
    if config.show.numeric {
        names = UserNames::none();
    }
    Ok(Listing {
        selection: Selection::new(config.question.clone(), uids),
        show: config.show.clone(),
        names,
        verbose: config.verbose,
        asks_who: config.question.who.is_some(),
        look: None,
        before: None,
        marks: config.watch.is_some(),
    })
}

impl Listing {
    /// Takes what was found.
    pub fn take(&mut self, inventory: Inventory) {
        let look = self.look.replace(Look::new(inventory));
        self.before = look.filter(|_| self.marks);
    }

    /// Whether it has to be told whose the address is that was asked for.
    pub fn needs_addresses(&self) -> bool {
        let mut sockets = self.look.iter().flat_map(Look::sockets);
        sockets.any(|seen| self.selection.needs_addresses(seen))
    }

    /// Tells the addresses that are local to namespaces, by their inodes.
    pub fn learn(&mut self, addresses: HashMap<u32, Vec<IpAddr>>) {
        self.selection.learn(addresses);
    }

    /// Writes what was asked for, and returns what to say beside it.
    pub fn write(&mut self, out: &mut impl Write) -> io::Result<Vec<String>> {
        let Some(look) = &self.look else { return Ok(Vec::new()) };
        let mut remarks = unseen::lines(&look.inventory, self.verbose);
        let places = shown_namespaces(look, &self.selection);
        let rows = if self.show.summary {
            Vec::new()
        } else {
            rows(look, self.before.as_ref(), (&self.selection, &self.show.sort))
        };
        if rows.is_empty() && self.asks_who {
            remarks.push("nobody here holds this, and no socket here talks to it".to_owned());
        }
        // Namespaces are shown with all who are in them.
        let shows_namespaces = self.show.summary || self.show.format == ListFormat::Json;
        let members = look.inventory.processes.iter().filter(|_| shows_namespaces);
        let uids = rows.iter().flat_map(|row| uids_in(row.seen));
        let mut wanted = BTreeSet::new();
        // Collecting would sort what a hundred thousand sockets tell; few of them tell anything new.
        wanted.extend(uids.chain(members.map(|listed| listed.process.uid)));
        let users = self.names.names_of(&wanted, clock::now());
        let facts = Facts { users: &users, clock: WallClock::read() };
        match (self.show.format, self.show.summary) {
            (ListFormat::Text, false) => {
                let parts = text::tables(&rows, (&self.show, self.marks), &users);
                table::write(&parts, out, self.show.header)?;
            }
            (ListFormat::Text, true) => {
                let table = summary::table(look, &places, &users, self.show.color);
                table::write(&[table], out, self.show.header)?;
            }
            (ListFormat::Json, false) => json::write_object(out, (look, Some(&rows)), &places, facts)?,
            (ListFormat::Json, true) => json::write_object(out, (look, None), &places, facts)?,
            (ListFormat::Jsonl, false) => json::write_lines(out, &rows, facts)?,
            (ListFormat::Jsonl, true) => json::write_namespaces(out, look, &places, facts)?,
        }
        Ok(remarks)
    }
}

/// The sockets of a look that are shown, in order. With a look before, those that are gone since are among them.
fn rows<'a>(
    look: &'a Look,
    before: Option<&'a Look>,
    (selection, sort): (&Selection, &[SortOrder]),
) -> Vec<Row<'a>> {
    let chosen = |look: &'a Look| look.sockets().filter(|seen| selection.matches(*seen));
    let mut rows = room_for(look.inventory.sockets.len());
    match before {
        None => rows.extend(chosen(look).map(|seen| Row::new(seen, Change::Stays))),
        Some(before) => {
            let (old, new) = (Known::of(chosen(before)), Known::of(chosen(look)));
            let gone = chosen(before).filter(|seen| !new.has(*seen)).map(|seen| Row::new(seen, Change::Goes));
            rows.extend(chosen(look).map(|seen| Row::new(seen, old.change_of(seen))).chain(gone));
        }
    }
    order::sort(&mut rows, sort);
    rows
}

fn shown_namespaces(look: &Look, selection: &Selection) -> Vec<u32> {
    let namespaces = (0..).zip(&look.inventory.namespaces);
    let is_shown = |place, namespace| selection.names(namespace, look.name_of(place).as_deref());
    namespaces.filter(|(place, namespace)| is_shown(*place, *namespace)).map(|(place, _)| place).collect()
}

fn uids_in(seen: Seen<'_>) -> impl Iterator<Item = u32> {
    seen.holders().map(|(listed, _)| listed.process.uid).chain(seen.socket.uid)
}
