//! Counts of what is lost or unreadable before the reconciler, which keeps its own ledger.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::scans::ScanTimes;

/// One count. Relaxed: nothing is ordered by it, it is only summed up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `by`.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// Replaces the value, for totals that somebody else keeps (libpcap, the kernel).
    pub fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The agent's counts, shared by sources and sinks.
#[derive(Debug, Default)]
pub struct Counters {
    /// How long looking at the system took.
    pub scans: ScanTimes,
    /// Frames that libpcap handed to us.
    pub packets_captured: Counter,
    /// Frames libpcap dropped because its buffer was full (`ps_drop`).
    pub packets_dropped_by_buffer: Counter,
    /// Frames the interface dropped (`ps_ifdrop`).
    pub packets_dropped_by_interface: Counter,
    /// Frames captured and lost because the channel to the reconciler was full.
    pub packets_lost_in_channel: Counter,
    /// Frames with a time stamp that could not be, neither by the wall clock as it is nor as it was before it was set.
    pub packets_restamped: Counter,
    /// Records kernel programs could not put in the ring, counted in the kernel.
    pub events_lost_in_ring: Counter,
    /// Records read from the ring.
    pub events_read: Counter,
    /// Records lost because the channel to the reconciler was full.
    pub events_lost_in_channel: Counter,
    /// Records of the socket iterator that could not be decoded.
    pub iterator_records_rejected: Counter,
    /// Answers to lookups lost because the channel to the reconciler was full.
    pub observations_lost_in_channel: Counter,
    /// Questions lost because the channel to the lookup thread was full.
    pub lookups_lost_in_channel: Counter,
    /// `/proc` entries that could not be read for lack of permission.
    pub proc_denied: Counter,
    /// `/proc` entries that were gone when read: normal, and counted all the same.
    pub proc_vanished: Counter,
    /// `/proc` entries and netlink questions that failed in any other way.
    pub proc_failed: Counter,
    /// Lookups of owners that ran out of time before every process was looked at.
    pub lookups_cut_short: Counter,
    /// Lines of `/proc` text that could not be decoded.
    pub proc_lines_rejected: Counter,
    /// Events of connection tracking read, those that the kernel kept back left out.
    pub conntrack_events: Counter,
    /// Messages of connection tracking that could not be decoded.
    pub conntrack_rejected: Counter,
    /// Times that the kernel had no room for such events, so that all was listed anew.
    pub conntrack_overflows: Counter,
    /// Names of servers read from packets, once for each interface that shows them.
    pub names_read: Counter,
    /// Beginnings of streams that were given up because too many waited for more.
    pub names_evicted: Counter,
    /// Answers to lookups of names read from packets, once for each interface that shows them.
    pub resolutions_read: Counter,
    /// Packets from resolvers' ports that hold no message.
    pub resolutions_rejected: Counter,
    /// Streams of resolvers that were given up because too many waited for more.
    pub resolver_streams_evicted: Counter,
    /// Events of interfaces, addresses and namespaces read.
    pub link_events: Counter,
    /// Messages of such events that could not be decoded.
    pub link_events_rejected: Counter,
    /// Times that the kernel had no room for such events, so that all was looked at anew.
    pub link_event_overflows: Counter,
    /// Times that the kernel had no room for exits of processes, so that who served a port is doubted for a while.
    pub exit_event_overflows: Counter,
    /// Records that a sink wrote.
    pub rows_written: Counter,
    /// Records a sink lost because its channel was full, or could not write.
    pub rows_lost_in_channel: Counter,
    /// Records that were not counted in metrics because their channel was full.
    pub metrics_records_lost: Counter,
    /// Textfiles that could not be written.
    pub textfile_failures: Counter,
    /// Times that the counts which are to survive could not be written.
    pub state_failures: Counter,
    /// Files of such counts that were put aside as they could not be understood.
    pub state_put_aside: Counter,
    /// HTTP requests turned away, or cut short for others, because too many were at work.
    pub http_refused: Counter,
    /// Times that the settings were read anew.
    pub config_reloads: Counter,
    /// Times that the settings could not be read anew.
    pub config_reload_failures: Counter,
    /// Uids whose name the name service failed to tell.
    pub user_names_failed: Counter,
    /// User names forgotten because too many were kept.
    pub user_names_evicted: Counter,
    /// Containers' own user names that could not be read.
    pub container_users_failed: Counter,
    /// Containers' own user names not asked for, as reading one of them did not end.
    pub container_users_unasked: Counter,
    /// Times that a container runtime refused or gave no answer.
    pub runtime_failures: Counter,
    /// Times that Kubernetes' API server refused, gave no answer, or broke off.
    pub kube_api_failures: Counter,
    /// Lists of containers' names or cgroups that found no room on their way.
    pub container_names_lost: Counter,
    /// Cgroups below which none is seen to come, as too many are watched.
    pub cgroups_unwatched: Counter,
    /// Times that the kernel had no room for events of cgroups, so that all were looked at anew.
    pub cgroup_event_overflows: Counter,
    /// Containers whose names were forgotten because too many were kept.
    pub container_names_evicted: Counter,
    /// Shown connections that a full table forgot, so that their end may be told without their beginning.
    pub followed_evicted: Counter,
}
