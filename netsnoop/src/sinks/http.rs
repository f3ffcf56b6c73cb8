//! Metrics over HTTP, and whether netsnoop is well. Whoever asks slowly, or takes the answer slowly, holds one of a few
//! places and nobody up: he gives way to the next. What is asked for comes from [`Exposition`].

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::counters::Counters;
use crate::sinks::exposition::Exposition;

/// Requests at work at once. Each that asks for metrics may hold a page of some megabytes.
const PLACES: usize = 4;
/// Who has been at work for longer than this gives way when all places are taken.
const BRIEF: Duration = Duration::from_secs(1);
/// How long a request may take to say what it wants, and to take all of the answer.
const SAYING: Duration = Duration::from_secs(5);
const TAKING: Duration = Duration::from_secs(30);
/// The text format that Prometheus has read since its beginnings.
const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

const INDEX: &str = "netsnoop agent\n\n/metrics  for Prometheus\n/healthz  200 as long as it works\n/readyz   200 once it \
                     counts, until it is asked to end\n";

/// What is served.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where the metrics come from.
    pub exposition: Exposition,
    /// Whether it has begun and not been asked to end.
    pub ready: Arc<AtomicBool>,
    /// For requests turned away.
    pub counters: Arc<Counters>,
}

/// Listens at `address`, but answers nobody yet.
pub fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("listening on {address} for metrics"))?;
    listener.set_nonblocking(true).with_context(|| format!("listening on {address} for metrics"))?;
    Ok(listener)
}

/// Serves until the process ends. Call it on a thread of its own.
pub fn serve(listener: TcpListener, site: Site) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(2)
        .build()
        .context("starting the runtime that serves metrics")?;
    runtime.block_on(accept(listener, site))
}

async fn accept(listener: TcpListener, site: Site) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener).context("listening for requests")?;
    let mut places = Places::default();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // A full descriptor table passes: wait for others to go rather than spin.
            Err(error) => {
                log::warn!("accepting a request for metrics: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let now = Instant::now();
        let room = places.make_room(now);
        site.counters.http_refused.add(u64::from(room != Room::Free));
        // Closing it says so at once; what it would have asked is not waited for.
        if room != Room::Full {
            let conversation = tokio::spawn(converse(stream, site.clone()));
            places.at_work.push_back((now, conversation.abort_handle()));
        }
    }
}

/// The conversations that go on, the oldest first.
#[derive(Default)]
struct Places {
    at_work: VecDeque<(Instant, AbortHandle)>,
}

/// Whether there is a place for one more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Room {
    /// There was one.
    Free,
    /// The slowest one had to give way.
    Made,
    /// All have only begun.
    Full,
}

impl Places {
    fn make_room(&mut self, now: Instant) -> Room {
        self.at_work.retain(|(_, conversation)| !conversation.is_finished());
        if self.at_work.len() < PLACES {
            return Room::Free;
        }
        match self.at_work.pop_front_if(|(since, _)| now.duration_since(*since) >= BRIEF) {
            Some((_, slowest)) => {
                slowest.abort();
                Room::Made
            }
            None => Room::Full,
        }
    }
}

async fn converse(stream: TcpStream, site: Site) {
    let service = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(respond(&request, site).await) }
    });
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SAYING)
        // One request a place: an idle connection would hold it.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(TAKING, conversation).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::debug!("a request for metrics: {error}"),
        Err(_elapsed) => log::debug!("a request for metrics took more than {TAKING:?}"),
    }
}

async fn respond(request: &Request<Incoming>, site: Site) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/" => text(StatusCode::OK, INDEX),
        "/metrics" => asked(site, |site| site.exposition.page(), TEXT_FORMAT).await,
        "/healthz" => asked(site, |site| site.exposition.report().map(|_| b"ok\n".to_vec()), PLAIN).await,
        "/readyz" if site.ready.load(Ordering::Relaxed) => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
    }
}

/// Answers with what somebody else has to be asked for.
async fn asked(
    site: Site,
    ask: fn(&Site) -> anyhow::Result<Vec<u8>>,
    content_type: HeaderValue,
) -> Response<Full<Bytes>> {
    let answer = tokio::task::spawn_blocking(move || ask(&site)).await;
    match answer {
        Ok(Ok(body)) => {
            let mut response = Response::new(Full::from(body));
            response.headers_mut().insert(CONTENT_TYPE, content_type);
            response
        }
        Ok(Err(error)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n")),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, PLAIN);
    response
}

#[cfg(test)]
mod tests {
    use std::future;

    use super::*;

    /// Who asks at these milliseconds, and never ends, finds this.
    fn check(asked: &[(u64, Room)]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut places, began) = (Places::default(), Instant::now());
        for (millis, expected) in asked {
            let now = began + Duration::from_millis(*millis);
            assert_eq!(places.make_room(now), *expected, "at {millis} ms of {asked:?}");
            if *expected != Room::Full {
                let conversation = runtime.spawn(future::pending::<()>());
                places.at_work.push_back((now, conversation.abort_handle()));
            }
            assert!(places.at_work.len() <= PLACES);
        }
    }

    #[test]
    fn the_slowest_gives_way_and_who_has_only_begun_does_not() {
        let four = [(0, Room::Free), (1, Room::Free), (2, Room::Free), (3, Room::Free)];
        let and = |more: &[(u64, Room)]| [&four[..], more].concat();
        check(&and(&[(4, Room::Full), (999, Room::Full), (1000, Room::Made), (1000, Room::Full)]));
        check(&and(&[(5000, Room::Made), (5000, Room::Made), (5000, Room::Made), (5000, Room::Made)]));
    }

    #[test]
    fn who_has_ended_leaves_his_place() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut places, now) = (Places::default(), Instant::now());
        for _ in 0..2 * PLACES {
            let conversation = runtime.spawn(future::ready(()));
            places.at_work.push_back((now, conversation.abort_handle()));
            runtime.block_on(conversation).unwrap();
            assert_eq!(places.make_room(now), Room::Free);
        }
    }
}
