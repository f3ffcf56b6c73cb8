//! Asking the agent for its page as Prometheus does, again and again, and as one who is too slow to take the answer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::page::Page;

/// Where the agent is asked.
pub(super) const LISTEN: &str = "127.0.0.1:9774";
/// How often it is asked while the load goes on: much more often than Prometheus does.
const EVERY: Duration = Duration::from_millis(100);
/// How much of an answer a slow one takes at a time.
const SIP_BYTES: usize = 64;

/// The page as it is now.
pub(super) fn page() -> Result<Page> {
    Page::read(&ask("/metrics")?)
}

/// Whether the agent says that it counts.
pub(super) fn is_ready() -> bool {
    ask("/readyz").is_ok()
}

/// What it answers.
fn ask(path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(LISTEN).context("asking the agent")?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").context("asking the agent")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("reading the agent's answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the agent's answer has no head")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "the agent answers {head}: {body}");
    Ok(body.to_owned())
}

/// What was answered at a steady pace.
#[derive(Default)]
pub(super) struct Scrapes {
    /// How long each answer took.
    pub(super) seconds: Vec<f64>,
    /// Why others were none.
    pub(super) failures: Vec<String>,
}

/// Asks at a steady pace until `stop`. An answer that is late makes those after it late too: each counts from when it was
/// due.
pub(super) fn at_a_pace(stop: &AtomicBool) -> Scrapes {
    let mut scrapes = Scrapes::default();
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        match ask("/metrics") {
            Ok(_) => scrapes.seconds.push(due.elapsed().as_secs_f64()),
            Err(error) => scrapes.failures.push(format!("a page: {error:#}")),
        }
        due += EVERY;
    }
    scrapes
}

/// Asks, and takes a sip of the answer now and then until `stop`.
pub(super) fn slowly(stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(LISTEN).context("asking the agent")?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n").context("asking the agent")?;
        let mut sip = [0; SIP_BYTES];
        // The agent may end it when it takes too long.
        while !stop.load(Ordering::Relaxed) && stream.read(&mut sip).is_ok_and(|length| length > 0) {
            thread::sleep(EVERY);
        }
    }
    Ok(())
}
