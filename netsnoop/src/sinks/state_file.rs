//! The file in which counts survive netsnoop: read once at the start, replaced as a whole now and then. Left out: what
//! is in it, which is for `metrics`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::sinks::replaced_file::{ReplacedFile, beside};

/// A file beyond this holds no counts: a million series have a fifth of it.
const FILE_MAX_BYTES: u64 = 1 << 30;

/// The file, which is this process's alone as long as this lives.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    file: ReplacedFile,
    /// Locked until it is dropped. Not the file itself, which is another one after each write.
    _lock: File,
}

impl StateFile {
    /// Makes sure that it can be written, and that no other process writes it: each would undo the other's counts.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = ReplacedFile::for_its_owner(path)?;
        let lock_path = beside(path, ".lock")?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&lock_path).with_context(|| format!("opening {}", lock_path.display()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                anyhow::bail!("{}: another netsnoop keeps its counts there", path.display());
            }
            locked => locked.with_context(|| format!("locking {}", lock_path.display()))?,
        }
        Ok(Self { path: path.to_owned(), file, _lock: lock })
    }

    /// What is in it; `None` if there is no such file yet.
    pub(super) fn read(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let act = || format!("reading {}", self.path.display());
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.with_context(act)?,
        };
        let mut content = Vec::new();
        file.take(FILE_MAX_BYTES + 1).read_to_end(&mut content).with_context(act)?;
        ensure!(content.len() as u64 <= FILE_MAX_BYTES, "{}: larger than any counts", self.path.display());
        Ok(Some(content))
    }

    /// Replaces what is in it.
    pub fn write(&self, content: &[u8]) -> anyhow::Result<()> {
        self.file.write(content)
    }

    /// Renames a file that cannot be understood, so that it is neither lost nor in the way. Returns its new name.
    pub(super) fn put_aside(&self) -> anyhow::Result<PathBuf> {
        let mut aside: OsString = self.path.clone().into();
        aside.push(".broken");
        fs::rename(&self.path, &aside).with_context(|| format!("putting {} aside", self.path.display()))?;
        Ok(aside.into())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let state = StateFile::open(&path).unwrap();
        assert_eq!(state.read().unwrap(), None);
        state.write(b"{}").unwrap();
        assert_eq!(state.read().unwrap().as_deref(), Some(&b"{}"[..]));
        let error = StateFile::open(&path).unwrap_err().to_string();
        assert!(error.ends_with("state.json: another netsnoop keeps its counts there"), "{error}");
        drop(state);
        let state = StateFile::open(&path).unwrap();
        let aside = state.put_aside().unwrap();
        assert_eq!((fs::read(aside).unwrap(), state.read().unwrap()), (b"{}".to_vec(), None));
    }

    #[test]
    fn a_place_where_nothing_can_be_written_is_named() {
        let error = format!("{:#}", StateFile::open(Path::new("/nonexistent/s.json")).unwrap_err());
        assert!(error.contains("/nonexistent/.s.json.draft"), "{error}");
    }
}
