//! Asking for metrics: the reconciler for its books, then the sink that counts. Each answer comes from the
//! thread that owns what is asked for, so nothing is locked while it is read.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::{Context, ensure};
use netsnoop_core::attribution::{RungSet, Way};

use crate::intake::{Inquiry, Report};
use crate::outlet::{CountsQuery, MetricsQuery, Outlet, Told};

/// How long each of the two may take. Prometheus gives up after ten seconds.
const PATIENCE: Duration = Duration::from_secs(4);

/// Where metrics are asked for.
#[derive(Clone, Debug)]
pub struct Exposition {
    /// Where the reconciler is asked.
    pub inquiry: Inquiry,
    /// Where the counting sink is asked.
    pub metrics: Outlet,
    /// The rungs that each way works with.
    pub rungs: Vec<(Way, RungSet)>,
}

impl Exposition {
    /// The reconciler's books. Blocks until it has answered.
    pub fn report(&self) -> anyhow::Result<Report> {
        self.inquiry.report(PATIENCE)
    }

    /// The page of metrics. Blocks until both have answered.
    pub fn page(&self) -> anyhow::Result<Vec<u8>> {
        let report = self.report()?;
        let (answer, page) = sync_channel(1);
        let query = MetricsQuery { report, rungs: self.rungs.clone(), answer };
        ensure!(self.metrics.insist(Told::Query(Box::new(query))), "the metrics have ended");
        page.recv_timeout(PATIENCE).context("asking for the metrics")
    }

    /// The counts for a later run; `last` if there will be no more. Blocks until the sink has answered.
    pub fn counts(&self, last: bool) -> anyhow::Result<Vec<u8>> {
        let (answer, counts) = sync_channel(1);
        let query = CountsQuery { last, answer };
        ensure!(self.metrics.insist(Told::Counts(Box::new(query))), "the metrics have ended");
        counts.recv_timeout(PATIENCE).context("asking for the counts")?
    }
}
