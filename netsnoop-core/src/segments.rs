//! Segments of streams put together, as far as a reader asks for more.
//!
//! What comes out of order, or was not captured whole, is given up. Streams, their bytes and the time they may take are
//! bounded.

use core::time::Duration;

use ahash::RandomState;
use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use hashbrown::HashMap;

use crate::five_tuple::FiveTuple;
use crate::packet::{PacketContent, PacketHeader};
use crate::time::Timestamp;

/// What waits is not let grow beyond this.
const BYTES_MAX: usize = 16 * 1024;
/// How long the rest may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Segments that wait for those that follow.
#[derive(Debug)]
pub struct Segments {
    waiting: HashMap<FiveTuple, Waiting, RandomState>,
    oldest_first: VecDeque<(Timestamp, FiveTuple)>,
    streams_max: usize,
    /// Streams given up because there were too many.
    pub evicted: u64,
}

#[derive(Debug)]
struct Waiting {
    since: Timestamp,
    next_sequence: u32,
    bytes: Vec<u8>,
}

impl Segments {
    /// Room for so many streams, in a table seeded by `seed`.
    pub fn new(seed: [u64; 4], streams_max: usize) -> Self {
        let [first, second, third, fourth] = seed;
        let hasher = RandomState::with_seeds(first, second, third, fourth);
        let waiting = HashMap::with_hasher(hasher);
        Self { waiting, oldest_first: VecDeque::new(), streams_max, evicted: 0 }
    }

    /// Has `read` look at what was captured of a segment's payload, behind what waits for it. It returns what it found, and
    /// from which byte on it waits for more. The same segment may come again, by another interface.
    pub fn take<T>(
        &mut self,
        at: Timestamp,
        header: &PacketHeader,
        payload: &[u8],
        read: impl FnOnce(&[u8]) -> (T, Option<usize>),
    ) -> Option<T> {
        let PacketContent::Tcp { sequence, payload_length, .. } = header.content else { return None };
        if payload.is_empty() {
            return None;
        }
        let (since, bytes) = match self.waiting.get_mut(&header.tuple) {
            Some(waiting) if waiting.next_sequence == sequence => {
                waiting.bytes.extend_from_slice(payload);
                (waiting.since, Cow::Owned(core::mem::take(&mut waiting.bytes)))
            }
            // One that was seen already, or one that comes too early.
            Some(waiting) if at.since(waiting.since) < PATIENCE => return None,
            _ => (at, Cow::Borrowed(payload)),
        };
        let (found, from) = read(&bytes);
        let rest = from.and_then(|from| bytes.get(from..)).filter(|rest| rest.len() <= BYTES_MAX);
        let is_whole = payload.len() as u64 >= u64::from(payload_length);
        match rest.filter(|_| is_whole) {
            Some(rest) => {
                let since = if from == Some(0) { since } else { at };
                let next_sequence = sequence.wrapping_add(payload_length);
                self.keep(header.tuple, Waiting { since, next_sequence, bytes: rest.to_vec() });
            }
            None => {
                self.waiting.remove(&header.tuple);
            }
        }
        Some(found)
    }

    fn keep(&mut self, tuple: FiveTuple, waiting: Waiting) {
        let since = waiting.since;
        let known = self.waiting.insert(tuple, waiting);
        if known.is_some_and(|known| known.since == since) {
            return;
        }
        self.oldest_first.push_back((since, tuple));
        while let Some((then, oldest)) = self.oldest_first.front().copied() {
            let is_over = since.since(then) >= PATIENCE;
            if !is_over && self.oldest_first.len() <= self.streams_max {
                break;
            }
            self.oldest_first.pop_front();
            if self.waiting.get(&oldest).is_some_and(|waiting| waiting.since == then) {
                self.waiting.remove(&oldest);
                self.evicted += u64::from(!is_over);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;
    use crate::five_tuple::{Endpoint, Transport};
    use crate::packet::TcpFlags;

    fn second(number: u64) -> Timestamp {
        Timestamp::from_nanos(number * 1_000_000_000)
    }

    fn header(port: u16, sequence: u32, payload_length: usize) -> PacketHeader {
        let at = |last, port| Endpoint::new(Ipv4Addr::new(198, 18, 1, last).into(), port);
        let tuple = FiveTuple { transport: Transport::Tcp, local: at(10, port), remote: at(13, 443) };
        let payload_length = u32::try_from(payload_length).unwrap();
        let flags = TcpFlags(0x18);
        let content = PacketContent::Tcp { flags, sequence, acknowledgement: 1, payload_length };
        PacketHeader { tuple, content }
    }

    /// Reads words that end in a dot.
    fn words(bytes: &[u8]) -> (Vec<Vec<u8>>, Option<usize>) {
        let mut words: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'.').map(<[u8]>::to_vec).collect();
        let rest = words.pop().unwrap_or_default().len();
        (words, (rest > 0).then_some(bytes.len() - rest))
    }

    /// The words found in pieces, each with its sequence number and whole length.
    fn check(pieces: &[(u32, usize, &str)], expected: &[&str]) {
        let mut segments = Segments::new([1, 2, 3, 4], 8);
        let take = |(sequence, length, text): &(u32, usize, &str)| {
            segments.take(second(1), &header(1, *sequence, *length), text.as_bytes(), words)
        };
        let found: Vec<Vec<u8>> = pieces.iter().filter_map(take).flatten().collect();
        assert_eq!(found, expected.iter().map(|word| word.as_bytes()).collect::<Vec<_>>(), "{pieces:?}");
    }

    #[test]
    fn what_waits_is_put_together_in_order() {
        check(&[(1, 4, "a.b."), (5, 2, "c.")], &["a", "b", "c"]);
        check(&[(1, 4, "a.bb"), (5, 2, "c."), (7, 2, "d.")], &["a", "bbc", "d"]);
        check(&[(u32::MAX - 1, 4, "a.bb"), (2, 2, "c.")], &["a", "bbc"]);
        // Seen twice; out of order; not captured whole.
        check(&[(1, 2, "aa"), (1, 2, "aa"), (3, 1, "."), (4, 2, "b.")], &["aa", "b"]);
        check(&[(1, 2, "aa"), (5, 2, "c."), (3, 2, "b.")], &["aab"]);
        check(&[(1, 9, "a.bb"), (10, 2, "c.")], &["a", "c"]);
        check(&[(1, 0, "")], &[]);
    }

    #[test]
    fn streams_are_bounded_in_number_and_time() {
        let mut segments = Segments::new([1, 2, 3, 4], 100);
        let mut begin = |port, at| {
            assert_eq!(segments.take(at, &header(port, 1, 2), b"aa", words), Some(Vec::new()));
            (segments.waiting.len(), segments.evicted)
        };
        for port in 0..150 {
            begin(port, second(1));
        }
        assert_eq!(begin(150, second(2)), (100, 51));
        assert_eq!(begin(151, second(30)), (1, 51));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut segments = Segments::new([1, 2, 3, 4], 8);
        for number in 0..40_u32 {
            segments.take(second(1), &header(1, 1 + number * 1000, 1000), &[b'A'; 1000], words);
            let held: usize = segments.waiting.values().map(|waiting| waiting.bytes.len()).sum();
            assert!(held <= BYTES_MAX, "{held}");
        }
    }
}
