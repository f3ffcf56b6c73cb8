//! netsnoop's closing words on standard error, as numbers.

/// The counts before each noun of the closing words.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) connections: u64,
    ends_seen: u64,
    ends_attributed: u64,
    ends_unattributed: u64,
    ends_open: u64,
    ends_evicted: u64,
    packets_received: u64,
    packets_decoded: u64,
    packets_ignored: u64,
    packets_rejected: u64,
    pub(crate) packets_dropped: u64,
    pub(crate) events_read: u64,
    pub(crate) events_lost: u64,
    text: String,
}

impl Ledger {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        // Numbers come before their words; the words in parentheses break unattributed ends down.
        let line = |what: &str| {
            // The last: what was said of silence before has numbers too.
            let line =
                text.lines().rfind(|line| line.split(' ').nth(1).is_some_and(|noun| noun.starts_with(what)));
            line.unwrap_or_else(|| panic!("no {what} in:\n{text}"))
        };
        let numbers = |what: &str| -> Vec<u64> {
            let outside: String =
                line(what).split('(').map(|part| part.rsplit(')').next().unwrap()).collect();
            outside
                .split(|letter: char| !letter.is_ascii_digit())
                .filter_map(|word| word.parse().ok())
                .collect()
        };
        let (ends, packets, events) = (numbers("local"), numbers("packet"), numbers("kernel"));
        Self {
            connections: numbers("connection")[0],
            ends_seen: ends[0],
            ends_attributed: ends[1],
            ends_unattributed: ends[2],
            ends_open: ends[3],
            ends_evicted: ends[4],
            packets_received: packets[0],
            packets_decoded: packets[1],
            packets_ignored: packets[2],
            packets_rejected: packets[3],
            packets_dropped: packets[4],
            events_read: events[0],
            events_lost: events[1],
            text: text.to_owned(),
        }
    }

    /// Everything seen must be accounted for.
    #[track_caller]
    pub(crate) fn must_balance(&self) {
        let ends = self.ends_attributed + self.ends_unattributed + self.ends_open + self.ends_evicted;
        let packets =
            self.packets_decoded + self.packets_ignored + self.packets_rejected + self.packets_dropped;
        assert_eq!(self.ends_seen, ends, "local ends of:\n{}", self.text);
        assert_eq!(self.packets_received, packets, "packets of:\n{}", self.text);
        assert!(!self.text.contains("do not balance"), "{}", self.text);
    }
}
