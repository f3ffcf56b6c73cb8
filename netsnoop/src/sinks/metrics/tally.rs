//! Connections counted by who made them and which service they go to.
//!
//! A connection is counted once, for its client if that is on this node, else for its server. It is counted by what is
//! known when it opens; if its owner is still being looked for, or services have names that it may tell yet, counting
//! waits for that a little. Nothing here is asked
//! of the system: names come as an argument. Bytes are counted as they are told of, while the connection lives too.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use netsnoop_core::attribution::Reason;
use netsnoop_core::connection::{
    ConnectionId, ConnectionRecord, ConnectionState, EndRecord, Exchanged, RecordEvent,
};
use netsnoop_core::five_tuple::Transport;
use netsnoop_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::budget::{Budget, Key};
use super::durations::Durations;
use crate::config::AgentSettings;
use crate::sinks::scope::{self, Teller};

/// How long counting waits for an owner that is being looked for, or for a name.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that may wait for their owner.
const UNDECIDED_MAX: usize = 16_384;
/// Services whose durations are told apart.
const SERVICES_MAX: usize = 256;
/// What stands in labels where series are counted together.
pub(super) const OTHER: &str = "other";

/// By what connections are counted.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct SeriesKey {
    /// Which end the labels are of.
    pub(super) role: &'static str,
    /// The protocol.
    pub(super) transport: &'static str,
    /// Name or number of the user; empty if unknown.
    pub(super) user: Arc<str>,
    /// The pod's Kubernetes namespace.
    pub(super) namespace: Arc<str>,
    /// The pod.
    pub(super) pod: Arc<str>,
    /// The service; empty if it is none of those configured.
    pub(super) service: Arc<str>,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) failed: u64,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
}

/// Tool and dependency, as the ancestor counted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Dependency {
    pub(super) tool: Arc<str>,
    pub(super) dependency: Arc<str>,
}

/// How an end's owner is known, or why not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Outcome {
    pub(super) end: &'static str,
    pub(super) level: &'static str,
    /// Empty where nobody could be named.
    pub(super) evidence: &'static str,
    /// Empty where somebody could.
    pub(super) reason: &'static str,
}

/// All counts.
pub(super) struct Tally {
    settings: Arc<AgentSettings>,
    pub(super) series: Budget<SeriesKey, Counts>,
    pub(super) dependencies: Budget<Dependency, u64>,
    /// Of this node, all together.
    pub(super) node: Counts,
    /// Of users who are not told of, and of servers that are not looked at.
    pub(super) left_out: u64,
    /// Open already when this run began, and so counted by the one before.
    pub(super) resumed: u64,
    /// Whether there was a run before that counted what was open already.
    resumes: bool,
    pub(super) outcomes: BTreeMap<Outcome, u64>,
    pub(super) durations: BTreeMap<Arc<str>, Durations>,
    undecided: HashMap<ConnectionId, Undecided>,
    /// Since when they wait, in that order; some may be decided meanwhile.
    waiting: VecDeque<(Timestamp, ConnectionId)>,
}

/// A connection that waits to be counted.
struct Undecided {
    opened: Arc<ConnectionRecord>,
    /// What it has exchanged meanwhile.
    exchanged: Exchanged,
}

/// Tells a user's name.
pub(super) trait Names {
    /// The name of `uid`, if it has one.
    fn name(&mut self, uid: u32, now: Timestamp) -> Option<Arc<str>>;
}

impl Tally {
    /// Nothing counted yet.
    pub(super) fn new(settings: Arc<AgentSettings>, now: Timestamp) -> Self {
        Self {
            series: Budget::new(settings.limits.series, now),
            dependencies: Budget::new(settings.limits.series, now),
            settings,
            node: Counts::default(),
            left_out: 0,
            resumed: 0,
            resumes: false,
            outcomes: BTreeMap::new(),
            durations: BTreeMap::new(),
            undecided: HashMap::new(),
            waiting: VecDeque::new(),
        }
    }

    /// What is open already was counted by the run before this one.
    pub(super) fn resume(&mut self) {
        self.resumes = true;
    }

    /// Puts in durations from before, as far as there is room.
    pub(super) fn restore_durations(&mut self, durations: impl Iterator<Item = (Arc<str>, Durations)>) {
        self.durations = durations.take(SERVICES_MAX + 1).collect();
    }

    /// Counts by other settings from now on. The bounds stay as they were.
    pub(super) fn set(&mut self, settings: Arc<AgentSettings>) {
        self.settings = settings;
    }

    /// Counts what a record tells.
    pub(super) fn take(&mut self, record: &Arc<ConnectionRecord>, now: Timestamp, names: &mut dyn Names) {
        match record.event {
            RecordEvent::Open if self.is_undecided(record) && self.undecided.len() < UNDECIDED_MAX => {
                let undecided = Undecided { opened: record.clone(), exchanged: Exchanged::default() };
                self.undecided.insert(record.id, undecided);
                self.waiting.push_back((now, record.id));
            }
            RecordEvent::Open => self.count_opened((record, Exchanged::default()), now, names),
            RecordEvent::Update => {
                if !self.is_undecided(record)
                    && let Some(waited) = self.undecided.remove(&record.id)
                {
                    self.count_opened((record, waited.exchanged), now, names);
                }
            }
            RecordEvent::Close => {
                if let Some(waited) = self.undecided.remove(&record.id) {
                    self.count_opened((record, waited.exchanged), now, names);
                }
                self.count_closed(record, now, names);
            }
        }
    }

    /// Counts what a connection that lives has exchanged since that was told last.
    pub(super) fn take_progress(&mut self, record: &ConnectionRecord, now: Timestamp, names: &mut dyn Names) {
        match self.undecided.get_mut(&record.id) {
            Some(waiting) => waiting.exchanged.add(record.untold),
            None => self.count_bytes((record, record.untold), now, names),
        }
    }

    /// Whether its owner, or a name that may make it another service's, is still to come.
    fn is_undecided(&self, record: &ConnectionRecord) -> bool {
        let services = &self.settings.services;
        let awaits_name = record.transport == Transport::Tcp
            && services.awaits_name(record.transport, record.server.endpoint, &record.names);
        awaits_name || Teller::of(record).is_pending()
    }

    /// Counts those whose owner was waited for long enough.
    pub(super) fn let_pass(&mut self, now: Timestamp, names: &mut dyn Names) {
        while let Some((_, id)) = self.waiting.pop_front_if(|(since, _)| now.since(*since) >= PATIENCE) {
            if let Some(waited) = self.undecided.remove(&id) {
                self.count_opened((&waited.opened, waited.exchanged), now, names);
            }
        }
    }

    /// Counts all that waits, as there will be no more.
    pub(super) fn settle(&mut self, now: Timestamp, names: &mut dyn Names) {
        self.waiting.clear();
        for waited in std::mem::take(&mut self.undecided).into_values() {
            self.count_opened((&waited.opened, waited.exchanged), now, names);
        }
    }

    /// Whether the ancestor's metric is wanted.
    pub(super) fn counts_dependencies(&self) -> bool {
        self.settings.toolforge_metric
    }

    /// How many connections wait for their owner.
    pub(super) fn undecided(&self) -> usize {
        self.undecided.len()
    }

    fn count_opened(
        &mut self,
        (record, exchanged): (&ConnectionRecord, Exchanged),
        now: Timestamp,
        names: &mut dyn Names,
    ) {
        if self.resumes && record.preexisting {
            self.resumed += 1;
            return self.count_bytes((record, exchanged), now, names);
        }
        for (end, of) in [("client", &record.client), ("server", &record.server)] {
            if scope::is_local(of) {
                *self.outcomes.entry(Outcome::of(end, of)).or_default() += 1;
            }
        }
        let Some(key) = self.key(record, now, names) else {
            self.left_out += 1;
            return;
        };
        self.add(&key, &Counts { opened: 1, ..Counts::of(exchanged) }, now);
        if self.settings.toolforge_metric
            && key.role == "client"
            && !key.user.is_empty()
            && !key.service.is_empty()
        {
            let dependency = Dependency { tool: key.user, dependency: key.service };
            *self.dependencies.place(&dependency, now) += 1;
        }
    }

    fn count_closed(&mut self, record: &ConnectionRecord, now: Timestamp, names: &mut dyn Names) {
        let Some(key) = self.key(record, now, names) else { return };
        let failed = matches!(record.state, ConnectionState::Refused | ConnectionState::Timeout);
        let counts = Counts { closed: 1, failed: u64::from(failed), ..Counts::of(record.untold) };
        self.add(&key, &counts, now);
        if let Some(lasted) = record.duration.filter(|_| !failed) {
            let has_room = self.durations.contains_key(&key.service) || self.durations.len() < SERVICES_MAX;
            let service = if has_room { key.service } else { OTHER.into() };
            self.durations.entry(service).or_default().add(lasted);
        }
    }

    fn count_bytes(
        &mut self,
        (record, exchanged): (&ConnectionRecord, Exchanged),
        now: Timestamp,
        names: &mut dyn Names,
    ) {
        if exchanged == Exchanged::default() {
            return;
        }
        if let Some(key) = self.key(record, now, names) {
            self.add(&key, &Counts::of(exchanged), now);
        }
    }

    fn add(&mut self, key: &SeriesKey, counts: &Counts, now: Timestamp) {
        self.node.add(counts);
        self.series.place(key, now).add(counts);
    }

    /// By what a connection is counted; `None` if it is not wanted.
    fn key(&self, record: &ConnectionRecord, now: Timestamp, names: &mut dyn Names) -> Option<SeriesKey> {
        if !scope::is_destination(&self.settings, record) {
            return None;
        }
        let teller = Teller::of(record);
        let uid = teller.uid();
        let name = uid.and_then(|uid| names.name(uid, now));
        if !self.settings.users.want(uid, name.as_deref()) {
            return None;
        }
        // The empty text is one for all of them; to make another would cost an allocation.
        let nothing = Arc::<str>::default;
        let pod = teller.pod();
        Some(SeriesKey {
            role: teller.role,
            transport: record.transport.name(),
            user: name.or_else(|| uid.map(|uid| uid.to_string().into())).unwrap_or_else(nothing),
            namespace: pod.and_then(|pod| pod.namespace.clone()).unwrap_or_else(nothing),
            pod: pod.map_or_else(nothing, |pod| pod.name.clone().unwrap_or_else(|| pod.uid.clone())),
            service: record.service.as_ref().map_or_else(nothing, |service| service.name.clone()),
        })
    }
}

impl Counts {
    fn of(exchanged: Exchanged) -> Self {
        let Exchanged { sent_bytes, received_bytes } = exchanged;
        Self { sent_bytes, received_bytes, ..Self::default() }
    }

    fn add(&mut self, more: &Self) {
        self.opened += more.opened;
        self.closed += more.closed;
        self.failed += more.failed;
        self.sent_bytes += more.sent_bytes;
        self.received_bytes += more.received_bytes;
    }
}

impl Outcome {
    fn of(end: &'static str, of: &EndRecord) -> Self {
        Self {
            end,
            level: of.attribution.level().name(),
            evidence: of.attribution.evidence.map_or("", |evidence| evidence.name()),
            reason: of.attribution.reason().map_or("", Reason::name),
        }
    }
}

impl Key for SeriesKey {
    fn folded(&self) -> Self {
        Self { user: OTHER.into(), namespace: OTHER.into(), pod: OTHER.into(), ..self.clone() }
    }

    fn rest() -> Self {
        let other = || Arc::from(OTHER);
        Self {
            role: OTHER,
            transport: OTHER,
            user: other(),
            namespace: other(),
            pod: other(),
            service: other(),
        }
    }
}

impl Key for Dependency {
    fn folded(&self) -> Self {
        Self { tool: OTHER.into(), dependency: self.dependency.clone() }
    }

    fn rest() -> Self {
        Self { tool: OTHER.into(), dependency: OTHER.into() }
    }
}
