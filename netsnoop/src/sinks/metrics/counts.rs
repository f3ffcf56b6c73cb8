//! What is counted besides connections, with its name and meaning for each: the ledger's sums, and the counters' of what
//! was read, lost or unreadable before and after it.

use netsnoop_core::ledger::Ledger;

use crate::counters::{Counter, Counters};

/// A count with its name and meaning.
pub(super) struct Count {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) value: u64,
}

/// All counts of the agent's own, from where packets come in to where records go out.
pub(super) fn of_counters(counters: &Counters) -> impl Iterator<Item = Count> {
    let inputs = of_capture(counters).into_iter().chain(of_lookups(counters)).chain(of_resolutions(counters));
    inputs.chain(of_links(counters)).chain(of_names(counters)).chain(of_outputs(counters))
}

const fn count(name: &'static str, help: &'static str, value: u64) -> Count {
    Count { name, help, value }
}

/// The books of one way.
pub(super) fn of_ledger(ledger: &Ledger) -> impl Iterator<Item = Count> {
    of_connections(ledger).into_iter().chain(of_learnt_names(ledger))
}

/// What is not told of connections because nobody knows whom it is about, or as tables were full.
fn of_learnt_names(ledger: &Ledger) -> [Count; 4] {
    [
        count(
            "netsnoop_names_unmatched_total",
            "Names of servers in packets of no connection that is held.",
            ledger.names_unmatched,
        ),
        count(
            "netsnoop_resolutions_unmatched_total",
            "Answers to lookups of names that nobody was seen to ask for, or whose asker could not be told.",
            ledger.resolutions_unmatched,
        ),
        count(
            "netsnoop_resolutions_evicted_total",
            "Answers to lookups of names forgotten as their table was full.",
            ledger.resolutions_evicted,
        ),
        count(
            "netsnoop_cluster_names_evicted_total",
            "Addresses of the cluster's pods and services that found no room, or were forgotten as their table was full.",
            ledger.cluster_names_evicted,
        ),
    ]
}

/// Connections, and what is known of them.
fn of_connections(ledger: &Ledger) -> [Count; 15] {
    [
        count("netsnoop_packets_decoded_total", "Packets decoded.", ledger.packets_decoded),
        count("netsnoop_packets_ignored_total", "Packets of no interest.", ledger.packets_ignored),
        count("netsnoop_packets_rejected_total", "Packets that make no sense.", ledger.packets_rejected),
        count("netsnoop_events_consumed_total", "Kernel events decoded.", ledger.events_consumed),
        count("netsnoop_events_rejected_total", "Kernel events that make no sense.", ledger.events_rejected),
        count(
            "netsnoop_ledger_opened_total",
            "Connections opened, whoever made them.",
            ledger.connections_opened,
        ),
        count(
            "netsnoop_ledger_closed_total",
            "Connections closed, whoever made them.",
            ledger.connections_closed,
        ),
        count(
            "netsnoop_connections_evicted_total",
            "Connections forgotten as their table was full.",
            ledger.connections_evicted,
        ),
        count("netsnoop_conflicts_total", "Owners corrected by stronger evidence.", ledger.conflicts),
        count(
            "netsnoop_processes_evicted_total",
            "Processes forgotten as their table was full.",
            ledger.processes_evicted,
        ),
        count(
            "netsnoop_listeners_dropped_total",
            "Listening sockets that found no room in their table.",
            ledger.listeners_dropped,
        ),
        count(
            "netsnoop_living_sockets_dropped_total",
            "Sockets in tables that found no room in the table of living ones.",
            ledger.living_dropped,
        ),
        count(
            "netsnoop_translations_evicted_total",
            "Translations (NAT) forgotten as their table was full.",
            ledger.translations_evicted,
        ),
        count(
            "netsnoop_told_twice_total",
            "Connections told twice, as their translation (NAT) was learnt too late.",
            ledger.connections_told_twice,
        ),
        count(
            "netsnoop_lookups_unasked_total",
            "Lookups not asked for as too many were waiting.",
            ledger.rescans_dropped,
        ),
    ]
}

fn of(name: &'static str, help: &'static str, counter: &Counter) -> Count {
    count(name, help, counter.get())
}

/// What reached the decoders, and what did not.
fn of_capture(counters: &Counters) -> [Count; 8] {
    [
        of("netsnoop_packets_captured_total", "Packets taken from libpcap.", &counters.packets_captured),
        of(
            "netsnoop_packets_dropped_by_buffer_total",
            "Packets dropped as libpcap's buffer was full.",
            &counters.packets_dropped_by_buffer,
        ),
        of(
            "netsnoop_packets_dropped_by_interface_total",
            "Packets dropped by an interface.",
            &counters.packets_dropped_by_interface,
        ),
        of(
            "netsnoop_packets_lost_in_channel_total",
            "Packets lost before they were decoded.",
            &counters.packets_lost_in_channel,
        ),
        of(
            "netsnoop_packets_restamped_total",
            "Packets with a time stamp that cannot be, however the wall clock was set.",
            &counters.packets_restamped,
        ),
        of("netsnoop_events_read_total", "Kernel events read from their ring.", &counters.events_read),
        of(
            "netsnoop_events_lost_in_ring_total",
            "Kernel events lost as their ring was full.",
            &counters.events_lost_in_ring,
        ),
        of(
            "netsnoop_events_lost_in_channel_total",
            "Kernel events lost before they were decoded.",
            &counters.events_lost_in_channel,
        ),
    ]
}

/// What was read of names that were looked up.
fn of_resolutions(counters: &Counters) -> [Count; 3] {
    [
        of(
            "netsnoop_resolutions_read_total",
            "Answers to lookups of names read from packets.",
            &counters.resolutions_read,
        ),
        of(
            "netsnoop_resolutions_rejected_total",
            "Packets from resolvers that make no sense.",
            &counters.resolutions_rejected,
        ),
        of(
            "netsnoop_resolver_streams_evicted_total",
            "Streams of resolvers given up as too many waited for more.",
            &counters.resolver_streams_evicted,
        ),
    ]
}

/// How the topology is followed.
fn of_links(counters: &Counters) -> [Count; 3] {
    [
        of(
            "netsnoop_link_events_total",
            "Events of interfaces, addresses and namespaces read.",
            &counters.link_events,
        ),
        of(
            "netsnoop_link_events_rejected_total",
            "Messages of such events that make no sense.",
            &counters.link_events_rejected,
        ),
        of(
            "netsnoop_link_event_overflows_total",
            "Times that the kernel had no room for such events.",
            &counters.link_event_overflows,
        ),
    ]
}

/// How looking things up went.
fn of_lookups(counters: &Counters) -> [Count; 14] {
    [
        of("netsnoop_names_read_total", "Names of servers read from packets.", &counters.names_read),
        of(
            "netsnoop_names_evicted_total",
            "Beginnings of streams given up as too many waited for more.",
            &counters.names_evicted,
        ),
        of(
            "netsnoop_iterator_records_rejected_total",
            "Records of the socket iterator that make no sense.",
            &counters.iterator_records_rejected,
        ),
        of(
            "netsnoop_answers_lost_in_channel_total",
            "Answers to lookups lost before they were used.",
            &counters.observations_lost_in_channel,
        ),
        of(
            "netsnoop_lookups_lost_in_channel_total",
            "Lookups not made as too many were waiting.",
            &counters.lookups_lost_in_channel,
        ),
        of(
            "netsnoop_exit_event_overflows_total",
            "Times that the kernel had no room for exits of processes.",
            &counters.exit_event_overflows,
        ),
        of("netsnoop_lookups_cut_short_total", "Lookups that ran out of time.", &counters.lookups_cut_short),
        of("netsnoop_proc_denied_total", "Entries of /proc that may not be read.", &counters.proc_denied),
        of(
            "netsnoop_proc_vanished_total",
            "Entries of /proc gone when read, which is normal.",
            &counters.proc_vanished,
        ),
        of(
            "netsnoop_proc_failed_total",
            "Entries of /proc and netlink questions that failed.",
            &counters.proc_failed,
        ),
        of(
            "netsnoop_proc_lines_rejected_total",
            "Lines of /proc that make no sense.",
            &counters.proc_lines_rejected,
        ),
        of(
            "netsnoop_conntrack_events_total",
            "Events of connection tracking read.",
            &counters.conntrack_events,
        ),
        of(
            "netsnoop_conntrack_rejected_total",
            "Messages of connection tracking that make no sense.",
            &counters.conntrack_rejected,
        ),
        of(
            "netsnoop_conntrack_overflows_total",
            "Times that the kernel had no room for events of connection tracking.",
            &counters.conntrack_overflows,
        ),
    ]
}

/// How users and containers got their names.
fn of_names(counters: &Counters) -> [Count; 10] {
    [
        of(
            "netsnoop_container_users_failed_total",
            "Names that containers have for their users which could not be read.",
            &counters.container_users_failed,
        ),
        of(
            "netsnoop_container_users_unasked_total",
            "Names that containers have for their users not asked for, as reading one did not end.",
            &counters.container_users_unasked,
        ),
        of(
            "netsnoop_user_names_failed_total",
            "Uids whose name the name service did not tell.",
            &counters.user_names_failed,
        ),
        of(
            "netsnoop_user_names_evicted_total",
            "User names forgotten as their table was full.",
            &counters.user_names_evicted,
        ),
        of(
            "netsnoop_runtime_failures_total",
            "Times that a container runtime refused or gave no answer.",
            &counters.runtime_failures,
        ),
        of(
            "netsnoop_kube_api_failures_total",
            "Times that Kubernetes' API server refused, gave no answer, or broke off.",
            &counters.kube_api_failures,
        ),
        of(
            "netsnoop_container_names_lost_total",
            "Lists of containers' names or cgroups that found no room.",
            &counters.container_names_lost,
        ),
        of(
            "netsnoop_cgroups_unwatched_total",
            "Cgroups below which none is seen to come, as too many are watched.",
            &counters.cgroups_unwatched,
        ),
        of(
            "netsnoop_cgroup_event_overflows_total",
            "Times that the kernel had no room for events of cgroups.",
            &counters.cgroup_event_overflows,
        ),
        of(
            "netsnoop_container_names_evicted_total",
            "Containers whose names were forgotten as their table was full.",
            &counters.container_names_evicted,
        ),
    ]
}

/// How results got out.
fn of_outputs(counters: &Counters) -> [Count; 9] {
    [
        of(
            "netsnoop_metrics_records_lost_total",
            "Records not counted in metrics as their queue was full.",
            &counters.metrics_records_lost,
        ),
        of("netsnoop_jsonl_rows_written_total", "Records written as JSON lines.", &counters.rows_written),
        of(
            "netsnoop_jsonl_rows_lost_total",
            "Records not written as JSON lines as their queue was full or writing failed.",
            &counters.rows_lost_in_channel,
        ),
        of(
            "netsnoop_textfile_failures_total",
            "Textfiles that could not be written.",
            &counters.textfile_failures,
        ),
        of(
            "netsnoop_state_failures_total",
            "Times that the state file could not be written.",
            &counters.state_failures,
        ),
        of(
            "netsnoop_state_put_aside_total",
            "State files put aside at the start as they could not be understood.",
            &counters.state_put_aside,
        ),
        of(
            "netsnoop_http_refused_total",
            "Requests turned away, or cut short for others as they were slow, as too many were at work.",
            &counters.http_refused,
        ),
        of(
            "netsnoop_config_reloads_total",
            "Times that the settings were read anew.",
            &counters.config_reloads,
        ),
        of(
            "netsnoop_config_reload_failures_total",
            "Times that they could not be, so that the old ones stayed.",
            &counters.config_reload_failures,
        ),
    ]
}
