//! What doctor says of the rungs: never less than the truth about this kernel, and what does not work always with
//! why, what is lost and what to do.

use std::process::Command;

use serde::Deserialize;

use crate::lab::{Lab, netsnoop};
use crate::ladder::{lacks_btf, lacks_kprobes};

/// The answer of `doctor -o json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Diagnosis {
    pub(crate) rungs: Vec<Finding>,
    pub(crate) host: Vec<Finding>,
    pub(crate) usable: bool,
}

/// One rung.
#[derive(Debug, Deserialize)]
pub(crate) struct Finding {
    pub(crate) name: String,
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) details: Vec<String>,
    without: Option<String>,
    #[serde(default)]
    pub(crate) remedies: Vec<String>,
}

impl Diagnosis {
    /// Asks `command`, which runs netsnoop. Whatever the answer, it must be complete.
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.args(["doctor", "-o", "json"]).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {complaint}", output.status);
        let this: Self = serde_json::from_slice(&output.stdout).unwrap();
        for finding in this.rungs.iter().filter(|finding| finding.state != "works") {
            let complete =
                finding.details.len() > 1 || ["sock_diag", "proc"].contains(&finding.name.as_str());
            assert!(complete && finding.without.is_some() && !finding.remedies.is_empty(), "{finding:#?}");
        }
        this
    }

    /// What it says of a rung.
    #[track_caller]
    pub(crate) fn rung(&self, name: &str) -> &Finding {
        self.rungs
            .iter()
            .find(|finding| finding.name == name)
            .unwrap_or_else(|| panic!("no {name}: {self:#?}"))
    }
}

#[test]
fn each_rung_works_where_the_kernel_has_what_it_stands_on() {
    let Some(lab) = Lab::new("doctor::each_rung_works_where_the_kernel_has_what_it_stands_on") else {
        return;
    };
    let diagnosis = Diagnosis::of(&mut lab.node.command(netsnoop()));
    assert!(diagnosis.usable);
    let must = |rung: &str, state: &str| {
        let finding = diagnosis.rung(rung);
        assert!(finding.state == state, "must be {state}: {finding:#?}");
    };
    must("proc", "works");
    if lacks_btf().is_some() {
        for rung in ["kprobe", "fentry", "sockops", "tp_btf", "raw_tp", "iterator"] {
            must(rung, "fails");
            let finding = diagnosis.rung(rung);
            assert!(finding.details.concat().contains("/sys/kernel/btf/vmlinux"), "{finding:#?}");
            assert!(finding.remedies.concat().contains("CONFIG_DEBUG_INFO_BTF"), "{finding:#?}");
        }
        return;
    }
    must("iterator", "works");
    let functions = if lacks_kprobes().is_none() { "works" } else { "fails" };
    must("kprobe", functions);
    must("fentry", functions);
    // Its programs for a socket's first use have a tracepoint since Linux 6.3; all others are as old as the rung.
    for rung in ["tp_btf", "raw_tp"] {
        let finding = diagnosis.rung(rung);
        let only_use = finding.remedies == ["use Linux 6.3 or later, which has these tracepoints"];
        assert!(finding.state == "works" || only_use, "{finding:#?}");
    }
}
