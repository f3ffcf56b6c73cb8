//! Lines of a child process, read by a thread of their own so that waiting for one can time out.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

/// Everything a stream has said so far, and the news of more.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<(Mutex<State>, Condvar)>);

impl Lines {
    /// Reads `stream` to its end in the background.
    pub(crate) fn read(stream: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let reader = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                reader.change(|state| state.lines.push(String::from_utf8_lossy(&line).into_owned()));
            }
            reader.change(|state| state.ended = true);
        });
        lines
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    /// What was said so far.
    pub(crate) fn so_far(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    /// Waits until `find` has an answer for a line, looking at each once; the stream has ended; or
    /// `patience` is over.
    pub(crate) fn wait<T>(&self, patience: Duration, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        let mut looked_at = 0;
        let mut state = self.0.0.lock().unwrap();
        loop {
            if let Some(found) = state.lines[looked_at..].iter().find_map(|line| find(line)) {
                return Some(found);
            }
            looked_at = state.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return None;
            }
            state = self.0.1.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits for the end of the stream and returns all of it; `None` if it does not end in time.
    pub(crate) fn wait_for_end(&self, patience: Duration) -> Option<Vec<String>> {
        let deadline = Instant::now() + patience;
        let mut state = self.0.0.lock().unwrap();
        while !state.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.0.1.wait_timeout(state, left).unwrap().0;
        }
        Some(state.lines.clone())
    }
}
