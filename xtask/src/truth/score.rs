//! Verdicts counted: by class, end and whether the socket lived long enough to be looked up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::told::{Role, Transport};
use super::verdict::Finding;

/// What ends that are counted together have in common.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) class: String,
    pub(crate) transport: Transport,
    pub(crate) role: Role,
    /// Less than 20 ms.
    pub(crate) is_short: bool,
    /// Its packets cross an interface of the node's namespace.
    pub(crate) crosses: bool,
    /// Its namespace has one user.
    pub(crate) has_one_user: bool,
}

/// How often a question was answered how.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) right: u64,
    pub(crate) wrong: u64,
    pub(crate) missed: u64,
    /// By reason.
    pub(crate) unattributed: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts one more.
    pub(crate) fn add(&mut self, finding: &Finding) {
        match finding {
            Finding::Right => self.right += 1,
            Finding::Wrong => self.wrong += 1,
            Finding::Missed => self.missed += 1,
            Finding::Unattributed(reason) => *self.unattributed.entry(reason.clone()).or_default() += 1,
        }
    }

    /// Adds another tally.
    pub(crate) fn join(&mut self, other: &Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.missed += other.missed;
        for (reason, count) in &other.unattributed {
            *self.unattributed.entry(reason.clone()).or_default() += count;
        }
    }

    /// All questions.
    pub(crate) fn asked(&self) -> u64 {
        self.right + self.wrong + self.missed + self.unattributed.values().sum::<u64>()
    }
}

/// The three questions about the ends of a group.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Answers {
    pub(crate) process: Tally,
    pub(crate) user: Tally,
    pub(crate) namespace: Tally,
}

/// A group and its answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) group: Group,
    #[serde(flatten)]
    pub(crate) answers: Answers,
}

/// One way's score.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Score {
    /// The way's name.
    pub(crate) way: String,
    pub(crate) rows: Vec<Row>,
    /// Connections that were played.
    pub(crate) connections: u64,
    /// Records that were too many, by class.
    pub(crate) doubled: BTreeMap<String, u64>,
    /// Records that have client and server the other way round.
    pub(crate) swapped: u64,
    /// Records between the bench's addresses of which nobody told.
    pub(crate) untold: u64,
    /// What does not add up in netsnoop's closing words, if anything.
    pub(crate) imbalance: Option<String>,
    /// Classes that were played, and nobody told of a connection.
    pub(crate) silent: Vec<String>,
    /// Classes that could not be played here, and why.
    pub(crate) skipped: BTreeMap<String, String>,
}

impl Score {
    /// One question over all groups that fit.
    pub(crate) fn tally(&self, fits: impl Fn(&Group) -> bool, question: fn(&Answers) -> &Tally) -> Tally {
        let mut sum = Tally::default();
        for row in self.rows.iter().filter(|row| fits(&row.group)) {
            sum.join(question(&row.answers));
        }
        sum
    }

    /// Records that were too many.
    pub(crate) fn doubled(&self) -> u64 {
        self.doubled.values().sum()
    }
}
