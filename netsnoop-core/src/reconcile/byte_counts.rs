//! How much payload each end of a connection has sent, by the best that counted it, and how much of that has been told.
//!
//! A count never falls: of two that tell of the same bytes, the larger one knows more. Left out: who looks (`byte_looks`),
//! and what the records say of it.

use core::num::NonZeroU32;

use super::end::Side;
use crate::connection::{Exchanged, Io, IoSource};
use crate::packet::Direction;
use crate::socket::Payload;

/// The interface that a datagram was seen on, and the way it went: in one number, as each connection has two of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SeenOn(NonZeroU32);

impl SeenOn {
    pub(super) const fn new(interface: Option<NonZeroU32>, direction: Direction) -> Self {
        let way = match direction {
            Direction::In => 0,
            Direction::Out => 1,
            Direction::Unknown => 2,
        };
        // Indices are positive `int`s of C, given one after another: so large ones there are not.
        let index = match interface {
            Some(index) => index.get() << 2,
            None => 0,
        };
        Self(NonZeroU32::MIN.saturating_add(index | way))
    }
}

/// Payload by the end that sent it, side A first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct ByteCounts {
    sent: [u64; 2],
    told: [u64; 2],
    /// Whether what counts as told is what went before the first look at it.
    begins_at_a_look: bool,
    source: Option<IoSource>,
    /// Where the first datagram from each end was seen. A node shows the same one on several interfaces.
    counted_on: [Option<SeenOn>; 2],
}

impl ByteCounts {
    /// What the socket at `side` has sent and received. Of an older connection all that went before is not told.
    pub(super) fn learn(&mut self, side: Side, payload: Payload, source: IoSource, is_older: bool) {
        let Payload { sent, received } = payload;
        let of_each = if side == Side::A { [sent, received] } else { [received, sent] };
        // Each side knows best what it sent; what was acknowledged may lag behind what was received.
        self.sent = pairwise(self.sent, of_each, u64::max);
        if is_older && self.source.is_none() {
            self.told = self.sent;
            self.begins_at_a_look = true;
        }
        self.source = self.source.max(Some(source));
    }

    /// A datagram from `sender`. It is counted where the first one from there was seen.
    pub(super) fn count_datagram(&mut self, sender: Side, seen_on: SeenOn, length: u32) {
        let ([on_a, on_b], [sent_a, sent_b]) = (&mut self.counted_on, &mut self.sent);
        let (counted_on, sent) = if sender == Side::A { (on_a, sent_a) } else { (on_b, sent_b) };
        if *counted_on.get_or_insert(seen_on) == seen_on {
            *sent = sent.saturating_add(length.into());
            self.source = self.source.max(Some(IoSource::Packets));
        }
    }

    /// The connection turns out to have begun in our time.
    pub(super) fn begin_at_none(&mut self) {
        if self.begins_at_a_look {
            self.told = [0; 2];
            self.begins_at_a_look = false;
        }
    }

    /// What is known, for who tells of it from now on; nothing more will be told here.
    pub(super) fn hand_over(&mut self) -> Self {
        let known = *self;
        self.told = [u64::MAX; 2];
        known
    }

    /// Takes what `gone`, the same connection, knows.
    pub(super) fn take_over(&mut self, gone: &Self, side_a_of_gone: Side) {
        let turned = |[a, b]: [u64; 2]| if side_a_of_gone == Side::A { [a, b] } else { [b, a] };
        self.sent = pairwise(self.sent, turned(gone.sent), u64::max);
        // Neither knew of the other: what both told has been told twice, and is made up for.
        let is_all_told = !self.begins_at_a_look && !gone.begins_at_a_look;
        let both = if is_all_told { u64::saturating_add } else { u64::max };
        self.told = pairwise(self.told, turned(gone.told), both);
        self.begins_at_a_look &= gone.begins_at_a_look;
        self.source = self.source.max(gone.source);
    }

    /// All that was exchanged, if anybody counted.
    pub(super) fn total(&self, client: Side) -> Option<Io> {
        let source = self.source?;
        Some(Io { exchanged: exchanged(self.sent, client), source })
    }

    /// Whether more was exchanged than has been told.
    pub(super) fn has_untold(&self) -> bool {
        self.untold() != [0; 2]
    }

    /// What has not been told; it has been from now on.
    pub(super) fn take_untold(&mut self, client: Side) -> Exchanged {
        let untold = self.untold();
        self.told = pairwise(self.told, self.sent, u64::max);
        self.begins_at_a_look = false;
        exchanged(untold, client)
    }

    fn untold(&self) -> [u64; 2] {
        pairwise(self.sent, self.told, u64::saturating_sub)
    }
}

/// What each end sent, as the client sees it.
const fn exchanged([a, b]: [u64; 2], client: Side) -> Exchanged {
    match client {
        Side::A => Exchanged { sent_bytes: a, received_bytes: b },
        Side::B => Exchanged { sent_bytes: b, received_bytes: a },
    }
}

fn pairwise([a, b]: [u64; 2], [c, d]: [u64; 2], of_two: fn(u64, u64) -> u64) -> [u64; 2] {
    [of_two(a, c), of_two(b, d)]
}
