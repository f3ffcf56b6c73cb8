//! Names by Kubernetes' Container Runtime Interface, which containerd, CRI-O and cri-dockerd speak.
//!
//! The messages are those of `runtime.v1` in
//! <https://github.com/kubernetes/cri-api/blob/v0.32.0/pkg/apis/runtime/v1/api.proto>, with the fields that are needed here: so
//! nothing has to be compiled from it. v1 is spoken since containerd 1.6, CRI-O 1.20 and Kubernetes 1.23. A sandbox has the
//! labels of its pod as they were when it was made.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use netsnoop_core::process::{Container, Pod};
use tokio::sync::mpsc;

use super::LabelKeys;
use super::grpc::Channel;

/// Pods that are remembered, so that a container's own takes no question. Beyond what any node runs.
const PODS_MAX: usize = 4096;

/// A runtime.
#[derive(Debug)]
pub(super) struct Cri {
    channel: Channel,
    runtime: Option<&'static str>,
    labels: LabelKeys,
    /// By the id of their sandbox.
    pods: HashMap<String, Arc<Pod>>,
}

impl Cri {
    /// Connects, and asks what it is.
    pub(super) async fn connect(socket: &Path, labels: LabelKeys) -> anyhow::Result<Self> {
        let mut channel = Channel::connect(socket).await?;
        let version: VersionResponse =
            channel.ask("runtime.v1.RuntimeService/Version", &VersionRequest::default()).await?;
        let runtime = match &*version.runtime_name {
            "containerd" => Some("containerd"),
            "cri-o" => Some("cri-o"),
            "docker" => Some("docker"),
            _ => None,
        };
        Ok(Self { channel, runtime, labels, pods: HashMap::new() })
    }

    /// All containers that it knows, those that have ended too, and the sandboxes of their pods.
    pub(super) async fn list(&mut self) -> anyhow::Result<Vec<Container>> {
        self.pods.clear();
        let mut found = self.sandboxes("").await?;
        found.extend(self.containers("").await?);
        Ok(found)
    }

    /// The container or sandbox with this id, if it knows one.
    pub(super) async fn find(&mut self, id: &str) -> anyhow::Result<Vec<Container>> {
        let found = self.containers(id).await?;
        if found.is_empty() { self.sandboxes(id).await } else { Ok(found) }
    }

    /// Tells the ids of containers as something happens to them, as long as the runtime does: containerd since 1.7, CRI-O
    /// since 1.26 where it is set up to. What a server has to say first may be the first change.
    pub(super) fn follow(&self, changed: mpsc::Sender<String>) -> impl Future<Output = ()> + use<> {
        let mut channel = self.channel.clone();
        async move {
            let told = async {
                let question = GetEventsRequest {};
                let mut changes =
                    channel.follow("runtime.v1.RuntimeService/GetContainerEvents", &question).await?;
                while let Some(event) = changes.next::<ContainerEvent>().await? {
                    changed.send(event.container_id).await.context("nobody listens")?;
                }
                anyhow::Ok(())
            };
            if let Err(error) = told.await {
                log::debug!("a container runtime tells of no changes: {error:#}");
            }
        }
    }

    /// An empty `id` means all.
    async fn containers(&mut self, id: &str) -> anyhow::Result<Vec<Container>> {
        let question = ListContainersRequest { filter: filter(id) };
        let answer: ListContainersResponse =
            self.channel.ask("runtime.v1.RuntimeService/ListContainers", &question).await?;
        for listed in &answer.containers {
            let sandbox = &listed.pod_sandbox_id;
            if !sandbox.is_empty() && !self.pods.contains_key(sandbox) {
                self.sandboxes(sandbox).await?;
            }
        }
        Ok(answer.containers.into_iter().map(|listed| self.container(listed)).collect())
    }

    fn container(&self, listed: ListedContainer) -> Container {
        Container {
            id: listed.id.into(),
            runtime: self.runtime,
            pod: self.pods.get(&listed.pod_sandbox_id).cloned(),
            name: listed.metadata.map(|metadata| metadata.name.into()),
        }
    }

    /// A sandbox has processes too: that which holds the pod's namespaces.
    async fn sandboxes(&mut self, id: &str) -> anyhow::Result<Vec<Container>> {
        let question = ListPodSandboxRequest { filter: filter(id) };
        let answer: ListPodSandboxResponse =
            self.channel.ask("runtime.v1.RuntimeService/ListPodSandbox", &question).await?;
        let mut found = Vec::new();
        for sandbox in answer.items {
            let Some(metadata) = sandbox.metadata else { continue };
            let pod = Arc::new(Pod {
                uid: metadata.uid.into(),
                name: Some(metadata.name.into()),
                namespace: Some(metadata.namespace.into()),
                labels: self.labels.choose(&sandbox.labels),
            });
            if self.pods.len() >= PODS_MAX {
                self.pods.clear();
            }
            self.pods.insert(sandbox.id.clone(), pod.clone());
            let id = sandbox.id.into();
            found.push(Container { id, runtime: self.runtime, pod: Some(pod), name: None });
        }
        Ok(found)
    }
}

fn filter(id: &str) -> Option<IdFilter> {
    (!id.is_empty()).then(|| IdFilter { id: id.to_owned() })
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct VersionRequest {
    #[prost(string, tag = "1")]
    version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct VersionResponse {
    #[prost(string, tag = "2")]
    pub(super) runtime_name: String,
}

/// `ContainerFilter` and `PodSandboxFilter`, which have this field in common.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct IdFilter {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListContainersRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) filter: Option<IdFilter>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListContainersResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) containers: Vec<ListedContainer>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListedContainer {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) pod_sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    pub(super) metadata: Option<ContainerMetadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListPodSandboxRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) filter: Option<IdFilter>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListPodSandboxResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) items: Vec<ListedSandbox>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListedSandbox {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(message, optional, tag = "2")]
    pub(super) metadata: Option<SandboxMetadata>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SandboxMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) uid: String,
    #[prost(string, tag = "3")]
    pub(super) namespace: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct GetEventsRequest {}

/// `ContainerEventResponse`. What happened does not matter: the container is asked for.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerEvent {
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
}
