//! Pods and services as the API server writes them: the few fields that tell whose an address is.
//!
//! Fields are those of `core/v1` (<https://github.com/kubernetes/api/blob/v0.32.0/core/v1/types.go>). Left out: hosts' own
//! addresses, which pods on the host's network share, and those by which services are reached from outside.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp as WallTime;
use netsnoop_core::cluster::{ClusterChange, ClusterKind, ClusterName, ClusterObject, ClusterService};
use netsnoop_core::process::Pod;
use netsnoop_core::time::Timestamp;
use serde::Deserialize;

use crate::clock::WallClock;
use crate::sources::runtimes::LabelKeys;

/// The status of what is too old to go on with.
const GONE: u16 = 410;

/// A page of a list.
pub(super) struct List {
    pub(super) changes: Vec<ClusterChange>,
    /// From which on changes are to be watched.
    pub(super) version: String,
    /// Where the next page begins, if there is one, escaped for a path.
    pub(super) next: Option<String>,
}

/// A line of a watch.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// What changed, if it matters, and the version up to which all is known now.
    Change(Option<ClusterChange>, Option<String>),
    /// What has changed since is no longer known.
    TooOld,
    /// Something else is wrong.
    Error(String),
}

#[derive(Deserialize)]
struct ListText {
    metadata: ListMeta,
    #[serde(default)]
    items: Option<Vec<Object>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
    #[serde(default)]
    r#continue: Option<String>,
}

#[derive(Deserialize)]
struct EventType {
    r#type: String,
}

#[derive(Deserialize)]
struct ErrorText {
    object: Status,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct ChangeText {
    object: Object,
}

/// A pod or a service. Of a bookmark only the version is there.
#[derive(Deserialize)]
struct Object {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Meta {
    name: String,
    namespace: String,
    uid: String,
    resource_version: Option<String>,
    creation_timestamp: Option<WallTime>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    host_network: bool,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
    container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Deserialize)]
struct PodIp {
    #[serde(default)]
    ip: String,
}

#[derive(Deserialize)]
struct ContainerStatus {
    #[serde(default)]
    state: ContainerState,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ContainerState {
    running: Option<Running>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Running {
    #[serde(default)]
    started_at: Option<WallTime>,
}

/// Reads a page of a list.
pub(super) fn decode_list(text: &[u8], kind: ClusterKind, labels: &LabelKeys) -> anyhow::Result<List> {
    let ListText { metadata, items } = serde_json::from_slice(text).context("decoding a list")?;
    let clock = WallClock::read();
    let changes = items.unwrap_or_default().into_iter().map(|object| object.change(kind, labels, clock));
    let next = metadata.r#continue.filter(|next| !next.is_empty()).map(|next| escaped(&next));
    Ok(List { changes: changes.collect(), version: metadata.resource_version, next })
}

/// Reads a line of a watch.
pub(super) fn decode_event(line: &[u8], kind: ClusterKind, labels: &LabelKeys) -> anyhow::Result<Event> {
    let act = "decoding a change";
    let EventType { r#type } = serde_json::from_slice(line).context(act)?;
    if r#type == "ERROR" {
        let ErrorText { object } = serde_json::from_slice(line).context(act)?;
        return Ok(if object.code == GONE { Event::TooOld } else { Event::Error(object.message) });
    }
    let ChangeText { object } = serde_json::from_slice(line).context(act)?;
    let version = object.metadata.resource_version.clone();
    let change = match &*r#type {
        "ADDED" | "MODIFIED" => Some(object.change(kind, labels, WallClock::read())),
        "DELETED" => Some(ClusterChange::Gone(object.metadata.uid.into())),
        _ => None,
    };
    Ok(Event::Change(change, version))
}

impl Object {
    fn change(self, kind: ClusterKind, labels: &LabelKeys, clock: WallClock) -> ClusterChange {
        let uid: Arc<str> = Arc::from(&*self.metadata.uid);
        let (addresses, since) = match kind {
            ClusterKind::Pods => (self.pod_addresses(), self.running_since()),
            // It has its address from its creation to its end.
            ClusterKind::Services => (self.service_addresses(), self.metadata.creation_timestamp),
        };
        if addresses.is_empty() || uid.is_empty() {
            return ClusterChange::Gone(uid);
        }
        let (name, namespace) = (self.metadata.name.into(), self.metadata.namespace.into());
        let name = match kind {
            ClusterKind::Pods => ClusterName::Pod(Arc::new(Pod {
                uid: uid.clone(),
                name: Some(name),
                namespace: Some(namespace),
                labels: labels.choose(&self.metadata.labels.unwrap_or_default()),
            })),
            ClusterKind::Services => ClusterName::Service(Arc::new(ClusterService { namespace, name })),
        };
        let since = since.and_then(|since| to_boot(since, clock));
        ClusterChange::Is(ClusterObject { uid, since, addresses, name })
    }

    fn pod_addresses(&self) -> Vec<IpAddr> {
        if self.spec.host_network || matches!(&*self.status.phase, "Succeeded" | "Failed") {
            return Vec::new();
        }
        let all = self.status.pod_ips.iter().flatten().map(|address| &*address.ip);
        parsed(all, self.status.pod_ip.as_deref())
    }

    fn service_addresses(&self) -> Vec<IpAddr> {
        // A headless one has the word None.
        parsed(
            self.spec.cluster_ips.iter().flatten().map(|address| &**address),
            self.spec.cluster_ip.as_deref(),
        )
    }

    /// A pod's containers run in a sandbox that has its addresses already.
    fn running_since(&self) -> Option<WallTime> {
        let containers = self.status.container_statuses.iter().flatten();
        containers.filter_map(|container| container.state.running.as_ref()?.started_at).min()
    }
}

/// `one` is what servers without the plural tell.
fn parsed<'a>(all: impl Iterator<Item = &'a str>, one: Option<&'a str>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for address in all.chain(one).flat_map(str::parse::<IpAddr>) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

fn to_boot(at: WallTime, clock: WallClock) -> Option<Timestamp> {
    let nanos = u64::try_from(at.as_nanosecond()).ok()?;
    Some(clock.to_boot(Duration::from_nanos(nanos)))
}

/// For a value in a path's query: what is no letter or digit becomes its number.
fn escaped(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let escape = |byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(escape).collect()
}
