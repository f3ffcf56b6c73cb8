//! Under load nothing is lost without being counted, and at 15,000 short connections a second nothing is lost.

use std::io::{self, Write};

use crate::lab::Lab;
use crate::lab::watch::Watch;

/// How many connections the burst makes: four seconds' worth.
const CONNECTIONS: u64 = 60_000;

#[test]
fn at_15000_short_connections_a_second_no_event_and_no_syn_is_lost() {
    let name = "load::at_15000_short_connections_a_second_no_event_and_no_syn_is_lost";
    let Some(lab) = Lab::new(name) else { return };
    let watch = Watch::start(&lab, "-i any");
    let address = lab.server.v4(7301);
    let _server = lab.server().serve(&format!("sink {address}"));
    let burst = lab.client().run(&format!("burst {address} {CONNECTIONS} 4"));
    assert_eq!(burst.connections, Some(CONNECTIONS));
    writeln!(io::stdout().lock(), "\n{CONNECTIONS} connections in {:?} s", burst.seconds).unwrap();
    let ended = watch.stop();
    assert!(ended.status.success(), "{}", ended.complaint());
}
