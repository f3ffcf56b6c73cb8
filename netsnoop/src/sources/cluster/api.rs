//! Kubernetes' API server over TLS: a question and its answer, or lines as they come.
//!
//! A connection belongs to one list and one watch, so that the account's token, which the kubelet renews, is read each time.
//! Left out: what is in the answers.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::ClusterSettings;

/// How long it may take until the server can be asked.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A server that went without a word is missed after 60 seconds: a watch that is silent for so long is asked for a sign of
/// life, so often, as many times (`man 7 tcp`, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT; Linux 2.4).
const KEEP_ALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);
/// A page of the largest objects there can be (etcd takes 1.5 MiB for each) is beyond this, one of usual ones far below.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The longest line, which has one object.
const LINE_BYTES_MAX: usize = 4 << 20;
/// How much of a refusal is told.
const REFUSAL_BYTES_MAX: usize = 4096;

/// A connection.
#[derive(Debug)]
pub(super) struct Api {
    requests: http1::SendRequest<Empty<Bytes>>,
    host: String,
    authorization: String,
}

/// Lines of an answer that goes on.
#[derive(Debug)]
pub(super) struct Lines {
    body: Incoming,
    read: BytesMut,
}

impl Api {
    pub(super) async fn connect(settings: &ClusterSettings) -> anyhow::Result<Self> {
        let ClusterSettings { host, port, account, .. } = settings;
        let token = account.join("token");
        let token = fs::read_to_string(&token).with_context(|| format!("reading {}", token.display()))?;
        let connector = TlsConnector::from(Arc::new(trust(settings)?));
        let name = ServerName::try_from(host.clone()).with_context(|| format!("'{host}' is no name"))?;
        let connect = async {
            let stream = TcpStream::connect((&**host, *port)).await?;
            keep_alive(&stream)?;
            connector.connect(name, stream).await
        };
        let stream =
            timeout(CONNECT_MAX, connect).await.context("it took too long").and_then(|done| Ok(done?));
        let stream = stream.with_context(|| format!("connecting to {host} port {port}"))?;
        let (requests, connection) =
            http1::handshake(TokioIo::new(stream)).await.context("starting HTTP with the API server")?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                log::debug!("a connection to the API server ended: {error}");
            }
        });
        Ok(Self { requests, host: host.clone(), authorization: format!("Bearer {}", token.trim()) })
    }

    /// The whole answer.
    pub(super) async fn ask(&mut self, path: &str) -> anyhow::Result<Bytes> {
        let response = self.send(path).await?;
        read_all(response, ANSWER_BYTES_MAX).await
    }

    /// An answer line by line.
    pub(super) async fn follow(&mut self, path: &str) -> anyhow::Result<Lines> {
        let response = self.send(path).await?;
        Ok(Lines { body: response.into_body(), read: BytesMut::new() })
    }

    async fn send(&mut self, path: &str) -> anyhow::Result<Response<Incoming>> {
        let request = Request::get(path)
            .header(HOST, &self.host)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("netsnoop/", env!("CARGO_PKG_VERSION")))
            .header(AUTHORIZATION, &self.authorization)
            .body(Empty::new())
            .context("making a request")?;
        self.requests.ready().await.context("asking the API server")?;
        let response = self.requests.send_request(request).await.context("asking the API server")?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        let advice = match status {
            StatusCode::UNAUTHORIZED => "; the account's token is not accepted",
            StatusCode::FORBIDDEN => "; the account needs the verbs list and watch on pods and services",
            _ => "",
        };
        let refusal = match read_all(response, REFUSAL_BYTES_MAX).await {
            Ok(text) => String::from_utf8_lossy(&text).trim().to_owned(),
            Err(error) => format!("{error:#}"),
        };
        bail!("the API server answered {status}{advice}: {}", refusal.escape_debug());
    }
}

impl Lines {
    /// The next one; `None` once there will be no more.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        let mut looked_at = 0;
        loop {
            if let Some(end) = self.read.iter().skip(looked_at).position(|byte| *byte == b'\n') {
                let mut line = self.read.split_to(looked_at + end + 1);
                line.truncate(looked_at + end);
                return Ok(Some(line.freeze()));
            }
            looked_at = self.read.len();
            ensure!(looked_at <= LINE_BYTES_MAX, "a line of more than {LINE_BYTES_MAX} bytes");
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Ok(data) = frame.context("reading a watch")?.into_data() {
                self.read.extend_from_slice(&data);
            }
        }
    }
}

/// Nothing is sent on a watch, so that nobody would notice that nothing arrives.
fn keep_alive(stream: impl AsFd) -> io::Result<()> {
    let stream = stream.as_fd();
    let (idle, interval, count) = KEEP_ALIVE;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, interval)?;
    Ok(sockopt::set_tcp_keepcnt(stream, count)?)
}

async fn read_all(response: Response<Incoming>, bytes_max: usize) -> anyhow::Result<Bytes> {
    let body = Limited::new(response.into_body(), bytes_max).collect().await;
    Ok(body.map_err(|error| anyhow!(error)).context("reading an answer of the API server")?.to_bytes())
}

/// Only the cluster's own authority is trusted.
fn trust(settings: &ClusterSettings) -> anyhow::Result<ClientConfig> {
    let path = settings.account.join("ca.crt");
    let act = || format!("reading {}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&path).with_context(act)? {
        roots.add(certificate.with_context(act)?).with_context(act)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().context("setting up TLS")?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_went_without_a_word_is_missed_within_a_minute() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        keep_alive(&stream).unwrap();
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        let asked = sockopt::tcp_keepintvl(&stream).unwrap() * sockopt::tcp_keepcnt(&stream).unwrap();
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap() + asked, Duration::from_secs(60));
    }
}
