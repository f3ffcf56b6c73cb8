//! The connections that owners are tested with: TCP and UDP, IPv4 and IPv6, long, brief, refused,
//! one datagram and exit, accepted by a forked worker.

use std::net::SocketAddr;

use crate::lab::Lab;
use crate::lab::records::Record;
use crate::lab::traffic::{Traffic, Truth};
use crate::lab::watch::Watch;

/// A connection that really happened.
pub(crate) struct Played {
    pub(crate) name: &'static str,
    pub(crate) transport: &'static str,
    pub(crate) server: SocketAddr,
    /// Who asked.
    pub(crate) client: Truth,
    /// Who accepted or received; `None` where nobody did.
    pub(crate) acceptor: Option<Truth>,
    /// The client still runs and holds its connection.
    pub(crate) held: Option<Traffic>,
}

/// A connection to make.
struct Script {
    name: &'static str,
    transport: &'static str,
    port: u16,
    v6: bool,
    /// How the server is started; `None`: nobody serves.
    serve: Option<&'static str>,
    client: &'static str,
}

const fn script(name: &'static str, transport: &'static str, port: u16, client: &'static str) -> Script {
    let serve = if transport.as_bytes()[0] == b't' { "serve tcp" } else { "serve udp" };
    Script { name, transport, port, v6: false, serve: Some(serve), client }
}

const SCRIPTS: [Script; 14] = [
    script("tcp v4, exchange", "tcp", 7001, "connect exchange"),
    script("tcp v4, under a millisecond", "tcp", 7002, "connect brief"),
    script("tcp v4, reset", "tcp", 7003, "connect reset"),
    script("tcp v4, held", "tcp", 7004, "connect hold"),
    Script { serve: None, ..script("tcp v4, refused", "tcp", 7005, "connect exchange") },
    Script { serve: Some("prefork"), ..script("tcp v4, forked worker", "tcp", 7006, "connect exchange") },
    Script { v6: true, ..script("tcp v6, exchange", "tcp", 7011, "connect exchange") },
    Script { v6: true, ..script("tcp v6, under a millisecond", "tcp", 7012, "connect brief") },
    Script { v6: true, ..script("tcp v6, held", "tcp", 7014, "connect hold") },
    Script { v6: true, serve: None, ..script("tcp v6, refused", "tcp", 7015, "connect exchange") },
    script("udp v4, one datagram and exit", "udp", 7021, "send once"),
    script("udp v4, connected", "udp", 7022, "send connected"),
    script("udp v4, exchange", "udp", 7023, "send exchange"),
    Script { v6: true, ..script("udp v6, exchange", "udp", 7033, "send exchange") },
];

/// The servers of all scripts, listening.
pub(crate) struct Stage<'a> {
    lab: &'a Lab,
    servers: Vec<Option<Traffic>>,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(lab: &'a Lab) -> Self {
        let serve = |script: &Script| {
            let address = address(lab, script);
            script.serve.map(|part| lab.server().serve(&format!("{part} {address}")))
        };
        Self { lab, servers: SCRIPTS.iter().map(serve).collect() }
    }

    /// Plays the scripts whose names contain `part`.
    pub(crate) fn play(&self, part: &str) -> Vec<Played> {
        let wanted = SCRIPTS.iter().zip(&self.servers).filter(|(script, _)| script.name.contains(part));
        wanted.map(|(script, server)| self.play_one(script, server.as_ref())).collect()
    }

    /// Plays all scripts before `watch`, waits until of each connection that lasts such a record is told, and ends it.
    pub(crate) fn play_before(
        &self,
        watch: Watch,
        is_told: impl Fn(&Record) -> bool,
    ) -> (Vec<Played>, Vec<Record>) {
        let played = self.play("");
        for held in played.iter().filter(|played| played.held.is_some()) {
            watch.wait_for(held.name, |record| held.is_in(record) && is_told(record));
        }
        (played, watch.stop().records())
    }

    fn play_one(&self, script: &Script, server: Option<&Traffic>) -> Played {
        let address = address(self.lab, script);
        let traffic = self.lab.client().start(&format!("{} {address}", script.client));
        let (client, held) = if script.client.ends_with("hold") {
            (traffic.wait_for("connect"), Some(traffic))
        } else {
            (traffic.finish(), None)
        };
        let act = if script.transport == "tcp" { "accept" } else { "receive" };
        let port = client.local.map(|local| local.port()).or(client.local_port);
        let acceptor = server.map(|server| {
            server.wait_for_where(act, |truth| truth.remote.map(|remote| remote.port()) == port)
        });
        let server = address.parse().unwrap();
        Played { name: script.name, transport: script.transport, server, client, acceptor, held }
    }
}

fn address(lab: &Lab, script: &Script) -> String {
    if script.v6 { lab.server.v6(script.port) } else { lab.server.v4(script.port) }
}

impl Played {
    /// Whether `record` is of this connection. Every script has a port of its own and is played once a run.
    pub(crate) fn is_in(&self, record: &Record) -> bool {
        record.network.transport == self.transport && record.server.endpoint() == self.server
    }

    /// What must hold of its records whatever netsnoop may use: there are some, they are of one
    /// connection, and none names a wrong owner. Returns the last.
    pub(crate) fn judge<'a>(&self, records: &'a [Record]) -> &'a Record {
        let mine: Vec<&Record> = records.iter().filter(|record| self.is_in(record)).collect();
        let last = mine.last().unwrap_or_else(|| panic!("{}: no record", self.name));
        let ended: Vec<&&Record> = mine.iter().filter(|record| record.event == "open").collect();
        assert_eq!(ended.len(), 1, "{}: not opened once: {mine:#?}", self.name);
        for record in &mine {
            assert_eq!(record.connection.id, last.connection.id, "{}: two connections: {mine:#?}", self.name);
            assert!(
                record.client.agrees_with(&self.client),
                "{}: wrong client, not {:?}: {record:#?}",
                self.name,
                self.client
            );
            if let Some(local) = self.client.local {
                assert_eq!(record.client.endpoint(), local, "{}: {record:#?}", self.name);
            }
            match &self.acceptor {
                Some(truth) => assert!(
                    record.server.agrees_with(truth),
                    "{}: wrong server, not {truth:?}: {record:#?}",
                    self.name
                ),
                None => assert!(record.server.process.is_none(), "{}: nobody served: {record:#?}", self.name),
            }
        }
        last
    }

    /// Whether the client's UDP socket is connected.
    pub(crate) fn is_connected_udp(&self) -> bool {
        self.name.contains("connected")
    }

    /// Whether nobody listened.
    pub(crate) fn is_refused(&self) -> bool {
        self.acceptor.is_none()
    }
}

#[test]
fn the_traffic_itself_is_as_the_scripts_say() {
    let Some(lab) = Lab::new("scenarios::the_traffic_itself_is_as_the_scripts_say") else { return };
    for played in Stage::new(&lab).play("") {
        assert_eq!(played.client.uid, 10001, "{}", played.name);
        assert_eq!(played.client.remote, Some(played.server), "{}", played.name);
        assert_eq!(played.is_refused(), played.client.act == "refused", "{}", played.name);
        if let Some(acceptor) = &played.acceptor {
            assert_eq!(acceptor.uid, 10002, "{}", played.name);
            assert_ne!(acceptor.netns, played.client.netns, "{}", played.name);
        }
    }
}
