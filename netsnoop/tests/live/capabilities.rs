//! Which capability is for what: netsnoop with exactly those that the manifests give it, with one less each time, and what
//! its threads have left of them once it runs.
//!
//! The table in docs/privileges.md is what the first test finds; `NETSNOOP_WRITE_DOCS=1` writes the rows this kernel can
//! tell about.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::doctor::Diagnosis;
use crate::lab::agent::{Agent, LISTENS};
use crate::lab::traffic::Traffic;
use crate::lab::{Lab, netsnoop, patience, skip, traffic_program};
use crate::ladder::{kernel_version, lacks_btf};

const DAEMON_SET: &str = include_str!("../../../deploy/kustomize/base/daemonset.yaml");
const LEAST: &str = include_str!("../../../deploy/kustomize/overlays/least-privilege/kustomization.yaml");
/// Read when the test was built, as a guest has no documents.
const PAGE: &str = include_str!("../../../docs/privileges.md");
/// The one that the overlay takes away.
const MIGHTY: &str = "SYS_ADMIN";

const BEGIN: &str = "<!-- the live test `capabilities` writes this table -->\n";
const END: &str = "<!-- end of what the test wrote -->";

/// The capabilities that a manifest adds, in its order.
fn added(manifest: &str) -> Vec<&str> {
    let list = manifest.split_once("add: [").and_then(|(_, rest)| rest.split_once(']'));
    list.expect("the manifest adds capabilities").0.split(", ").collect()
}

/// setpriv's word for a set.
fn set(capabilities: &[&str]) -> String {
    let added = capabilities.iter().map(|name| format!(",+{}", name.to_lowercase()));
    format!("-all{}", added.collect::<String>())
}

/// netsnoop on the node as a container's root: uid 0, to which exec gives all of the bounding set (man 7 capabilities).
fn contained(lab: &Lab, capabilities: &[&str]) -> Command {
    let mut command = lab.node.command(Path::new("setpriv"));
    let set = set(capabilities);
    command.args([format!("--bounding-set={set}"), format!("--inh-caps={set}")]).arg(netsnoop());
    command
}

/// As a user who is not root, with these alone.
fn as_nobody(lab: &Lab, capabilities: &[&str]) -> Command {
    let mut command = lab.node.command(Path::new("setpriv"));
    let set = set(capabilities);
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args([format!("--inh-caps={set}"), format!("--ambient-caps={set}")])
        .arg(netsnoop());
    command
}

/// A process of root without capabilities, as in most containers.
fn weak_root(lab: &Lab) -> Traffic {
    let mut command = lab.node.command(Path::new("setpriv"));
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(traffic_program()).arg("hold");
    let weak = Traffic::start(&mut command);
    weak.wait_for("ready");
    weak
}

/// How well something works: `works`, `partly` or `fails`, the better the greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Grade {
    Fails,
    Partly,
    Works,
}

/// The rungs, and what else of doctor's findings capabilities decide.
fn grades(command: &mut Command) -> BTreeMap<String, Grade> {
    let Diagnosis { rungs, host, .. } = Diagnosis::of(command);
    let others = host
        .into_iter()
        .filter(|finding| ["packet capture", "connection tracking"].contains(&&*finding.name));
    let graded = rungs.into_iter().chain(others).map(|finding| {
        let grade = match finding.state.as_str() {
            "works" => Grade::Works,
            "partly" => Grade::Partly,
            _ => Grade::Fails,
        };
        (finding.name, grade)
    });
    graded.collect()
}

/// What each capability is for: by feature and capability, what is left without it.
struct Needs {
    features: BTreeMap<String, BTreeMap<&'static str, Grade>>,
}

impl Needs {
    /// Takes each away in turn, CAP_SYS_ADMIN first: it stands in for some of the others (man 7 capabilities).
    fn find(lab: &Lab) -> Self {
        let (all, least) = (added(DAEMON_SET), added(LEAST));
        let (with_all, with_least) = (grades(&mut contained(lab, &all)), grades(&mut contained(lab, &least)));
        let mut features: BTreeMap<String, BTreeMap<&str, Grade>> = BTreeMap::new();
        let mut note = |capability, before: &BTreeMap<String, Grade>, after: BTreeMap<String, Grade>| {
            for (feature, grade) in after {
                let losses = features.entry(feature.clone()).or_default();
                if grade < before[&feature] {
                    losses.insert(capability, grade);
                }
            }
        };
        note(MIGHTY, &with_all, with_least.clone());
        for &capability in &least {
            let others: Vec<&str> = least.iter().copied().filter(|other| *other != capability).collect();
            note(capability, &with_least, grades(&mut contained(lab, &others)));
        }
        // What this kernel has not at all says nothing.
        features.retain(|feature, _| with_all[feature] == Grade::Works);
        Self { features }
    }

    /// A line for each feature, with a cell for each capability.
    fn rows(&self) -> BTreeMap<String, String> {
        let row = |(feature, losses): (&String, &BTreeMap<&str, Grade>)| {
            let cells = added(DAEMON_SET).into_iter().map(|capability| match losses.get(capability) {
                None | Some(Grade::Works) => " |",
                Some(Grade::Partly) => " partly |",
                Some(Grade::Fails) => " fails |",
            });
            let name = format!("| `{feature}` |");
            (name.clone(), format!("{name}{}\n", cells.collect::<String>()))
        };
        self.features.iter().map(row).collect()
    }
}

/// The table with the rows found here in place of those of the same names.
fn renewed(table: &str, rows: &BTreeMap<String, String>) -> String {
    let own = |line: &str| {
        rows.iter().find(|(name, _)| line.starts_with(name.as_str())).map(|(_, row)| row.as_str())
    };
    table.split_inclusive('\n').map(|line| own(line).unwrap_or(line)).collect()
}

#[test]
fn each_capability_of_the_manifests_is_for_something_and_no_other_is_needed() {
    let name = "capabilities::each_capability_of_the_manifests_is_for_something_and_no_other_is_needed";
    let Some(lab) = Lab::with(name, &["setpriv"]) else { return };
    if lacks_btf().is_some() || kernel_version() < (5, 11) {
        skip(name, "the manifests' set is for kernels with BTF from Linux 5.11 on");
        return;
    }
    let (all, least) = (added(DAEMON_SET), added(LEAST));
    let without: Vec<&str> = all.iter().copied().filter(|capability| *capability != MIGHTY).collect();
    assert_eq!(without, least, "the overlay takes away more or less than CAP_{MIGHTY}");
    // Whom each capability lets netsnoop look at must be there: another user, in another namespace, and one who may no
    // more than netsnoop itself. The machine may have neither.
    let _server = lab.server().serve(&format!("serve tcp {}", lab.server.v4(7811)));
    let _weak = weak_root(&lab);
    let unlimited = grades(&mut lab.node.command(netsnoop()));
    assert_eq!(grades(&mut contained(&lab, &all)), unlimited, "something takes more than {all:?}");
    assert_eq!(grades(&mut as_nobody(&lab, &all)), unlimited, "something takes uid 0");
    let needs = Needs::find(&lab);
    for capability in all {
        let used = needs.features.values().any(|losses| losses.contains_key(capability));
        assert!(used, "nothing is lost without CAP_{capability}");
    }
    let (before, rest) = PAGE.split_once(BEGIN).expect("the page has a place for the table");
    let (table, after) = rest.split_once(END).expect("the table ends");
    let found = renewed(table, &needs.rows());
    if env::var_os("NETSNOOP_WRITE_DOCS").is_some() {
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/privileges.md");
        fs::write(document, format!("{before}{BEGIN}{found}{END}{after}")).unwrap();
    } else {
        let differ: Vec<_> = found.lines().zip(table.lines()).filter(|(found, told)| found != told).collect();
        assert!(differ.is_empty(), "docs/privileges.md says otherwise (found here, told there): {differ:#?}");
    }
}

/// The bit of each capability (man 7 capabilities; linux/capability.h).
const BITS: [(&str, u64); 8] = [
    ("DAC_READ_SEARCH", 2),
    ("NET_BROADCAST", 11),
    ("NET_ADMIN", 12),
    ("NET_RAW", 13),
    ("SYS_PTRACE", 19),
    ("SYS_ADMIN", 21),
    ("PERFMON", 38),
    ("BPF", 39),
];

/// What a thread of this name works with for life. The others work on what is open, and the first one, as whoever it
/// starts later, counts what the ring lost.
fn for_life(thread: &str) -> &'static [&'static str] {
    match thread {
        "lookup" => &["BPF", "DAC_READ_SEARCH", "NET_ADMIN", "PERFMON", "SYS_ADMIN", "SYS_PTRACE"],
        "passes" => &["DAC_READ_SEARCH", "SYS_ADMIN", "SYS_PTRACE"],
        "container-users" => &["DAC_READ_SEARCH", "SYS_PTRACE"],
        "conntrack" => &["NET_ADMIN", "NET_BROADCAST"],
        "netsnoop" | "tokio-rt-worker" => &["BPF"],
        _ => &[],
    }
}

/// What threads of a process hold in vain, or that one of them may gain more.
fn too_much(pid: u32) -> Vec<String> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        // A thread may end meanwhile.
        let Ok(status) = fs::read_to_string(task.unwrap().path().join("status")) else { continue };
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("no {key} in {status}")).trim().to_owned()
        };
        let (name, held) = (value("Name:"), u64::from_str_radix(&value("CapPrm:"), 16).unwrap());
        let bit = |capability: &&str| 1u64 << BITS.iter().find(|(name, _)| name == capability).unwrap().1;
        let needed: u64 = for_life(&name).iter().map(bit).sum();
        if held & !needed != 0
            || value("NoNewPrivs:") != "1"
            || !value("CapInh:").trim_matches('0').is_empty()
        {
            found.push(format!("{name} holds {held:x}"));
        }
    }
    found
}

#[test]
fn the_agent_gives_up_what_it_no_longer_needs_and_still_names_owners() {
    let name = "capabilities::the_agent_gives_up_what_it_no_longer_needs_and_still_names_owners";
    let Some(lab) = Lab::with(name, &["setpriv"]) else { return };
    for (port, ebpf) in [(7812, "--ebpf=auto"), (7813, "--ebpf=off")] {
        let address = lab.server.v4(port);
        let server = lab.server().serve(&format!("serve tcp {address}"));
        let agent = Agent::start_by(
            &lab.node,
            contained(&lab, &added(DAEMON_SET)),
            &["--jsonl", "-", "--listen", LISTENS, ebpf],
        );
        // Each thread gives up its share as it begins.
        let deadline = Instant::now() + patience();
        loop {
            let in_vain = too_much(agent.pid());
            if in_vain.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "{ebpf}: {in_vain:#?}");
            thread::sleep(Duration::from_millis(50));
        }
        let client = lab.client().start(&format!("connect hold {address}"));
        let truth = client.wait_for("connect");
        server.wait_for("accept");
        let record = agent.wait_for_record("a connection between two pods", |record| {
            record.server.port == port && record.client.process.is_some()
        });
        assert_eq!(record.client.process.map(|process| process.pid), Some(truth.pid), "{ebpf}");
        assert!(agent.stop().status.success());
    }
}
