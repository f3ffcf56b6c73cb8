//! The diagnosis as text: one aligned block for each finding, what works in one line, what does not with
//! why, what is lost and what to do.

use std::io::{self, Write};

use super::{Diagnosis, Finding, State};

pub(super) fn text(diagnosis: &Diagnosis, out: &mut dyn Write) -> io::Result<()> {
    let capabilities = match diagnosis.capabilities.as_slice() {
        [] => "no capabilities".to_owned(),
        many => format!("{} capabilities", many.len()),
    };
    let version = env!("CARGO_PKG_VERSION");
    writeln!(out, "netsnoop {version} on Linux {}, uid {}, {capabilities}", diagnosis.kernel, diagnosis.uid)?;
    writeln!(out, "\nWays of knowing who owns a connection, strongest first:")?;
    section(&diagnosis.rungs, out)?;
    writeln!(out, "\nWhat they stand on:")?;
    section(&diagnosis.host, out)?;
    let verdict = match diagnosis.rungs.iter().find(|finding| finding.state != State::Fails) {
        Some(strongest) => format!("netsnoop works here. The strongest way that does is {}.", strongest.name),
        None => "netsnoop cannot name any owner here: no way of knowing works.".to_owned(),
    };
    writeln!(out, "\n{verdict}")
}

fn section(findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    findings.iter().try_for_each(|finding| block(finding, width, out))
}

fn block(finding: &Finding, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let margin = width + 12;
    let mut details = finding.details.iter();
    let first = details.next().map_or("", String::as_str);
    writeln!(out, "  {:width$}  {:6}  {first}", finding.name, finding.state.word())?;
    for detail in details {
        writeln!(out, "{:margin$}{detail}", "")?;
    }
    if finding.state != State::Works {
        if let Some(without) = finding.without.filter(|without| !without.is_empty()) {
            writeln!(out, "{:margin$}Without it: {without}.", "")?;
        }
        for remedy in &finding.remedies {
            writeln!(out, "{:margin$}Remedy: {remedy}.", "")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Diagnosis, Finding, State};

    fn check(rungs: Vec<Finding>, usable: bool, expected: &str) {
        let diagnosis = Diagnosis {
            kernel: "6.12.1".into(),
            uid: 1000,
            capabilities: Vec::new(),
            host: vec![Finding::works("kernel BTF", "/sys/kernel/btf/vmlinux")],
            rungs,
            usable,
        };
        let mut out = Vec::new();
        diagnosis.write_text(&mut out).expect("a vector takes everything");
        let text = String::from_utf8(out).expect("text is UTF-8");
        let (first, rest) = text.split_once('\n').expect("more than one line");
        assert!(first.ends_with("on Linux 6.12.1, uid 1000, no capabilities"), "{first}");
        assert_eq!(rest, expected);
    }

    #[test]
    fn what_fails_comes_with_why_what_is_lost_and_the_remedy() {
        let failed =
            Finding::fails("kprobe", "0 of 5 programs run", "stand-ins are used").with_remedy("do this");
        let partly = Finding { state: State::Partly, ..failed.clone() };
        check(
            vec![failed.clone(), partly, Finding::works("sock_diag", "yes")],
            true,
            "
Ways of knowing who owns a connection, strongest first:
  kprobe     fails   0 of 5 programs run
                     Without it: stand-ins are used.
                     Remedy: do this.
  kprobe     partly  0 of 5 programs run
                     Without it: stand-ins are used.
                     Remedy: do this.
  sock_diag  works   yes

What they stand on:
  kernel BTF  works   /sys/kernel/btf/vmlinux

netsnoop works here. The strongest way that does is kprobe.
",
        );
        check(
            vec![failed],
            false,
            "
Ways of knowing who owns a connection, strongest first:
  kprobe  fails   0 of 5 programs run
                  Without it: stand-ins are used.
                  Remedy: do this.

What they stand on:
  kernel BTF  works   /sys/kernel/btf/vmlinux

netsnoop cannot name any owner here: no way of knowing works.
",
        );
    }
}
