//! Who owns both ends, with all that this machine allows and with packets and /proc alone; of
//! connections older and younger than netsnoop.

use crate::lab::Lab;
use crate::lab::records::Record;
use crate::lab::watch::Watch;
use crate::scenarios::{Played, Stage};

/// Kinds of evidence that come from reading tables.
pub(crate) const TABLES: [&str; 3] = ["socket_iterator", "sock_diag", "proc"];
/// The same for a server's end, which may have been looked up in the moment before it was accepted.
pub(crate) const TABLES_OR_LISTENER: [&str; 4] = ["socket_iterator", "sock_diag", "proc", "listener"];

#[test]
fn everything_has_its_owner_by_kernel_events() {
    let Some(lab) = Lab::new("owners::everything_has_its_owner_by_kernel_events") else { return };
    let watch = Watch::start(&lab, "-i any");
    let (played, records) = Stage::new(&lab).play_before(watch, |_| true);
    for played in &played {
        let last = played.judge(&records);
        last.client.must_be(&played.client, &["kernel_event"]);
        check_server_by_kernel_event(played, last);
    }
}

fn check_server_by_kernel_event(played: &Played, last: &Record) {
    match &played.acceptor {
        Some(truth) => last.server.must_be(truth, &["kernel_event"]),
        None => {
            assert_eq!(last.connection.state, "refused", "{}: {last:#?}", played.name);
            assert_eq!(last.server.attribution.reason.as_deref(), Some("closed_port"), "{last:#?}");
        }
    }
}

#[test]
fn without_ebpf_what_lasts_has_its_owner_and_nothing_a_wrong_one() {
    let Some(lab) = Lab::new("owners::without_ebpf_what_lasts_has_its_owner_and_nothing_a_wrong_one") else {
        return;
    };
    let watch = Watch::start(&lab, "-i any --ebpf off");
    let (played, records) = Stage::new(&lab).play_before(watch, Record::is_answered);
    for played in &played {
        let last = played.judge(&records);
        if let (Some(_), Some(acceptor)) = (&played.held, &played.acceptor) {
            last.client.must_be(&played.client, &TABLES);
            last.server.must_be_server(acceptor, &TABLES_OR_LISTENER);
        }
        if played.is_refused() {
            assert_eq!(last.connection.state, "refused", "{}: {last:#?}", played.name);
        }
    }
}

#[test]
fn connections_older_than_netsnoop_are_told_at_its_start() {
    let Some(lab) = Lab::new("owners::connections_older_than_netsnoop_are_told_at_its_start") else { return };
    let stage = Stage::new(&lab);
    let held = stage.play("held");
    for arguments in ["-i any", "-i any --ebpf off"] {
        let watch = Watch::start(&lab, arguments);
        for played in &held {
            watch.wait_for(played.name, |record| played.is_in(record));
        }
        let records = watch.stop().records();
        for played in &held {
            let last = played.judge(&records);
            assert!(last.connection.preexisting, "{}: {last:#?}", played.name);
            last.client.must_be(&played.client, &TABLES);
            last.server.must_be(played.acceptor.as_ref().unwrap(), &TABLES);
        }
    }
}

#[test]
fn a_close_tells_the_payload_both_ways_and_how_it_ended() {
    let Some(lab) = Lab::new("owners::a_close_tells_the_payload_both_ways_and_how_it_ended") else { return };
    let watch = Watch::start(&lab, "-i any");
    let stage = Stage::new(&lab);
    for (name, end) in
        [("tcp v4, exchange", "closed"), ("tcp v6, exchange", "closed"), ("tcp v4, reset", "reset")]
    {
        let played = stage.play(name).remove(0);
        let close = watch.wait_for(name, |record| played.is_in(record) && record.event == "close");
        assert_eq!(close.connection.state, end, "{close:#?}");
        assert!(close.connection.duration_ns.is_some_and(|nanos| nanos > 0), "{close:#?}");
        if end == "closed" {
            let io = close.io.as_ref().unwrap_or_else(|| panic!("no byte counts: {close:#?}"));
            let counted = (io.sent_bytes, io.received_bytes, &*io.source);
            assert_eq!(counted, (16, 16, "kernel_event"), "{close:#?}");
        }
    }
}
