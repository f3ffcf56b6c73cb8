//! What `agent` has besides `watch`: metrics that are served and written, and settings that are read anew.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use netsnoop_core::attribution::{RungSet, Way};

use super::{join, spawn};
use crate::announcement;
use crate::config::{AgentConfig, AgentSettings, PeriodicFile, read_agent_settings};
use crate::counters::{Counter, Counters};
use crate::intake::{Input, Inquiry, Intake};
use crate::outlet::{Outlet, Told};
use crate::privileges::Job;
use crate::sinks::exposition::Exposition;
use crate::sinks::http::{self, Site};
use crate::sinks::replaced_file::ReplacedFile;
use crate::sinks::state_file::StateFile;

/// What was opened for metrics to go out.
pub(super) struct Serving {
    listener: Option<TcpListener>,
    textfile: Option<(ReplacedFile, PeriodicFile)>,
    state: Option<(StateFile, PeriodicFile)>,
    file: PathBuf,
    settings: AgentSettings,
}

/// Where metrics and settings are asked for and handed to.
pub(super) struct Surroundings {
    pub(super) intake: Intake,
    pub(super) inquiry: Inquiry,
    /// Of the sinks; metrics first.
    pub(super) outlets: Vec<Outlet>,
    pub(super) rungs: Vec<(Way, RungSet)>,
    pub(super) counters: Arc<Counters>,
}

/// How the threads here are told.
pub(super) struct Served {
    /// Asks for the settings to be read anew.
    reload: SyncSender<()>,
    ready: Arc<AtomicBool>,
    /// Writes the counts for a later run until it is told to end.
    state: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl Serving {
    /// Opens what the settings name; the state file has been, as what is in it was needed before.
    pub(super) fn open(config: &AgentConfig, state: Option<StateFile>) -> anyhow::Result<Self> {
        let textfile = match &config.outputs.textfile {
            Some(settings) => Some((ReplacedFile::for_everybody(&settings.path)?, settings.clone())),
            None => None,
        };
        Ok(Self {
            listener: config.outputs.http.map(http::listen).transpose()?,
            textfile,
            state: state.zip(config.state.clone()),
            file: config.file.clone(),
            settings: config.settings.clone(),
        })
    }

    /// Starts the threads. They are not joined: they hold nothing that must be finished.
    pub(super) fn start(self, around: Surroundings) -> anyhow::Result<Served> {
        let Self { listener, textfile, state, file, settings } = self;
        let mut keeper = None;
        let ready = Arc::new(AtomicBool::new(true));
        let Surroundings { intake, inquiry, outlets, rungs, counters } = around;
        if let Some(metrics) = outlets.first() {
            let exposition = Exposition { inquiry, metrics: metrics.clone(), rungs };
            if let Some(listener) = listener {
                let (ready, counters) = (ready.clone(), counters.clone());
                start_http(listener, Site { exposition: exposition.clone(), ready, counters })?;
            }
            if let Some((textfile, settings)) = textfile {
                let (exposition, ready, counters) = (exposition.clone(), ready.clone(), counters.clone());
                spawn("textfile", Job::Opened, move || {
                    write_pages(&textfile, &settings, (&exposition, &ready), &counters);
                })?;
            }
            if let Some((file, settings)) = state {
                keeper = Some(start_keeper((file, settings), exposition, counters.clone())?);
            }
        }
        let mut settings = Settings { file, settings, intake, outlets, counters };
        let (reload, asked) = sync_channel(1);
        spawn("settings", Job::Opened, move || asked.iter().for_each(|()| settings.read()))?;
        Ok(Served { reload, ready, state: keeper })
    }
}

impl Served {
    /// Has the settings read anew. Asked again before that has begun it is once all the same.
    pub(super) fn reload(&self) {
        if let Err(TrySendError::Disconnected(())) = self.reload.try_send(()) {
            log::error!("the settings can no longer be read anew: their thread has ended");
        }
    }

    /// Says to whoever asks that the end has begun.
    pub(super) fn end(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    /// Has the last counts written, all records having been put where they are counted.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let Some((end, thread)) = self.state else { return Ok(()) };
        drop(end);
        join(thread)
    }
}

fn start_http(listener: TcpListener, site: Site) -> anyhow::Result<()> {
    spawn("http", Job::Opened, move || {
        if let Err(error) = http::serve(listener, site) {
            log::error!("metrics are no longer served: {error:#}");
        }
    })?;
    Ok(())
}

fn start_keeper(
    (file, settings): (StateFile, PeriodicFile),
    exposition: Exposition,
    counters: Arc<Counters>,
) -> anyhow::Result<(SyncSender<()>, JoinHandle<()>)> {
    let (end, ended) = sync_channel(0);
    let thread = spawn("state", Job::Opened, move || {
        keep_counts(&file, &settings, (&exposition, &ended), &counters);
    })?;
    Ok((end, thread))
}

/// Writes the page again and again until the end begins.
fn write_pages(
    textfile: &ReplacedFile,
    settings: &PeriodicFile,
    (exposition, ready): (&Exposition, &AtomicBool),
    counters: &Counters,
) {
    let mut failures = Failures { of: "the textfile", counter: &counters.textfile_failures, failing: false };
    while ready.load(Ordering::Relaxed) {
        failures.note(exposition.page().and_then(|page| textfile.write(&page)));
        thread::sleep(settings.every);
    }
}

/// Writes the counts for a later run again and again, and once more when told to end.
fn keep_counts(
    file: &StateFile,
    settings: &PeriodicFile,
    (exposition, ended): (&Exposition, &Receiver<()>),
    counters: &Counters,
) {
    let mut failures = Failures { of: "the state file", counter: &counters.state_failures, failing: false };
    loop {
        let is_last = ended.recv_timeout(settings.every) != Err(RecvTimeoutError::Timeout);
        failures.note(exposition.counts(is_last).and_then(|counts| file.write(&counts)));
        if is_last {
            return;
        }
    }
}

/// Says and counts what fails again and again.
struct Failures<'a> {
    of: &'static str,
    counter: &'a Counter,
    failing: bool,
}

impl Failures<'_> {
    /// Counts each, but says only the first of those that follow each other, and that it is over.
    fn note(&mut self, written: anyhow::Result<()>) {
        match (&written, self.failing) {
            (Err(error), false) => log::warn!("{} is as it was: {error:#}", self.of),
            (Ok(()), true) => log::warn!("{} is written again", self.of),
            (Ok(()), false) | (Err(_), true) => {}
        }
        self.failing = written.is_err();
        self.counter.add(u64::from(self.failing));
    }
}

/// Settings that can be read anew.
struct Settings {
    file: PathBuf,
    settings: AgentSettings,
    intake: Intake,
    outlets: Vec<Outlet>,
    counters: Arc<Counters>,
}

impl Settings {
    /// Reads them anew and hands them to whoever works by them. A file that cannot be meant leaves all as it is.
    fn read(&mut self) {
        match read_agent_settings(&self.file) {
            Ok(settings) => {
                self.warn_of_restarts(&settings);
                self.hand_out(&Arc::new(settings.clone()));
                self.settings = settings;
                self.counters.config_reloads.add(1);
                self.say("read anew");
            }
            Err(error) => {
                self.counters.config_reload_failures.add(1);
                log::error!("the settings stay as they were: {error:#}");
            }
        }
    }

    /// Waits until all have room.
    fn hand_out(&self, settings: &Arc<AgentSettings>) {
        let heard = self.intake.insist(Input::Services(settings.services.clone()))
            && self.outlets.iter().all(|outlet| outlet.insist(Told::Settings(settings.clone())));
        if !heard {
            log::debug!("somebody has ended before the settings were handed out");
        }
    }

    fn warn_of_restarts(&self, new: &AgentSettings) {
        let old = &self.settings;
        let changed = [
            ("outputs", old.outputs != new.outputs),
            ("state", old.state != new.state),
            ("bytes", old.bytes_every != new.bytes_every),
            ("limits", old.limits != new.limits),
            ("ips_to_listen_to", old.destinations != new.destinations),
            ("services: sni, host or dns", old.services.name_wishes() != new.services.name_wishes()),
        ];
        for (key, _) in changed.into_iter().filter(|(_, changed)| *changed) {
            log::warn!("{}: {key}: takes a restart", self.file.display());
        }
    }

    fn say(&self, what: &str) {
        if let Err(error) = announcement::say(format!("{}: {what}\n", self.file.display()).as_bytes()) {
            log::debug!("{error:#}");
        }
    }
}
