//! Names by Docker's API, which Podman's service speaks too.
//!
//! `GET /containers/json` (<https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerList>)
//! and `GET /events`, without a version in the path, which both answer by their own: tried on Docker 20.10 and Podman 4.3.
//! Left out: labels, but for names of Kubernetes: those of a pod are with the shim, which speaks CRI.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use netsnoop_core::process::{Container, Pod};
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Labels that the kubelet's shims for Docker put on a pod's containers
/// (<https://github.com/Mirantis/cri-dockerd/blob/v0.3.4/core/labels.go>, and the kubelet's own names of them).
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// What they call the container that holds a pod's namespaces, which is no container of the pod's.
const SANDBOX: &str = "POD";

/// What happens to containers, filtered: `{"type":["container"]}`.
const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D";
/// An event has a container's labels, whose sum has no bound of its own.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// A runtime.
#[derive(Debug)]
pub(super) struct Docker {
    socket: PathBuf,
    runtime: &'static str,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "PascalCase")]
struct Event {
    action: String,
    actor: Actor,
}

#[derive(Deserialize, Debug)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
}

impl Docker {
    /// On this socket, if anybody listens. Each question has a connection of its own: they are few.
    pub(super) async fn connect(socket: &Path, runtime: &'static str) -> anyhow::Result<Self> {
        UnixStream::connect(socket).await.context("connecting")?;
        Ok(Self { socket: socket.to_owned(), runtime })
    }

    /// All containers that it knows, those that have ended too.
    pub(super) async fn list(&self) -> anyhow::Result<Vec<Container>> {
        self.containers("/containers/json?all=1").await
    }

    /// The container with this id, if it knows one.
    pub(super) async fn find(&self, id: &str) -> anyhow::Result<Vec<Container>> {
        // Ids are digits and letters: nothing in them needs escapes.
        self.containers(&format!("/containers/json?all=1&filters=%7B%22id%22%3A%5B%22{id}%22%5D%7D")).await
    }

    /// Tells the ids of containers as they are made, started and renamed: an event is a line of JSON, at Podman's service too.
    pub(super) fn follow(&self, changed: mpsc::Sender<String>) -> impl Future<Output = ()> + use<> {
        let socket = self.socket.clone();
        async move {
            if let Err(error) = follow(&socket, &changed).await {
                log::debug!("a container runtime tells of no changes: {error:#}");
            }
        }
    }

    async fn containers(&self, path: &str) -> anyhow::Result<Vec<Container>> {
        let body = Limited::new(ask(&self.socket, path).await?.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow!(error)).context("reading containers")?.to_bytes();
        let listed: Vec<Listed> = serde_json::from_slice(&body).context("decoding containers")?;
        Ok(listed.into_iter().map(|listed| self.container(listed)).collect())
    }

    fn container(&self, listed: Listed) -> Container {
        let labels = listed.labels.unwrap_or_default();
        let label = |name: &str| labels.get(name).map(|value| Arc::from(&**value));
        let pod = label(POD_UID).map(|uid| Pod {
            uid,
            name: label(POD_NAME),
            namespace: label(POD_NAMESPACE),
            labels: Box::default(),
        });
        let name = match &pod {
            Some(_) => label(CONTAINER_NAME).filter(|name| &**name != SANDBOX),
            None => own_name(&listed.names.unwrap_or_default()).map(Arc::from),
        };
        Container { id: listed.id.into(), runtime: Some(self.runtime), pod: pod.map(Arc::new), name }
    }
}

async fn ask(socket: &Path, path: &str) -> anyhow::Result<Response<Incoming>> {
    let stream = UnixStream::connect(socket).await.context("connecting")?;
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.context("starting HTTP")?;
    // Ends with the answer, as no more is asked.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            log::debug!("a runtime's connection ended: {error}");
        }
    });
    let request = Request::get(path)
        .header(HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .context("making a request")?;
    let response = requests.send_request(request).await.context("asking for containers")?;
    ensure!(response.status() == StatusCode::OK, "containers were answered by {}", response.status());
    Ok(response)
}

async fn follow(socket: &Path, changed: &mpsc::Sender<String>) -> anyhow::Result<()> {
    let mut body = ask(socket, EVENTS).await?.into_body();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.context("reading what a runtime tells of")?.into_data() else { continue };
        read.extend_from_slice(&data);
        while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = read.drain(..=end).collect();
            if let Some(id) = container_of(&line)? {
                changed.send(id).await.context("nobody listens")?;
            }
        }
        ensure!(read.len() <= EVENT_BYTES_MAX, "an event of more than {EVENT_BYTES_MAX} bytes");
    }
    Ok(())
}

/// The container that a line tells of, if its names may be new.
fn container_of(line: &[u8]) -> anyhow::Result<Option<String>> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let event: Event = serde_json::from_slice(line).context("decoding an event")?;
    Ok(matches!(&*event.action, "create" | "start" | "rename").then_some(event.actor.id))
}

/// Docker begins names with a slash, and has links to a container among them, with one more.
fn own_name(names: &[String]) -> Option<&str> {
    let mut names = names.iter().map(|name| name.strip_prefix('/').unwrap_or(name));
    names.find(|name| !name.is_empty() && !name.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `expected`: name of the container; namespace and name of its pod.
    fn check(json: &str, expected: (Option<&str>, Option<(&str, &str)>)) {
        let listed = serde_json::from_str(json).unwrap();
        let docker = Docker { socket: PathBuf::new(), runtime: "docker" };
        let container = docker.container(listed);
        let pod = container.pod.as_ref().map(|pod| (pod.namespace.as_deref(), pod.name.as_deref()));
        let expected_pod = expected.1.map(|(namespace, name)| (Some(namespace), Some(name)));
        assert_eq!((container.name.as_deref(), pod), (expected.0, expected_pod), "{json}");
    }

    #[test]
    fn events_name_the_container_that_is_new() {
        let check = |line: &str, expected: Option<&str>| {
            assert_eq!(container_of(line.as_bytes()).unwrap().as_deref(), expected, "{line}");
        };
        // Docker 20.10.24 of Debian 12, its ids shortened.
        let docker = |action: &str| {
            format!(
                r#"{{"status":"{action}","id":"4d6e","from":"box","Type":"container","Action":"{action}","Actor":{{"ID":"4d6e",
                "Attributes":{{"image":"box","name":"web"}}}},"scope":"local","time":1795349174,"timeNano":1795349174904235599}}"#
            )
        };
        check(&docker("create"), Some("4d6e"));
        check(&docker("start"), Some("4d6e"));
        check(&docker("die"), None);
        check("\r\n", None);
        assert!(container_of(b"{}").is_err());
    }

    #[test]
    fn names_of_listed_containers() {
        check(r#"{"Id":"1","Names":["/web"],"Labels":{},"State":"running"}"#, (Some("web"), None));
        check(r#"{"Id":"1","Names":["/web/db","/db"],"Labels":null}"#, (Some("db"), None));
        check(r#"{"Id":"1","Names":["podmans"]}"#, (Some("podmans"), None));
        check(r#"{"Id":"1","Names":null}"#, (None, None));
        let pod = |container: &str| {
            format!(
                r#"{{"Id":"1","Names":["/k8s_x"],"Labels":{{"io.kubernetes.pod.name":"web-1","io.kubernetes.pod.uid":"u",
                "io.kubernetes.pod.namespace":"tools","io.kubernetes.container.name":"{container}"}}}}"#
            )
        };
        check(&pod("app"), (Some("app"), Some(("tools", "web-1"))));
        check(&pod("POD"), (None, Some(("tools", "web-1"))));
    }
}
