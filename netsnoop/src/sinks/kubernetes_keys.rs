//! Where in Kubernetes an end is, as machines read it: part of the records' schemas.
//!
//! Left out: how that is known, which `connection` and `attribution` say of its owner.

use std::sync::Arc;

use netsnoop_core::cluster::ClusterNames;
use netsnoop_core::process::{Container, Pod};
use serde::{Serialize, Serializer};

/// Where in Kubernetes a container is.
#[derive(Serialize, Debug)]
pub(super) struct Kubernetes<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<Named<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<PodKeys<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<Named<'a>>,
    /// That was asked for, of which it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<KubernetesService<'a>>,
}

/// With a namespace of its own: it may lead elsewhere.
#[derive(Serialize, Debug)]
struct KubernetesService<'a> {
    name: &'a str,
    namespace: &'a str,
}

#[derive(Serialize, Debug)]
struct PodKeys<'a> {
    uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Labels::is_empty")]
    label: Labels<'a>,
}

/// Labels by their keys, which stay whole though they have dots in them.
#[derive(Debug)]
struct Labels<'a>(&'a [(Arc<str>, Arc<str>)]);

impl Labels<'_> {
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (&**key, &**value)))
    }
}

/// Something that has a name and no more.
#[derive(Serialize, Debug)]
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
}

impl<'a> Kubernetes<'a> {
    /// Of a container, if it is one of a pod's.
    pub(super) fn new(container: &'a Container) -> Option<Self> {
        let container_name = container.name.as_deref().map(|name| Named { name });
        Some(Self { container: container_name, ..Self::of_pod(container.pod.as_deref()?) })
    }

    fn of_pod(pod: &'a Pod) -> Self {
        Self {
            namespace: pod.namespace.as_deref().map(|name| Named { name }),
            pod: Some(PodKeys { uid: &pod.uid, name: pod.name.as_deref(), label: Labels(&pod.labels) }),
            container: None,
            service: None,
        }
    }

    /// Its container here, or its pod elsewhere; and the service by which it was asked for.
    pub(super) fn of_end(
        container: Option<&'a Container>,
        cluster: Option<&'a ClusterNames>,
    ) -> Option<Self> {
        let pod = cluster.and_then(|names| names.pod.as_deref());
        let place = container.and_then(Self::new).or_else(|| pod.map(Self::of_pod));
        let service = cluster.and_then(|names| names.service.as_deref());
        let service =
            service.map(|service| KubernetesService { name: &service.name, namespace: &service.namespace });
        if service.is_none() {
            return place;
        }
        let nowhere = Self { namespace: None, pod: None, container: None, service: None };
        Some(Self { service, ..place.unwrap_or(nowhere) })
    }
}
