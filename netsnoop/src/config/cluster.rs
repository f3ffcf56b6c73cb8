//! Which of Kubernetes' API servers is watched, if one is.

use std::env;

use anyhow::Context;

use crate::cli::{ClusterArgs, GlobalArgs, KubeServer};
use crate::failure::Failure;
use crate::sources::cluster::ClusterSettings;
use crate::sources::runtimes::LabelKeys;

/// Decides. To be told to ask the own cluster outside of any is a usage failure.
pub(super) fn cluster(args: ClusterArgs, global: &GlobalArgs) -> Result<Option<ClusterSettings>, Failure> {
    let (host, port) = match args.kube_api {
        None => return Ok(None),
        Some(KubeServer::At { host, port }) => (host, port),
        Some(KubeServer::InCluster) => in_cluster().map_err(Failure::usage)?,
    };
    Ok(Some(ClusterSettings {
        host,
        port,
        account: args.kube_account,
        node: env::var("NODE_NAME").ok().filter(|node| !node.is_empty()),
        labels: LabelKeys::new(&global.pod_label),
    }))
}

/// As the kubelet tells every container.
fn in_cluster() -> anyhow::Result<(String, u16)> {
    let told = |name| {
        env::var(name).with_context(|| {
            format!(
                "--kube-api: reading {name}, which containers of a cluster have; else name the server's URL"
            )
        })
    };
    let port = told("KUBERNETES_SERVICE_PORT")?;
    let port = port.parse().with_context(|| format!("--kube-api: KUBERNETES_SERVICE_PORT is '{port}'"))?;
    Ok((told("KUBERNETES_SERVICE_HOST")?, port))
}
