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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::matching;
    use super::super::samples::{clock, end, fold, line, owned, unknown};
    use super::super::told::Role::{Client, Server};
    use super::*;

    const A: &str = "198.18.64.11:1000";
    const B: &str = "198.18.64.12:80";

    fn judge(truth: &[End], lines: &[String]) -> Vec<Verdict> {
        let connections = fold(lines);
        let matched = matching::find(truth, &connections, |_| false);
        let holders = &[(1, 0)];
        let case = Case {
            truth,
            connections: &connections,
            matched: &matched,
            clock: clock(),
            node_netns: 9,
            holders,
        };
        case.judge()
    }

    /// The verdict on the client's end if netsnoop shows it as `seen`.
    fn check(seen: &serde_json::Value, [process, user, namespace]: [Finding; 3]) {
        let verdicts = judge(&[end(Client, A, B, (1, 0))], &[line("a", 0, seen, &unknown(B, "remote"))]);
        let [verdict] = &*verdicts else { panic!("{verdicts:?}") };
        let found = [&verdict.process, &verdict.user, &verdict.namespace];
        assert_eq!(found, [&process, &user, &namespace], "{seen}");
    }

    fn no_answer(reason: &str) -> Finding {
        Finding::Unattributed(reason.to_owned())
    }

    #[test]
    fn process_user_and_namespace_are_judged_each_for_itself() {
        use Finding::{Right, Wrong};
        check(&owned(A, 1, (100, 7)), [Right, Right, Right]);
        check(&owned(A, 1, (101, 7)), [Wrong, Right, Right]);
        check(&owned(A, 1, (100, 8)), [Right, Wrong, Right]);
        check(&owned(A, 3, (100, 7)), [Right, Right, Wrong]);
        check(&unknown(A, "lost"), [no_answer("lost"), no_answer("lost"), no_answer("lost")]);
    }

    #[test]
    fn a_pid_with_another_start_is_another_process() {
        let mut seen = owned(A, 1, (100, 7));
        seen["process"]["start_time"] = json!("1970-01-01T00:00:00.600000000Z");
        check(&seen, [Finding::Wrong, Finding::Right, Finding::Right]);
    }

    #[test]
    fn a_shared_set_is_no_answer_if_the_owner_is_in_it_and_wrong_if_not() {
        let holder =
            |pid: u32| json!({ "pid": pid, "start_time": "1970-01-01T00:00:00.500000000Z", "name": "p" });
        let shared = |first: u32| {
            let mut seen = owned(A, 1, (0, 7));
            seen.as_object_mut().unwrap().remove("process");
            seen["attribution"] = json!({
                "level": "shared", "evidence": "proc", "shared_with": [holder(first), holder(200)],
            });
            seen
        };
        check(&shared(100), [no_answer("shared"), Finding::Right, Finding::Right]);
        check(&shared(101), [Finding::Wrong, Finding::Right, Finding::Right]);
    }

    #[test]
    fn who_names_an_owner_where_there_is_none_is_wrong() {
        let mut nobody = end(Server, B, A, (2, 0));
        nobody.opened.owner = None;
        nobody.opened.netns = None;
        let client = unknown(A, "remote");
        let verdict = |server: &serde_json::Value| {
            let verdicts = judge(&[nobody.clone()], &[line("a", 0, &client, server)]);
            verdicts.first().map(|verdict| verdict.process.clone())
        };
        assert_eq!(verdict(&unknown(B, "closed_port")), Some(Finding::Right));
        assert_eq!(verdict(&owned(B, 2, (100, 7))), Some(Finding::Wrong));
    }

    #[test]
    fn what_is_judged_without_kernel_programs_depends_on_life_namespace_and_users() {
        let mut brief = end(Client, A, B, (1, 0));
        brief.closed = Some(brief.opened.at + 1_000_000);
        let inside = end(Client, "127.0.0.1:5", "127.0.0.1:6", (2, 0));
        let on_node = end(Client, "127.0.0.1:5", "127.0.0.1:6", (9, 0));
        let verdicts = judge(&[brief, inside, on_node], &[]);
        let found: Vec<[bool; 3]> = verdicts
            .iter()
            .map(|verdict| [verdict.is_short, verdict.crosses, verdict.has_one_user])
            .collect();
        // A process of root holds the first namespace.
        assert_eq!(found, [[true, true, false], [false, false, true], [false, true, true]]);
        assert!(verdicts.iter().all(|verdict| verdict.process == Finding::Missed));
    }
}
