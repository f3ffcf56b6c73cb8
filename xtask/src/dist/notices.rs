//! The licences of all that a static netsnoop has in it, which have to go wherever the binary goes.
//!
//! Each text stands once, below the names of all that come with it, in an order that does not change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::static_build;
use crate::shell;

/// C libraries that are linked in, their licences, and where Debian and Ubuntu keep the texts.
const LIBRARIES: [(&str, &str, &str); 2] = [
    ("libpcap", "BSD-3-Clause", "/usr/share/doc/libpcap-dev/copyright"),
    ("the GNU C library", "LGPL-2.1-or-later", "/usr/share/doc/libc6-dev/copyright"),
];

/// How files with licences begin.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];

/// Stands before every text.
const RULE: &str = "================================================================================";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    manifest_path: PathBuf,
}

/// The document.
pub(super) fn collect() -> Result<String> {
    let mut list = BTreeSet::new();
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in linked()? {
        let name = format!("{} {}", package.name, package.version);
        list.insert(format!("{name}: {}", package.license.as_deref().unwrap_or("see its text")));
        for text in texts_in(package.manifest_path.parent().context("a crate lies at /")?)? {
            texts.entry(text).or_default().insert(name.clone());
        }
    }
    for (name, license, path) in LIBRARIES {
        list.insert(format!("{name}: {license}"));
        let text = match fs::read_to_string(path) {
            // Images without documentation.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                "Its text comes with its sources.\n".to_owned()
            }
            read => read.with_context(|| format!("reading {name}'s licence in {path}"))?,
        };
        texts.entry(text).or_default().insert(name.to_owned());
    }
    render(&list, &texts)
}

fn render(list: &BTreeSet<String>, texts: &BTreeMap<String, BTreeSet<String>>) -> Result<String> {
    let mut document =
        "What is linked into netsnoop, and under which licences; the texts follow.\n\n".to_owned();
    for line in list {
        writeln!(document, "{line}").context("writing a licence")?;
    }
    for (text, names) in texts {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        write!(document, "\n{RULE}\n{}\n\n{text}", names.join(", ")).context("writing a text")?;
    }
    Ok(document)
}

/// The crates of others that are linked, not those that only build.
fn linked() -> Result<Vec<Package>> {
    let mut tree = shell::cargo();
    tree.args(["tree", "--locked", "--package", "netsnoop", "--edges", "normal", "--prefix", "none"]).args([
        "--format",
        "{p}",
        "--target",
        &static_build::host()?,
    ]);
    let tree = shell::read(&mut tree)?;
    let linked: BTreeSet<(&str, &str)> = tree.lines().filter_map(crate_of).collect();
    let text = shell::read(shell::cargo().args(["metadata", "--locked", "--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("reading the output of `cargo metadata`")?;
    let packages = metadata.packages.into_iter();
    let found: Vec<Package> =
        packages.filter(|package| linked.contains(&(&*package.name, &*package.version))).collect();
    ensure!(found.len() == linked.len(), "cargo tree and cargo metadata tell of different crates");
    Ok(found)
}

/// The name and version in a line of `cargo tree`; `None` for our own crates, which have a path behind them, and for
/// procedural macros, which say that they are.
fn crate_of(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_suffix(" (*)").unwrap_or(line);
    let (name, version) = line.split_once(" v")?;
    (!version.contains(' ')).then_some((name, version))
}

/// The texts that a crate comes with.
fn texts_in(folder: &Path) -> Result<Vec<String>> {
    let reading = || format!("reading {}", folder.display());
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if path.is_file() && NAMES.iter().any(|beginning| name.starts_with(beginning)) {
            texts.push(fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?);
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_cargo_tree() {
        let check = |line: &str, expected| assert_eq!(crate_of(line), expected, "{line}");
        check("bytes v1.12.1", Some(("bytes", "1.12.1")));
        check("bytes v1.12.1 (*)", Some(("bytes", "1.12.1")));
        check("serde_derive v1.0.229 (proc-macro)", None);
        check("serde_derive v1.0.229 (proc-macro) (*)", None);
        check("netsnoop v0.1.0 (/somewhere/netsnoop)", None);
        check("", None);
    }

    #[test]
    fn a_text_stands_once_below_all_its_names() {
        let list = BTreeSet::from(["a 1: MIT".to_owned(), "b 2: MIT".to_owned()]);
        let names = BTreeSet::from(["a 1".to_owned(), "b 2".to_owned()]);
        let document = render(&list, &BTreeMap::from([("the text\n".to_owned(), names)])).unwrap();
        assert!(document.contains("a 1: MIT\nb 2: MIT\n"), "{document}");
        assert!(document.ends_with("\na 1, b 2\n\nthe text\n"), "{document}");
    }
}
