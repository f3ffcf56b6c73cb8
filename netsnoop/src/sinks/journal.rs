//! Records as JSON lines for as long as the agent runs: to standard output, or to a file that is put aside when it has
//! grown. What cannot be written is lost, counted and said once; the next record is tried again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Stdout, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use netsnoop_core::connection::ConnectionRecord;

use crate::clock;
use crate::config::{AgentSettings, JsonlSettings};
use crate::counters::Counters;
use crate::sinks::Sink;
use crate::sinks::jsonl::JsonlSink;
use crate::sinks::scope::{self, Teller};
use crate::sinks::steady_clock::SteadyClock;
use crate::sinks::user_names::UserNames;

/// The records tell who talks to whom: nobody's business but the owner's.
const MODE: u32 = 0o600;

/// Records as lines.
pub struct Journal {
    sink: JsonlSink<Destination>,
    names: UserNames,
    settings: Arc<AgentSettings>,
    clock: SteadyClock,
    counters: Arc<Counters>,
    failing: bool,
}

impl Journal {
    /// Opens where records go.
    pub(super) fn open(
        jsonl: &JsonlSettings,
        settings: Arc<AgentSettings>,
        names: [UserNames; 2],
        counters: Arc<Counters>,
    ) -> anyhow::Result<Self> {
        let destination = match &jsonl.path {
            None => Destination::Stdout(BufWriter::new(io::stdout())),
            Some(path) => Destination::File(RotatedFile::open(path, jsonl.max_bytes, jsonl.keep)?),
        };
        let [own, lines] = names;
        let sink = JsonlSink::new(destination, lines);
        Ok(Self { sink, names: own, settings, clock: SteadyClock::read(), counters, failing: false })
    }

    /// Writes a record, if it is of those that are told of.
    pub(super) fn take(&mut self, record: &ConnectionRecord) {
        if !self.wants(record) {
            return;
        }
        let written = self.sink.write(record, self.clock.now());
        match self.said(written) {
            true => self.counters.rows_written.add(1),
            false => self.counters.rows_lost_in_channel.add(1),
        }
    }

    /// Tells of others from now on.
    pub(super) fn set(&mut self, settings: Arc<AgentSettings>) {
        self.settings = settings;
    }

    /// Writes out what is buffered.
    pub(super) fn flush(&mut self) {
        let flushed = self.sink.flush();
        self.said(flushed);
    }

    fn wants(&mut self, record: &ConnectionRecord) -> bool {
        let uid = Teller::of(record).uid();
        let name = uid.and_then(|uid| self.names.name_waited(uid, clock::now()));
        scope::is_destination(&self.settings, record) && self.settings.users.want(uid, name.as_deref())
    }

    /// Says the first of failures that follow each other, and that it is over. `true` if it went well.
    fn said(&mut self, result: io::Result<()>) -> bool {
        match (&result, self.failing) {
            (Err(error), false) => log::warn!("records are lost: writing JSON lines: {error}"),
            (Ok(()), true) => log::warn!("records are written again"),
            (Ok(()), false) | (Err(_), true) => {}
        }
        self.failing = result.is_err();
        result.is_ok()
    }
}

enum Destination {
    Stdout(BufWriter<Stdout>),
    File(RotatedFile),
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(file) => file.flush(),
        }
    }
}

/// A file that is put aside as `.1`, `.2` and so on.
struct RotatedFile {
    path: PathBuf,
    file: BufWriter<File>,
    size: u64,
    max_bytes: u64,
    keep: usize,
}

impl RotatedFile {
    fn open(path: &Path, max_bytes: u64, keep: usize) -> anyhow::Result<Self> {
        let file = append_to(path).with_context(|| format!("opening {} for records", path.display()))?;
        let looking = || format!("looking at {}", path.display());
        let about = file.metadata().with_context(looking)?;
        let size = about.len();
        let mut opened = Self { path: path.to_owned(), file: BufWriter::new(file), size, max_bytes, keep };
        // Of a run that was ended while it wrote: the next record must not become part of that line.
        if !ends_with_a_line(path, &about).with_context(looking)? {
            opened.write_all(b"\n").with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(opened)
    }

    /// Puts the file aside and begins a new one. The oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        for number in (1..=self.keep).rev() {
            let from = if number == 1 { self.path.clone() } else { self.aside(number - 1) };
            match fs::rename(from, self.aside(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.keep == 0 {
            fs::remove_file(&self.path)?;
        }
        self.file = BufWriter::new(append_to(&self.path)?);
        self.size = 0;
        Ok(())
    }

    fn aside(&self, number: usize) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

/// Takes whole lines: a file ends with one.
impl Write for RotatedFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let length = line.len() as u64;
        if self.size > 0 && self.size + length > self.max_bytes {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.size += length;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// So does an empty file, and what is no file but a device or a pipe.
fn ends_with_a_line(path: &Path, about: &fs::Metadata) -> io::Result<bool> {
    if !about.is_file() || about.len() == 0 {
        return Ok(true);
    }
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_put_aside_at_the_end_of_a_line_and_the_oldest_goes() {
        let check = |keep: usize, expected: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("n.jsonl");
            let mut file = RotatedFile::open(&path, 8, keep).unwrap();
            for line in ["one\n", "two\n", "three\n", "four\n", "five\n"] {
                file.write_all(line.as_bytes()).unwrap();
            }
            file.flush().unwrap();
            let mut found: Vec<_> =
                fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
            found.sort();
            let found: Vec<_> = found
                .iter()
                .map(|path| (path.file_name().unwrap().to_str().unwrap(), fs::read_to_string(path).unwrap()))
                .collect();
            let found: Vec<_> = found.iter().map(|(name, text)| (*name, text.as_str())).collect();
            assert_eq!(found, expected, "keep {keep}");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        };
        check(0, &[("n.jsonl", "five\n")]);
        check(1, &[("n.jsonl", "five\n"), ("n.jsonl.1", "four\n")]);
        check(2, &[("n.jsonl", "five\n"), ("n.jsonl.1", "four\n"), ("n.jsonl.2", "three\n")]);
    }

    #[test]
    fn a_file_that_is_there_is_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n.jsonl");
        fs::write(&path, "before\n").unwrap();
        let mut file = RotatedFile::open(&path, 100, 1).unwrap();
        file.write_all(b"after\n").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nafter\n");
        drop(file);
        fs::write(&path, "before\nto").unwrap();
        let mut file = RotatedFile::open(&path, 100, 1).unwrap();
        file.write_all(b"after\n").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nto\nafter\n");
        assert!(RotatedFile::open(&folder.path().join("missing/n.jsonl"), 100, 1).is_err());
    }
}
