//! The comparison for people: a table of verdicts, why not both ways know, how long each took, and each disagreement.

use std::io::{self, Write};
use std::time::Duration;

use netsnoop_core::attribution::{Evidence, Owner, Reason, Rung, Way};
use netsnoop_core::comparison::{Answer, ComparedEnd, Lack, Verdict};
use netsnoop_core::time::Timestamp;

use super::Outcome;
use super::tally::{Counts, Delays, Kind};
use crate::clock;
use crate::sinks::escape::Escaped;
use crate::sinks::ledger_text::counted;
use crate::sinks::line::{Line, Paint};
use crate::sinks::user_names::UserNames;

/// The width of a kind of end, and of a number.
const KIND_WIDTH: usize = 16;
const NUMBER_WIDTH: usize = 11;
const VERDICT_WIDTH: usize = 11;
const REASON_WIDTH: usize = 20;

/// Writes it.
pub(super) fn write(
    out: &mut dyn Write,
    outcome: &Outcome<'_>,
    color: bool,
    names: &mut UserNames,
) -> io::Result<()> {
    let total = outcome.tally.total();
    writeln!(
        out,
        "compared for {:.1} s: {}, {}",
        outcome.books.lasted.as_secs_f64(),
        counted(outcome.connections, "connection"),
        counted(total.ends(), "local end"),
    )?;
    for (way, rungs) in &outcome.books.rungs {
        writeln!(out, "  {}: {}", way.name(), rungs.iter().map(Rung::name).collect::<Vec<_>>().join(", "))?;
    }
    if total.ends() > 0 {
        write_verdicts(out, outcome, &total, color)?;
        write_lacks(out, outcome)?;
        write_delays(out, outcome, &total)?;
    }
    write_disagreements(out, outcome, color, names)?;
    if outcome.overflowed > 0 {
        let lost = counted(outcome.overflowed, "connection");
        writeln!(
            out,
            "\n{lost} found no room to be compared: narrow it with an expression or a shorter time"
        )?;
    }
    Ok(())
}

fn kind_name(Kind { transport, role }: Kind) -> String {
    format!("{} {}", transport.name(), role.name())
}

fn write_verdicts(out: &mut dyn Write, outcome: &Outcome<'_>, total: &Counts, color: bool) -> io::Result<()> {
    write!(out, "\n{:KIND_WIDTH$}{:>NUMBER_WIDTH$}", "owners named", "ends")?;
    for verdict in Verdict::ALL {
        write!(out, "{:>NUMBER_WIDTH$}", words(verdict.name()))?;
    }
    writeln!(out)?;
    for (kind, counts) in outcome.tally.kinds() {
        write_counts(out, &kind_name(kind), counts, color)?;
    }
    write_counts(out, "all", total, color)
}

fn write_counts(out: &mut dyn Write, name: &str, counts: &Counts, color: bool) -> io::Result<()> {
    let mut line = Line::new(color);
    line.put(Paint::Plain, format_args!("  {name:<0$}{1:>NUMBER_WIDTH$}", KIND_WIDTH - 2, counts.ends()));
    for verdict in Verdict::ALL {
        let count = counts.of(verdict);
        let paint = match verdict {
            Verdict::Disagree if count > 0 => Paint::Bad,
            _ if count == 0 => Paint::Faint,
            Verdict::Agree => Paint::Service,
            _ => Paint::Plain,
        };
        line.put(paint, format_args!("{count:>NUMBER_WIDTH$}"));
    }
    writeln!(out, "{}", line.finish())
}

fn write_lacks(out: &mut dyn Write, outcome: &Outcome<'_>) -> io::Result<()> {
    let mut lacks: Vec<_> = outcome.tally.lacks().collect();
    if lacks.is_empty() {
        return Ok(());
    }
    lacks.sort_by_key(|(lacking, ends)| (lacking.verdict, u64::MAX - ends));
    let (ebpf, proc) = (Way::Main.name(), Way::Tables.name());
    writeln!(
        out,
        "\n{:VERDICT_WIDTH$}  {:REASON_WIDTH$}{:REASON_WIDTH$}{:>8}",
        "why not both", ebpf, proc, "ends"
    )?;
    let mut reasons: Vec<Lack> = Vec::new();
    for (lacking, ends) in lacks {
        let [main, tables] = [lacking.main, lacking.tables].map(|lack| lack.map_or("named", Lack::name));
        let verdict = words(lacking.verdict.name());
        writeln!(out, "  {verdict:VERDICT_WIDTH$} {main:REASON_WIDTH$}{tables:REASON_WIDTH$}{ends:>8}")?;
        reasons.extend(lacking.main.into_iter().chain(lacking.tables));
    }
    reasons.sort_unstable();
    reasons.dedup();
    for reason in reasons {
        writeln!(out, "  {}: {}", reason.name(), meaning(reason))?;
    }
    Ok(())
}

/// What a reason means, for those who read it the first time.
const fn meaning(lack: Lack) -> &'static str {
    match lack {
        Lack::Shared => "several processes hold the socket, and nothing tells which of them it is",
        Lack::NotCaptured => "no packet crossed a captured interface: only the kernel's events tell of it",
        Lack::NotSeen => "this way has not seen the connection",
        Lack::Reason(reason) => match reason {
            Reason::Remote => "this way takes the end to be on another node",
            Reason::GoneBeforeLookup => "the socket or its process had ended before anything could look",
            Reason::Permission => "the process tables of its namespace could not be read",
            Reason::Forwarded => "the packet passed through, no socket of this node is an end of it",
            Reason::ClosedPort => "nothing listens there",
            Reason::Ambiguous => "more than one socket or namespace fits",
            Reason::Lost => "the evidence was lost: a full channel, ring or table",
            Reason::Orphaned => "no process holds the socket",
            Reason::NotEnabled => "none of the rungs in use answers this",
            Reason::Pending => "nobody had answered when the comparison ended",
        },
    }
}

fn write_delays(out: &mut dyn Write, outcome: &Outcome<'_>, total: &Counts) -> io::Result<()> {
    let total = Some(("all".to_owned(), total)).filter(|_| outcome.tally.kinds().count() > 1);
    let rows = outcome.tally.kinds().map(|(kind, counts)| (kind_name(kind), counts)).chain(total);
    let mut rows = rows
        .flat_map(|(name, counts)| Way::ALL.map(|way| Some((name.clone(), way, counts.delays(way)?))))
        .flatten()
        .peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{:KIND_WIDTH$}      {:>NUMBER_WIDTH$}{:>NUMBER_WIDTH$}{:>NUMBER_WIDTH$}{:>NUMBER_WIDTH$}",
        "first sight to owner", "ends", "median", "90 %", "99 %"
    )?;
    for (name, way, Delays { ends, median, p90, p99 }) in rows {
        let [median, p90, p99] = [median, p90, p99].map(human);
        writeln!(
            out,
            "  {name:<0$}{1:6}{ends:>NUMBER_WIDTH$}{median:>NUMBER_WIDTH$}{p90:>NUMBER_WIDTH$}{p99:>NUMBER_WIDTH$}",
            KIND_WIDTH - 2,
            way.name(),
        )?;
    }
    Ok(())
}

/// A time with about three digits.
fn human(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match time.as_nanos() {
        0..1_000_000 => format!("{:.0} us", seconds * 1e6),
        1_000_000..100_000_000 => format!("{:.1} ms", seconds * 1e3),
        100_000_000..1_000_000_000 => format!("{:.0} ms", seconds * 1e3),
        _ => format!("{seconds:.2} s"),
    }
}

fn write_disagreements(
    out: &mut dyn Write,
    outcome: &Outcome<'_>,
    color: bool,
    names: &mut UserNames,
) -> io::Result<()> {
    let (listed, unlisted) = (outcome.tally.disagreements(), outcome.tally.unlisted());
    if listed.is_empty() {
        return writeln!(out, "\nno disagreement");
    }
    writeln!(out, "\n{}:", counted(listed.len() as u64 + unlisted, "disagreement"))?;
    for end in listed {
        write_disagreement(out, end, color, (names, clock::now()))?;
    }
    if unlisted > 0 {
        writeln!(out, "  and {unlisted} more")?;
    }
    Ok(())
}

fn write_disagreement(
    out: &mut dyn Write,
    end: &ComparedEnd,
    color: bool,
    (names, now): (&mut UserNames, Timestamp),
) -> io::Result<()> {
    let (local, remote) = (end.tuple.local, end.tuple.remote);
    writeln!(out, "  {} {local}, peer {remote}", kind_name(Kind::of(end)))?;
    for way in Way::ALL {
        let mut line = Line::new(color);
        line.put(Paint::Plain, format_args!("    {:5}", way.name()));
        put_answer(&mut line, end.answer(way), (names, now));
        writeln!(out, "{}", line.finish())?;
    }
    Ok(())
}

fn put_answer(line: &mut Line, answer: &Answer, (names, now): (&mut UserNames, Timestamp)) {
    match &answer.owner {
        Ok(Owner::Process(process)) => {
            match names.name(process.uid, now) {
                Some(name) => line.put(Paint::User, Escaped(&name)),
                None => line.put(Paint::User, process.uid),
            }
            line.put(Paint::Plain, ' ');
            line.process(process);
        }
        Ok(Owner::Shared(sharers)) => line.sharers(sharers),
        Ok(Owner::Kernel) => line.put(Paint::Process, "kernel"),
        Ok(Owner::Unattributed(reason)) => line.put(Paint::Doubt, format_args!("({})", reason.name())),
        Err(lack) => line.put(Paint::Doubt, format_args!("({})", lack.name())),
    }
    if let Some(evidence) = answer.evidence.map(Evidence::name) {
        line.put(Paint::Faint, format_args!(", {evidence}"));
    }
    if let Some(namespace) = answer.namespace {
        line.put(Paint::Faint, format_args!(", netns:{}", namespace.inode));
    }
    if let Some(delay) = answer.delay {
        line.put(Paint::Faint, format_args!(", after {}", human(delay)));
    }
}

/// A name of the JSON report as words.
fn words(name: &str) -> String {
    name.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::comparison::samples;
    use crate::sinks::comparison::tally::Tally;

    fn text(tally: &Tally, overflowed: u64, color: bool) -> String {
        let books = samples::books();
        let connections = tally.kinds().next().map_or(0, |(_, counts)| counts.ends());
        let outcome = Outcome { tally, connections, overflowed, books: &books };
        let mut out = Vec::new();
        write(&mut out, &outcome, color, &mut UserNames::none()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_report_is_this_text() {
        let expected = "\
compared for 10.0 s: 4 connections, 6 local ends
  ebpf: sockops, iterator
  proc: sock_diag, proc

owners named           ends      agree  only ebpf  only proc   disagree    neither
  tcp client              4          2          1          0          1          0
  tcp server              2          1          0          0          0          1
  all                     6          3          1          0          1          1

why not both  ebpf                proc                    ends
  only ebpf   named               gone_before_lookup         1
  disagree    named               shared                     1
  neither     closed_port         closed_port                1
  gone_before_lookup: the socket or its process had ended before anything could look
  closed_port: nothing listens there
  shared: several processes hold the socket, and nothing tells which of them it is

first sight to owner             ends     median       90 %       99 %
  tcp client    ebpf            4     100 us     150 us     150 us
  tcp client    proc            3     1.2 ms     2.5 ms     2.5 ms
  tcp server    ebpf            1     300 us     300 us     300 us
  tcp server    proc            1     3.0 ms     3.0 ms     3.0 ms
  all           ebpf            5     120 us     300 us     300 us
  all           proc            4     1.2 ms     3.0 ms     3.0 ms

1 disagreement:
  tcp client 198.18.1.10:54102, peer 198.18.1.13:6379
    ebpf 10001 curl[7], kernel_event, netns:4026532178, after 150 us
    proc worker[8]|worker[9], sock_diag, netns:4026532178, after 2.5 ms
";
        assert_eq!(text(&samples::tally(), 0, false), expected);
    }

    #[test]
    fn nothing_compared_is_said_in_few_words() {
        let expected = "\
compared for 10.0 s: 0 connections, 0 local ends
  ebpf: sockops, iterator
  proc: sock_diag, proc

no disagreement
";
        assert_eq!(text(&Tally::default(), 0, true), expected);
    }

    #[test]
    fn what_found_no_room_is_said_and_colours_only_mark() {
        let plain = text(&samples::tally(), 7, false);
        assert!(plain.contains("7 connections found no room"), "{plain}");
        let colored = text(&samples::tally(), 7, true);
        assert!(colored.contains("\x1b[31m"), "a disagreement is marked");
        let mut stripped = String::new();
        for (index, piece) in colored.split('\x1b').enumerate() {
            let text = if index == 0 { piece } else { piece.split_once('m').unwrap().1 };
            stripped.push_str(text);
        }
        assert_eq!(stripped, plain);
    }

    #[test]
    fn times_have_about_three_digits() {
        let check = |nanos, expected| assert_eq!(human(Duration::from_nanos(nanos)), expected);
        check(0, "0 us");
        check(455_400, "455 us");
        check(1_234_567, "1.2 ms");
        check(99_940_000, "99.9 ms");
        check(118_000_000, "118 ms");
        check(2_346_000_000, "2.35 s");
    }
}
