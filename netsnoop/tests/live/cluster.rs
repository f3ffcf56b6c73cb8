//! Pods elsewhere, whose names an API server tells that the test plays itself.

use std::convert::Infallible;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::lab::watch::Watch;
use crate::lab::{Lab, patience};

const SERVER: &str = "127.0.0.1:6443";
const POD: &str = "198.18.90.2:7401";

/// One pod, which has run since long ago, and no service.
fn list(path: &str) -> Value {
    let pod = json!({
        "metadata": {"name": "db-1", "namespace": "shop", "uid": "u-1"}, "spec": {"nodeName": "elsewhere"},
        "status": {"phase": "Running", "podIP": "198.18.90.2", "podIPs": [{"ip": "198.18.90.2"}],
            "containerStatuses": [{"state": {"running": {"startedAt": "2020-01-01T00:00:00Z"}}}]},
    });
    let items = if path.ends_with("/pods") { vec![pod] } else { Vec::new() };
    json!({"metadata": {"resourceVersion": "7"}, "items": items})
}

/// Serves for as long as the test runs; tells of each watch, which is asked for once all that was listed has been taken.
fn play(listener: TcpListener, account: &Path) -> Receiver<()> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(account.join("ca.crt"), cert.pem()).unwrap();
    fs::write(account.join("token"), "secret").unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let acceptor =
        TlsAcceptor::from(Arc::new(config.with_single_cert(vec![cert.der().clone()], key).unwrap()));
    let (watched_in, watched) = channel();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let stream = listener.accept().await.unwrap().0;
                let (acceptor, watched) = (acceptor.clone(), watched_in.clone());
                tokio::spawn(async move {
                    let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
                    let service = service_fn(|request| answer(request, watched.clone()));
                    // Ends as netsnoop does.
                    http1::Builder::new().serve_connection(stream, service).await
                });
            }
        });
    });
    watched
}

async fn answer(
    request: Request<Incoming>,
    watched: Sender<()>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().query().is_some_and(|query| query.contains("watch=1")) {
        watched.send(()).unwrap();
        std::future::pending::<()>().await;
    }
    Ok(Response::new(Full::from(list(request.uri().path()).to_string())))
}

#[test]
fn a_pod_elsewhere_has_its_name_by_the_api_server_alone() {
    let Some(lab) = Lab::new("cluster::a_pod_elsewhere_has_its_name_by_the_api_server_alone") else { return };
    // A router that forwards nothing: nobody on this node has the pod's address.
    let _router = lab.add_outside();
    let account = tempfile::tempdir().unwrap();
    let watched = play(lab.node.inside(|| TcpListener::bind(SERVER).unwrap()), account.path());
    let account = account.path().display();
    let watch = Watch::start(
        &lab,
        &format!("-i any --kube-api=https://{SERVER} --kube-account {account} host 198.18.90.2"),
    );
    for _kind in ["pods", "services"] {
        watched.recv_timeout(patience()).unwrap();
    }
    lab.node.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"?", POD).unwrap());
    let record =
        watch.wait_for("what goes out", |record| record.event == "open" && record.server.port == 7401);
    let expected = json!({"namespace": {"name": "shop"}, "pod": {"uid": "u-1", "name": "db-1"}});
    assert_eq!(record.server.k8s, Some(expected), "{record:#?}");
    assert_eq!(record.server.attribution.reason.as_deref(), Some("remote"));
    assert_eq!(record.client.k8s, None);
    assert!(watch.stop().status.success());
}
