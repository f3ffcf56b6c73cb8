//! The comparison for machines, one JSON object: docs/schema/compare-v1.schema.json. What is unknown is absent.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use netsnoop_core::attribution::{Evidence, Owner, Rung, RungSet, Way};
use netsnoop_core::comparison::{Answer, ComparedEnd, Lack, Verdict};
use netsnoop_core::five_tuple::Endpoint;
use netsnoop_core::ledger::Ledger;
use serde::Serialize;
use serde_json::Serializer;

use super::Outcome;
use super::tally::{Counts, Delays, Kind};
use crate::clock::{self, WallClock};
use crate::counters::Counter;
use crate::sinks::Books;
use crate::sinks::escape::TerminalSafeJson;
use crate::sinks::schema::{Netns, ProcessKeys};
use crate::sinks::user_names::UserNames;

/// The version every report carries.
const SCHEMA_VERSION: u32 = 1;

/// Writes it.
pub(super) fn write(
    out: &mut dyn Write,
    outcome: &Outcome<'_>,
    wall: WallClock,
    names: &mut UserNames,
) -> io::Result<()> {
    let report = Report::new(outcome, wall, names);
    report
        .serialize(&mut Serializer::with_formatter(&mut *out, TerminalSafeJson))
        .map_err(io::Error::from)?;
    writeln!(out)
}

#[derive(Serialize, Debug)]
struct Report {
    schema_version: u32,
    duration_ns: u64,
    ways: BTreeMap<&'static str, WayKeys>,
    losses: Losses,
    connections: u64,
    total: Verdicts,
    by_end: Vec<ByEnd>,
    reasons: Vec<ReasonKeys>,
    disagreements: Vec<Disagreement>,
    disagreements_not_listed: u64,
}

/// What a way worked with, and its books.
#[derive(Serialize, Debug)]
struct WayKeys {
    rungs: Vec<&'static str>,
    ledger: LedgerKeys,
}

#[derive(Serialize, Debug)]
struct LedgerKeys {
    connections: u64,
    ends_seen: u64,
    ends_attributed: u64,
    ends_unattributed: u64,
    ends_open: u64,
    ends_evicted: u64,
    balances: bool,
}

/// What makes the comparison less than complete.
#[derive(Serialize, Debug)]
struct Losses {
    packets_dropped: u64,
    events_lost: u64,
    lookups_lost: u64,
    records_lost: u64,
    connections_not_compared: u64,
}

#[derive(Serialize, Debug)]
struct Verdicts {
    ends: u64,
    #[serde(flatten)]
    verdicts: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    latency: BTreeMap<&'static str, Latency>,
}

#[derive(Serialize, Debug)]
struct ByEnd {
    transport: &'static str,
    end: &'static str,
    #[serde(flatten)]
    verdicts: Verdicts,
}

#[derive(Serialize, Debug)]
struct Latency {
    ends: usize,
    median_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
}

#[derive(Serialize, Debug)]
struct ReasonKeys {
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ebpf: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proc: Option<&'static str>,
    ends: u64,
}

#[derive(Serialize, Debug)]
struct Disagreement {
    transport: &'static str,
    end: &'static str,
    local: EndpointKeys,
    remote: EndpointKeys,
    ebpf: AnswerKeys,
    proc: AnswerKeys,
}

#[derive(Serialize, Debug)]
struct EndpointKeys {
    address: IpAddr,
    port: u16,
}

#[derive(Serialize, Debug)]
struct AnswerKeys {
    level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<ProcessKeys<'static>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserKeys>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shared_with: Vec<ProcessKeys<'static>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<Netns>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ns: Option<u64>,
}

#[derive(Serialize, Debug)]
struct UserKeys {
    id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl Report {
    fn new(outcome: &Outcome<'_>, wall: WallClock, names: &mut UserNames) -> Self {
        let Outcome { tally, books, .. } = outcome;
        let kinds = tally.kinds().map(|(Kind { transport, role }, counts)| ByEnd {
            transport: transport.name(),
            end: role.name(),
            verdicts: Verdicts::new(counts),
        });
        let reasons = tally.lacks().map(|(lacking, ends)| ReasonKeys {
            verdict: lacking.verdict.name(),
            ebpf: lacking.main.map(Lack::name),
            proc: lacking.tables.map(Lack::name),
            ends,
        });
        let disagreements = tally.disagreements().iter().map(|end| Disagreement::new(end, wall, names));
        Self {
            schema_version: SCHEMA_VERSION,
            duration_ns: nanos(books.lasted),
            ways: Way::ALL.into_iter().map(|way| (way.name(), WayKeys::new(way, books))).collect(),
            losses: Losses::new(outcome),
            connections: outcome.connections,
            total: Verdicts::new(&tally.total()),
            by_end: kinds.collect(),
            reasons: reasons.collect(),
            disagreements: disagreements.collect(),
            disagreements_not_listed: tally.unlisted(),
        }
    }
}

impl WayKeys {
    fn new(way: Way, books: &Books) -> Self {
        let rungs =
            books.rungs.iter().find(|(known, _)| *known == way).map_or(RungSet::EMPTY, |(_, rungs)| *rungs);
        let ledger = books.ledgers.iter().find(|(known, _)| *known == way).map(|(_, ledger)| ledger);
        Self {
            rungs: rungs.iter().map(Rung::name).collect(),
            ledger: LedgerKeys::from(ledger.unwrap_or(&Ledger::default())),
        }
    }
}

impl From<&Ledger> for LedgerKeys {
    fn from(ledger: &Ledger) -> Self {
        Self {
            connections: ledger.connections_opened,
            ends_seen: ledger.ends_seen,
            ends_attributed: ledger.ends_attributed,
            ends_unattributed: ledger.ends_unattributed.iter().sum(),
            ends_open: ledger.ends_open,
            ends_evicted: ledger.ends_evicted,
            balances: ledger.balances(),
        }
    }
}

impl Losses {
    fn new(outcome: &Outcome<'_>) -> Self {
        let counters = &outcome.books.counters;
        let ledgers = outcome.books.ledgers.iter();
        let dropped = [&counters.packets_dropped_by_buffer, &counters.packets_lost_in_channel];
        let events = [&counters.events_lost_in_ring, &counters.events_lost_in_channel];
        let lookups = [&counters.lookups_lost_in_channel, &counters.observations_lost_in_channel];
        let sum = |of: [&Counter; 2]| of.map(Counter::get).iter().sum::<u64>();
        Self {
            packets_dropped: sum(dropped),
            events_lost: sum(events),
            lookups_lost: sum(lookups) + ledgers.map(|(_, ledger)| ledger.rescans_dropped).sum::<u64>(),
            records_lost: counters.rows_lost_in_channel.get(),
            connections_not_compared: outcome.overflowed,
        }
    }
}

impl Verdicts {
    fn new(counts: &Counts) -> Self {
        let latency = Way::ALL.into_iter().filter_map(|way| Some((way.name(), counts.delays(way)?.into())));
        Self {
            ends: counts.ends(),
            verdicts: Verdict::ALL.into_iter().map(|verdict| (verdict.name(), counts.of(verdict))).collect(),
            latency: latency.collect(),
        }
    }
}

impl From<Delays> for Latency {
    fn from(Delays { ends, median, p90, p99 }: Delays) -> Self {
        Self { ends, median_ns: nanos(median), p90_ns: nanos(p90), p99_ns: nanos(p99) }
    }
}

impl Disagreement {
    fn new(end: &ComparedEnd, wall: WallClock, names: &mut UserNames) -> Self {
        let endpoint = |of: Endpoint| EndpointKeys { address: of.address, port: of.port };
        Self {
            transport: end.tuple.transport.name(),
            end: end.role.name(),
            local: endpoint(end.tuple.local),
            remote: endpoint(end.tuple.remote),
            ebpf: AnswerKeys::new(&end.main, wall, names),
            proc: AnswerKeys::new(&end.tables, wall, names),
        }
    }
}

impl AnswerKeys {
    fn new(answer: &Answer, wall: WallClock, names: &mut UserNames) -> Self {
        let (level, process, sharers) = match &answer.owner {
            Ok(Owner::Process(process)) => ("process", Some(process), [].as_slice()),
            Ok(Owner::Shared(sharers)) => ("shared", None, sharers.as_slice()),
            Ok(Owner::Kernel) => ("kernel", None, [].as_slice()),
            Ok(Owner::Unattributed(_)) | Err(_) => ("none", None, [].as_slice()),
        };
        Self {
            level,
            process: process.map(|process| ProcessKeys::new(process, None, wall)),
            user: process.map(|process| UserKeys {
                id: process.uid,
                name: names.name(process.uid, clock::now()).as_deref().map(str::to_owned),
            }),
            shared_with: sharers.iter().map(|sharer| ProcessKeys::new(sharer, None, wall)).collect(),
            reason: answer.owner.as_ref().err().map(|lack| lack.name()),
            evidence: answer.evidence.map(Evidence::name),
            netns: answer.namespace.map(Netns::from),
            delay_ns: answer.delay.map(nanos),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use netsnoop_core::attribution::Reason;
    use netsnoop_core::comparison::EndRole;
    use netsnoop_core::five_tuple::Transport;
    use serde_json::Value;

    use super::*;
    use crate::sinks::comparison::samples;
    use crate::sinks::samples::clock;

    fn schema() -> Value {
        serde_json::from_str(include_str!("../../../../docs/schema/compare-v1.schema.json")).unwrap()
    }

    fn report() -> String {
        let (tally, books) = (samples::tally(), samples::books());
        let outcome = Outcome { tally: &tally, connections: 4, overflowed: 0, books: &books };
        let mut out = Vec::new();
        write(&mut out, &outcome, clock(), &mut UserNames::none()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_report_is_one_valid_line_and_the_schema_tells_good_from_bad() {
        let validator = jsonschema::draft202012::new(&schema()).unwrap();
        let good = report();
        let validate = |text: &str| {
            let value: Value = serde_json::from_str(text).unwrap();
            validator.validate(&value).map_err(|error| format!("{error} at {}", error.instance_path()))
        };
        assert_eq!(good.matches('\n').count(), 1);
        validate(&good).unwrap();
        let check_bad = |from: &str, to: &str| {
            assert!(good.contains(from), "{from} in {good}");
            assert!(validate(&good.replacen(from, to, 1)).is_err(), "{to}");
        };
        check_bad(r#""schema_version":1"#, r#""schema_version":2"#);
        check_bad(r#""agree":3"#, r#""agree":-1"#);
        check_bad(r#""agree":3,"#, "");
        check_bad(r#""balances":true"#, r#""balances":1"#);
        check_bad(r#""proc":"gone_before_lookup""#, r#""proc":"no idea""#);
        check_bad(r#""level":"shared""#, r#""level":"many""#);
        check_bad(r#""rungs":["sockops""#, r#""rungs":["magic""#);
    }

    #[test]
    fn what_is_counted_and_said_is_there() {
        let value: Value = serde_json::from_str(&report()).unwrap();
        let check = |pointer: &str, expected: Value| {
            assert_eq!(value.pointer(pointer), Some(&expected), "{pointer} in {value:#}");
        };
        check("/total/ends", 6.into());
        check("/by_end/0/end", "client".into());
        check("/by_end/0/only_ebpf", 1.into());
        check("/by_end/0/latency/ebpf/median_ns", 100_000.into());
        check("/by_end/1/latency/proc/ends", 1.into());
        check("/reasons/0/verdict", "only_ebpf".into());
        assert_eq!(value.pointer("/reasons/0/ebpf"), None, "it names one");
        check("/disagreements/0/ebpf/process/pid", 7.into());
        check("/disagreements/0/ebpf/user/id", 10001.into());
        check("/disagreements/0/proc/shared_with/1/name", "worker".into());
        check("/disagreements/0/local/port", 54102.into());
        check("/disagreements_not_listed", 0.into());
        check("/ways/proc/ledger/ends_attributed", 4.into());
    }

    #[test]
    fn the_schema_s_lists_are_those_of_the_core() {
        let schema = schema();
        let check = |pointer: &str, names: &[&str]| {
            let listed = schema.pointer(pointer).and_then(Value::as_array);
            let listed: BTreeSet<_> = listed.unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            assert_eq!(listed, names.iter().copied().collect::<BTreeSet<_>>(), "{pointer}");
        };
        let own = [Lack::Shared, Lack::NotCaptured, Lack::NotSeen];
        let lacks: Vec<&str> = Reason::ALL.into_iter().map(Lack::Reason).chain(own).map(Lack::name).collect();
        check("/$defs/reason/enum", &lacks);
        check("/$defs/rung/enum", &Rung::ALL.map(Rung::name));
        check("/$defs/transport/enum", &Transport::ALL.map(Transport::name));
        check("/$defs/end/enum", &EndRole::ALL.map(EndRole::name));
        check("/$defs/answer/properties/evidence/enum", &Evidence::ALL.map(Evidence::name));
    }
}
