//! Metrics for Prometheus: connections by user, pod and service, and netsnoop's own books. How the text gets out is for
//! `http` and `textfile`.

mod books;
mod budget;
mod counts;
#[cfg(test)]
mod document;
mod durations;
mod page;
mod saved;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use netsnoop_core::connection::ConnectionRecord;
use netsnoop_core::time::Timestamp;

use crate::clock::{self, WallClock};
use crate::config::AgentSettings;
use crate::counters::Counters;
use crate::outlet::{CountsQuery, MetricsQuery};
use crate::sinks::user_names::UserNames;
use page::{Kind, Page, labels};
use saved::Epoch;
use tally::{Counts, Names, Tally};

/// The metrics.
pub struct Metrics {
    tally: Tally,
    names: UserNames,
    counters: Arc<Counters>,
    epoch: Epoch,
    /// When this run began, in seconds since the epoch as the wall clock was then.
    began: u64,
}

impl Names for UserNames {
    fn name(&mut self, uid: u32, now: Timestamp) -> Option<Arc<str>> {
        self.name_waited(uid, now)
    }
}

impl Metrics {
    /// Nothing counted yet. The kernel's boot tells whether connections of an earlier run may live on.
    pub(super) fn new(
        settings: Arc<AgentSettings>,
        names: UserNames,
        counters: Arc<Counters>,
        boot_id: Option<String>,
    ) -> Self {
        let now = clock::now();
        let began = WallClock::read().to_unix_nanos(now) / 1_000_000_000;
        let epoch = Epoch { counting_since: began, boot_id };
        Self { tally: Tally::new(settings, now), names, counters, epoch, began }
    }

    /// Goes on from the counts of an earlier run. An error leaves it without any.
    pub(super) fn restore(&mut self, counts: &[u8]) -> anyhow::Result<()> {
        let earlier = saved::read(counts, &mut self.tally)?;
        if earlier.boot_id.is_some() && earlier.boot_id == self.epoch.boot_id {
            self.tally.resume();
        }
        self.epoch.counting_since = earlier.counting_since;
        Ok(())
    }

    /// Answers with the counts for a later run.
    pub(super) fn hand_out(&mut self, query: &CountsQuery) {
        if query.last {
            self.tally.settle(clock::now(), &mut self.names);
        }
        let counts = saved::write(&self.tally, &self.epoch);
        if query.answer.try_send(counts).is_err() {
            log::debug!("nobody waits for the counts any more");
        }
    }

    /// Counts what a record tells.
    pub(super) fn take(&mut self, record: &Arc<ConnectionRecord>) {
        self.tally.take(record, clock::now(), &mut self.names);
    }

    /// Counts what a connection that lives has exchanged.
    pub(super) fn take_progress(&mut self, record: &ConnectionRecord) {
        self.tally.take_progress(record, clock::now(), &mut self.names);
    }

    /// Counts by other settings from now on.
    pub(super) fn set(&mut self, settings: Arc<AgentSettings>) {
        self.tally.set(settings);
    }

    /// Lets time pass: to be called now and then.
    pub(super) fn let_pass(&mut self) {
        self.tally.let_pass(clock::now(), &mut self.names);
    }

    /// Answers with the page as it is now.
    pub(super) fn answer(&mut self, query: &MetricsQuery) {
        self.let_pass();
        if query.answer.try_send(self.page(query).into_bytes()).is_err() {
            log::debug!("nobody waits for the metrics any more");
        }
    }

    fn page(&self, query: &MetricsQuery) -> Page {
        let mut page = Page::default();
        let build = labels(&[("version", env!("CARGO_PKG_VERSION")), ("commit", env!("NETSNOOP_COMMIT"))]);
        page.family("netsnoop_build_info", Kind::Gauge, "What is running.").sample(&build, 1);
        self.write_times(&mut page);
        write_tally(&mut page, &self.tally);
        books::write(&mut page, &query.report, &query.rungs, &self.counters);
        page
    }

    fn write_times(&self, page: &mut Page) {
        let help = "When this process began to count, in seconds since 1970.";
        page.single("process_start_time_seconds", Kind::Gauge, help, self.began);
        let help = "When connections began to be counted, in seconds since 1970: earlier than the process where a \
                    state file is kept.";
        page.single(
            "netsnoop_counting_since_timestamp_seconds",
            Kind::Gauge,
            help,
            self.epoch.counting_since,
        );
    }
}

/// What is counted of connections, by name.
struct Column {
    name: &'static str,
    help: &'static str,
    of: fn(&Counts) -> u64,
}

const fn column(name: &'static str, help: &'static str, of: fn(&Counts) -> u64) -> Column {
    Column { name, help, of }
}

const SERIES: [Column; 5] = [
    column("netsnoop_connections_opened_total", "Connections opened.", |counts| counts.opened),
    column("netsnoop_connections_closed_total", "Connections ended, failed ones too.", |counts| {
        counts.closed
    }),
    column("netsnoop_connections_failed_total", "Connections refused or never answered.", |counts| {
        counts.failed
    }),
    column("netsnoop_sent_bytes_total", "Payload from client to server.", |counts| counts.sent_bytes),
    column("netsnoop_received_bytes_total", "Payload from server to client.", |counts| counts.received_bytes),
];

/// The same without labels, of all that was counted: exact whatever the bound on series does.
const NODE: [Column; 5] = [
    column("netsnoop_node_connections_opened_total", "Connections opened, in all.", |counts| counts.opened),
    column("netsnoop_node_connections_closed_total", "Connections ended, in all.", |counts| counts.closed),
    column(
        "netsnoop_node_connections_failed_total",
        "Connections refused or never answered, in all.",
        |counts| counts.failed,
    ),
    column("netsnoop_node_sent_bytes_total", "Payload from client to server, in all.", |counts| {
        counts.sent_bytes
    }),
    column("netsnoop_node_received_bytes_total", "Payload from server to client, in all.", |counts| {
        counts.received_bytes
    }),
];

fn write_tally(page: &mut Page, tally: &Tally) {
    for column in &NODE {
        page.single(column.name, Kind::Counter, column.help, (column.of)(&tally.node));
    }
    let mut series: Vec<_> = tally
        .series
        .iter()
        .map(|(key, counts)| {
            let labels = labels(&[
                ("role", key.role),
                ("transport", key.transport),
                ("user", &key.user),
                ("namespace", &key.namespace),
                ("pod", &key.pod),
                ("service", &key.service),
            ]);
            (labels, *counts)
        })
        .collect();
    series.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    for column in &SERIES {
        let mut family = page.family(column.name, Kind::Counter, column.help);
        series.iter().for_each(|(labels, counts)| family.sample(labels, (column.of)(counts)));
    }
    let help = "How long connections that did not fail lasted.";
    let mut family = page.family("netsnoop_connection_duration_seconds", Kind::Histogram, help);
    for (service, durations) in &tally.durations {
        durations.write(&mut family, &labels(&[("service", service)]));
    }
    let help = "Local ends of opened connections, by how their owner is known or why not.";
    let mut family = page.family("netsnoop_attributions_total", Kind::Counter, help);
    for (outcome, count) in &tally.outcomes {
        let tally::Outcome { end, level, evidence, reason } = *outcome;
        let labels = labels(&[("end", end), ("level", level), ("evidence", evidence), ("reason", reason)]);
        family.sample(&labels, count);
    }
    write_bounds(page, tally);
    write_dependencies(page, tally);
}

fn write_bounds(page: &mut Page, tally: &Tally) {
    let (held, capacity) = tally.series.size();
    let counts = tally.series.counts();
    page.single("netsnoop_series", Kind::Gauge, "Sets of labels that connections are counted by.", held);
    page.single("netsnoop_series_limit", Kind::Gauge, "Sets of labels that there is room for.", capacity);
    let help = "Times that something was counted together, as there was no room for its labels.";
    page.single("netsnoop_series_other_total", Kind::Counter, help, counts.in_other);
    let help = "Sets of labels that gave way to busier ones.";
    page.single("netsnoop_series_replaced_total", Kind::Counter, help, counts.replaced);
    let help = "Connections not counted, by the settings for users and destinations.";
    page.single("netsnoop_connections_left_out_total", Kind::Counter, help, tally.left_out);
    let help =
        "Connections open already at a restart, not counted as opened again where a state file is kept.";
    page.single("netsnoop_connections_resumed_total", Kind::Counter, help, tally.resumed);
    let help = "Connections that wait for their owner to be counted.";
    page.single("netsnoop_connections_undecided", Kind::Gauge, help, tally.undecided());
}

/// The ancestor's metric, as its dashboards know it.
fn write_dependencies(page: &mut Page, tally: &Tally) {
    if !tally.counts_dependencies() {
        return;
    }
    let help = "Connections of a tool to what it depends on.";
    let mut family = page.family("toolforge_internal_dependencies_total", Kind::Counter, help);
    let mut dependencies: Vec<_> = tally.dependencies.iter().collect();
    dependencies.sort_unstable_by_key(|(one, _)| *one);
    for (key, count) in dependencies {
        family.sample(&labels(&[("tool", &key.tool), ("dependency", &key.dependency)]), count);
    }
}
