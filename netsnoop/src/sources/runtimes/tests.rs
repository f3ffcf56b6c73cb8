//! Runtimes that the tests play themselves: one that answers, one that refuses, one that never answers.

use std::convert::Infallible;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use netsnoop_core::process::Container;
use prost::Message;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::net::UnixListener;

use super::cri::{
    ContainerEvent, ContainerMetadata, ListContainersRequest, ListContainersResponse, ListPodSandboxResponse,
    ListedContainer, ListedSandbox, SandboxMetadata, VersionResponse,
};
use super::*;
use crate::intake::Bell;
use crate::sources::name_channel::Told;

const SANDBOX: &str = "sandbox-1";
const APP: &str = "container-1";

/// How a played runtime behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    Answers,
    /// And tells of changes.
    TellsChanges,
    Refuses,
    Hangs,
}

fn answer(path: &str, question: &[u8]) -> Vec<u8> {
    let asked = ListContainersRequest::decode(question).unwrap_or_default().filter;
    let wants = |id: &str| asked.as_ref().is_none_or(|filter| filter.id == id);
    match path.rsplit_once('/').map(|(_, method)| method) {
        Some("Version") => VersionResponse { runtime_name: "containerd".into() }.encode_to_vec(),
        Some("ListPodSandbox") => {
            let metadata =
                SandboxMetadata { name: "web-1".into(), uid: "u-1".into(), namespace: "tools".into() };
            let labels =
                [("app", "web"), ("tier", "front")].map(|(key, value)| (key.to_owned(), value.to_owned()));
            let sandbox =
                ListedSandbox { id: SANDBOX.into(), metadata: Some(metadata), labels: labels.into() };
            ListPodSandboxResponse { items: vec![sandbox].into_iter().filter(|s| wants(&s.id)).collect() }
                .encode_to_vec()
        }
        Some("ListContainers") => {
            let metadata = Some(ContainerMetadata { name: "app".into() });
            let one = ListedContainer { id: APP.into(), pod_sandbox_id: SANDBOX.into(), metadata };
            let containers = vec![one].into_iter().filter(|one| wants(&one.id)).collect();
            ListContainersResponse { containers }.encode_to_vec()
        }
        _ => ContainerEvent { container_id: APP.into() }.encode_to_vec(),
    }
}

async fn respond(
    manner: Manner,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let path = request.uri().path().to_owned();
    let question = request.into_body().collect().await.unwrap().to_bytes();
    let is_event = path.ends_with("GetContainerEvents");
    let refused = manner == Manner::Refuses || is_event && manner != Manner::TellsChanges;
    if manner == Manner::Hangs {
        std::future::pending::<()>().await;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", if refused { "12" } else { "0" }.parse().unwrap());
    let mut body = BytesMut::new();
    if !refused {
        let message = answer(&path, question.get(5..).unwrap_or_default());
        body.put_u8(0);
        body.put_u32(u32::try_from(message.len()).unwrap());
        body.put_slice(&message);
    }
    let body = Full::new(body.freeze()).with_trailers(async move { Some(Ok(trailers)) });
    Ok(Response::new(BodyExt::boxed(body)))
}

async fn docker(manner: Manner, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let is_about_one = query.contains("container-2");
    Ok(match path {
        "/events" if manner == Manner::TellsChanges => {
            let started = r#"{"Type":"container","Action":"start","Actor":{"ID":"container-2"}}"#;
            Response::new(Full::from(format!("{started}\n")))
        }
        "/containers/json" if is_about_one => {
            Response::new(Full::from(r#"[{"Id":"container-2","Names":["/db"]}]"#))
        }
        "/containers/json" => Response::new(Full::from(
            r#"[{"Id":"container-2","Names":["/db"]},{"Id":"container-3","Names":["/web"]}]"#,
        )),
        _ => Response::builder().status(404).body(Full::default()).unwrap(),
    })
}

/// Plays a runtime on `socket` until the test ends.
fn play(socket: &Path, manner: Manner) {
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let is_docker = Api::of(socket) != Api::Cri;
    thread::spawn(move || {
        on_a_runtime_of_tokio(async move {
            let listener = UnixListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let stream = TokioIo::new(stream);
                tokio::spawn(async move {
                    if is_docker {
                        let service = service_fn(move |request| docker(manner, request));
                        // One that follows may go at any time.
                        if let Err(error) = http1::Builder::new().serve_connection(stream, service).await {
                            log::debug!("{error}");
                        }
                    } else {
                        let service = service_fn(move |request| respond(manner, request));
                        http2::Builder::new(TokioExecutor::new())
                            .serve_connection(stream, service)
                            .await
                            .unwrap();
                    }
                });
            }
        })
    });
}

/// What a container is called, as text.
fn called(container: &Container) -> String {
    let pod = container.pod.as_deref();
    let parts = [
        container.runtime,
        pod.and_then(|pod| pod.namespace.as_deref()),
        pod.and_then(|pod| pod.name.as_deref()),
        container.name.as_deref(),
    ];
    let labels = pod.into_iter().flat_map(|pod| &pod.labels).map(|(key, value)| format!(" {key}={value}"));
    let names = parts.map(|part| part.unwrap_or("-")).join("/");
    format!("{} {names}{}", container.id, labels.collect::<String>())
}

/// One of the two labels of the pod is wanted.
fn settings(sockets: Vec<PathBuf>) -> RuntimeSettings {
    let keys = ["app", "absent"].map(str::to_owned);
    RuntimeSettings { sockets: RuntimeSockets::Only(sockets), labels: LabelKeys::new(&keys) }
}

fn ask(sockets: &[(&str, Manner)], patience: Duration) -> (Vec<String>, Vec<String>) {
    let place = tempfile::tempdir().unwrap();
    let paths = sockets.iter().map(|(name, _)| place.path().join(name)).collect::<Vec<_>>();
    for (path, (_, manner)) in paths.iter().zip(sockets) {
        play(path, *manner);
    }
    let nowhere = place.path().join("nowhere.sock");
    let told = ask_once(&settings([paths, vec![nowhere]].concat()), patience).unwrap();
    let mut names: Vec<String> = told.containers.iter().map(called).collect();
    names.sort();
    (names, told.amiss)
}

#[test]
fn all_runtimes_tell_whatever_is_amiss_with_another() {
    let runtimes = [
        ("containerd.sock", Manner::Answers),
        ("refuses.sock", Manner::Refuses),
        ("docker.sock", Manner::Answers),
    ];
    // Waited out in failure alone.
    let (names, amiss) = ask(&runtimes, Duration::from_secs(120));
    assert_eq!(
        names,
        [
            "container-1 containerd/tools/web-1/app app=web",
            "container-2 docker/-/-/db",
            "container-3 docker/-/-/web",
            "sandbox-1 containerd/tools/web-1/- app=web"
        ]
    );
    must_complain(&amiss, &["nowhere.sock tells no names: connecting", "gRPC status 12"]);
}

#[test]
fn one_that_hangs_is_given_up() {
    let (names, amiss) = ask(&[("hangs.sock", Manner::Hangs)], Duration::from_millis(100));
    assert_eq!(names, Vec::<String>::new());
    must_complain(&amiss, &["nowhere.sock tells no names", "hangs.sock tells no names: it gave no answer"]);
}

/// Each has one complaint.
fn must_complain(amiss: &[String], parts: &[&str]) {
    assert_eq!(amiss.len(), parts.len(), "{amiss:#?}");
    for part in parts {
        assert!(amiss.iter().any(|complaint| complaint.contains(part)), "{part}: {amiss:#?}");
    }
}

/// Attends to a runtime until it is told of one container alone, which no list does.
fn attend(name: &str, manner: Manner, wish: Option<&str>) -> String {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join(name);
    play(&socket, manner);
    let bell = Bell::new().unwrap();
    let wishes = Wishes::default();
    let (asker, teller) = wishes.asker(bell.clone());
    let attended = wishes.clone();
    thread::spawn(move || run(&settings(vec![socket]), &attended, vec![teller], Arc::default()));
    let mut wish = wish.map(Arc::from);
    loop {
        poll(&mut [PollFd::new(&bell.as_fd(), PollFlags::IN)], None).unwrap();
        bell.take();
        for names in asker.take() {
            let Told::Names(names) = names else { panic!("cgroups of names: {names:?}") };
            if let [one] = &*names {
                return called(one);
            }
        }
        // Once all has been listed the runtime hears of wishes.
        if let Some(wish) = wish.take() {
            assert!(asker.ask(&wish));
        }
    }
}

#[test]
fn a_container_that_is_met_is_asked_for() {
    assert_eq!(
        attend("containerd.sock", Manner::Answers, Some(APP)),
        "container-1 containerd/tools/web-1/app app=web"
    );
    assert_eq!(
        attend("containerd.sock", Manner::Answers, Some(SANDBOX)),
        "sandbox-1 containerd/tools/web-1/- app=web"
    );
}

#[test]
fn a_change_is_looked_at_unasked() {
    assert_eq!(
        attend("containerd.sock", Manner::TellsChanges, None),
        "container-1 containerd/tools/web-1/app app=web"
    );
}

#[test]
fn docker_and_podman_are_asked_and_tell_too() {
    assert_eq!(attend("docker.sock", Manner::Answers, Some("container-2")), "container-2 docker/-/-/db");
    assert_eq!(attend("podman.sock", Manner::TellsChanges, None), "container-2 podman/-/-/db");
}

#[test]
fn nobody_is_asked_where_no_runtime_answers() {
    let (asker, _teller) = Wishes::default().asker(Bell::new().unwrap());
    assert!(!asker.ask(&Arc::from(APP)));
}
