//! Options about the Kubernetes cluster that the node is part of.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;
use hyper::Uri;

/// What `--kube-api` means without a value.
const IN_CLUSTER: &str = "in-cluster";
/// Where a pod has its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Options about names that the cluster knows.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// Name pods and services elsewhere by a watch on Kubernetes' API server [URL: the own pod's cluster]
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = IN_CLUSTER)]
    #[arg(value_parser = kube_server, env = "NETSNOOP_KUBE_API", hide_env = true)]
    pub kube_api: Option<KubeServer>,
    /// Where the files token and ca.crt of a service account are that may list and watch pods and services
    #[arg(long, value_name = "DIR", default_value = ACCOUNT, env = "NETSNOOP_KUBE_ACCOUNT", hide_env = true)]
    pub kube_account: PathBuf,
}

/// Which API server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KubeServer {
    /// That of the cluster whose pod this is.
    InCluster,
    /// This one.
    At {
        /// A name or address.
        host: String,
        /// Its port.
        port: u16,
    },
}

fn kube_server(text: &str) -> anyhow::Result<KubeServer> {
    if text == IN_CLUSTER {
        return Ok(KubeServer::InCluster);
    }
    let uri: Uri = text.parse().context("a URL like https://198.18.96.1:6443 is wanted")?;
    ensure!(uri.scheme_str() == Some("https"), "the token is sent by https alone");
    ensure!(matches!(uri.path(), "" | "/"), "a server without a path is wanted");
    let host = uri.host().context("the URL has no host")?;
    // IPv6 addresses have brackets.
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(KubeServer::At { host, port: uri.port_u16().unwrap_or(443) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_as_typed() {
        let check = |text: &str, expected: Option<(&str, u16)>| {
            let found = kube_server(text).ok();
            let expected = expected.map(|(host, port)| KubeServer::At { host: host.to_owned(), port });
            assert_eq!(found, expected, "{text}");
        };
        check("https://198.18.96.1:6443", Some(("198.18.96.1", 6443)));
        check("https://kubernetes.default.svc/", Some(("kubernetes.default.svc", 443)));
        check("https://[2001:db8::1]:6443", Some(("2001:db8::1", 6443)));
        check("http://198.18.96.1", None);
        check("198.18.96.1:6443", None);
        check("https://198.18.96.1/api", None);
        assert_eq!(kube_server("in-cluster").unwrap(), KubeServer::InCluster);
    }
}
