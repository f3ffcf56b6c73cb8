//! Whether netsnoop was right about one end: its process, its user, its namespace.

use std::collections::{BTreeMap, BTreeSet};

use super::matching::Matched;
use super::records::{self, Clock, Connection};
use super::told::{End, Owner};

/// A socket that lives shorter than this may be gone before a targeted lookup comes.
const SHORT_NANOS: u64 = 20_000_000;

/// What became of one question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Finding {
    Right,
    Wrong,
    /// No answer, and netsnoop's reason.
    Unattributed(String),
    /// No record.
    Missed,
}

/// The answers about one end that was told.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) process: Finding,
    pub(crate) user: Finding,
    pub(crate) namespace: Finding,
    /// Whether its socket lived too short for a lookup.
    pub(crate) is_short: bool,
    /// Whether its packets cross an interface of the node's namespace.
    pub(crate) crosses: bool,
    /// Whether all that was told from its namespace was of one user.
    pub(crate) has_one_user: bool,
}

/// Everything that verdicts are found from.
pub(crate) struct Case<'a> {
    pub(crate) truth: &'a [End],
    pub(crate) connections: &'a [Connection],
    pub(crate) matched: &'a Matched,
    pub(crate) clock: Clock,
    /// The inode of the node's own network namespace.
    pub(crate) node_netns: u64,
    /// Which user's process holds which namespace, by inode.
    pub(crate) holders: &'a [(u64, u32)],
}

impl Case<'_> {
    /// A verdict for each end that was told.
    pub(crate) fn judge(&self) -> Vec<Verdict> {
        let mut users: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
        for (netns, holder) in self.holders {
            users.entry(*netns).or_default().insert(*holder);
        }
        for end in self.truth {
            if let (Some(netns), Some(owner)) = (end.opened.netns, &end.opened.owner) {
                users.entry(netns).or_default().insert(owner.uid);
            }
        }
        let has_one_user = |end: &End| {
            end.opened.netns.is_some_and(|netns| users.get(&netns).is_some_and(|users| users.len() == 1))
        };
        self.truth
            .iter()
            .enumerate()
            .map(|(index, end)| {
                let sighting = self.matched.sightings.get(index).copied().flatten();
                let seen = sighting.and_then(|(place, role)| Some(self.connections.get(place)?.end(role)));
                let [process, user, namespace] = self.findings(end, seen);
                Verdict {
                    process,
                    user,
                    namespace,
                    is_short: self.is_short(index, end),
                    crosses: self.crosses(end),
                    has_one_user: has_one_user(end),
                }
            })
            .collect()
    }

    fn findings(&self, end: &End, seen: Option<&records::End>) -> [Finding; 3] {
        let Some(seen) = seen else { return [Finding::Missed, Finding::Missed, Finding::Missed] };
        let Some(owner) = &end.opened.owner else {
            let named = seen.process.is_some() || !seen.attribution.shared_with.is_empty();
            let process = if named { Finding::Wrong } else { Finding::Right };
            let user = if seen.user.is_some() { Finding::Wrong } else { Finding::Right };
            return [process, user, Finding::Right];
        };
        let compare = |is_right: Option<bool>| match is_right {
            Some(true) => Finding::Right,
            Some(false) => Finding::Wrong,
            None => Finding::Unattributed(reason(seen)),
        };
        [
            self.process(owner, seen),
            compare(seen.user.as_ref().map(|user| user.id == owner.uid)),
            compare(seen.netns.as_ref().map(|netns| Some(netns.inode) == end.opened.netns)),
        ]
    }

    fn process(&self, owner: &Owner, seen: &records::End) -> Finding {
        let is_owner = |process: &records::Process| self.clock.is(process, owner);
        match &seen.process {
            Some(process) if is_owner(process) => Finding::Right,
            Some(_) => Finding::Wrong,
            None if seen.attribution.shared_with.is_empty() => Finding::Unattributed(reason(seen)),
            None if seen.attribution.shared_with.iter().any(is_owner) => {
                Finding::Unattributed("shared".to_owned())
            }
            None => Finding::Wrong,
        }
    }

    /// A socket that was not closed lived as long as the connection's other end, or as its class.
    fn is_short(&self, index: usize, end: &End) -> bool {
        let partner = self.matched.partners.get(index).copied().flatten();
        let others = partner.and_then(|partner| self.truth.get(partner)?.closed);
        end.closed.or(others).is_some_and(|closed| closed.saturating_sub(end.opened.at) < SHORT_NANOS)
    }

    /// Within one namespace only the node's own loopback is an interface of the node.
    fn crosses(&self, end: &End) -> bool {
        let (local, remote) = (end.opened.local.ip(), end.opened.remote.ip());
        let stays = local.is_loopback() || local == remote;
        !stays || end.opened.netns == Some(self.node_netns)
    }
}

/// netsnoop's reason for not naming more.
fn reason(seen: &records::End) -> String {
    let attribution = &seen.attribution;
    attribution.reason.clone().unwrap_or_else(|| attribution.level.clone())
}
