//! docs/kernels.md: for each kernel and condition what doctor answers for each rung, and whether owners of real
//! traffic were right with that rung alone. No timings: an emulated guest has none that mean anything.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::answers::{Answers, Verdict};
use super::errands::Condition;
use crate::generated::Generated;
use crate::truth::summary;

/// The page, and the lines its generated part is between.
pub(super) const PAGE: Generated = Generated {
    path: "docs/kernels.md",
    begin: "<!-- cargo xtask vm-test --write -->",
    end: "<!-- end of what the command wrote -->",
};

/// One guest that was booted.
pub(super) struct Visit {
    pub(super) condition: Condition,
    pub(super) answers: Answers,
}

/// The ways of knowing, as the live tests and doctor name them.
const RUNGS: [&str; 8] = ["kprobe", "fentry", "sockops", "tp_btf", "raw_tp", "iterator", "sock_diag", "proc"];

/// The generated part of the page. `missing` are the kernels that could not be had, with why.
pub(super) fn render(visits: &[Visit], missing: &[String]) -> Result<String> {
    let mut text = String::from("Debian's cloud kernels for amd64.\n");
    for line in missing {
        writeln!(text, "\nNot to be had: {line}.").context("rendering the page")?;
    }
    for condition in Condition::ALL {
        let of_condition: Vec<&Answers> =
            visits.iter().filter(|visit| visit.condition == condition).map(|visit| &visit.answers).collect();
        if !of_condition.is_empty() {
            section(&mut text, condition, &of_condition).context("rendering the page")?;
        }
    }
    Ok(text)
}

fn section(text: &mut String, condition: Condition, guests: &[&Answers]) -> std::fmt::Result {
    let explanation = match condition {
        Condition::Plain => "netsnoop is root on the kernel as Debian boots it.",
        Condition::NoBtf => "/sys/kernel/btf is hidden.",
        Condition::Restricted => {
            "`kernel.perf_event_paranoid` is 3, and netsnoop is a user with `CAP_NET_RAW`, `CAP_NET_ADMIN`, \
             `CAP_BPF`, `CAP_PERFMON`, `CAP_SYS_PTRACE`, `CAP_DAC_READ_SEARCH` and `CAP_SYS_RESOURCE`."
        }
    };
    writeln!(text, "\n### {}\n{explanation}\n", condition.title())?;
    let kernels: Vec<&str> = guests.iter().map(|guest| guest.kernel_release()).collect();
    writeln!(text, "| | {} |\n|---|{}", kernels.join(" | "), "---|".repeat(kernels.len()))?;
    for (what, told) in
        [("run on", (|guest| &guest.date) as fn(&Answers) -> &String), ("with", |guest| &guest.netsnoop)]
    {
        let cells: Vec<&str> = guests.iter().map(|guest| told(guest).as_str()).collect();
        writeln!(text, "| {what} | {} |", cells.join(" | "))?;
    }
    for rung in RUNGS {
        let cells: Vec<String> = guests.iter().map(|guest| cell(guest, rung)).collect();
        writeln!(text, "| `{rung}` | {} |", cells.join(" | "))?;
    }
    let together: Vec<&str> = guests.iter().map(|guest| verdict_together(guest, condition)).collect();
    writeln!(text, "| all together | {} |", together.join(" | "))?;
    let refusals = refusals(guests);
    if !refusals.is_empty() {
        writeln!(text)?;
    }
    refusals.iter().try_for_each(|refusal| writeln!(text, "- {refusal}"))?;
    truth(text, guests)
}

/// The truth bench's scores, a column a kernel.
fn truth(text: &mut String, guests: &[&Answers]) -> std::fmt::Result {
    for way in ["auto", "off"] {
        let mut scored: Vec<(&str, Vec<String>)> = Vec::new();
        for guest in guests {
            let scores = guest.truth.iter().filter(|score| score.way == way);
            scored.extend(scores.map(|score| (guest.kernel_release(), summary::cells(score))));
        }
        if scored.is_empty() {
            continue;
        }
        let kernels: Vec<&str> = scored.iter().map(|(kernel, _)| *kernel).collect();
        writeln!(text, "\n`cargo xtask truth --small`, `--ebpf {way}`:\n")?;
        writeln!(text, "| | {} |\n|---|{}", kernels.join(" | "), "---|".repeat(kernels.len()))?;
        for (place, label) in summary::labels().into_iter().enumerate() {
            let cells: Vec<&str> =
                scored.iter().filter_map(|(_, cells)| cells.get(place)).map(String::as_str).collect();
            writeln!(text, "| {label} | {} |", cells.join(" | "))?;
        }
    }
    Ok(())
}

/// Doctor's word and, if it was tried alone, how the owners of real traffic came out.
fn cell(guest: &Answers, rung: &str) -> String {
    let finding = guest.doctor.iter().flat_map(|doctor| &doctor.rungs).find(|finding| finding.name == rung);
    let word = finding.map_or("not told", |finding| finding.state.as_str());
    match guest.tests.get(&format!("ladder::{rung}")) {
        Some(verdict) if word != "fails" => format!("{word}, {}", verdict.word()),
        _ => word.to_owned(),
    }
}

fn verdict_together(guest: &Answers, condition: Condition) -> &'static str {
    let verdict = match condition {
        Condition::Plain | Condition::NoBtf => guest.tests.get("ladder::all_together"),
        Condition::Restricted => {
            guest.tests.get("least_privilege::with_few_capabilities_every_client_has_its_owner")
        }
    };
    verdict.map_or("not told", Verdict::word)
}

/// Every reason once, with the kernels and rungs it was given for, and what doctor says to do.
fn refusals(guests: &[&Answers]) -> Vec<String> {
    let mut refusals: Vec<(String, Vec<&str>)> = Vec::new();
    for guest in guests {
        for (why, rungs) in refusals_of(guest) {
            let line = format!("{}: {why}", rungs.join(", "));
            match refusals.iter_mut().find(|(known, _)| *known == line) {
                Some((_, kernels)) => kernels.push(guest.kernel_release()),
                None => refusals.push((line, vec![guest.kernel_release()])),
            }
        }
    }
    refusals.into_iter().map(|(line, kernels)| format!("{}: {line}", kernels.join(", "))).collect()
}

/// Reasons and remedies, each with the rungs it was given for.
fn refusals_of(guest: &Answers) -> Vec<(String, Vec<String>)> {
    let mut refusals: Vec<(String, Vec<String>)> = Vec::new();
    for finding in guest.doctor.iter().flat_map(|doctor| &doctor.rungs) {
        if finding.state == "works" {
            continue;
        }
        // Of several lines the first counts programs, which the table tells in a word.
        let reasons = match finding.details.as_slice() {
            [_count, reasons @ ..] if !reasons.is_empty() => reasons,
            all => all,
        };
        let why = format!("{}. Doctor's remedy: {}.", reasons.join("; "), finding.remedies.join("; "));
        let rung = format!("`{}`", finding.name);
        match refusals.iter_mut().find(|(known, _)| *known == why) {
            Some((_, rungs)) => rungs.push(rung),
            None => refusals.push((why, vec![rung])),
        }
    }
    refusals
}

impl Verdict {
    const fn word(&self) -> &'static str {
        match self {
            Self::Passed => "right",
            Self::Failed => "WRONG",
            Self::LeftOut(_) => "not tried",
        }
    }
}
