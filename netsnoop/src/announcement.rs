//! What `watch` says on stderr besides records: the first lines, why it may be silent, the ledger.

use std::io::{self, Write};

use anyhow::Context;
use netsnoop_core::attribution::{Rung, RungSet};

use crate::config::SourceConfig;
use crate::counters::Counters;
use crate::sinks::ledger_text::counted;
use crate::startup::{self, Opened, OpenedWay};

/// Writes to stderr. A reader that went away is no failure.
pub fn say(text: &[u8]) -> anyhow::Result<()> {
    match io::stderr().lock().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("writing to stderr"),
        _ => Ok(()),
    }
}

/// Says what is listened on, which ways of knowing work, and how much is known already.
pub fn write(config: &SourceConfig, opened: &Opened) -> anyhow::Result<()> {
    let mut text = Vec::new();
    render(&mut text, config, opened).context("rendering the first lines")?;
    say(&text)
}

fn render(out: &mut dyn Write, config: &SourceConfig, opened: &Opened) -> io::Result<()> {
    let filter = config.filter.as_ref().map(|filter| format!(", {filter}")).unwrap_or_default();
    writeln!(out, "listening on {}{filter}; Ctrl-C ends", config.interfaces.join(", "))?;
    match opened.rungs().as_slice() {
        [(_, only)] => writeln!(out, "owners by {}", names(*only))?,
        ways => {
            for (way, rungs) in ways {
                writeln!(out, "{}: owners by {}", way.name(), names(*rungs))?;
            }
        }
    }
    let missing = opened.ebpf.report().iter().filter(|report| !report.works() && !report.is_not_needed());
    for reason in startup::why_not(missing) {
        writeln!(out, "  without {reason}")?;
    }
    if let Err(reason) = &opened.conntrack {
        writeln!(out, "  without conntrack: {reason}")?;
    }
    if let Some(reason) = &opened.events_lack {
        writeln!(out, "  without events of interfaces (pods that live for a moment are missed): {reason}")?;
    }
    let sockets: usize = opened.ways.iter().map(OpenedWay::sockets).max().unwrap_or(0);
    writeln!(
        out,
        "{} and {} known",
        counted(opened.topology.namespaces.len() as u64, "network namespace"),
        counted(sockets as u64, "socket"),
    )?;
    if !opened.initial_pids {
        writeln!(
            out,
            "{} is not that of the initial pid namespace: processes that kernel events name are not looked up in it \
             (run with the host's pid namespace, or --proc-root at the host's /proc)",
            config.proc_root.display()
        )?;
    }
    Ok(())
}

fn names(rungs: RungSet) -> String {
    rungs.iter().map(Rung::name).collect::<Vec<_>>().join(", ")
}

/// Says why nothing may have been shown yet, if nothing was seen.
pub fn explain_silence(counters: &Counters) -> anyhow::Result<()> {
    let (packets, events) = (counters.packets_captured.get(), counters.events_read.get());
    let text = if packets == 0 && events == 0 {
        "no packet and no kernel event yet: is there traffic? another interface (-D lists them), a filter \
         expression or an owner filter may hide it\n"
            .to_owned()
    } else if counters.rows_written.get() == 0 {
        format!(
            "{packets} packets and {events} kernel events seen, but no connection that the filters let through\n"
        )
    } else {
        return Ok(());
    };
    say(text.as_bytes())
}
