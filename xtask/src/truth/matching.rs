//! Which connection that netsnoop told is which end that players told: by addresses as each side sees them, then by
//! namespace, then by time. Nothing is said here about owners.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use super::records::Connection;
use super::scene::is_ours;
use super::told::{End, Role, Transport};

/// How truth and records belong together.
#[derive(Debug)]
pub(crate) struct Matched {
    /// For each end that was told: which connection, and which of its ends.
    pub(crate) sightings: Vec<Option<(usize, Role)>>,
    /// For each end that was told: the other end of its connection, if that was told too.
    pub(crate) partners: Vec<Option<usize>>,
    /// Connections that were told more than once: an end, and the records that are too many.
    pub(crate) doubled: Vec<(usize, Vec<usize>)>,
    /// Records between the bench's addresses that no player told of.
    pub(crate) untold: Vec<usize>,
}

/// What both sides agree on: the protocol, an end's address, its peer's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct View {
    transport: Transport,
    local: SocketAddr,
    remote: SocketAddr,
}

impl View {
    const fn of_end(end: &End) -> Self {
        let told = &end.opened;
        Self { transport: told.transport, local: told.local, remote: told.remote }
    }

    fn of_record(connection: &Connection, role: Role) -> Self {
        let (local, remote) = connection.view(role);
        Self { transport: connection.transport, local, remote }
    }
}

/// Matches what was told with what was seen. `is_translated` tells of a class whether addresses differ between its ends.
pub(crate) fn find(
    truth: &[End],
    connections: &[Connection],
    is_translated: impl Fn(&str) -> bool,
) -> Matched {
    let partners = find_partners(truth, is_translated);
    let sightings = find_sightings(truth, connections, &partners);
    let mut used: BTreeSet<usize> = BTreeSet::new();
    used.extend(sightings.iter().flatten().map(|(connection, _)| *connection));
    let mut by_view: HashMap<View, usize> = HashMap::new();
    by_view.extend(truth.iter().enumerate().map(|(index, end)| (View::of_end(end), index)));
    let mut doubled: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    // Two ends of one connection that were seen in two records.
    for (index, partner) in partners.iter().enumerate() {
        let seen = |index: usize| sightings.get(index).copied().flatten().map(|(connection, _)| connection);
        if let (Some(partner), Some(own)) = (*partner, seen(index))
            && partner < index
            && seen(partner).is_some_and(|other| other != own)
        {
            doubled.entry(index).or_default().push(own);
        }
    }
    let mut untold = Vec::new();
    for (place, connection) in connections.iter().enumerate().filter(|(place, _)| !used.contains(place)) {
        let views = [Role::Client, Role::Server].map(|role| View::of_record(connection, role));
        if let Some(end) = views.iter().find_map(|view| by_view.get(view)) {
            doubled.entry(*end).or_default().push(place);
        } else if views.iter().any(|view| is_ours(view.local.ip())) {
            untold.push(place);
        }
    }
    Matched { sightings, partners, doubled: doubled.into_iter().collect(), untold }
}

/// Ends of one connection: of one class and protocol, with mirrored addresses, or with the client's port where addresses
/// are translated (nothing here makes translation choose another port); of several, the last that was asked for before
/// the server's end was there.
fn find_partners(truth: &[End], is_translated: impl Fn(&str) -> bool) -> Vec<Option<usize>> {
    let mut clients: HashMap<(&str, Transport, u16), Vec<usize>> = HashMap::new();
    for (index, end) in truth.iter().enumerate().filter(|(_, end)| end.opened.role == Role::Client) {
        let told = &end.opened;
        clients.entry((&told.class, told.transport, told.local.port())).or_default().push(index);
    }
    let mut partners = vec![None; truth.len()];
    for (index, end) in truth.iter().enumerate().filter(|(_, end)| end.opened.role == Role::Server) {
        let told = &end.opened;
        let same_port = clients.get(&(&told.class, told.transport, told.remote.port()));
        let fits = |client: &usize| {
            let Some(asked) = truth.get(*client).map(|client| &client.opened) else { return false };
            let mirrored = asked.local == told.remote && asked.remote == told.local;
            let may_meet =
                !told.local.ip().is_loopback() || asked.netns == told.netns || told.netns.is_none();
            asked.at <= told.at && may_meet && (mirrored || is_translated(&told.class))
        };
        let free = |client: &usize| partners.get(*client).is_some_and(Option::is_none);
        let found = same_port.into_iter().flatten().copied().rfind(|client| fits(client) && free(client));
        if let Some(client) = found {
            for (one, other) in [(index, client), (client, index)] {
                partners.get_mut(one).into_iter().for_each(|partner| *partner = Some(other));
            }
        }
    }
    partners
}

/// How well an end of a record fits an end that was told; less is better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Misfit {
    /// 0: the same namespace, 1: not known, 2: another one.
    namespace: u8,
    /// The record has client and server the other way round.
    is_swapped: bool,
    nanos_apart: u64,
}

fn find_sightings(
    truth: &[End],
    connections: &[Connection],
    partners: &[Option<usize>],
) -> Vec<Option<(usize, Role)>> {
    let mut by_view: HashMap<View, Vec<(usize, Role)>> = HashMap::new();
    for (place, connection) in connections.iter().enumerate() {
        for role in [Role::Client, Role::Server] {
            by_view.entry(View::of_record(connection, role)).or_default().push((place, role));
        }
    }
    let mut candidates: Vec<(Misfit, usize, (usize, Role))> = Vec::new();
    for (index, end) in truth.iter().enumerate() {
        let asked = partners.get(index).copied().flatten().and_then(|partner| truth.get(partner));
        let began = asked.map_or(end.opened.at, |asked| asked.opened.at.min(end.opened.at));
        for (place, role) in by_view.get(&View::of_end(end)).into_iter().flatten().copied() {
            let Some(connection) = connections.get(place) else { continue };
            let seen_in = connection.end(role).netns.as_ref().map(|netns| netns.inode);
            let namespace = match (seen_in, end.opened.netns) {
                (Some(seen), Some(told)) if seen == told => 0,
                (Some(_), Some(_)) => 2,
                _ => 1,
            };
            let nanos_apart = connection.start.map_or(0, |start| start.abs_diff(began));
            let is_swapped = role != end.opened.role;
            candidates.push((Misfit { namespace, is_swapped, nanos_apart }, index, (place, role)));
        }
    }
    candidates.sort_by_key(|(misfit, ..)| *misfit);
    let mut sightings = vec![None; truth.len()];
    let mut taken = BTreeSet::new();
    for (_, index, (place, role)) in candidates {
        if let Some(sighting @ None) = sightings.get_mut(index)
            && taken.insert((place, role))
        {
            *sighting = Some((place, role));
        }
    }
    sightings
}

#[cfg(test)]
mod tests {
    use super::super::samples::{end, fold, line, owned, unknown};
    use super::super::told::Role::{Client, Server};
    use super::*;

    const A: &str = "198.18.64.11:1000";
    const B: &str = "198.18.64.12:80";

    /// Which record each end was found in, how many were too many, and how many nobody told of.
    fn check(truth: &[End], lines: &[String], found: &[Option<usize>], (doubled, untold): (usize, usize)) {
        let connections = fold(lines);
        let matched = find(truth, &connections, |class| class == "class");
        let places: Vec<Option<usize>> =
            matched.sightings.iter().map(|sighting| sighting.map(|(place, _)| place)).collect();
        assert_eq!(places, found, "{truth:?}\n{lines:?}");
        let too_many: usize = matched.doubled.iter().map(|(_, places)| places.len()).sum();
        assert_eq!((too_many, matched.untold.len()), (doubled, untold), "{truth:?}\n{lines:?}");
    }

    fn known(id: &str, millis: u64) -> String {
        line(id, millis, &owned(A, 1, (100, 7)), &owned(B, 2, (100, 7)))
    }

    #[test]
    fn both_ends_are_found_in_one_record_also_if_it_has_them_the_other_way_round() {
        let truth = [end(Client, A, B, (1, 0)), end(Server, B, A, (2, 1))];
        check(&truth, &[known("a", 0)], &[Some(0), Some(0)], (0, 0));
        let swapped = line("a", 0, &owned(B, 2, (100, 7)), &owned(A, 1, (100, 7)));
        check(&truth, &[swapped], &[Some(0), Some(0)], (0, 0));
        check(&truth, &[], &[None, None], (0, 0));
    }

    #[test]
    fn a_port_used_again_is_told_apart_by_time_and_a_missed_connection_takes_no_others_record() {
        let truth = [end(Client, A, B, (1, 0)), end(Client, A, B, (1, 5)), end(Client, A, B, (1, 10))];
        let lines = [known("a", 0), known("b", 5), known("c", 10)];
        check(&truth, &lines, &[Some(0), Some(1), Some(2)], (0, 0));
        check(&truth, &[known("a", 0), known("c", 10)], &[Some(0), None, Some(1)], (0, 0));
        check(
            &truth,
            &[known("a", 0), known("a2", 1), known("b", 5), known("c", 10)],
            &[Some(0), Some(2), Some(3)],
            (1, 0),
        );
    }

    #[test]
    fn twins_on_loopback_are_told_apart_by_namespace() {
        let (client, server) = ("127.0.0.1:1000", "127.0.0.1:80");
        let truth = [end(Client, client, server, (1, 0)), end(Client, client, server, (2, 0))];
        let record =
            |id, netns| line(id, 0, &owned(client, netns, (100, 7)), &owned(server, netns, (100, 7)));
        check(&truth, &[record("b", 2), record("a", 1)], &[Some(1), Some(0)], (0, 0));
        // Better in another namespace than not at all: that is for the verdict to say.
        check(&truth, &[record("b", 2), record("a", 3)], &[Some(1), Some(0)], (0, 0));
    }

    #[test]
    fn ends_of_a_translated_connection_are_one_by_its_translation_and_two_records_are_one_too_many() {
        let (service, pod, node) = ("198.18.67.10:80", "198.18.65.2:8090", "198.18.64.1:1000");
        let truth = [end(Client, A, service, (1, 0)), end(Server, pod, node, (2, 1))];
        let mut whole: serde_json::Value =
            serde_json::from_str(&line("a", 0, &owned(A, 1, (100, 7)), &owned(service, 2, (100, 7))))
                .unwrap();
        whole["nat"] = serde_json::json!({
            "client": { "address": "198.18.64.1", "port": 1000 },
            "server": { "address": "198.18.65.2", "port": 8090 },
        });
        check(&truth, &[whole.to_string()], &[Some(0), Some(0)], (0, 0));
        let halves = [
            line("a", 0, &owned(A, 1, (100, 7)), &unknown(service, "remote")),
            line("b", 0, &unknown(node, "remote"), &owned(pod, 2, (100, 7))),
        ];
        check(&truth, &halves, &[Some(0), Some(1)], (1, 0));
    }

    #[test]
    fn records_between_our_addresses_that_nobody_told_of_are_counted_and_others_are_not() {
        let stray = line("a", 0, &unknown("198.18.64.11:5", "remote"), &unknown("198.18.64.12:6", "remote"));
        let foreign = line("b", 0, &unknown("192.0.2.1:5", "remote"), &unknown("192.0.2.2:6", "remote"));
        check(&[], &[stray, foreign], &[], (0, 1));
    }
}
