//! A score in a few words, for tables that have a column a kernel.

use super::figures::FIGURES;
use super::score::Score;
use super::ways::{WAYS, Way};

/// What is told of each score, in the order of [`cells`].
pub(crate) fn labels() -> Vec<&'static str> {
    let shares = FIGURES.iter().map(|figure| figure.what);
    ["connections", "wrong answers", "records too many"].into_iter().chain(shares).chain(["ledger"]).collect()
}

/// The score of a way. Shares are counts: at small scale a percentage says less.
pub(crate) fn cells(score: &Score) -> Vec<String> {
    let way = WAYS.into_iter().find(|way: &Way| way.name == score.way);
    let shares = FIGURES.iter().map(|figure| {
        let tally = way.map(|way| figure.measure(score, way.standard)).unwrap_or_default();
        format!("{} of {}", tally.right, tally.asked())
    });
    let counts = [score.connections, score.wrong(), score.doubled()].map(|count| count.to_string());
    let ledger = if score.imbalance.is_none() { "balances" } else { "DOES NOT BALANCE" };
    counts.into_iter().chain(shares).chain([ledger.to_owned()]).collect()
}
