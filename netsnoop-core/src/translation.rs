//! Address translation (NAT): what one connection is called on either side of it.
//!
//! Left out: which namespace translates, and when, which the observation adds.

use crate::five_tuple::FiveTuple;

/// A connection that conntrack tracks, by the names its two ends know it by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Translation {
    /// As the end that sent first knows it: its own end first.
    pub original: FiveTuple,
    /// As the end that answers knows it: its own end first.
    pub reply: FiveTuple,
    /// The kernel's number for it, unique while it is tracked.
    pub id: u32,
}

impl Translation {
    /// Whether the two ends know it by different names.
    pub fn translates(&self) -> bool {
        self.original != self.reply.mirrored()
    }

    /// Every name of it that packets may carry, each with the end that sent first as the local one: before all
    /// translation, after all of it, and, where both ends are renamed, between the two steps, which a bridge that
    /// calls netfilter shows.
    pub fn names(&self) -> [Option<FiveTuple>; 3] {
        let after = self.reply.mirrored();
        let between = FiveTuple { remote: after.remote, ..self.original };
        let is_new = between != self.original && between != after;
        [Some(self.original), Some(after), is_new.then_some(between)]
    }
}

/// What became of a translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TranslationChange {
    /// It is in force, from now on or since before the first look.
    Began(Translation),
    /// It is no longer.
    Ended(Translation),
}
