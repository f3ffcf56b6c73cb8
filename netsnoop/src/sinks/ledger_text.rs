//! The closing words on stderr: what was seen, what was attributed, and every loss that was not zero with what can be
//! done about it. The sums are the ledger's; nothing is counted here.

use std::io::{self, Write};

use netsnoop_core::attribution::{Reason, Way};
use netsnoop_core::ledger::Ledger;

use crate::counters::Counters;

/// Writes the closing words on one or several ways that ran side by side.
pub fn write(out: &mut dyn Write, ledgers: &[(Way, Ledger)], counters: &Counters) -> io::Result<()> {
    for (way, ledger) in ledgers {
        let of = if ledgers.len() > 1 { format!("{}: ", way.name()) } else { String::new() };
        write_connections(out, &of, ledger)?;
        write_ends(out, &of, ledger)?;
    }
    // All of them saw the same packets, and only the first is told of the kernel's events.
    if let Some((_, first)) = ledgers.first() {
        write_packets(out, first, counters)?;
        let lost = counters.events_lost_in_ring.get() + counters.events_lost_in_channel.get();
        let read = counted(counters.events_read.get(), "kernel event");
        writeln!(out, "{read} read, {lost} lost, {} rejected", first.events_rejected)?;
    }
    let remarks = remarks(ledgers, counters).into_iter().chain(remarks_on_names(counters));
    for remark in remarks.filter(|remark| remark.count > 0) {
        writeln!(out, "  {}: {}{}", remark.count, remark.what, remark.remedy)?;
    }
    if !ledgers.iter().all(|(_, ledger)| ledger.balances()) {
        writeln!(
            out,
            "  the books do not balance: this is a bug of netsnoop, please report it with these lines"
        )?;
    }
    Ok(())
}

fn write_connections(out: &mut dyn Write, of: &str, ledger: &Ledger) -> io::Result<()> {
    let ended = ledger.connections_closed + ledger.connections_evicted;
    let open = ledger.connections_opened.saturating_sub(ended);
    writeln!(out, "{of}{}, {open} still open", counted(ledger.connections_opened, "connection"))
}

/// A number and its noun.
pub fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn write_ends(out: &mut dyn Write, of: &str, ledger: &Ledger) -> io::Result<()> {
    let reasons = Reason::ALL.into_iter().zip(ledger.ends_unattributed).filter(|(_, count)| *count > 0);
    let reasons: Vec<String> = reasons.map(|(reason, count)| format!("{count} {}", reason.name())).collect();
    let unattributed: u64 = ledger.ends_unattributed.iter().sum();
    let why = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    writeln!(
        out,
        "{of}{}: {} attributed, {unattributed} unattributed{why}, {} open, {} evicted",
        counted(ledger.ends_seen, "local end"),
        ledger.ends_attributed,
        ledger.ends_open,
        ledger.ends_evicted,
    )
}

fn write_packets(out: &mut dyn Write, ledger: &Ledger, counters: &Counters) -> io::Result<()> {
    let by_buffer = counters.packets_dropped_by_buffer.get();
    writeln!(
        out,
        "{} received: {} decoded, {} ignored, {} rejected, {} dropped",
        counted(counters.packets_captured.get() + by_buffer, "packet"),
        ledger.packets_decoded,
        ledger.packets_ignored,
        ledger.packets_rejected,
        by_buffer + counters.packets_lost_in_channel.get(),
    )
}

/// A loss, what it means and what helps.
struct Remark {
    count: u64,
    what: &'static str,
    remedy: &'static str,
}

const fn remark(count: u64, what: &'static str, remedy: &'static str) -> Remark {
    Remark { count, what, remedy }
}

fn remarks(ledgers: &[(Way, Ledger)], counters: &Counters) -> Vec<Remark> {
    let sum = |of: fn(&Ledger) -> u64| ledgers.iter().map(|(_, ledger)| of(ledger)).sum::<u64>();
    let slow = "; this machine is too slow for this load, narrow it with an expression";
    let filter = "; -v says which, `netsnoop doctor` what is missing";
    vec![
        remark(
            counters.packets_dropped_by_buffer.get(),
            "packets dropped by the kernel's buffer",
            "; raise it with -B",
        ),
        remark(counters.packets_dropped_by_interface.get(), "packets dropped by an interface", ""),
        remark(counters.packets_lost_in_channel.get(), "packets lost before they were decoded", slow),
        remark(counters.packets_restamped.get(), "packets with a time stamp that cannot be", ""),
        remark(counters.events_lost_in_ring.get(), "kernel events lost as their ring was full", slow),
        remark(counters.events_lost_in_channel.get(), "kernel events lost before they were decoded", slow),
        remark(counters.iterator_records_rejected.get(), "records of the socket iterator not understood", ""),
        remark(
            counters.observations_lost_in_channel.get(),
            "answers to lookups lost before they were used",
            slow,
        ),
        remark(counters.lookups_lost_in_channel.get(), "lookups not made as too many were waiting", ""),
        remark(sum(|ledger| ledger.rescans_dropped), "lookups not asked for as too many were waiting", ""),
        remark(counters.proc_denied.get(), "entries of /proc that may not be read", filter),
        remark(counters.proc_vanished.get(), "entries of /proc gone when read, which is normal", ""),
        remark(counters.proc_failed.get(), "entries of /proc and netlink questions that failed", filter),
        remark(counters.lookups_cut_short.get(), "lookups cut short as they took too long", ""),
        remark(counters.proc_lines_rejected.get(), "lines of /proc that could not be understood", ""),
        remark(
            counters.link_events_rejected.get(),
            "events of interfaces and addresses that could not be understood",
            "",
        ),
        remark(
            counters.link_event_overflows.get(),
            "times that events of interfaces were lost and all was looked at anew",
            "",
        ),
        remark(counters.exit_event_overflows.get(), "times that exits of processes were lost", slow),
        remark(sum(|ledger| ledger.connections_evicted), "connections forgotten as the table was full", ""),
        remark(sum(|ledger| ledger.living_dropped), "sockets in tables not noted as there were too many", ""),
        remark(sum(|ledger| ledger.processes_evicted), "processes forgotten as the table was full", ""),
        remark(sum(|ledger| ledger.resolutions_evicted), "looked-up names forgotten, the table was full", ""),
        remark(
            sum(|ledger| ledger.cluster_names_evicted),
            "names of the cluster forgotten, the table was full",
            "",
        ),
        remark(sum(|ledger| ledger.conflicts), "owners corrected by stronger evidence", ""),
        remark(
            counters.rows_lost_in_channel.get(),
            "records lost as the output was too slow or took no more",
            "; write to a file that has room",
        ),
        remark(
            counters.followed_evicted.get(),
            "shown connections no longer followed as the table was full",
            "",
        ),
    ]
}

fn remarks_on_names(counters: &Counters) -> Vec<Remark> {
    vec![
        remark(
            counters.user_names_failed.get(),
            "user names that the name service did not tell",
            "; -n asks for none",
        ),
        remark(
            counters.container_users_failed.get() + counters.container_users_unasked.get(),
            "user names that containers did not tell",
            "; -n asks for none",
        ),
        remark(counters.user_names_evicted.get(), "user names forgotten as the table was full", ""),
        remark(counters.runtime_failures.get(), "times that a container runtime gave no answer", ""),
        remark(counters.kube_api_failures.get(), "times that Kubernetes' API server gave no answer", ""),
        remark(
            counters.container_names_lost.get(),
            "lists of containers' names or cgroups that found no room",
            "",
        ),
        remark(counters.cgroups_unwatched.get(), "cgroups not watched as there are too many", ""),
        remark(counters.cgroup_event_overflows.get(), "times that all cgroups were looked at anew", ""),
        remark(
            counters.container_names_evicted.get(),
            "containers whose names were forgotten as the table was full",
            "",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ledger: &Ledger, counters: &Counters) -> String {
        let mut out = Vec::new();
        write(&mut out, &[(Way::Main, ledger.clone())], counters).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_seen_is_four_lines() {
        let expected = "\
0 connections, 0 still open
0 local ends: 0 attributed, 0 unattributed, 0 open, 0 evicted
0 packets received: 0 decoded, 0 ignored, 0 rejected, 0 dropped
0 kernel events read, 0 lost, 0 rejected
";
        assert_eq!(text(&Ledger::default(), &Counters::default()), expected);
    }

    #[test]
    fn losses_are_told_with_their_remedy_and_packets_add_up() {
        let mut ledger = Ledger {
            packets_decoded: 90,
            packets_ignored: 2,
            packets_rejected: 1,
            connections_opened: 1,
            ends_seen: 2,
            ends_attributed: 1,
            ..Ledger::default()
        };
        ledger.ends_unattributed[1] = 1;
        let counters = Counters::default();
        counters.packets_captured.set(98);
        counters.packets_lost_in_channel.set(5);
        counters.packets_dropped_by_buffer.set(7);
        let expected = "\
1 connection, 1 still open
2 local ends: 1 attributed, 1 unattributed (1 gone_before_lookup), 0 open, 0 evicted
105 packets received: 90 decoded, 2 ignored, 1 rejected, 12 dropped
0 kernel events read, 0 lost, 0 rejected
  7: packets dropped by the kernel's buffer; raise it with -B
  5: packets lost before they were decoded; this machine is too slow for this load, narrow it with an expression
";
        assert_eq!(text(&ledger, &counters), expected);
    }

    #[test]
    fn ways_side_by_side_are_told_apart_and_their_losses_summed_up() {
        let ledger = |ends_attributed| Ledger {
            connections_opened: 2,
            ends_seen: ends_attributed,
            ends_attributed,
            conflicts: 1,
            ..Ledger::default()
        };
        let mut out = Vec::new();
        let ledgers = [(Way::Main, ledger(4)), (Way::Tables, ledger(3))];
        write(&mut out, &ledgers, &Counters::default()).unwrap();
        let expected = "\
ebpf: 2 connections, 2 still open
ebpf: 4 local ends: 4 attributed, 0 unattributed, 0 open, 0 evicted
proc: 2 connections, 2 still open
proc: 3 local ends: 3 attributed, 0 unattributed, 0 open, 0 evicted
0 packets received: 0 decoded, 0 ignored, 0 rejected, 0 dropped
0 kernel events read, 0 lost, 0 rejected
  2: owners corrected by stronger evidence
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn books_that_do_not_balance_are_a_bug_and_said_so() {
        let ledger = Ledger { ends_seen: 1, ..Ledger::default() };
        assert!(text(&ledger, &Counters::default()).contains("do not balance"));
    }
}
