//! A file that is always whole: replaced at once by the next one, never written in place. Left out: what is in it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// The file.
#[derive(Clone, Debug)]
pub struct ReplacedFile {
    path: PathBuf,
    /// Beside it, so that it can be renamed; hidden and with another end, so that who reads all files of a directory
    /// (node_exporter those that end in `.prom`) does not read half of it.
    draft: PathBuf,
    mode: u32,
}

impl ReplacedFile {
    /// A file that everybody may read: node_exporter runs as a user of its own.
    pub fn for_everybody(path: &Path) -> anyhow::Result<Self> {
        Self::open(path, 0o644)
    }

    /// A file that only its owner may read.
    pub fn for_its_owner(path: &Path) -> anyhow::Result<Self> {
        Self::open(path, 0o600)
    }

    /// Makes sure that it can be written: better to know at the start.
    fn open(path: &Path, mode: u32) -> anyhow::Result<Self> {
        let file = Self { path: path.to_owned(), draft: beside(path, ".draft")?, mode };
        ensure!(!path.is_dir(), "writing {}: it is a directory", path.display());
        file.create_draft()?;
        file.remove_draft()?;
        Ok(file)
    }

    /// Replaces its content.
    pub fn write(&self, content: &[u8]) -> anyhow::Result<()> {
        let act = || format!("writing {}", self.draft.display());
        let mut file = self.create_draft()?;
        file.write_all(content).with_context(act)?;
        // Whatever the umask says.
        file.set_permissions(fs::Permissions::from_mode(self.mode)).with_context(act)?;
        file.sync_all().with_context(act)?;
        drop(file);
        fs::rename(&self.draft, &self.path)
            .with_context(|| format!("renaming {} to {}", self.draft.display(), self.path.display()))
    }

    fn create_draft(&self) -> anyhow::Result<File> {
        // A draft that was left behind may be anything, a link too: never written through.
        self.remove_draft()?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(self.mode);
        options.open(&self.draft).with_context(|| format!("creating {}", self.draft.display()))
    }

    fn remove_draft(&self) -> anyhow::Result<()> {
        match fs::remove_file(&self.draft) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.draft.display()))
            }
            _ => Ok(()),
        }
    }
}

/// The path of a hidden file beside `path`.
pub(super) fn beside(path: &Path, end: &str) -> anyhow::Result<PathBuf> {
    let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(end);
    Ok(path.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entry = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        fs::read_dir(folder).unwrap().map(entry).collect()
    }

    #[test]
    fn one_content_replaces_another_and_those_may_read_it_who_should() {
        let check = |open: fn(&Path) -> anyhow::Result<ReplacedFile>, mode: u32| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("n.prom");
            let file = open(&path).unwrap();
            assert!(names(folder.path()).is_empty(), "opening leaves nothing behind");
            for content in ["one\n", "two\n"] {
                file.write(content.as_bytes()).unwrap();
                assert_eq!(fs::read_to_string(&path).unwrap(), content);
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
            }
            assert_eq!(names(folder.path()), ["n.prom"]);
        };
        check(ReplacedFile::for_everybody, 0o644);
        check(ReplacedFile::for_its_owner, 0o600);
    }

    #[test]
    fn a_draft_that_is_a_link_is_never_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join(".n.prom.draft")).unwrap();
        ReplacedFile::for_everybody(&folder.path().join("n.prom")).unwrap().write(b"page\n").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    }

    #[test]
    fn what_cannot_be_written_is_known_at_once_and_later() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing/n.prom");
        let error = format!("{:#}", ReplacedFile::for_everybody(&missing).unwrap_err());
        assert!(error.contains("missing/.n.prom.draft"), "{error}");
        let error = format!("{:#}", ReplacedFile::for_everybody(folder.path()).unwrap_err());
        assert!(error.contains("is a directory"), "{error}");
        let below = folder.path().join("below");
        fs::create_dir(&below).unwrap();
        let file = ReplacedFile::for_everybody(&below.join("n.prom")).unwrap();
        fs::remove_dir(&below).unwrap();
        assert!(file.write(b"page\n").is_err());
        fs::create_dir(&below).unwrap();
        file.write(b"page\n").unwrap();
    }
}
