//! The files that users get: the same commit gives the same bytes.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::contents::{Contents, VERSION};
use super::tree::{self, Tree};
use super::{debian, image, sums};

/// Sums of all files, as `sha256sum -c` takes them.
pub(super) const SUMS: &str = "SHA256SUMS";

/// What the file with the container image is called.
pub(super) fn image_name() -> String {
    format!("netsnoop-{VERSION}-{}-image.tar", env::consts::ARCH)
}

/// All that is handed out, by its name.
pub(super) fn make(contents: &Contents) -> Result<Tree> {
    let mut files = Tree::default();
    let name = format!("netsnoop-{VERSION}-{}-linux", env::consts::ARCH);
    let unpacked = unpacked(contents);
    let archive = unpacked.archive(&format!("{name}/"), contents.epoch)?;
    files.add(&format!("{name}.tar.gz"), tree::gzip(&archive)?);
    files.add(&image_name(), image::pack(contents)?);
    files.add(&debian::name(), debian::pack(contents)?);
    files.add_all(&name, unpacked);
    let sums = sums::list(files.files())?;
    files.add(SUMS, sums);
    Ok(files)
}

/// Puts them into `folder`; what an earlier call left there under their names is replaced.
pub(super) fn write(files: &Tree, folder: &Path) -> Result<()> {
    for top in files.files().filter_map(|(path, ..)| path.split('/').next()).collect::<BTreeSet<_>>() {
        let top = folder.join(top);
        if top.is_dir() {
            fs::remove_dir_all(&top).with_context(|| format!("removing {}", top.display()))?;
        }
    }
    files.write(folder)
}

/// What is in the archive.
fn unpacked(contents: &Contents) -> Tree {
    let mut tree = Tree::default();
    tree.add_program("netsnoop", &*contents.program);
    for document in contents.documents.iter().chain([&contents.notices]) {
        tree.add(&document.name, &*document.text);
    }
    for script in &contents.completions {
        tree.add(&format!("completions/{}", script.name), &*script.text);
    }
    for page in &contents.pages {
        tree.add(&format!("man/{}", page.name), &*page.text);
    }
    tree
}
