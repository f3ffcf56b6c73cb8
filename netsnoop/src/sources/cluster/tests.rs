//! An API server that the tests play themselves, over TLS, by a script: one answer a request.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use netsnoop_core::cluster::ClusterName;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::counters::Counters;

/// Answers to what is asked about pods, the last first; then nothing any more.
struct Script(Vec<(u16, String)>);

/// Serves for as long as the test runs.
struct Server {
    settings: ClusterSettings,
    /// What was asked about pods.
    asked: Arc<Mutex<Vec<String>>>,
    _account: TempDir,
}

/// A server whose pods are followed.
struct Played {
    server: Server,
    told: Receiver<Input>,
    counters: Arc<Counters>,
}

fn play(script: &[(u16, &str)]) -> Played {
    let server = Server::start(script);
    let (counters, (inputs, told)) = (Arc::new(Counters::default()), sync_channel(64));
    let (own, intake) = (server.settings.clone(), Intake::new(inputs, counters.clone()));
    thread::spawn(move || run(&own, &intake));
    Played { server, told, counters }
}

impl Server {
    fn start(script: &[(u16, &str)]) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let account = tempfile::tempdir().unwrap();
        std::fs::write(account.path().join("ca.crt"), cert.pem()).unwrap();
        std::fs::write(account.path().join("token"), "secret\n").unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = config.with_single_cert(vec![cert.der().clone()], key).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = script.iter().rev().map(|(status, text)| (*status, (*text).to_owned()));
        let (script, asked) =
            (Arc::new(Mutex::new(Script(script.collect()))), Arc::new(Mutex::new(Vec::new())));
        let seen = asked.clone();
        thread::spawn(move || serve(listener, TlsAcceptor::from(Arc::new(config)), (script, seen)));
        let settings = ClusterSettings {
            host: "127.0.0.1".into(),
            port,
            account: account.path().to_owned(),
            node: Some("node-1".into()),
            labels: LabelKeys::new(&["app".to_owned()]),
        };
        Self { settings, asked, _account: account }
    }
}

fn serve(
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
    (script, asked): (Arc<Mutex<Script>>, Arc<Mutex<Vec<String>>>),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, script, asked) = (acceptor.clone(), script.clone(), asked.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(|request| answer(request, script.clone(), asked.clone()));
                if let Err(error) =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
                {
                    log::debug!("{error}");
                }
            });
        }
    });
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    script: Arc<Mutex<Script>>,
    asked: Arc<Mutex<Vec<String>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.headers()["authorization"], "Bearer secret");
    if request.uri().path() == "/forbidden" {
        return Ok(Response::builder().status(403).body(Full::from("not for you")).unwrap());
    }
    let next = if request.uri().path() == "/api/v1/pods" {
        asked.lock().unwrap().push(request.uri().query().unwrap().to_owned());
        script.lock().unwrap().0.pop()
    } else {
        None
    };
    match next {
        Some((status, text)) => {
            Ok(Response::builder().status(status).body(Full::from(text.replace('~', "\n"))).unwrap())
        }
        // As slow as it gets.
        None => std::future::pending().await,
    }
}

impl Played {
    /// What is told until so many changes of pods have been, as words.
    fn hear(&self, changes: usize) -> Vec<String> {
        let mut heard = Vec::new();
        while heard.len() < changes {
            let Input::Observation(Observation::Cluster(told)) =
                self.told.recv_timeout(Duration::from_secs(120)).unwrap()
            else {
                panic!("something else was told");
            };
            let services = ClusterChange::ListBegins(ClusterKind::Services);
            heard.extend(told.into_iter().filter(|change| *change != services).map(words));
        }
        heard
    }
}

fn words(change: ClusterChange) -> String {
    match change {
        ClusterChange::ListBegins(_) => "begins".into(),
        ClusterChange::ListEnds(_) => "ends".into(),
        ClusterChange::Gone(uid) => format!("-{uid}"),
        ClusterChange::Is(object) => match object.name {
            ClusterName::Pod(pod) => format!("+{} {:?} {:?}", object.uid, object.addresses, pod.labels),
            ClusterName::Service(service) => {
                format!("+{} {:?} {}", object.uid, object.addresses, service.name)
            }
        },
    }
}

fn list(version: u32, next: &str, items: &str) -> String {
    format!(r#"{{"metadata":{{"resourceVersion":"{version}","continue":"{next}"}},"items":[{items}]}}"#)
}

fn pod(name: &str, address: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"tools","uid":"{name}","resourceVersion":"7","labels":{{"app":"web","tier":"x"}}}},
        "spec":{{}},"status":{{"phase":"Running","podIP":"{address}","podIPs":[{{"ip":"{address}"}}]}}}}"#
    )
    .replace('\n', "")
}

fn event(kind: &str, object: &str) -> String {
    format!(r#"{{"type":"{kind}","object":{object}}}~"#)
}

#[test]
fn all_are_listed_page_by_page_then_changes_are_told_and_what_is_too_old_is_listed_anew() {
    let bookmark = event("BOOKMARK", r#"{"metadata":{"resourceVersion":"12"}}"#);
    let changes =
        event("ADDED", &pod("c", "198.18.9.3")) + &event("DELETED", &pod("a", "198.18.9.1")) + &bookmark;
    let too_old = event("ERROR", r#"{"kind":"Status","status":"Failure","code":410,"message":"too old"}"#);
    let played = play(&[
        (200, &list(5, "a+b", &pod("a", "198.18.9.1"))),
        (200, &list(5, "", &pod("b", "198.18.9.2"))),
        (200, &changes),
        (200, &too_old),
        (200, &list(20, "", "")),
    ]);
    let labels = r#"[("app", "web")]"#;
    let expected = [
        "begins".to_owned(),
        format!("+a [198.18.9.1] {labels}"),
        format!("+b [198.18.9.2] {labels}"),
        "ends".into(),
        format!("+c [198.18.9.3] {labels}"),
        "-a".into(),
        "begins".into(),
        "ends".into(),
    ];
    assert_eq!(played.hear(expected.len()), expected);
    let asked = played.server.asked.lock().unwrap();
    let ours =
        "fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed%2Cspec.nodeName%21%3Dnode-1&";
    let parts = [
        "limit=250",
        "limit=250&continue=a%2Bb",
        "watch=1&allowWatchBookmarks=true&timeoutSeconds=290&resourceVersion=5",
        // From the bookmark on.
        "watch=1&allowWatchBookmarks=true&timeoutSeconds=290&resourceVersion=12",
        "limit=250",
    ];
    for (query, part) in asked.iter().zip(parts) {
        assert_eq!(query, &format!("{ours}{part}"));
    }
    assert_eq!(played.counters.kube_api_failures.get(), 0);
}

#[test]
fn a_refusal_is_counted_and_tried_again_and_so_is_nonsense() {
    let played = play(&[
        (401, r#"{"kind":"Status","code":401,"message":"Unauthorized"}"#),
        (200, "{"),
        (200, &list(5, "", &pod("a", "198.18.9.1"))),
    ]);
    // What broke off has told nothing.
    let told = format!("+a [198.18.9.1] {:?}", [("app", "web")]);
    assert_eq!(played.hear(5), ["begins", "begins", "begins", &told, "ends"]);
    assert_eq!(played.counters.kube_api_failures.get(), 2);
}

/// A server that is started anew ends all watches, perhaps long after its last word. If only that counted, all nodes of a
/// cluster would forget all names at the first try that fails, and ask for everything at once.
#[test]
fn what_a_watch_told_is_as_fresh_as_its_end() {
    let server = Server::start(&[(200, "")]);
    let (inputs, _told) = sync_channel(64);
    let intake = Intake::new(inputs, Arc::default());
    let mut follower = Follower::new(&server.settings, &intake, ClusterKind::Pods);
    follower.version = Some("5".into());
    let before = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(follower.turn()).unwrap();
    assert!(follower.heard > before);
    assert_eq!(follower.version.as_deref(), Some("5"));
}

/// Connects once, and says what is wrong.
fn complaint(settings: &ClusterSettings) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked = runtime.block_on(async { Api::connect(settings).await?.ask("/forbidden").await });
    format!("{:#}", asked.unwrap_err())
}

#[test]
fn only_the_clusters_own_authority_is_trusted() {
    let played = play(&[]);
    let refusal = complaint(&played.server.settings);
    assert!(refusal.contains("verbs list and watch on pods and services: not for you"), "{refusal}");
    let other = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, .. } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(other.path().join("ca.crt"), cert.pem()).unwrap();
    let settings = ClusterSettings { account: other.path().to_owned(), ..played.server.settings.clone() };
    assert!(complaint(&settings).contains("token: No such file"), "{}", complaint(&settings));
    std::fs::write(other.path().join("token"), "secret").unwrap();
    assert!(complaint(&settings).contains("invalid peer certificate"), "{}", complaint(&settings));
    let settings = ClusterSettings { host: "localhost".into(), ..played.server.settings.clone() };
    assert!(complaint(&settings).contains("certificate not valid for name"), "{}", complaint(&settings));
}

/// What a pod or a service says of its addresses.
fn check(kind: ClusterKind, object: &str, expected: Option<(&[&str], bool)>) {
    let event =
        decode_event(event("ADDED", object).trim_end_matches('~').as_bytes(), kind, &LabelKeys::default());
    let Event::Change(Some(change), _) = event.unwrap() else { panic!("no change: {object}") };
    let found = match &change {
        ClusterChange::Is(object) => Some((object.addresses.clone(), object.since.is_some())),
        _ => None,
    };
    let parse = |addresses: &[&str]| addresses.iter().map(|address| address.parse().unwrap()).collect();
    assert_eq!(found, expected.map(|(addresses, since)| (parse(addresses), since)), "{object}");
}

#[test]
fn whose_addresses_are_told_and_since_when() {
    let pods = |rest: &str, expected| {
        check(
            ClusterKind::Pods,
            &format!(r#"{{"metadata":{{"name":"a","namespace":"n","uid":"u"}},{rest}}}"#),
            expected,
        );
    };
    pods(r#""status":{"podIP":"198.18.9.1"}"#, Some((&["198.18.9.1"], false)));
    pods(
        r#""status":{"podIP":"198.18.9.1","podIPs":[{"ip":"198.18.9.1"},{"ip":"2001:db8::1"}],"containerStatuses":[
        {"state":{"waiting":{}}},{"state":{"running":{"startedAt":"2026-11-22T10:00:00Z"}}}]}"#,
        Some((&["198.18.9.1", "2001:db8::1"], true)),
    );
    pods(r#""status":{"phase":"Pending"}"#, None);
    pods(r#""status":{"phase":"Failed","podIP":"198.18.9.1"}"#, None);
    pods(r#""spec":{"hostNetwork":true},"status":{"podIP":"198.18.0.1"}"#, None);
    pods(r#""status":{"podIP":"nonsense","containerStatuses":null,"podIPs":null}"#, None);
    let services = |spec: &str, expected| {
        let meta = r#"{"name":"s","namespace":"n","uid":"u","creationTimestamp":"2026-11-22T10:00:00Z"}"#;
        let object = format!(r#"{{"metadata":{meta},"spec":{spec},"status":{{"loadBalancer":{{}}}}}}"#);
        check(ClusterKind::Services, &object, expected);
    };
    services(r#"{"clusterIP":"198.19.0.1","clusterIPs":["198.19.0.1"]}"#, Some((&["198.19.0.1"], true)));
    services(r#"{"clusterIP":"None","clusterIPs":["None"]}"#, None);
    services(r#"{"type":"ExternalName","externalName":"db.example.org"}"#, None);
}
