//! Metrics in a file for node_exporter's textfile collector: always a whole page, replaced at once.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// node_exporter runs as a user of its own.
const MODE: u32 = 0o644;

/// The file.
#[derive(Clone, Debug)]
pub struct Textfile {
    path: PathBuf,
    /// Beside it, so that it can be renamed; hidden and without `.prom`, so that node_exporter does not read half a page.
    draft: PathBuf,
}

impl Textfile {
    /// Makes sure that it can be written: better to know at the start.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
        let mut draft = std::ffi::OsString::from(".");
        draft.push(name);
        draft.push(".draft");
        let textfile = Self { path: path.to_owned(), draft: path.with_file_name(draft) };
        ensure!(!path.is_dir(), "writing {}: it is a directory", path.display());
        textfile.create_draft()?;
        textfile.remove_draft()?;
        Ok(textfile)
    }

    /// Replaces the file by a page.
    pub fn write(&self, page: &[u8]) -> anyhow::Result<()> {
        let act = || format!("writing {}", self.draft.display());
        let mut file = self.create_draft()?;
        file.write_all(page).with_context(act)?;
        // Whatever the umask says.
        file.set_permissions(fs::Permissions::from_mode(MODE)).with_context(act)?;
        file.sync_all().with_context(act)?;
        drop(file);
        fs::rename(&self.draft, &self.path)
            .with_context(|| format!("renaming {} to {}", self.draft.display(), self.path.display()))
    }

    fn create_draft(&self) -> anyhow::Result<File> {
        // A draft that was left behind may be anything, a link too: never written through.
        self.remove_draft()?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(MODE);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entry = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        fs::read_dir(folder).unwrap().map(entry).collect()
    }

    #[test]
    fn a_page_replaces_the_one_before_and_everybody_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n.prom");
        let textfile = Textfile::open(&path).unwrap();
        assert!(names(folder.path()).is_empty(), "opening leaves nothing behind");
        for page in ["one\n", "two\n"] {
            textfile.write(page.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), page);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        }
        assert_eq!(names(folder.path()), ["n.prom"]);
    }

    #[test]
    fn a_draft_that_is_a_link_is_never_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join(".n.prom.draft")).unwrap();
        Textfile::open(&folder.path().join("n.prom")).unwrap().write(b"page\n").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    }

    #[test]
    fn what_cannot_be_written_is_known_at_once_and_later() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing/n.prom");
        let error = format!("{:#}", Textfile::open(&missing).unwrap_err());
        assert!(error.contains("missing/.n.prom.draft"), "{error}");
        let error = format!("{:#}", Textfile::open(folder.path()).unwrap_err());
        assert!(error.contains("is a directory"), "{error}");
        let below = folder.path().join("below");
        fs::create_dir(&below).unwrap();
        let textfile = Textfile::open(&below.join("n.prom")).unwrap();
        fs::remove_dir(&below).unwrap();
        assert!(textfile.write(b"page\n").is_err());
        fs::create_dir(&below).unwrap();
        textfile.write(b"page\n").unwrap();
    }
}
