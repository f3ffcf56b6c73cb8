//! gRPC over a unix socket: one question and its answer, or one question and messages as long as they come.
//!
//! It is what a client of a runtime needs of the protocol
//! (<https://github.com/grpc/grpc/blob/v1.70.0/doc/PROTOCOL-HTTP2.md>). Left out: compression, which is not asked for.

use std::path::Path;

use anyhow::{Context, anyhow, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, HeaderMap, TE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixStream;

/// A flag for compression and the length of the message, before each message.
const PREFIX_BYTES: usize = 5;
/// What runtimes themselves hold for the most that a message may have.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A connection to a server.
#[derive(Clone, Debug)]
pub struct Channel {
    requests: http2::SendRequest<Full<Bytes>>,
}

/// Messages that come as something happens.
#[derive(Debug)]
pub struct Messages {
    body: Incoming,
    read: BytesMut,
}

impl Channel {
    /// To the server that listens on `socket`.
    pub async fn connect(socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket).await.context("connecting")?;
        let (requests, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.context("starting HTTP/2")?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                log::debug!("a runtime's connection ended: {error}");
            }
        });
        Ok(Self { requests })
    }

    /// The answer to a question.
    pub async fn ask<A: Message + Default>(
        &mut self,
        method: &str,
        question: &impl Message,
    ) -> anyhow::Result<A> {
        let response = self.send(method, question).await?;
        let body = Limited::new(response.into_body(), MESSAGE_BYTES_MAX + PREFIX_BYTES).collect().await;
        let body = body.map_err(|error| anyhow!(error)).with_context(|| format!("reading {method}"))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        check_status(method, &trailers)?;
        let mut read = BytesMut::from(&*body.to_bytes());
        take_message(&mut read)?.with_context(|| format!("{method} has no answer"))
    }

    /// The messages that follow a question.
    pub async fn follow(&mut self, method: &str, question: &impl Message) -> anyhow::Result<Messages> {
        let response = self.send(method, question).await?;
        Ok(Messages { body: response.into_body(), read: BytesMut::new() })
    }

    async fn send(&mut self, method: &str, question: &impl Message) -> anyhow::Result<Response<Incoming>> {
        let mut body = BytesMut::with_capacity(PREFIX_BYTES + question.encoded_len());
        body.put_u8(0);
        body.put_u32(u32::try_from(question.encoded_len()).context("a question that is too long")?);
        question.encode(&mut body).context("encoding a question")?;
        let request = Request::builder()
            .method(Method::POST)
            // A server on a unix socket has no name; Go's refuse an empty one.
            .uri(format!("http://localhost/{method}"))
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .body(Full::new(body.freeze()))
            .context("making a request")?;
        self.requests.ready().await.with_context(|| format!("asking {method}"))?;
        let response =
            self.requests.send_request(request).await.with_context(|| format!("asking {method}"))?;
        ensure!(response.status() == StatusCode::OK, "{method} was answered by {}", response.status());
        // One that is refused at once has its status here, and no trailers.
        check_status(method, response.headers())?;
        Ok(response)
    }
}

impl Messages {
    /// The next one; `None` once there will be no more.
    pub async fn next<A: Message + Default>(&mut self) -> anyhow::Result<Option<A>> {
        loop {
            if let Some(message) = take_message(&mut self.read)? {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.context("reading what a runtime tells of")?;
            match frame.into_data() {
                Ok(data) => self.read.extend_from_slice(&data),
                Err(frame) => {
                    check_status("it", &frame.into_trailers().unwrap_or_default())?;
                    return Ok(None);
                }
            }
        }
    }
}

/// Absent is no error: it may come later.
fn check_status(method: &str, headers: &HeaderMap) -> anyhow::Result<()> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some(status) => {
            bail!(
                "{method} was refused (gRPC status {status}): {}",
                text("grpc-message").unwrap_or("no reason")
            )
        }
    }
}

/// The first message of `read`, once it is there in full.
fn take_message<A: Message + Default>(read: &mut BytesMut) -> anyhow::Result<Option<A>> {
    let Some((flag, length)) = read.first_chunk::<PREFIX_BYTES>().map(|prefix| {
        let [flag, length @ ..] = *prefix;
        (flag, u32::from_be_bytes(length) as usize)
    }) else {
        return Ok(None);
    };
    ensure!(flag == 0, "a compressed message came unasked");
    ensure!(length <= MESSAGE_BYTES_MAX, "a message of {length} bytes");
    if read.len() < PREFIX_BYTES + length {
        return Ok(None);
    }
    read.advance(PREFIX_BYTES);
    let message = read.split_to(length);
    Ok(Some(A::decode(message).context("decoding a message")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `None`: refused.
    fn check(bytes: &[u8], expected: Option<Option<&str>>) {
        let found = take_message::<String>(&mut BytesMut::from(bytes)).ok();
        assert_eq!(found.as_ref().map(Option::as_deref), expected, "{bytes:?}");
    }

    #[test]
    fn messages_are_taken_whole_or_not_at_all() {
        // prost gives a lone string the field 1.
        let whole = [0, 0, 0, 0, 4, 0x0a, 2, b'o', b'k'];
        check(&whole, Some(Some("ok")));
        for cut in 0..whole.len() {
            check(&whole[..cut], Some(None));
        }
        check(&[0, 0, 0, 0, 0], Some(Some("")));
        check(&[1, 0, 0, 0, 0], None);
        check(&[0, 0xff, 0, 0, 0], None);
        check(&[0, 0, 0, 0, 2, 0x0a, 9], None);
    }
}
