//! The books: every packet, event and local end is counted somewhere, and the sums agree.

use crate::attribution::Reason;

/// Counts that the reconciler and the decoders keep. The agent adds what is lost before them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    /// Frames handed over by libpcap and decoded.
    pub packets_decoded: u64,
    /// Frames that are of no interest (not IP, not TCP, UDP or an ICMP error).
    pub packets_ignored: u64,
    /// Frames that could not be read.
    pub packets_rejected: u64,
    /// Kernel records decoded.
    pub events_consumed: u64,
    /// Kernel records that could not be read.
    pub events_rejected: u64,
    /// Connections opened.
    pub connections_opened: u64,
    /// Connections closed.
    pub connections_closed: u64,
    /// Connections thrown out of a full table.
    pub connections_evicted: u64,
    /// Local ends seen.
    pub ends_seen: u64,
    /// Local ends that have an owner.
    pub ends_attributed: u64,
    /// Local ends that nobody can name an owner of, by reason (index: place in [`Reason::ALL`]).
    pub ends_unattributed: [u64; Reason::ALL.len()],
    /// Local ends thrown out of a full table before they were told of.
    pub ends_evicted: u64,
    /// Local ends whose owner is still being looked for.
    pub ends_open: u64,
    /// Stronger evidence that named another owner.
    pub conflicts: u64,
    /// Entries thrown out of the full process table.
    pub processes_evicted: u64,
    /// Listening sockets that found no room in their table.
    pub listeners_dropped: u64,
    /// Sockets found by a pass over all tables that found no room in the table of those that live.
    pub living_dropped: u64,
    /// Translations (NAT) thrown out of a full table.
    pub translations_evicted: u64,
    /// Connections whose translation was told of so late that both its names had been told as connections.
    pub connections_told_twice: u64,
    /// Names of servers in packets of no connection that is held.
    pub names_unmatched: u64,
    /// Answers to lookups of names that nobody was seen to ask for, or whose asker could not be told.
    pub resolutions_unmatched: u64,
    /// Answers to lookups of names thrown out of a full table.
    pub resolutions_evicted: u64,
    /// Addresses of the cluster's pods and services that found no room, or were forgotten as their table was full.
    pub cluster_names_evicted: u64,
    /// Questions not asked because too many were waiting.
    pub rescans_dropped: u64,
}

impl Ledger {
    /// Enters a local end without an owner.
    pub(crate) fn count_unattributed(&mut self, reason: Reason) {
        let place = Reason::ALL.iter().position(|known| *known == reason);
        if let Some(count) = place.and_then(|place| self.ends_unattributed.get_mut(place)) {
            *count += 1;
        }
    }

    /// Whether every local end seen is accounted for.
    pub fn balances(&self) -> bool {
        let unattributed: u64 = self.ends_unattributed.iter().sum();
        self.ends_seen == self.ends_attributed + unattributed + self.ends_evicted + self.ends_open
    }
}
