//! Names of containers and pods, asked of container runtimes on a thread of its own.
//!
//! A runtime is asked for all containers at first and from time to time, for one as soon as somebody meets it, and, where it
//! tells of changes, for each that changes: never once a connection. One that hangs or refuses costs a warning and its own
//! names; the others are not held up. Left out: which sockets are whose, and what becomes of the names.

mod cri;
mod docker;
pub mod grpc;
mod sockets;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use netsnoop_core::process::Container;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use self::cri::Cri;
use self::docker::Docker;
use self::sockets::Api;
pub use self::sockets::RuntimeSockets;
use super::name_channel::{NameTeller, Wishes};
use crate::counters::Counters;

/// How often all containers are asked for: what is met meanwhile is asked for at once.
const LIST_EVERY: Duration = Duration::from_secs(10);
/// How often new sockets are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a runtime that failed is left alone.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// A runtime that takes longer is taken for one that hangs. Nobody waits for it meanwhile.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Changes that wait to be looked at. The runtime is not read from while there are more.
const CHANGES: usize = 64;

/// Asks for life. Call it on a thread of its own.
pub fn run(
    settings: &RuntimeSettings,
    wishes: &Wishes,
    tellers: Vec<NameTeller>,
    counters: Arc<Counters>,
) -> anyhow::Result<()> {
    let teller = Teller { tellers: tellers.into(), counters };
    on_a_runtime_of_tokio(attend_all(settings, wishes, &teller))
}

/// Who is asked for names of containers, and for what besides.
#[derive(Clone, Debug, Default)]
pub struct RuntimeSettings {
    /// Who.
    pub sockets: RuntimeSockets,
    /// Labels of pods that are wanted.
    pub labels: LabelKeys,
}

/// Labels that are wanted, by their keys.
#[derive(Clone, Debug, Default)]
pub struct LabelKeys(Arc<[Arc<str>]>);

impl LabelKeys {
    /// These, each once.
    pub fn new(keys: &[String]) -> Self {
        let keys: BTreeSet<Arc<str>> = keys.iter().map(|key| Arc::from(&**key)).collect();
        Self(keys.into_iter().collect())
    }

    /// Those of `labels` that are wanted, in the order of their keys.
    pub fn choose(&self, labels: &BTreeMap<String, String>) -> Box<[(Arc<str>, Arc<str>)]> {
        let wanted = self.0.iter();
        wanted.filter_map(|key| Some((key.clone(), Arc::from(&**labels.get(&**key)?)))).collect()
    }
}

/// What all runtimes know.
#[derive(Debug, Default)]
pub struct Known {
    /// The containers.
    pub containers: Vec<Container>,
    /// Why some runtime told none.
    pub amiss: Vec<String>,
}

/// What the runtime on a socket told of all its containers, or why it told nothing.
#[derive(Debug)]
pub struct Answer {
    /// The socket.
    pub socket: PathBuf,
    /// The containers.
    pub told: anyhow::Result<Vec<Container>>,
}

/// Asks all runtimes, and waits at most `patience` for each of them.
pub fn ask_once(settings: &RuntimeSettings, patience: Duration) -> anyhow::Result<Known> {
    let mut known = Known::default();
    for Answer { socket, told } in ask_each(settings, patience)? {
        match told.with_context(|| no_names_from(&socket)) {
            Ok(containers) => known.containers.extend(containers),
            Err(error) => known.amiss.push(format!("{error:#}")),
        }
    }
    Ok(known)
}

/// The answers one by one, sorted by their sockets.
pub fn ask_each(settings: &RuntimeSettings, patience: Duration) -> anyhow::Result<Vec<Answer>> {
    on_a_runtime_of_tokio(async {
        let mut asked = JoinSet::new();
        for socket in settings.sockets.find() {
            let labels = settings.labels.clone();
            asked.spawn(async move {
                let list = async { Runtime::connect(&socket, labels).await?.list().await };
                let told = timeout(patience, list).await.context("it gave no answer").flatten();
                Answer { socket, told }
            });
        }
        let mut answers = Vec::new();
        while let Some(answer) = asked.join_next().await {
            answers.push(answer.context("asking a container runtime")?);
        }
        answers.sort_by(|a, b| a.socket.cmp(&b.socket));
        Ok(answers)
    })?
}

fn no_names_from(socket: &Path) -> String {
    format!("containers keep their ids, as {} tells no names", socket.display())
}

fn on_a_runtime_of_tokio<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("starting the tokio runtime")?;
    Ok(runtime.block_on(work))
}

/// Tells whoever asks.
#[derive(Clone)]
struct Teller {
    tellers: Arc<[NameTeller]>,
    counters: Arc<Counters>,
}

impl Teller {
    fn tell(&self, names: Vec<Container>) {
        if !names.is_empty() {
            let names = names.into();
            self.tellers.iter().for_each(|teller| teller.tell(&names, &self.counters));
        }
    }
}

/// Each runtime has a task of its own, so that none waits for another.
async fn attend_all(settings: &RuntimeSettings, wishes: &Wishes, teller: &Teller) {
    let mut attended: HashSet<PathBuf> = HashSet::new();
    loop {
        for socket in settings.sockets.find() {
            if attended.insert(socket.clone()) {
                let labels = settings.labels.clone();
                tokio::spawn(attend_one((socket, labels), wishes.clone(), teller.clone()));
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn attend_one((socket, labels): (PathBuf, LabelKeys), wishes: Wishes, teller: Teller) {
    let mut complained = String::new();
    loop {
        let failure = match in_time(Runtime::connect(&socket, labels.clone())).await {
            Ok(runtime) => {
                log::info!("containers and pods have names from {}", socket.display());
                serve(runtime, wishes.subscribe(), &teller).await
            }
            Err(error) => error,
        };
        teller.counters.runtime_failures.add(1);
        let complaint = format!("{:#}", failure.context(no_names_from(&socket)));
        if complaint != complained {
            log::warn!("{complaint}; it is tried again");
        }
        complained = complaint;
        sleep(TRY_EVERY).await;
    }
}

/// Answers wishes until the runtime fails, and returns how.
async fn serve(
    mut runtime: Runtime,
    mut wishes: broadcast::Receiver<Arc<str>>,
    teller: &Teller,
) -> anyhow::Error {
    let (changed, mut changes) = mpsc::channel(CHANGES);
    // Ends with this function.
    let mut followers = JoinSet::new();
    match &runtime {
        Runtime::Cri(cri) => followers.spawn(cri.follow(changed)),
        Runtime::Docker(docker) => followers.spawn(docker.follow(changed)),
    };
    let mut lists = interval(LIST_EVERY);
    lists.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let found = tokio::select! {
            _ = lists.tick() => in_time(runtime.list()).await,
            wish = wishes.recv() => match wish {
                Ok(id) => in_time(runtime.find(&id)).await,
                // There were too many: all at once is less work.
                Err(RecvError::Lagged(_)) => in_time(runtime.list()).await,
                Err(RecvError::Closed) => return anyhow::anyhow!("nobody asks any more"),
            },
            Some(id) = changes.recv() => in_time(runtime.find(&id)).await,
        };
        match found {
            Ok(names) => teller.tell(names),
            Err(error) => return error,
        }
    }
}

async fn in_time<T>(answer: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    timeout(ANSWER_MAX, answer).await.with_context(|| format!("it gave no answer within {ANSWER_MAX:?}"))?
}

/// One that listens on a socket.
enum Runtime {
    Cri(Cri),
    Docker(Docker),
}

impl Runtime {
    async fn connect(socket: &Path, labels: LabelKeys) -> anyhow::Result<Self> {
        Ok(match Api::of(socket) {
            Api::Cri => Self::Cri(Cri::connect(socket, labels).await?),
            Api::Docker(runtime) => Self::Docker(Docker::connect(socket, runtime).await?),
        })
    }

    async fn list(&mut self) -> anyhow::Result<Vec<Container>> {
        match self {
            Self::Cri(cri) => cri.list().await,
            Self::Docker(docker) => docker.list().await,
        }
    }

    async fn find(&mut self, id: &str) -> anyhow::Result<Vec<Container>> {
        match self {
            Self::Cri(cri) => cri.find(id).await,
            Self::Docker(docker) => docker.find(id).await,
        }
    }
}

#[cfg(test)]
mod tests;
