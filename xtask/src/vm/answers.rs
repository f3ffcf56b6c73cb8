//! What a guest told: netsnoop's own answers from the second serial port, how the tests went from the console.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::truth::Score;

/// What a guest told.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The kernel's version as Debian counts it, `6.12.117-1`.
    pub(super) kernel: String,
    /// The day it ran, `2026-11-22`.
    pub(super) date: String,
    /// netsnoop's version.
    pub(super) netsnoop: String,
    /// What doctor said, if it ended well.
    pub(super) doctor: Option<Diagnosis>,
    /// The truth bench's scores, by way.
    pub(super) truth: Vec<Score>,
    /// How the live tests went, by name.
    pub(super) tests: BTreeMap<String, Verdict>,
}

/// How a test went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Passed,
    Failed,
    /// It left itself out, for this reason.
    LeftOut(String),
}

/// What `netsnoop doctor -o json` prints, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Diagnosis {
    pub(super) rungs: Vec<Finding>,
}

/// One thing that doctor tried.
#[derive(Debug, Deserialize)]
pub(super) struct Finding {
    pub(super) name: String,
    pub(super) state: String,
    #[serde(default)]
    pub(super) details: Vec<String>,
    #[serde(default)]
    pub(super) remedies: Vec<String>,
}

impl Answers {
    /// Reads what was written to the second serial port and to the console.
    pub(super) fn read(written: &str, console: &[String]) -> serde_json::Result<Self> {
        let mut answers = Self { tests: tests(console), ..Self::default() };
        for section in written.split("== ").skip(1) {
            match section.split_once('\n') {
                Some(("kernel", text)) => answers.kernel = debian_version(text).to_owned(),
                Some(("date", text)) => answers.date = text.trim().to_owned(),
                Some(("version", text)) => answers.netsnoop = version(text),
                Some(("doctor", text)) => answers.doctor = Some(serde_json::from_str(text)?),
                Some(("truth", text)) => answers.truth = serde_json::from_str(text)?,
                _ => {}
            }
        }
        Ok(answers)
    }

    /// X.Y.Z of the kernel.
    pub(super) fn kernel_release(&self) -> &str {
        self.kernel.split('-').next().unwrap_or_default()
    }
}

/// `#1 SMP Debian 5.10.262-1 (2026-07-31)`, with more words before "Debian" on some.
fn debian_version(uname: &str) -> &str {
    let mut words = uname.split_whitespace().skip_while(|word| *word != "Debian");
    words.nth(1).unwrap_or("?")
}

/// `netsnoop 0.1.0`, then a line `commit: c5a97eedc211`.
fn version(text: &str) -> String {
    let words: Vec<&str> = text.lines().take(2).filter_map(|line| line.split_whitespace().nth(1)).collect();
    words.join(", ")
}

/// libtest, one test at a time: `test NAME ... `, then what the test prints, then `ok` or `FAILED`.
fn tests(console: &[String]) -> BTreeMap<String, Verdict> {
    let mut verdicts = BTreeMap::new();
    let mut running: Option<String> = None;
    for line in console {
        let mut rest = line.as_str();
        if let Some((name, more)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... ")) {
            running = Some(name.to_owned());
            rest = more;
        }
        let Some(name) = running.clone() else { continue };
        let skipped = line.strip_prefix("skipped: ").and_then(|skipped| skipped.split_once(": "));
        let verdict = match (rest, skipped) {
            (_, Some((_, reason))) => Verdict::LeftOut(reason.to_owned()),
            ("FAILED", _) => Verdict::Failed,
            ("ok", _) => verdicts.remove(&name).unwrap_or(Verdict::Passed),
            _ => continue,
        };
        verdicts.insert(name, verdict);
        if ["ok", "FAILED"].contains(&rest) {
            running = None;
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::{Answers, Verdict};

    #[test]
    fn both_ports_are_read() {
        let console = [
            "running 4 tests",
            "test ladder::fentry ... ok",
            "test ladder::kprobe ... ",
            "skipped: ladder::kprobe: this kernel lacks kprobes",
            "ok",
            "skipped: mptcp (auto): this kernel has no MPTCP",
            "test ladder::proc ... FAILED",
            "test ladder::tp_btf ... ",
        ];
        let console: Vec<String> = console.map(str::to_owned).into();
        let written = "== kernel\n#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1 (2026-11-12)\n\
                       == doctor\n{\"rungs\": [{\"name\": \"proc\", \"state\": \"works\", \"more\": 1}]}\n";
        let answers = Answers::read(written, &console).expect("the sample is sound");
        assert_eq!((answers.kernel.as_str(), answers.kernel_release()), ("6.12.117-1", "6.12.117"));
        let rungs = answers.doctor.expect("doctor answered").rungs;
        assert_eq!((rungs[0].name.as_str(), rungs[0].state.as_str()), ("proc", "works"));
        let verdicts: Vec<(&str, Verdict)> =
            answers.tests.iter().map(|(name, verdict)| (name.as_str(), verdict.clone())).collect();
        assert_eq!(
            verdicts,
            [
                ("ladder::fentry", Verdict::Passed),
                ("ladder::kprobe", Verdict::LeftOut("this kernel lacks kprobes".into())),
                ("ladder::proc", Verdict::Failed),
            ]
        );
        assert!(Answers::read("== doctor\n{\"rungs\": [", &[]).is_err(), "a doctor that was cut short");
    }
}
