//! What the cluster calls addresses of others: pods and services by a watch on Kubernetes' API server, if that is asked for.
//!
//! All are listed, then changes are read as they come, and what is known goes to the reconciler; no connection waits for it.
//! Where the server is out of reach for a while all names are taken back: an address may have changed hands. Left out: what
//! the names mean for connections.

mod api;
mod objects;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use netsnoop_core::cluster::{ClusterChange, ClusterKind};
use netsnoop_core::observation::Observation;
use tokio::time::{sleep, timeout};

use self::api::{Api, Lines};
use self::objects::{Event, List, decode_event, decode_list};
use super::runtimes::LabelKeys;
use crate::hash_seed::hash_seed;
use crate::intake::{Input, Intake};

/// Objects asked for at a time: about a MiB of text.
const PAGE: u32 = 250;
/// After this long the server ends a watch in order.
const WATCH_SECONDS: u32 = 290;
/// By then a server has ended the watch. That it says nothing before is no sign of anything: while nothing changes
/// there may be no bookmarks either, as only those newer than the watch's beginning are sent
/// (<https://github.com/kubernetes/kubernetes/blob/v1.20.2/staging/src/k8s.io/apiserver/pkg/storage/cacher/cacher.go#L1400-L1403>).
const SILENCE_MAX: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 30);
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Pauses after failures: the first and the longest. Each is shortened by chance, so that the nodes of a cluster do not come
/// all at once.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(32));
/// A watch that lasted for less ended by failure, whatever it said.
const WATCH_MIN: Duration = Duration::from_secs(5);
/// Without the server for so long, names may be somebody else's.
const TRUSTED: Duration = Duration::from_secs(60);

/// Which server is asked, as whom, and for what.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// The server's name or address, which its certificate has.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Where `token` and `ca.crt` of a service account are.
    pub account: PathBuf,
    /// The node that this is, whose pods are known without asking.
    pub node: Option<String>,
    /// Labels of pods that are wanted.
    pub labels: LabelKeys,
}

/// Watches for life. Call it on a thread of its own.
pub fn run(settings: &ClusterSettings, intake: &Intake) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("starting the tokio runtime")?;
    let follow = |kind| Follower::new(settings, intake, kind).follow();
    let (pods, services) =
        runtime.block_on(async { tokio::join!(follow(ClusterKind::Pods), follow(ClusterKind::Services)) });
    pods.and(services)
}

/// Follows the objects of one kind.
struct Follower<'a> {
    settings: &'a ClusterSettings,
    intake: &'a Intake,
    kind: ClusterKind,
    /// Up to which version all is known; `None` before a list and where it is too old.
    version: Option<String>,
    /// When the server was last heard of.
    heard: Instant,
}

impl<'a> Follower<'a> {
    fn new(settings: &'a ClusterSettings, intake: &'a Intake, kind: ClusterKind) -> Self {
        Self { settings, intake, kind, version: None, heard: Instant::now() }
    }

    /// Ends when nobody listens any more.
    async fn follow(mut self) -> anyhow::Result<()> {
        let (mut pause, mut complained) = (PAUSES.0, String::new());
        loop {
            let began = Instant::now();
            let ended = self.turn().await;
            if began.elapsed() >= WATCH_MIN {
                pause = PAUSES.0;
            }
            if let Err(error) = ended {
                self.intake.counters().kube_api_failures.add(1);
                let complaint = format!("{error:#}");
                if complaint != complained {
                    log::warn!(
                        "{} of the cluster have no names: {complaint}; it is tried again",
                        self.path()
                    );
                }
                complained = complaint;
                if self.heard.elapsed() >= TRUSTED && !self.forget() {
                    return Ok(());
                }
            } else if !self.tell(Vec::new()) {
                return Ok(());
            }
            sleep(shortened_by_chance(pause)?).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Lists if need be, and watches until the server ends it.
    async fn turn(&mut self) -> anyhow::Result<()> {
        let mut api = Api::connect(self.settings).await?;
        let version = match self.version.take() {
            Some(version) => version,
            None => self.list(&mut api).await?,
        };
        let path = format!(
            "{}&watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}",
            self.question()
        );
        let mut lines = timeout(ANSWER_MAX, api.follow(&path)).await.context("no answer to a watch")??;
        self.version = Some(version);
        self.watch(&mut lines).await
    }

    async fn list(&mut self, api: &mut Api) -> anyhow::Result<String> {
        let mut continued = String::new();
        self.tell(vec![ClusterChange::ListBegins(self.kind)]);
        loop {
            let path = format!("{}&limit={PAGE}{continued}", self.question());
            let text = timeout(ANSWER_MAX, api.ask(&path)).await.context("no answer to a list")??;
            self.heard = Instant::now();
            let List { changes, version, next } = decode_list(&text, self.kind, &self.settings.labels)?;
            self.tell(changes);
            let Some(next) = next else {
                self.tell(vec![ClusterChange::ListEnds(self.kind)]);
                log::info!("{} of the cluster have names from {}", self.path(), self.settings.host);
                return Ok(version);
            };
            continued = format!("&continue={next}");
        }
    }

    async fn watch(&mut self, lines: &mut Lines) -> anyhow::Result<()> {
        loop {
            let line = timeout(SILENCE_MAX, lines.next()).await.context("the server is silent")?;
            // Until it broke off, too, nothing had changed but what was told: what is known is as fresh as that.
            self.heard = Instant::now();
            let Some(line) = line? else { return Ok(()) };
            match decode_event(&line, self.kind, &self.settings.labels)? {
                Event::Change(change, version) => {
                    self.tell(change.into_iter().collect());
                    self.version = version.or(self.version.take());
                }
                Event::TooOld => {
                    self.version = None;
                    return Ok(());
                }
                Event::Error(message) => {
                    self.version = None;
                    bail!("the watch was refused: {message}");
                }
            }
        }
    }

    /// `false` if nobody listens.
    fn forget(&mut self) -> bool {
        self.version = None;
        self.tell(vec![ClusterChange::ListBegins(self.kind), ClusterChange::ListEnds(self.kind)])
    }

    fn tell(&self, changes: Vec<ClusterChange>) -> bool {
        self.intake.insist(Input::Observation(Observation::Cluster(changes)))
    }

    const fn path(&self) -> &'static str {
        match self.kind {
            ClusterKind::Pods => "pods",
            ClusterKind::Services => "services",
        }
    }

    /// Pods of this node are known by their containers, and those that have ended have given up their addresses.
    fn question(&self) -> String {
        let path = format!("/api/v1/{}?fieldSelector=", self.path());
        match (self.kind, &self.settings.node) {
            (ClusterKind::Services, _) => path,
            (ClusterKind::Pods, None) => path + "status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed",
            (ClusterKind::Pods, Some(node)) => {
                format!(
                    "{path}status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed%2Cspec.nodeName%21%3D{node}"
                )
            }
        }
    }
}

/// Between half of it and all.
fn shortened_by_chance(pause: Duration) -> anyhow::Result<Duration> {
    let [random, ..] = hash_seed()?;
    let half = pause / 2;
    Ok(half + half.mul_f64(random as f64 / u64::MAX as f64))
}

#[cfg(test)]
mod tests;
