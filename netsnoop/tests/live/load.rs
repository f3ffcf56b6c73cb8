//! At 15,000 short connections a second no kernel event and no SYN is lost, and every connection is
//! told once, with its client.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::process;

use crate::lab::watch::Watch;
use crate::lab::{Lab, netsnoop};

/// How many connections the burst makes: four seconds' worth.
const CONNECTIONS: u64 = 60_000;

#[test]
fn at_15000_short_connections_a_second_no_event_and_no_syn_is_lost() {
    let name = "load::at_15000_short_connections_a_second_no_event_and_no_syn_is_lost";
    let Some(lab) = Lab::new(name) else { return };
    // To a file: a reader in this process would take the cores that the load needs.
    let output = std::env::temp_dir().join(format!("netsnoop-load-{}.jsonl", process::id()));
    let inside = lab.node.command(netsnoop());
    let mut command = process::Command::new("sh");
    command.args(["-c", "output=$1; shift; exec \"$@\" > \"$output\"", "sh"]).arg(&output);
    command.arg(inside.get_program()).args(inside.get_args());
    command.args(["watch", "-i", "any", "-o", "jsonl", "--events", "close"]);
    let watch = Watch::spawn(&mut command);
    assert!(watch.is_ready(), "netsnoop does not start");
    let address = lab.server.v4(7301);
    let _server = lab.server().serve(&format!("sink {address}"));
    let burst = lab.client().run(&format!("burst {address} {CONNECTIONS} 4"));
    assert_eq!(burst.connections, Some(CONNECTIONS));
    let ended = watch.stop();
    let told = closed_by(&output, burst.pid);
    fs::remove_file(&output).unwrap();
    let seconds = burst.seconds.unwrap();
    writeln!(io::stdout().lock(), "\n{CONNECTIONS} connections in {seconds:.1} s; {}", ended.complaint())
        .unwrap();
    assert!(ended.status.success(), "{}", ended.complaint());
    let ledger = ended.ledger();
    assert_eq!((ledger.events_lost, ledger.packets_dropped), (0, 0), "{}", ended.complaint());
    assert!(ledger.connections >= CONNECTIONS && ledger.events_read >= CONNECTIONS, "{ledger:?}");
    assert_eq!(told, CONNECTIONS, "closed with the client's process: {}", ended.complaint());
}

/// How many lines tell of a connection to the burst's port with this process at an end.
fn closed_by(output: &std::path::Path, pid: u32) -> u64 {
    let lines = BufReader::new(File::open(output).unwrap()).lines().map(Result::unwrap);
    let client = format!("\"process\":{{\"pid\":{pid},");
    lines.filter(|line| line.contains("\"port\":7301") && line.contains(&client)).map(|_| 1).sum()
}
