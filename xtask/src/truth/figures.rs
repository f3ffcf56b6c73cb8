//! The figures that netsnoop promises, and whether a score holds them.

use super::classes::{self, Limit, Question};
use super::score::{Answers, Group, Score, Tally};
use super::told::{Role, Transport};
use super::ways::{self, Standard};

/// One line of the table.
#[derive(Clone, Copy)]
pub(crate) struct Figure {
    /// What is measured.
    pub(crate) what: &'static str,
    /// The least share in percent with everything, if it is judged.
    full: f64,
    /// The least share in percent without kernel programs, if it is judged.
    without_ebpf: Option<f64>,
    question: Question,
    counts: fn(&Group) -> bool,
    /// What of that counts without kernel programs.
    counts_without_ebpf: fn(&Group) -> bool,
}

/// The shares, in the order of the table.
pub(crate) const FIGURES: [Figure; 5] = [
    Figure {
        what: "right process, TCP client end",
        full: 100.0,
        without_ebpf: Some(99.0),
        question: Question::Process,
        counts: |group| (group.transport, group.role) == (Transport::Tcp, Role::Client),
        counts_without_ebpf: |group| !group.is_short,
    },
    Figure {
        what: "right process, TCP server end",
        full: 99.9,
        without_ebpf: Some(99.0),
        question: Question::Process,
        counts: |group| (group.transport, group.role) == (Transport::Tcp, Role::Server),
        counts_without_ebpf: |group| !group.is_short,
    },
    Figure {
        what: "right process, UDP",
        full: 99.5,
        without_ebpf: None,
        question: Question::Process,
        counts: |group| group.transport == Transport::Udp,
        counts_without_ebpf: |_| true,
    },
    Figure {
        what: "right user",
        full: 100.0,
        without_ebpf: Some(99.0),
        question: Question::User,
        counts: |_| true,
        counts_without_ebpf: |group| !group.is_short || group.has_one_user,
    },
    Figure {
        what: "right namespace",
        full: 100.0,
        without_ebpf: Some(99.9),
        question: Question::Namespace,
        counts: |_| true,
        counts_without_ebpf: |_| true,
    },
];

impl Question {
    /// Its tally.
    pub(crate) const fn tally(self, answers: &Answers) -> &Tally {
        match self {
            Self::Process => &answers.process,
            Self::User => &answers.user,
            Self::Namespace => &answers.namespace,
        }
    }
}

impl Figure {
    /// What is measured of a score by this figure, for a way of this standard. Ends that the kernel keeps from being
    /// known do not count, but a wrong answer about them does, elsewhere.
    pub(crate) fn measure(&self, score: &Score, standard: Standard) -> Tally {
        let counts = |group: &Group| {
            let judged =
                standard != Standard::WithoutEbpf || (group.crosses && (self.counts_without_ebpf)(group));
            (self.counts)(group) && judged && classes::limit(group, self.question, standard).is_none()
        };
        let mut sum = Tally::default();
        for row in score.rows.iter().filter(|row| counts(&row.group)) {
            sum.join(self.question.tally(&row.answers));
        }
        sum
    }

    /// The least share in percent, if a way of this standard is judged by this figure.
    pub(crate) const fn least(&self, standard: Standard) -> Option<f64> {
        match standard {
            Standard::Full => Some(self.full),
            Standard::WithoutEbpf => self.without_ebpf,
            Standard::Rung | Standard::Tables => None,
        }
    }

    /// Whether a share is enough.
    pub(crate) fn holds(&self, tally: &Tally, standard: Standard) -> bool {
        self.least(standard).is_none_or(|least| tally.asked() == 0 || percent(tally) >= least)
    }
}

/// The share of right answers.
pub(crate) fn percent(tally: &Tally) -> f64 {
    if tally.asked() == 0 { 0.0 } else { tally.right as f64 * 100.0 / tally.asked() as f64 }
}

impl Score {
    /// Wrong answers that netsnoop could have known not to give.
    pub(crate) fn wrong(&self) -> u64 {
        self.wrong_where(|limit| !limit.is_some_and(|limit| limit.may_mislead))
    }

    /// Wrong answers that nothing tells from right ones.
    pub(crate) fn misled(&self) -> u64 {
        self.wrong_where(|limit| limit.is_some_and(|limit| limit.may_mislead))
    }

    fn wrong_where(&self, counts: impl Fn(Option<&Limit>) -> bool) -> u64 {
        let Ok(way) = ways::parse(&self.way) else { return 0 };
        let questions = self.rows.iter().flat_map(|row| Question::ALL.map(|question| (row, question)));
        questions
            .filter(|(row, question)| counts(classes::limit(&row.group, *question, way.standard)))
            .map(|(row, question)| question.tally(&row.answers).wrong)
            .sum()
    }
}

/// Why a score is not good enough; nothing if it is. At small scale shares are not judged: a single miss would be too much.
pub(crate) fn faults(score: &Score, standard: Standard, is_small: bool) -> Vec<String> {
    let mut faults = Vec::new();
    if score.wrong() > 0 {
        faults.push(format!("{} wrong answers", score.wrong()));
    }
    if score.doubled() > 0 {
        faults.push(format!("{} records too many", score.doubled()));
    }
    faults.extend(score.imbalance.clone());
    faults.extend(score.silent.iter().map(|class| format!("{class} played nothing")));
    for figure in FIGURES.iter().filter(|_| !is_small) {
        let tally = figure.measure(score, standard);
        if !figure.holds(&tally, standard) {
            let least = figure.least(standard).unwrap_or_default();
            faults.push(format!("{}: {:.2} %, not {least} %", figure.what, percent(&tally)));
        }
    }
    faults
}
