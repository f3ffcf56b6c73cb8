//! Reading frame bytes that nobody vouches for: every access is checked once, and a failed one says
//! which layer wanted how much at which offset. It knows no protocol.

use super::{Layer, PacketError};

/// The unread rest of a frame.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(frame: &'a [u8]) -> Self {
        Self { rest: frame, offset: 0 }
    }

    /// Where in the frame the rest begins.
    pub(super) const fn offset(&self) -> usize {
        self.offset
    }

    /// The rest.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes are left.
    pub(super) const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Fails unless `wanted` bytes are left, so that a header read in parts is reported whole.
    pub(super) const fn expect(&self, layer: Layer, wanted: usize) -> Result<(), PacketError> {
        if self.rest.len() < wanted {
            return Err(PacketError::Truncated { layer, offset: self.offset, wanted, had: self.rest.len() });
        }
        Ok(())
    }

    /// Reads the next `N` bytes.
    pub(super) fn take<const N: usize>(&mut self, layer: Layer) -> Result<[u8; N], PacketError> {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                self.offset += N;
                Ok(*taken)
            }
            None => {
                Err(PacketError::Truncated { layer, offset: self.offset, wanted: N, had: self.rest.len() })
            }
        }
    }

    /// Passes over `count` bytes.
    pub(super) fn skip(&mut self, layer: Layer, count: usize) -> Result<(), PacketError> {
        self.expect(layer, count)?;
        self.rest = self.rest.get(count..).unwrap_or_default();
        self.offset += count;
        Ok(())
    }

    /// Cuts the rest to at most `count` bytes: what follows is padding.
    pub(super) fn limit(&mut self, count: usize) {
        self.rest = self.rest.get(..count).unwrap_or(self.rest);
    }
}
