//! The one-way flow as a test: which crate may depend on which, and which module may name which.
//!
//! A new edge is an edit of the tables here, seen in review. What it does not do is resolve Rust: it
//! reads `crate::` paths from the text, comments and test modules left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::shell;

/// Which workspace crates each may depend on.
const CRATES: [(&str, &[&str]); 4] = [
    ("netsnoop-common", &[]),
    ("netsnoop-core", &["netsnoop-common"]),
    ("netsnoop", &["netsnoop-common", "netsnoop-core"]),
    ("xtask", &[]),
];

/// All that core is built from: each is `no_std`.
const CORE_DEPENDENCIES: [&str; 7] =
    ["netsnoop-common", "ahash", "domain", "hashbrown", "regex", "smallvec", "thiserror"];

/// Core's modules by layer, and the layers each may name besides itself. Decoders are layers of their
/// own, so that none knows another.
const CORE_LAYERS: [(&str, &[&str], &[&str]); 17] = [
    (
        "vocabulary",
        &[
            "time",
            "five_tuple",
            "namespace",
            "socket",
            "process",
            "attribution",
            "service",
            "ledger",
            "inventory",
            "translation",
            "resolution",
            "cluster",
        ],
        &[],
    ),
    ("socket choice", &["socket_match"], &["vocabulary"]),
    ("packet decoder", &["packet"], &["vocabulary"]),
    ("streams", &["segments"], &["vocabulary", "packet decoder"]),
    ("name decoder", &["server_name"], &["vocabulary", "packet decoder", "streams"]),
    ("answer decoder", &["dns_answer"], &["vocabulary", "packet decoder", "streams"]),
    ("proc decoder", &["proc_text"], &["vocabulary"]),
    ("passwd decoder", &["passwd"], &["vocabulary"]),
    ("conntrack decoder", &["conntrack"], &["vocabulary"]),
    ("observation", &["observation"], &["vocabulary", "packet decoder"]),
    ("kernel record decoder", &["kernel_record"], &["vocabulary", "observation"]),
    ("listing record decoder", &["listing_record"], &["vocabulary"]),
    ("sock_diag decoder", &["diag_message"], &["vocabulary"]),
    ("connection", &["connection"], &["vocabulary"]),
    ("comparison", &["comparison"], &["vocabulary", "connection"]),
    ("connection view", &["connection_view"], &["vocabulary", "connection"]),
    (
        "reconcile",
        &["reconcile"],
        &["vocabulary", "socket choice", "observation", "packet decoder", "connection"],
    ),
];

/// Checks all of it, and says so.
pub(crate) fn check() -> Result<()> {
    let mut faults = crate_faults()?;
    faults.extend(core_faults(&workspace_sources("netsnoop-core/src")?));
    faults.extend(agent_faults(&workspace_sources("netsnoop/src")?));
    for fault in &faults {
        shell::say(fault)?;
    }
    ensure!(faults.is_empty(), "{} edges go against the one-way flow", faults.len());
    shell::say("layers: the flow is one-way")
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

fn crate_faults() -> Result<Vec<String>> {
    let text = shell::read(shell::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("reading the output of `cargo metadata`")?;
    let allowed = BTreeMap::from(CRATES);
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let Some(may_use) = allowed.get(&*package.name) else {
            bail!("layers does not know the crate {}: add it to its table", package.name);
        };
        for Dependency { name, kind } in &package.dependencies {
            let is_ours = allowed.contains_key(&**name);
            let bad_crate = is_ours && !may_use.contains(&&**name);
            let bad_for_core = package.name == "netsnoop-core"
                && kind.as_deref() != Some("dev")
                && !CORE_DEPENDENCIES.contains(&&**name);
            if bad_crate || bad_for_core {
                faults.push(format!("{} must not depend on {name}", package.name));
            }
        }
    }
    Ok(faults)
}

/// A source file: where it is below `src`, and its text without comments and test modules.
struct Source {
    path: PathBuf,
    code: String,
}

impl Source {
    fn new(path: PathBuf, text: &str) -> Self {
        let without_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let code = without_tests
            .lines()
            .map(str::trim_start)
            .filter(|line| !line.starts_with("//"))
            .fold(String::new(), |code, line| code + line + "\n");
        Self { path, code }
    }

    /// The top-level module it belongs to.
    fn module(&self) -> String {
        let first = self.path.iter().next().unwrap_or_default().to_string_lossy();
        first.trim_end_matches(".rs").to_owned()
    }

    /// The top-level modules of its own crate that it names.
    fn named_modules(&self) -> BTreeSet<String> {
        // `super` of a top-level file is the crate itself.
        let is_top = self.path.iter().count() == 1 || self.path.ends_with("mod.rs");
        let code = if is_top { self.code.replace("super::", "crate::") } else { self.code.clone() };
        code.split("crate::").skip(1).flat_map(first_segments).collect()
    }
}

/// The first segments of the path or the `{...}` group that `rest` begins with.
fn first_segments(rest: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect()
    };
    let Some(group) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let mut depth = 0_usize;
    let mut segments = vec![String::new()];
    for letter in group.chars() {
        match (letter, depth) {
            ('}', 0) => break,
            ('{', _) => depth += 1,
            ('}', _) => depth -= 1,
            (',', 0) => segments.push(String::new()),
            (_, 0) => segments.last_mut().into_iter().for_each(|last| last.push(letter)),
            _ => {}
        }
    }
    segments.iter().map(|segment| word(segment.trim())).filter(|name| !name.is_empty()).collect()
}

fn core_faults(sources: &[Source]) -> Vec<String> {
    let layer_of: BTreeMap<&str, &str> = CORE_LAYERS
        .iter()
        .flat_map(|(layer, modules, _)| modules.iter().map(|name| (*name, *layer)))
        .collect();
    let may_name: BTreeMap<&str, &[&str]> =
        CORE_LAYERS.iter().map(|(layer, _, allowed)| (*layer, *allowed)).collect();
    let mut faults = Vec::new();
    for source in sources {
        let (file, module) = (source.path.display(), source.module());
        if source.code.contains("std::") {
            faults.push(format!("netsnoop-core/src/{file} names std"));
        }
        if module == "lib" {
            if !source.code.contains("#![no_std]") || !source.code.contains("#![forbid(unsafe_code)]") {
                faults.push("netsnoop-core/src/lib.rs must be no_std and forbid unsafe code".to_owned());
            }
            continue;
        }
        let Some(layer) = layer_of.get(&*module) else {
            faults.push(format!("netsnoop-core/src/{file}: the module {module} has no layer in layers.rs"));
            continue;
        };
        for named in source.named_modules() {
            let fits =
                layer_of.get(&*named).is_none_or(|other| other == layer || may_name[layer].contains(other));
            if !fits {
                faults.push(format!("netsnoop-core/src/{file} ({layer}) must not name {named}"));
            }
        }
    }
    faults
}

fn agent_faults(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        let (file, module, named) = (source.path.display(), source.module(), source.named_modules());
        let names = |other: &str| named.contains(other);
        let forbidden: &[&str] = match &*module {
            "pipeline" | "listing" | "lib" | "main" => &[],
            "sources" => &["sinks", "pipeline"],
            "sinks" => &["sources", "pipeline"],
            _ if names("sources") && names("sinks") => &["sources", "sinks"],
            _ => &[],
        };
        for other in forbidden.iter().filter(|other| names(other)) {
            faults.push(format!(
                "netsnoop/src/{file} must not name {other}: only pipeline and listing know both sides"
            ));
        }
    }
    faults
}

fn workspace_sources(folder: &str) -> Result<Vec<Source>> {
    let root = shell::workspace().join(folder);
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
            if path.file_stem().is_some_and(|name| name == "tests") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(read_source(&root, &path)?);
            }
        }
    }
    Ok(sources)
}

fn read_source(root: &Path, path: &Path) -> Result<Source> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let below = path.strip_prefix(root).with_context(|| format!("{} lies elsewhere", path.display()))?;
    Ok(Source::new(below.to_owned(), &text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_core(file: &str, text: &str, faults: usize) {
        let found = core_faults(&[Source::new(file.into(), text)]);
        assert_eq!(found.len(), faults, "{file} with {text:?}: {found:?}");
    }

    fn check_agent(file: &str, text: &str, faults: usize) {
        let found = agent_faults(&[Source::new(file.into(), text)]);
        assert_eq!(found.len(), faults, "{file} with {text:?}: {found:?}");
    }

    #[test]
    fn an_edge_against_the_flow_is_found_however_it_is_written() {
        check_core("time.rs", "use core::ops::Add;\n", 0);
        check_core("time.rs", "use crate::observation::Act;\n", 1);
        check_core("time.rs", "use super::observation::Act;\n", 1);
        check_core(
            "time.rs",
            "use crate::{process::ProcessId, reconcile::{Limits, Reconciler}, packet};\n",
            2,
        );
        check_core("time.rs", "fn f(a: &crate::packet::TcpFlags) {}\n", 1);
        check_core("packet/link.rs", "use crate::five_tuple::FiveTuple;\n", 0);
        check_core("packet/link.rs", "use crate::proc_text::Row;\n", 1);
        check_core("reconcile/mod.rs", "use crate::kernel_record::decode;\n", 1);
        check_core("stray.rs", "", 1);
    }

    #[test]
    fn comments_and_tests_may_name_anything() {
        check_core("time.rs", "//! See [`crate::reconcile`].\n", 0);
        check_core("time.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::reconcile::X;\n}\n", 0);
    }

    #[test]
    fn core_never_names_std_and_says_so_in_its_root() {
        check_core("time.rs", "use std::time::Instant;\n", 1);
        check_core("lib.rs", "pub mod time;\n", 1);
        check_core(
            "lib.rs",
            "#![no_std]\n#![forbid(unsafe_code)]\n#[cfg(test)]\nextern crate std;\npub mod time;\n",
            0,
        );
    }

    #[test]
    fn sources_and_sinks_meet_in_the_pipeline_only() {
        check_agent("pipeline.rs", "use crate::{sinks, sources};\n", 0);
        check_agent("sources/capture.rs", "use crate::intake::Intake;\n", 0);
        check_agent("sources/capture.rs", "use crate::sinks::Sink;\n", 1);
        check_agent("sinks/text.rs", "use crate::sources::capture;\n", 1);
        check_agent("doctor.rs", "use crate::sources::ebpf;\n", 0);
        check_agent("doctor.rs", "use crate::{sinks::text, sources::ebpf};\n", 2);
    }
}
