//! One JSON object a line: the record for machines. Times are UTC whatever the node's zone is.

use std::io::{self, Write};

use netsnoop_core::connection::ConnectionRecord;
use serde::Serialize;
use serde_json::Serializer;

use crate::clock::WallClock;
use crate::sinks::Sink;
use crate::sinks::escape::TerminalSafeJson;
use crate::sinks::schema::{EndUsers, Record};
use crate::sinks::user_names::UserNames;

/// Writes records as JSON lines.
pub(super) struct JsonlSink<W> {
    out: W,
    names: UserNames,
    line: Vec<u8>,
}

impl<W: Write> JsonlSink<W> {
    /// Writes to `out`.
    pub(super) const fn new(out: W, names: UserNames) -> Self {
        Self { out, names, line: Vec::new() }
    }
}

impl<W: Write> Sink for JsonlSink<W> {
    fn write(&mut self, record: &ConnectionRecord, clock: WallClock) -> io::Result<()> {
        let users = EndUsers::of(record, &mut self.names);
        // A line goes out whole or not at all, as far as that is ours to decide.
        self.line.clear();
        let mut serializer = Serializer::with_formatter(&mut self.line, TerminalSafeJson);
        Record::new(record, &users, clock).serialize(&mut serializer).map_err(io::Error::from)?;
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
