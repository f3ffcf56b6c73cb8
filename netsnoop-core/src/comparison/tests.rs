//! Records of two ways by hand, and what their comparison must be.

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::attribution::{Attribution, Evidence, Owner, Reason, RungSet};
use crate::connection::{ConnectionState, EndRecord, Exchanged, Nat, Role};
use crate::namespace::NamespaceKey;
use crate::process::{Comm, Process, ProcessId};

const SECOND: u64 = 1_000_000_000;

fn process(pid: u32) -> Process {
    let id = ProcessId { pid, start_ticks: 1 };
    Process { id, name: Comm::new(b"curl"), uid: 1000, cgroup_id: None }
}

fn named(pid: u32) -> Attribution {
    Attribution::process(process(pid), Evidence::KernelEvent)
}

fn shared(pids: &[u32]) -> Attribution {
    Attribution::holders(pids.iter().copied().map(process).collect(), Evidence::SockDiag, None)
}

fn lacking(reason: Reason) -> Attribution {
    Attribution::namespace(reason, None)
}

fn end(port: u16, inode: Option<u32>, attribution: Attribution) -> EndRecord {
    EndRecord {
        cluster: None,
        endpoint: Endpoint::new("198.18.0.1".parse().unwrap(), port),
        namespace: inode.map(|inode| NamespaceKey { inode, cookie: None }),
        attribution,
        named_at: Some(Timestamp::from_nanos(10 * SECOND + 5000)),
        facts: None,
    }
}

/// A client's connection from port 40000 to a remote server, seen on an interface.
fn record(client: Attribution) -> ConnectionRecord {
    let start = Timestamp::from_nanos(10 * SECOND);
    ConnectionRecord {
        event: RecordEvent::Close,
        at: start,
        id: ConnectionId(1),
        start: Some(start),
        preexisting: false,
        state: ConnectionState::Closed,
        role: Role::Syn,
        rungs: RungSet::EMPTY,
        duration: None,
        transport: Transport::Tcp,
        isn: Some(7),
        interface: Some("eth0".into()),
        client: end(40000, Some(1), client),
        server: end(80, None, Attribution::unattributed(Reason::Remote)),
        nat: Nat::default(),
        service: None,
        names: Vec::new(),
        rival_names: alloc::boxed::Box::default(),
        io: None,
        untold: Exchanged::default(),
    }
}

fn compare(records: &[(Way, ConnectionRecord)]) -> Vec<ComparedEnd> {
    let mut comparison = Comparison::new([1, 2, 3, 4], 100);
    for (way, record) in records {
        comparison.take(*way, record, true);
    }
    comparison.finish();
    core::iter::from_fn(|| comparison.poll_end()).collect()
}

/// Two answers about one client, and the verdict with what each way lacks.
#[track_caller]
fn check_answers(main: Attribution, tables: Attribution, expected: (Verdict, [Option<Lack>; 2])) {
    let ends = compare(&[(Way::Main, record(main)), (Way::Tables, record(tables))]);
    let [end] = ends.as_slice() else { panic!("the server's end is not of this node: {ends:#?}") };
    assert_eq!((end.verdict, [end.main.lack(), end.tables.lack()]), expected);
    assert_eq!((end.role, end.tuple.local.port, end.tuple.remote.port), (EndRole::Client, 40000, 80));
}

#[test]
fn answers_compare_by_process_and_user() {
    use Verdict::{Agree, Disagree, Neither, OnlyMain, OnlyTables};
    let gone = Lack::Reason(Reason::GoneBeforeLookup);
    let pending = Lack::Reason(Reason::Pending);
    check_answers(named(1), named(1), (Agree, [None, None]));
    check_answers(named(1), named(2), (Disagree, [None, None]));
    check_answers(named(1), lacking(Reason::GoneBeforeLookup), (OnlyMain, [None, Some(gone)]));
    check_answers(lacking(Reason::Pending), named(1), (OnlyTables, [Some(pending), None]));
    let both = [Some(gone), Some(pending)];
    check_answers(lacking(Reason::GoneBeforeLookup), lacking(Reason::Pending), (Neither, both));
    check_answers(named(1), shared(&[1, 2]), (OnlyMain, [None, Some(Lack::Shared)]));
    check_answers(named(3), shared(&[1, 2]), (Disagree, [None, Some(Lack::Shared)]));
    check_answers(shared(&[1, 2]), named(1), (OnlyTables, [Some(Lack::Shared), None]));
    check_answers(shared(&[1, 2]), shared(&[2, 3]), (Neither, [Some(Lack::Shared); 2]));
    check_answers(shared(&[1, 2]), shared(&[3, 4]), (Disagree, [Some(Lack::Shared); 2]));
    check_answers(shared(&[1, 2]), lacking(Reason::Pending), (Neither, [Some(Lack::Shared), Some(pending)]));
    let kernel = Attribution { owner: Owner::Kernel, ..named(1) };
    check_answers(kernel.clone(), kernel.clone(), (Agree, [None, None]));
    check_answers(kernel, named(1), (Disagree, [None, None]));
    let mut became_root = process(1);
    became_root.uid = 0;
    check_answers(named(1), Attribution::process(became_root, Evidence::Proc), (Disagree, [None, None]));
}

#[test]
fn another_namespace_is_another_answer() {
    let mut tables = record(named(1));
    tables.client.namespace = Some(NamespaceKey { inode: 2, cookie: None });
    let ends = compare(&[(Way::Main, record(named(1))), (Way::Tables, tables)]);
    assert_eq!(ends.iter().map(|end| end.verdict).collect::<Vec<_>>(), [Verdict::Disagree]);
}

#[test]
fn what_only_one_way_has_seen_says_whether_a_packet_was_there() {
    let check = |way, interface: Option<&str>, expected| {
        let mut alone = record(named(1));
        alone.interface = interface.map(Into::into);
        let ends = compare(&[(way, alone)]);
        let lack = match way {
            Way::Main => ends[0].tables.lack(),
            Way::Tables => ends[0].main.lack(),
        };
        assert_eq!((ends.len(), ends[0].verdict, lack), expected);
    };
    check(Way::Main, None, (1, Verdict::OnlyMain, Some(Lack::NotCaptured)));
    check(Way::Main, Some("eth0"), (1, Verdict::OnlyMain, Some(Lack::NotSeen)));
    check(Way::Tables, Some("eth0"), (1, Verdict::OnlyTables, Some(Lack::NotSeen)));
}

/// A record of this way, with this client, that differs so from the usual one.
struct Variant(Way, u32, fn(&mut ConnectionRecord));

/// Expects the pids of each pair, 0 for none.
#[track_caller]
fn check_pairs(records: &[Variant], expected: &[(u32, u32)]) {
    let made: Vec<(Way, ConnectionRecord)> = records
        .iter()
        .enumerate()
        .map(|(number, Variant(way, pid, change))| {
            let mut record = record(named(*pid));
            record.id = ConnectionId(number as u64);
            change(&mut record);
            (*way, record)
        })
        .collect();
    let pid = |answer: &Answer| match answer.owner {
        Ok(Owner::Process(process)) => process.id.pid,
        _ => 0,
    };
    // Which way is faster must not matter.
    let mut reversed = made.clone();
    reversed.reverse();
    for records in [made, reversed] {
        let mut pairs: Vec<(u32, u32)> =
            compare(&records).iter().map(|end| (pid(&end.main), pid(&end.tables))).collect();
        pairs.sort_unstable();
        assert_eq!(pairs, expected);
    }
}

#[test]
fn records_are_paired_by_what_identifies_a_connection() {
    const AS_IT_IS: fn(&mut ConnectionRecord) = |_| {};
    check_pairs(&[Variant(Way::Main, 1, AS_IT_IS), Variant(Way::Tables, 2, AS_IT_IS)], &[(1, 2)]);
    // A port that serves one connection after another.
    check_pairs(
        &[
            Variant(Way::Main, 1, AS_IT_IS),
            Variant(Way::Main, 2, |record| record.isn = Some(8)),
            Variant(Way::Tables, 3, |record| record.isn = Some(8)),
            Variant(Way::Tables, 4, AS_IT_IS),
        ],
        &[(1, 4), (2, 3)],
    );
    // The same with datagrams: the nearest in time, and none that is too far away.
    check_pairs(
        &[
            Variant(Way::Main, 1, |record| record.isn = None),
            Variant(Way::Main, 2, |record| {
                record.isn = None;
                record.start = Some(Timestamp::from_nanos(10 * SECOND + 300));
            }),
            Variant(Way::Tables, 3, |record| {
                record.isn = None;
                record.start = Some(Timestamp::from_nanos(10 * SECOND + 301));
            }),
            Variant(Way::Tables, 4, |record| {
                record.isn = None;
                record.start = Some(Timestamp::from_nanos(12 * SECOND));
            }),
        ],
        &[(0, 4), (1, 0), (2, 3)],
    );
    // The same addresses in two namespaces.
    check_pairs(
        &[
            Variant(Way::Main, 1, |record| record.isn = None),
            Variant(Way::Tables, 2, |record| {
                record.isn = None;
                record.client.namespace = Some(NamespaceKey { inode: 2, cookie: None });
            }),
        ],
        &[(0, 2), (1, 0)],
    );
    // Older than both, and they do not agree on who asked.
    check_pairs(
        &[
            Variant(Way::Main, 1, |record| {
                record.start = None;
                record.event = RecordEvent::Open;
            }),
            Variant(Way::Tables, 2, |record| {
                record.start = None;
                record.event = RecordEvent::Open;
                core::mem::swap(&mut record.client, &mut record.server);
            }),
        ],
        &[(1, 2)],
    );
}

#[test]
fn delays_count_from_the_earlier_first_sight_and_only_where_both_know_it() {
    let check = |main_start: Option<u64>, expected: [Option<u64>; 2]| {
        let mut main = record(named(1));
        main.start = main_start.map(Timestamp::from_nanos);
        main.client.named_at = Some(Timestamp::from_nanos(10 * SECOND + 10));
        let end = compare(&[(Way::Main, main), (Way::Tables, record(named(1)))]).remove(0);
        assert_eq!(
            Way::ALL.map(|way| end.answer(way).delay),
            expected.map(|nanos| nanos.map(Duration::from_nanos))
        );
    };
    check(Some(10 * SECOND - 100), [Some(110), Some(5100)]);
    check(Some(10 * SECOND + 100), [Some(10), Some(5000)]);
    check(None, [None, None]);
}

#[test]
fn both_local_ends_are_compared_and_the_kernel_says_which_is_the_client() {
    let mut main = record(named(1));
    main.server = end(80, Some(2), named(2));
    let mut tables = record(named(2));
    tables.client = end(80, Some(2), named(2));
    tables.server = end(40000, Some(1), named(1));
    let ends = compare(&[(Way::Main, main), (Way::Tables, tables)]);
    let told: Vec<_> = ends.iter().map(|end| (end.role, end.tuple.local.port, end.verdict)).collect();
    assert_eq!(told, [(EndRole::Client, 40000, Verdict::Agree), (EndRole::Server, 80, Verdict::Agree)]);
}

#[test]
fn the_last_word_counts_and_what_nobody_asked_for_is_left_out() {
    let check = |fed: &[(Way, u32, RecordEvent, bool)], expected: &[Verdict]| {
        let mut comparison = Comparison::new([1, 2, 3, 4], 100);
        for (way, pid, event, wanted) in fed {
            let mut record = record(named(*pid));
            record.event = *event;
            comparison.take(*way, &record, *wanted);
        }
        comparison.finish();
        let verdicts: Vec<_> = core::iter::from_fn(|| comparison.poll_end()).map(|end| end.verdict).collect();
        assert_eq!((verdicts.as_slice(), comparison.connections()), (expected, expected.len() as u64));
    };
    use RecordEvent::{Close, Open, Update};
    let corrected =
        vec![(Way::Main, 1, Open, true), (Way::Tables, 2, Open, true), (Way::Tables, 1, Update, true)];
    check(&corrected, &[Verdict::Agree]);
    check(&[(Way::Main, 1, Open, false), (Way::Tables, 1, Close, true)], &[Verdict::Agree]);
    check(&[(Way::Main, 1, Open, true), (Way::Main, 1, Close, false)], &[Verdict::OnlyMain]);
    check(&[(Way::Main, 1, Open, false), (Way::Tables, 1, Close, false)], &[]);
}

#[test]
fn what_finds_no_room_is_counted_once_a_connection() {
    let mut comparison = Comparison::new([1, 2, 3, 4], 1);
    for (id, event) in
        [(1, RecordEvent::Open), (2, RecordEvent::Open), (2, RecordEvent::Close), (1, RecordEvent::Close)]
    {
        let mut record = record(named(1));
        record.id = ConnectionId(id);
        record.event = event;
        comparison.take(Way::Main, &record, true);
    }
    comparison.finish();
    assert_eq!((comparison.connections(), comparison.overflowed()), (1, 1));
}
