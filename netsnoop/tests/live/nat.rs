//! Connections that the node translates: one record each, whose ends are the processes at both of them, with the
//! addresses that these know and those they were given.

use std::net::SocketAddr;

use crate::lab::records::{Given, Record};
use crate::lab::traffic::{Traffic, Truth};
use crate::lab::watch::Watch;
use crate::lab::{Actor, Lab, Namespace, has_program, skip};
use crate::owners::TABLES;

/// What goes out is masqueraded, and so is what is translated within the bridge: the answers would not come by the node.
const POSTROUTING: &str = "
  chain postrouting {
    type nat hook postrouting priority 100;
    oifname \"outside\" masquerade
    ip saddr 198.18.77.0/24 ip daddr 198.18.77.0/24 ct status dnat masquerade
  }";

/// The node's rules: what each class asks for leads to where it is answered.
fn rules() -> String {
    let rule = |class: &Class, transport: &str| {
        let asked: SocketAddr = class.asked.parse().unwrap();
        let (address, port) = (asked.ip(), asked.port());
        format!("    ip daddr {address} {transport} dport {port} dnat to {}\n", class.answers_at)
    };
    let translated = CLASSES.iter().filter(|class| class.asked != class.answers_at);
    let services: String =
        translated.flat_map(|class| ["tcp", "udp"].map(|transport| rule(class, transport))).collect();
    let hooks = ["prerouting", "output"].map(|hook| {
        format!("  chain {hook} {{\n    type nat hook {hook} priority -100;\n    jump services\n  }}\n")
    });
    format!("table ip nat {{\n  chain services {{\n{services}  }}\n{}{POSTROUTING}\n}}\n", hooks.concat())
}

/// The usual node, with rules, and somebody outside of it.
pub(crate) struct Translating {
    pub(crate) lab: Lab,
    pub(crate) outside: Namespace,
}

impl Translating {
    pub(crate) fn new(test: &str) -> Option<Self> {
        let lab = Lab::new(test)?;
        if !has_program("nft") {
            skip(test, "needs nft");
            return None;
        }
        let outside = lab.add_outside();
        for pod in [&lab.client, &lab.server] {
            pod.namespace.ip("route add default via 198.18.77.1");
        }
        // A bridge that calls netfilter translates before it forwards, and then back to where a frame came from.
        lab.node.ip("link set veth11 type bridge_slave hairpin on");
        // The settings of a namespace are those of whoever writes them there.
        lab.node.feed(&["tee", "/proc/sys/net/ipv4/ip_forward"], "1");
        lab.node.feed(&["nft", "-f", "-"], &rules());
        Some(Self { lab, outside })
    }

    fn actor(&self, at: Place, uid: u32) -> Actor<'_> {
        let namespace = match at {
            Place::Client => &self.lab.client.namespace,
            Place::Server => &self.lab.server.namespace,
            Place::Node => &self.lab.node,
            Place::Outside => &self.outside,
        };
        Actor::new(namespace, uid)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Client,
    Server,
    Node,
    Outside,
}

/// A way to be translated.
struct Class {
    name: &'static str,
    from: Place,
    /// What the client asks for.
    asked: &'static str,
    /// Who answers, and where.
    to: Place,
    answers_at: &'static str,
}

const CLASSES: [Class; 5] = [
    Class {
        name: "to the outside",
        from: Place::Client,
        asked: "198.18.78.2:8080",
        to: Place::Outside,
        answers_at: "198.18.78.2:8080",
    },
    Class {
        name: "a service of another pod",
        from: Place::Client,
        asked: "198.19.0.1:81",
        to: Place::Server,
        answers_at: "198.18.77.11:8081",
    },
    Class {
        name: "a service that is the pod itself",
        from: Place::Server,
        asked: "198.19.0.1:82",
        to: Place::Server,
        answers_at: "198.18.77.11:8082",
    },
    Class {
        name: "a service, from the node",
        from: Place::Node,
        asked: "198.19.0.1:83",
        to: Place::Server,
        answers_at: "198.18.77.11:8083",
    },
    Class {
        name: "a published port, from the outside",
        from: Place::Outside,
        asked: "198.18.78.1:30080",
        to: Place::Server,
        answers_at: "198.18.77.11:8084",
    },
];

/// A connection of a class, by those who made it.
struct Played {
    name: String,
    transport: &'static str,
    asked: SocketAddr,
    answers_at: SocketAddr,
    client: Truth,
    acceptor: Truth,
    /// Both still run.
    _held: [Traffic; 2],
}

impl Translating {
    fn play(&self, class: &Class, transport: &'static str) -> Played {
        let answers_at: SocketAddr = class.answers_at.parse().unwrap();
        // UDP answers come from the address that was asked only if the socket leaves the choice to the kernel.
        let server =
            self.actor(class.to, 10002).serve(&format!("serve {transport} 0.0.0.0:{}", answers_at.port()));
        let part = if transport == "tcp" { "connect hold" } else { "send hold" };
        let client = self.actor(class.from, 10001).start(&format!("{part} {}", class.asked));
        let (begun, taken) = if transport == "tcp" { ("connect", "accept") } else { ("send", "receive") };
        Played {
            name: format!("{transport}, {}", class.name),
            transport,
            asked: class.asked.parse().unwrap(),
            answers_at,
            client: client.wait_for(begun),
            acceptor: server.wait_for(taken),
            _held: [client, server],
        }
    }
}

impl Played {
    fn client_port(&self) -> Option<u16> {
        self.client.local.map(|local| local.port()).or(self.client.local_port)
    }

    /// Whether `record` is of this connection, by any of its names. Each class has what it asks for, and where that is
    /// answered, to itself; a port alone may be that of another connection, here or elsewhere on the machine.
    fn is_in(&self, record: &Record) -> bool {
        let own = [self.asked, self.answers_at];
        record.network.transport == self.transport
            && [&record.client, &record.server].iter().any(|end| own.contains(&end.endpoint()))
    }

    /// One record, which names both processes and has both names.
    fn judge(&self, records: &[Record]) {
        let mine: Vec<&Record> = records.iter().filter(|record| self.is_in(record)).collect();
        let opens = mine.iter().filter(|record| record.event == "open").count();
        assert_eq!(opens, 1, "{}: not one connection: {mine:#?}", self.name);
        let last = mine.last().unwrap();
        assert!(
            mine.iter().all(|record| record.connection.id == last.connection.id),
            "{}: {mine:#?}",
            self.name
        );
        assert_eq!(last.server.endpoint(), self.asked, "{}: {last:#?}", self.name);
        assert_eq!(Some(last.client.port), self.client_port(), "{}: {last:#?}", self.name);
        let nat = last.nat.unwrap_or_else(|| panic!("{}: no translation: {last:#?}", self.name));
        let seen = nat.client.map_or(last.client.endpoint(), Given::endpoint);
        assert_eq!(Some(seen), self.acceptor.remote, "{}: {last:#?}", self.name);
        let led = nat.server.map_or(last.server.endpoint(), Given::endpoint);
        assert_eq!(led, self.answers_at, "{}: {last:#?}", self.name);
    }

    /// Each end on the node is of its process, by this evidence.
    fn judge_owners(&self, class: &Class, records: &[Record], evidence: &[&str]) {
        let last = records.iter().rfind(|record| self.is_in(record)).unwrap();
        if class.from != Place::Outside {
            last.client.must_be(&self.client, evidence);
        }
        if class.to != Place::Outside {
            last.server.must_be_server(&self.acceptor, evidence);
        }
    }
}

/// Whether all that is known of the owners is told.
fn is_complete(record: &Record) -> bool {
    [&record.client, &record.server].into_iter().all(|end| end.process.is_some())
}

fn check(test: &str, arguments: &str, evidence: &[&str]) {
    let Some(node) = Translating::new(test) else { return };
    let watch = Watch::start(&node.lab, arguments);
    let mut all = Vec::new();
    for class in &CLASSES {
        for transport in ["tcp", "udp"] {
            let played = node.play(class, transport);
            watch.wait_for(&played.name, |record| {
                played.is_in(record) && (is_complete(record) || record.nat.is_some())
            });
            all.push((class, played));
        }
    }
    let records = watch.stop().records();
    for (class, played) in &all {
        played.judge(&records);
        played.judge_owners(class, &records, evidence);
    }
}

#[test]
fn a_translated_connection_is_one_with_both_its_owners() {
    let test = "nat::a_translated_connection_is_one_with_both_its_owners";
    check(test, "-i any", &["kernel_event"]);
}

#[test]
fn without_ebpf_it_is_as_well() {
    let evidence = [TABLES.as_slice(), &["listener"]].concat();
    check("nat::without_ebpf_it_is_as_well", "-i any --ebpf off", &evidence);
}

#[test]
fn one_that_is_older_than_netsnoop_is_told_with_both_its_names() {
    let test = "nat::one_that_is_older_than_netsnoop_is_told_with_both_its_names";
    let Some(node) = Translating::new(test) else { return };
    let all: Vec<(&Class, Played)> = CLASSES.iter().map(|class| (class, node.play(class, "tcp"))).collect();
    for arguments in ["-i any", "-i any --ebpf off"] {
        let watch = Watch::start(&node.lab, arguments);
        for (_, played) in &all {
            watch.wait_for(&played.name, |record| played.is_in(record));
        }
        let records = watch.stop().records();
        for (class, played) in &all {
            played.judge(&records);
            played.judge_owners(class, &records, &TABLES);
        }
    }
}
