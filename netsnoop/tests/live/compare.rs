//! eBPF and /proc side by side on the same traffic: what lasts they agree on, what does not only eBPF knows, and
//! they never contradict each other.

use std::path::Path;

use jsonschema::Validator;
use serde::Deserialize;

use crate::lab::watch::{Ended, Watch};
use crate::lab::{Actor, Lab, netsnoop, skip, slowness};
use crate::scenarios::Stage;

/// Connections of the burst: too short for a lookup each.
const BURST: u64 = 2000;

/// The part of the report that is judged.
#[derive(Debug, Deserialize)]
struct Report {
    total: Verdicts,
    by_end: Vec<ByEnd>,
    reasons: Vec<Reason>,
    disagreements: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Verdicts {
    ends: u64,
    agree: u64,
    only_ebpf: u64,
    only_proc: u64,
    disagree: u64,
    neither: u64,
}

#[derive(Debug, Deserialize)]
struct ByEnd {
    transport: String,
    end: String,
    #[serde(flatten)]
    verdicts: Verdicts,
}

#[derive(Debug, Deserialize)]
struct Reason {
    verdict: String,
    proc: Option<String>,
}

impl Report {
    /// The one line on standard output, which must be valid; both ways' books must balance.
    fn of(ended: &Ended) -> Self {
        assert!(ended.status.success(), "{}", ended.complaint());
        let [line] = ended.stdout.as_slice() else { panic!("not one line: {:?}", ended.stdout) };
        let value = serde_json::from_str(line).unwrap();
        if let Err(error) = schema().validate(&value) {
            panic!("against the schema: {error} in {line}");
        }
        for way in ["ebpf", "proc"] {
            let balances = value.pointer(&format!("/ways/{way}/ledger/balances"));
            assert_eq!(balances.and_then(serde_json::Value::as_bool), Some(true), "{way}: {line}");
        }
        let report: Self = serde_json::from_value(value).unwrap();
        assert!(report.disagreements.is_empty() && report.total.disagree == 0, "{report:#?}");
        report
    }

    /// The verdicts on one kind of end.
    fn of_end(&self, transport: &str, end: &str) -> &Verdicts {
        let found = self.by_end.iter().find(|by| by.transport == transport && by.end == end);
        &found.unwrap_or_else(|| panic!("no {transport} {end} in {self:#?}")).verdicts
    }
}

fn schema() -> Validator {
    let text = include_str!("../../../docs/schema/compare-v1.schema.json");
    jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap()
}

/// Starts a comparison of what the expression lets through, and waits until it listens. Its end leaves lookups all
/// the time they may need, so that what lasts until then is looked up.
fn start(lab: &Lab, expression: &str) -> Watch {
    let words = format!("compare -o json --duration 1h --settle {}s {expression}", slowness());
    let compare = Watch::spawn(lab.node.command(netsnoop()).args(words.split_whitespace()));
    assert!(compare.is_ready(), "netsnoop does not start");
    compare
}

fn lab(test: &str) -> Option<Lab> {
    let lab = Lab::new(test)?;
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        skip(test, "this kernel lacks BTF");
        return None;
    }
    Some(lab)
}

#[test]
fn on_connections_that_last_both_ways_agree() {
    let Some(lab) = lab("compare::on_connections_that_last_both_ways_agree") else { return };
    let stage = Stage::new(&lab);
    let older = stage.play("tcp v4, held");
    let compare = start(&lab, "net 198.18.77.0/24 or net 2001:db8:77::/64");
    let newer = stage.play("tcp v6, held");
    let report = Report::of(&compare.interrupt());
    for end in ["client", "server"] {
        let verdicts = report.of_end("tcp", end);
        assert_eq!((verdicts.ends, verdicts.agree), (2, 2), "{end}: {report:#?}");
    }
    drop((older, newer));
}

#[test]
fn of_a_burst_of_short_connections_only_ebpf_knows_every_client() {
    let name = "compare::of_a_burst_of_short_connections_only_ebpf_knows_every_client";
    let Some(lab) = lab(name) else { return };
    let address = lab.server.v4(7302);
    let _server = lab.server().serve(&format!("sink {address}"));
    let compare = start(&lab, "tcp port 7302");
    let burst = lab.client().run(&format!("burst {address} {BURST} 4"));
    assert_eq!(burst.connections, Some(BURST));
    let report = Report::of(&compare.interrupt());
    let clients = report.of_end("tcp", "client");
    assert_eq!((clients.ends, clients.agree + clients.only_ebpf), (BURST, BURST), "{report:#?}");
    assert!(clients.only_ebpf > 0, "{report:#?}");
    assert_eq!((clients.only_proc, clients.neither), (0, 0), "{report:#?}");
}

#[test]
fn what_a_pod_says_to_itself_for_a_moment_is_named_as_captured_by_nobody() {
    let name = "compare::what_a_pod_says_to_itself_for_a_moment_is_named_as_captured_by_nobody";
    let Some(lab) = lab(name) else { return };
    let inside = Actor::new(&lab.client.namespace, 10001);
    let _server = inside.serve("serve tcp 127.0.0.1:7303");
    let compare = start(&lab, "tcp port 7303");
    inside.run("connect exchange 127.0.0.1:7303");
    let report = Report::of(&compare.interrupt());
    let Verdicts { ends, agree, only_ebpf, .. } = report.total;
    assert_eq!((ends, agree + only_ebpf), (2, 2), "{report:#?}");
    for reason in report.reasons.iter().filter(|reason| reason.verdict == "only_ebpf") {
        // Unless a pass over all tables met it in that moment, of which its owners need not be left.
        assert_ne!(reason.proc.as_deref(), Some("not_seen"), "{report:#?}");
    }
}

#[test]
fn whatever_is_played_they_never_contradict_each_other() {
    let name = "compare::whatever_is_played_they_never_contradict_each_other";
    let Some(lab) = lab(name) else { return };
    let stage = Stage::new(&lab);
    let compare = start(&lab, "net 198.18.77.0/24 or net 2001:db8:77::/64");
    let played = stage.play("");
    let report = Report::of(&compare.interrupt());
    // Nobody serves where a client is refused, so that end has no owner to anybody.
    let refused = played.iter().filter(|played| played.is_refused()).count() as u64;
    // How much each way knows is for the ladder's tests: on Linux 5.10 a return probe may miss an accept.
    let Verdicts { ends, agree, only_ebpf, only_proc, neither, .. } = report.total;
    assert_eq!((ends, neither), (2 * played.len() as u64, refused), "{report:#?}");
    assert_eq!(agree + only_ebpf + only_proc, ends - refused, "{report:#?}");
}
