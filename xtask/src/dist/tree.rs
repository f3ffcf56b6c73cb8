//! A tree of files that becomes a tar archive, the same bytes for the same files: in one order, of nobody in particular, at
//! one time.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

/// Files by their paths, which have no slash in front. Folders come by themselves.
#[derive(Default, PartialEq)]
pub(super) struct Tree(BTreeMap<String, File>);

#[derive(PartialEq)]
struct File {
    mode: u32,
    bytes: Vec<u8>,
}

impl Tree {
    /// Adds a file that everybody may read.
    pub(super) fn add(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.0.insert(path.to_owned(), File { mode: 0o644, bytes: bytes.into() });
    }

    /// Adds a file that everybody may also run.
    pub(super) fn add_program(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.0.insert(path.to_owned(), File { mode: 0o755, bytes: bytes.into() });
    }

    /// Adds all of another one below a folder.
    pub(super) fn add_all(&mut self, folder: &str, other: Self) {
        self.0.extend(other.0.into_iter().map(|(path, file)| (format!("{folder}/{path}"), file)));
    }

    /// Paths and contents, in order.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(path, file)| (&**path, &*file.bytes))
    }

    /// Writes them below a folder.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        for (path, file) in &self.0 {
            let path = folder.join(path);
            let parent = path.parent().context("a file lies at /")?;
            fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
            fs::write(&path, &file.bytes).with_context(|| format!("writing {}", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))
                .with_context(|| format!("letting {} be read", path.display()))?;
        }
        Ok(())
    }

    /// The archive, all below `root` (empty, or ending with a slash).
    pub(super) fn archive(&self, root: &str, epoch: u64) -> Result<Vec<u8>> {
        // Folders stand before what is in them.
        let mut entries = BTreeMap::new();
        for (path, file) in &self.0 {
            let path = format!("{root}{path}");
            for (end, _) in path.match_indices('/') {
                entries.insert(path[..=end].to_owned(), None);
            }
            entries.insert(path, Some(file));
        }
        let mut builder = Builder::new(Vec::new());
        for (path, file) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(if file.is_some() { EntryType::Regular } else { EntryType::Directory });
            header.set_mode(file.map_or(0o755, |file| file.mode));
            header.set_mtime(epoch);
            header.set_uid(0);
            header.set_gid(0);
            let bytes = file.map_or(&[][..], |file| &file.bytes);
            header.set_size(bytes.len() as u64);
            // The library's own way drops the dot that Debian's names begin with.
            let name = &mut header.as_old_mut().name;
            name.get_mut(..path.len())
                .with_context(|| format!("the name {path} is too long for an archive"))?
                .copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, bytes).with_context(|| format!("packing {path}"))?;
        }
        builder.into_inner().context("ending an archive")
    }
}

/// The bytes as gzip packs them, without a time or a name.
pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder.write_all(bytes).context("compressing")?;
    encoder.finish().context("compressing")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn an_archive_depends_on_nothing_but_its_files() {
        let mut tree = Tree::default();
        tree.add_program("bin/b", "runs");
        tree.add("a", "is read");
        let mut other = Tree::default();
        other.add("a", "is read");
        other.add_program("bin/b", "runs");
        let bytes = tree.archive("./", 7).unwrap();
        assert_eq!(bytes, other.archive("./", 7).unwrap());
        assert_ne!(bytes, other.archive("./", 8).unwrap());
        let mut archive = tar::Archive::new(&*bytes);
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            let told = (header.mode().unwrap(), header.mtime().unwrap(), header.uid().unwrap());
            (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), told)
        });
        let expected = [("./", 0o755), ("./a", 0o644), ("./bin/", 0o755), ("./bin/b", 0o755)];
        assert_eq!(entries.collect::<Vec<_>>(), expected.map(|(path, mode)| (path.to_owned(), (mode, 7, 0))));
    }

    #[test]
    fn what_is_packed_can_be_unpacked() {
        let packed = gzip(b"some text, some text").unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(&*packed).read_to_string(&mut text).unwrap();
        assert_eq!(text, "some text, some text");
        // RFC 1952 section 2.3: no flags, no time.
        assert_eq!(packed[3..8], [0; 5]);
    }
}
