//! Names by Docker's API, which Podman's service speaks too.
//!
//! `GET /containers/json` (<https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerList>),
//! without a version in the path, which both answer by their own. Left out: labels, but for names of
//! Kubernetes: of a pod's they are with the shim, which speaks CRI.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use netsnoop_core::process::{Container, Pod};
use serde::Deserialize;
use tokio::net::UnixStream;

const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Labels that the kubelet's shims for Docker put on a pod's containers
/// (<https://github.com/Mirantis/cri-dockerd/blob/v0.3.4/core/labels.go>, and the kubelet's own names of them).
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// What they call the container that holds a pod's namespaces, which is no container of the pod's.
const SANDBOX: &str = "POD";

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

    async fn containers(&self, path: &str) -> anyhow::Result<Vec<Container>> {
        let stream = UnixStream::connect(&self.socket).await.context("connecting")?;
        let (mut requests, connection) =
            http1::handshake(TokioIo::new(stream)).await.context("starting HTTP")?;
        let connection = tokio::spawn(connection);
        let request = Request::get(path)
            .header(HOST, "localhost")
            .body(Empty::<Bytes>::new())
            .context("making a request")?;
        let response = requests.send_request(request).await.context("asking for containers")?;
        ensure!(response.status() == StatusCode::OK, "containers were answered by {}", response.status());
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow!(error)).context("reading containers")?.to_bytes();
        connection.abort();
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
