//! One round: a contestant watches while the tenants play; then what it says is held against what they did.

use std::fs;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::page::Page;
use super::scene::{SERVICES, Scene, service_name, settings};
use super::scrape::{self, Scrapes};
use super::tenant::Made;
use crate::bench::measure::Part;
use crate::bench::process::{cpu_seconds, peak_mebibytes, wait_until_quiet};

/// Sets of labels: more than users and services make.
const SERIES: usize = 10_000;
/// Fewer sets of labels than 50 users of 20 services need, for the round with many peers.
const FEW_SERIES: usize = 20;
/// How long a start, and counting what was played, may take.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the settings are read anew while the load goes on.
const RELOAD_EVERY: Duration = Duration::from_secs(2);

/// Who is measured, under which load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum Contestant {
    /// The agent, while all users talk to all services.
    Agent,
    /// The agent, while they talk to peers.
    Peers,
    /// tcpdump under the agent's load.
    Tcpdump,
}

impl Contestant {
    /// As on the command line.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Peers => "peers",
            Self::Tcpdump => "tcpdump",
        }
    }

    /// As in the table.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent: 50 users, 20 services",
            Self::Peers => "agent: many peers",
            Self::Tcpdump => "tcpdump -w -, the first load",
        }
    }
}

/// What a round showed.
#[derive(Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Connections made, or peers sent to.
    pub(super) made: u64,
    /// How long that took.
    pub(super) seconds: f64,
    /// Of the contestant, until it had worked all of it off.
    pub(super) cpu_seconds: f64,
    /// Of the contestant.
    pub(super) peak_mebibytes: f64,
    /// How long each page of metrics took.
    pub(super) scrapes: Vec<f64>,
    /// Sets of labels on the last page.
    pub(super) series: usize,
    /// Connections that its table had no room for any more.
    pub(super) evicted: u64,
    /// What was not as it must be.
    pub(super) faults: Vec<String>,
}

/// Plays one.
pub(super) fn play(netsnoop: &Path, contestant: Contestant, count: u64) -> Result<Outcome> {
    match contestant {
        Contestant::Agent | Contestant::Peers => play_agent(netsnoop, contestant, count),
        Contestant::Tcpdump => play_tcpdump(count),
    }
}

fn play_tcpdump(count: u64) -> Result<Outcome> {
    let mut scene = Scene::start(count, false)?;
    let words =
        ["-i", "any", "-s", "256", "-B", "8192", "-U", "-Z", "root", "-w", "-", "tcp[tcpflags] & 7 != 0"];
    let part = Part::start(Command::new("tcpdump").args(words).stdout(Stdio::null()).stderr(Stdio::null()))?;
    let pid = part.child.id();
    wait_until_quiet(pid)?;
    let used_before = cpu_seconds(pid)?;
    let made = scene.play()?;
    wait_until_quiet(pid)?;
    let peak_mebibytes = peak_mebibytes(pid)?;
    let cpu_seconds = part.interrupt()? - used_before;
    scene.end()?;
    Ok(Outcome { cpu_seconds, peak_mebibytes, ..Outcome::of(&made) })
}

fn play_agent(netsnoop: &Path, contestant: Contestant, count: u64) -> Result<Outcome> {
    let to_peers = contestant == Contestant::Peers;
    let file = std::env::temp_dir().join(format!("netsnoop-bench-{}.yaml", std::process::id()));
    let series = if to_peers { FEW_SERIES } else { SERIES };
    fs::write(&file, settings(scrape::LISTEN, series))
        .with_context(|| format!("writing {}", file.display()))?;
    let mut scene = Scene::start(count, to_peers)?;
    let mut command = Command::new(netsnoop);
    command.args(["agent", "--config"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    let part = Part::start(&mut command)?;
    let pid = part.child.id();
    wait_for("the agent to be ready", || Ok(scrape::is_ready()))?;
    wait_until_quiet(pid)?;
    let used_before = cpu_seconds(pid)?;
    let (made, scrapes) = under_load(&mut scene, Pid::from_child(&part.child))?;
    let mut outcome = Outcome { scrapes: scrapes.seconds, faults: scrapes.failures, ..Outcome::of(&made) };
    let page = settled_page(outcome.made, to_peers)?;
    outcome.peak_mebibytes = peak_mebibytes(pid)?;
    outcome.cpu_seconds = part.interrupt()? - used_before;
    outcome.judge(&page, &made, (to_peers, series));
    scene.end()?;
    fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
    Ok(outcome)
}

/// What the tenants did, and how long each page took meanwhile. Another asks too slowly, and the settings are read anew.
fn under_load(scene: &mut Scene, agent: Pid) -> Result<(Vec<Made>, Scrapes)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| scrape::at_a_pace(&stop));
        let slow = scope.spawn(|| scrape::slowly(&stop));
        let reloading = scope.spawn(|| reload(agent, &stop));
        let made = scene.play();
        stop.store(true, Ordering::Relaxed);
        reloading.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        slow.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        let scrapes = asking.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok((made?, scrapes))
    })
}

/// Has the settings read anew until `stop`.
fn reload(agent: Pid, stop: &AtomicBool) -> Result<()> {
    let mut asked = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(LOOK_EVERY);
        if asked.elapsed() >= RELOAD_EVERY {
            kill_process(agent, Signal::HUP).context("having the settings read anew")?;
            asked = Instant::now();
        }
    }
    Ok(())
}

/// The page once it tells of all that was made, or no longer changes.
fn settled_page(made: u64, to_peers: bool) -> Result<Page> {
    let counted = |page: &Page| {
        let family = if to_peers { "opened" } else { "closed" };
        page.value(&format!("netsnoop_node_connections_{family}_total"))
    };
    let patience = Instant::now() + PATIENCE;
    loop {
        let page = scrape::page();
        let is_settled = page.as_ref().is_ok_and(|page| counted(page) >= made);
        if is_settled || Instant::now() >= patience {
            return page;
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn wait_for(what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let patience = Instant::now() + PATIENCE;
    while !is_so()? {
        if Instant::now() >= patience {
            bail!("waited in vain for {what}");
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

impl Outcome {
    fn of(made: &[Made]) -> Self {
        Self {
            made: made.iter().flat_map(|tenant| &tenant.made).sum(),
            seconds: made.iter().map(|tenant| tenant.seconds).fold(0.0, f64::max),
            cpu_seconds: 0.0,
            peak_mebibytes: 0.0,
            scrapes: Vec::new(),
            series: 0,
            evicted: 0,
            faults: Vec::new(),
        }
    }

    /// Holds the page against what the tenants did.
    fn judge(&mut self, page: &Page, made: &[Made], (to_peers, series_max): (bool, usize)) {
        self.series = page.count("netsnoop_connections_opened_total");
        self.evicted = page.value("netsnoop_connections_evicted_total");
        let opened = page.value("netsnoop_node_connections_opened_total");
        self.expect("connections counted", opened, self.made);
        self.expect("books balance", page.value("netsnoop_books_balance"), 1);
        for loss in [
            "netsnoop_packets_dropped_by_buffer_total",
            "netsnoop_packets_lost_in_channel_total",
            "netsnoop_events_lost_in_ring_total",
            "netsnoop_events_lost_in_channel_total",
            "netsnoop_metrics_records_lost_total",
        ] {
            self.expect(loss, page.value(loss), 0);
        }
        if to_peers {
            // Places that change hands begin anew; a tenth more of them are for what is counted together.
            let series = self.series;
            if series > series_max + series_max / 10 + 1 {
                self.faults.push(format!("{series} series, where there is room for {series_max}"));
            }
            let held = page.sum("netsnoop_connections_opened_total");
            if held > self.made {
                self.faults.push(format!("{held} counted in all series, {} were made", self.made));
            }
        } else {
            self.expect("series replaced", page.value("netsnoop_series_replaced_total"), 0);
            made.iter().for_each(|tenant| self.judge_tenant(page, tenant));
        }
    }

    fn judge_tenant(&mut self, page: &Page, tenant: &Made) {
        for (place, made) in (0..SERVICES).zip(&tenant.made) {
            let service = service_name(place);
            for family in ["opened", "closed"] {
                let series = format!(
                    "netsnoop_connections_{family}_total{{role=\"client\",transport=\"tcp\",user=\"{}\",\
                     namespace=\"\",pod=\"\",service=\"{service}\"}}",
                    tenant.uid
                );
                self.expect(&series, page.value(&series), *made);
            }
        }
    }

    fn expect(&mut self, what: &str, is: u64, must_be: u64) {
        if is != must_be {
            self.faults.push(format!("{what}: {is}, not {must_be}"));
        }
    }
}
