//! docs/metrics.md, held to the page as it is: each metric with its type, unit, labels and meaning, and none besides.
//! `NETSNOOP_WRITE_DOCS=1 cargo test -p netsnoop --lib metrics::document` writes it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use netsnoop_core::attribution::{RungSet, Way};
use netsnoop_core::connection::RecordEvent;
use netsnoop_core::ledger::Ledger;
use netsnoop_core::reconcile::{Reconciler, Settings};

use super::*;
use crate::config::parse_agent_settings;
use crate::intake::Report;
use crate::sinks::samples;

/// What stands before the table and after it.
const BEGIN: &str = "<!-- written by a test from here -->\n";
const END: &str = "<!-- to here -->\n";

/// A page with something in each family.
fn page() -> String {
    let settings = parse_agent_settings(Path::new("n.yaml"), "toolforge_metric: true\n").unwrap();
    let mut metrics = Metrics::new(Arc::new(settings), UserNames::none(), Arc::default(), None);
    let opened = ConnectionRecord { event: RecordEvent::Open, ..samples::between_two_processes() };
    for record in samples::all().into_iter().chain([opened]) {
        metrics.take(&Arc::new(record));
    }
    let reconciler = Reconciler::new(Settings::default());
    let report = Report {
        ledgers: vec![(Way::Main, Ledger::default())],
        tables: vec![(Way::Main, reconciler.tables())],
    };
    let (answer, _) = sync_channel(1);
    let query = MetricsQuery { report, rungs: vec![(Way::Main, RungSet::ALL)], answer };
    String::from_utf8(metrics.page(&query).into_bytes()).unwrap()
}

/// Names of the labels of each family.
fn labels_by_family(page: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut family = "";
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
            found.entry(family).or_default();
        } else if let Some((_, labels)) = line.split_once('{') {
            let names = labels.split("=\"").map(|before| before.rsplit([',', '"']).next().unwrap());
            let known = found.get_mut(family).unwrap();
            // What follows the last one is its value.
            for name in names.filter(|name| name.starts_with(|letter: char| letter.is_ascii_lowercase())) {
                if name != "le" && !known.contains(&name) {
                    known.push(name);
                }
            }
        }
    }
    found
}

fn unit(name: &str) -> &'static str {
    if name.contains("_seconds") {
        "seconds"
    } else if name.contains("_bytes") {
        "bytes"
    } else {
        ""
    }
}

fn table(page: &str) -> String {
    let labels = labels_by_family(page);
    let mut table =
        String::from("| metric | type | unit | labels | meaning |\n| --- | --- | --- | --- | --- |\n");
    let mut meaning = "";
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            meaning = rest.split_once(' ').unwrap().1;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let labels: Vec<_> = labels[name].iter().map(|label| format!("`{label}`")).collect();
            writeln!(table, "| `{name}` | {kind} | {} | {} | {meaning} |", unit(name), labels.join(", "))
                .unwrap();
        }
    }
    table
}

#[test]
fn every_metric_is_in_the_document_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let document = fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("the table begins");
    let (_, after) = rest.split_once(END).expect("the table ends");
    let expected = format!("{before}{BEGIN}{}{END}{after}", table(&page()));
    if std::env::var_os("NETSNOOP_WRITE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let document = fs::read_to_string(&path).unwrap();
    assert!(
        document == expected,
        "docs/metrics.md is not as the page is; see how to write it above this test"
    );
}

#[test]
fn each_metric_is_said_once_and_as_prometheus_wants_names() {
    let page = page();
    let mut names: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let total = names.len();
    for name in &names {
        let (name, kind) = name.split_once(' ').unwrap();
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), total);
}
