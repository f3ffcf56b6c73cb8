//! The books as metrics: what was seen, what was lost where, and how full the tables are. The sums are the ledger's and
//! the counters'; nothing is counted here.

use netsnoop_core::attribution::{Reason, Rung, RungSet, Way};
use netsnoop_core::ledger::Ledger;
use netsnoop_core::reconcile::TableSize;

use super::counts;
use super::page::{Kind, Page, labels};
use crate::counters::Counters;
use crate::intake::Report;
use crate::scans::{Scan, ScanReport, ScanTimes};

/// Writes the books of a report.
pub(super) fn write(page: &mut Page, report: &Report, rungs: &[(Way, RungSet)], counters: &Counters) {
    write_ladder(page, rungs);
    // An agent runs one way.
    if let Some((_, ledger)) = report.ledgers.first() {
        write_ends(page, ledger);
        for count in counts::of_ledger(ledger) {
            page.single(count.name, Kind::Counter, count.help, count.value);
        }
    }
    for count in counts::of_counters(counters) {
        page.single(count.name, Kind::Counter, count.help, count.value);
    }
    if let Some((_, tables)) = report.tables.first() {
        write_tables(page, tables);
    }
    write_scans(page, &counters.scans);
}

fn write_scans(page: &mut Page, scans: &ScanTimes) {
    let help = "How long looking at the system took.";
    let mut family = page.family("netsnoop_scan_duration_seconds", Kind::Histogram, help);
    for scan in Scan::ALL {
        if let Some(ScanReport { buckets, count, sum }) = scans.report(scan) {
            family.histogram(&labels(&[("scan", scan.name())]), buckets, (count, sum));
        }
    }
}

fn write_ladder(page: &mut Page, rungs: &[(Way, RungSet)]) {
    let help = "Whether a rung of the ladder of ways to know owners works here.";
    let mut family = page.family("netsnoop_rung_working", Kind::Gauge, help);
    for rung in Rung::ALL {
        let works = rungs.iter().any(|(_, working)| working.contains(rung));
        family.sample(&labels(&[("rung", rung.name())]), u8::from(works));
    }
}

/// Gauges, because an end that has no owner yet may still get one.
fn write_ends(page: &mut Page, ledger: &Ledger) {
    let help = "Local ends of all connections so far, by what is known of their owner now.";
    let mut family = page.family("netsnoop_ends", Kind::Gauge, help);
    let mut sample = |state, reason, value| {
        family.sample(&labels(&[("state", state), ("reason", reason)]), value);
    };
    sample("attributed", "", ledger.ends_attributed);
    sample("open", "", ledger.ends_open);
    sample("evicted", "", ledger.ends_evicted);
    for (reason, value) in Reason::ALL.into_iter().zip(ledger.ends_unattributed) {
        sample("unattributed", reason.name(), value);
    }
    let help = "Whether every local end is accounted for; 0 is a bug of netsnoop.";
    page.single("netsnoop_books_balance", Kind::Gauge, help, u8::from(ledger.balances()));
    page.single(
        "netsnoop_ends_seen_total",
        Kind::Counter,
        "Local ends of connections seen.",
        ledger.ends_seen,
    );
}

fn write_tables(page: &mut Page, tables: &[TableSize]) {
    let mut family =
        page.family("netsnoop_table_entries", Kind::Gauge, "Entries that a bounded table holds.");
    for size in tables {
        family.sample(&labels(&[("table", size.table)]), size.held);
    }
    let mut family =
        page.family("netsnoop_table_capacity", Kind::Gauge, "Entries that a bounded table has room for.");
    for size in tables {
        family.sample(&labels(&[("table", size.table)]), size.capacity);
    }
}
