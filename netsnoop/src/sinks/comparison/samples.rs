//! Ends compared by hand, for the tests of the report.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use netsnoop_core::attribution::{Evidence, Owner, Reason, Rung, RungSet, Way};
use netsnoop_core::comparison::{Answer, ComparedEnd, EndRole, Lack, Verdict};
use netsnoop_core::five_tuple::{Endpoint, FiveTuple, Transport};
use netsnoop_core::ledger::Ledger;
use netsnoop_core::namespace::NamespaceKey;

use super::tally::Tally;
use crate::sinks::{Books, samples};

fn named(pid: u32, evidence: Evidence, delay: u64) -> Answer {
    Answer {
        owner: Ok(Owner::Process(samples::process(pid, "curl", 10001))),
        evidence: Some(evidence),
        namespace: Some(NamespaceKey { inode: 4_026_532_178, cookie: NonZeroU64::new(7) }),
        delay: Some(Duration::from_micros(delay)),
    }
}

fn lacking(lack: Lack) -> Answer {
    Answer { owner: Err(lack), evidence: None, namespace: None, delay: None }
}

fn end(role: EndRole, verdict: Verdict, main: Answer, tables: Answer) -> ComparedEnd {
    let tuple = FiveTuple {
        transport: Transport::Tcp,
        local: Endpoint::new("198.18.1.10".parse().unwrap(), 54102),
        remote: Endpoint::new("198.18.1.13".parse().unwrap(), 6379),
    };
    let tuple = if role == EndRole::Client { tuple } else { tuple.mirrored() };
    ComparedEnd { role, tuple, verdict, main, tables }
}

/// One process to the kernel, one of several to the tables, and none of them.
pub(super) fn disagreement() -> ComparedEnd {
    let sharers = [8, 9].map(|pid| samples::process(pid, "worker", 33)).to_vec();
    let tables = Answer { owner: Ok(Owner::Shared(sharers)), ..named(0, Evidence::SockDiag, 2500) };
    end(EndRole::Client, Verdict::Disagree, named(7, Evidence::KernelEvent, 150), tables)
}

/// Six ends, one or two of each verdict but one.
pub(super) fn tally() -> Tally {
    let agree = |role, delay| {
        let tables = named(7, Evidence::SockDiag, 10 * delay);
        end(role, Verdict::Agree, named(7, Evidence::KernelEvent, delay), tables)
    };
    let gone = lacking(Lack::Reason(Reason::GoneBeforeLookup));
    let closed = lacking(Lack::Reason(Reason::ClosedPort));
    let mut tally = Tally::default();
    for end in [
        agree(EndRole::Client, 120),
        agree(EndRole::Client, 90),
        agree(EndRole::Server, 300),
        end(EndRole::Client, Verdict::OnlyMain, named(7, Evidence::KernelEvent, 100), gone),
        end(EndRole::Server, Verdict::Neither, closed.clone(), closed),
        disagreement(),
    ] {
        tally.add(end);
    }
    tally
}

/// The books of ten seconds.
pub(super) fn books() -> Books {
    let rungs = |of: &[Rung]| {
        let mut rungs = RungSet::EMPTY;
        of.iter().for_each(|rung| rungs.insert(*rung));
        rungs
    };
    let ledger = |ends_attributed| Ledger {
        connections_opened: 4,
        ends_seen: ends_attributed,
        ends_attributed,
        ..Ledger::default()
    };
    Books {
        ledgers: vec![(Way::Main, ledger(5)), (Way::Tables, ledger(4))],
        rungs: vec![
            (Way::Main, rungs(&[Rung::Sockops, Rung::Iterator])),
            (Way::Tables, rungs(&[Rung::SockDiag, Rung::Proc])),
        ],
        counters: Arc::default(),
        lasted: Duration::from_secs(10),
    }
}
