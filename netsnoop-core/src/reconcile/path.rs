//! The names a connection has on its way, where it is translated (NAT), once or several times.

use alloc::vec::Vec;

use super::end::Side;
use crate::five_tuple::FiveTuple;
use crate::translation::Translation;

/// Most translations of one connection; a container within a container on a node has two.
const STEPS_MAX: usize = 4;

/// One translation or more, that nearest to the asker first.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// The end that sent first.
    pub(super) asker: Side,
    first: Translation,
    rest: Vec<Translation>,
}

impl Path {
    pub(super) const fn new(asker: Side, only: Translation) -> Self {
        Self { asker, first: only, rest: Vec::new() }
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = &Translation> {
        core::iter::once(&self.first).chain(&self.rest)
    }

    /// The connection as the end that sent first knows it, its own end first.
    pub(super) const fn seen_by_asker(&self) -> FiveTuple {
        self.first.original
    }

    /// The connection as the end that answers knows it, its own end first.
    pub(super) fn seen_by_answerer(&self) -> FiveTuple {
        self.rest.last().unwrap_or(&self.first).reply
    }

    pub(super) const fn has_room(&self) -> bool {
        self.rest.len() + 1 < STEPS_MAX
    }

    /// Whether `step` is one before or after those that are known.
    pub(super) fn goes_on_with(&self, step: &Translation) -> bool {
        let joins = step.original == self.seen_by_answerer().mirrored()
            || step.reply.mirrored() == self.first.original;
        // A way that leads back to a name it had would have no end.
        joins && self.steps().all(|known| known.original != step.original)
    }

    /// Takes a further step at either end of the way, or another in the place of one that was given up. `false` if
    /// it is of neither kind.
    pub(super) fn add(&mut self, step: Translation) -> bool {
        let steps = core::iter::once(&mut self.first).chain(&mut self.rest);
        let given_up = steps.into_iter().find(|known| known.original == step.original);
        if let Some(known) = given_up {
            *known = step;
        } else if !self.has_room() || !self.goes_on_with(&step) {
            return false;
        } else if step.original == self.seen_by_answerer().mirrored() {
            self.rest.push(step);
        } else {
            let second = core::mem::replace(&mut self.first, step);
            self.rest.insert(0, second);
        }
        true
    }
}
