//! Services that are known by names: those that clients say, and those that they have looked up.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process;

use crate::lab::agent::Agent;
use crate::lab::records::Schema;
use crate::lab::resolver::By;
use crate::lab::{Actor, Lab, Namespace};

/// A ClientHello for `name`, with so much padding before the name.
pub(crate) fn client_hello(name: &str, padding: usize) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let host = [&[0], sized(name.as_bytes()).as_slice()].concat();
    let padding = [&21_u16.to_be_bytes(), sized(&vec![0; padding]).as_slice()].concat();
    let server_name = [&[0, 0], sized(&sized(&host)).as_slice()].concat();
    let extensions = sized(&[padding, server_name].concat());
    let hello = [&[3, 3], [7; 32].as_slice(), &[0, 0, 2, 0x13, 1, 1, 0], &extensions].concat();
    let length = u32::try_from(hello.len()).unwrap().to_be_bytes();
    [&[22, 3, 1], sized(&[&[1], &length[1..], &hello].concat()).as_slice()].concat()
}

/// Says these pieces to a server, each in a segment of its own, and hears them again.
pub(crate) fn say(pod: &Namespace, server: &str, pieces: &[&[u8]]) {
    pod.inside(|| {
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            stream.write_all(piece).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, pieces.concat());
    });
}

#[test]
fn services_are_known_by_the_names_that_clients_say() {
    let name = "names::services_are_known_by_the_names_that_clients_say";
    let Some(lab) = Lab::new(name) else { return };
    let settings = "services:\n\
        - {name: api, sni: '*.api.example', ports: 443}\n\
        - {name: web, host: www.example}\n\
        - {name: rest, addresses: 198.18.77.0/24, ports: [443, 8080]}\n\
        outputs: {http: , jsonl: {path: '{folder}/n.jsonl'}}\n";
    let agent = Agent::start(&lab.node, settings, &[]);
    let (tls, http) = (lab.server.v4(443), lab.server.v4(8080));
    let tls6 = lab.server.v6(443);
    // The port of TLS is for root alone.
    let root = Actor::new(&lab.server.namespace, 0);
    let _servers = [&tls, &http, &tls6].map(|address| root.serve(&format!("serve tcp {address}")));
    let pod = &lab.client.namespace;
    say(pod, &tls, &[&client_hello("a.api.example", 0)]);
    say(pod, &tls6, &[&client_hello("a.api.example", 900)]);
    // In pieces, as those with keys of today are.
    let hello = client_hello("b.api.example", 1700);
    let (begins, rest) = hello.split_at(1000);
    let (goes_on, ends) = rest.split_at(700);
    say(pod, &tls, &[begins, goes_on, ends]);
    say(pod, &tls, &[&client_hello("www.example", 0)]);
    say(pod, &http, &[b"GET / HTTP/1.1\r\nHost: www.example:8080\r\n\r\n"]);
    say(pod, &http, &[b"SSH-2.0-x\r\n"]);
    let counted = |service: &str, count: u32| {
        format!(
            "netsnoop_connections_closed_total{{role=\"client\",transport=\"tcp\",user=\"root\",namespace=\"\",pod=\"\",service=\"{service}\"}} {count}"
        )
    };
    agent.wait_for_line(&counted("api", 3));
    agent.wait_for_line(&counted("web", 1));
    agent.wait_for_line(&counted("rest", 2));
    let opened = counted("api", 3).replace("closed", "opened");
    assert!(agent.page().lines().any(|line| line == opened), "{}", agent.page());
    let schema = Schema::read();
    // Six connections with two lines each at least.
    let records = agent.wait_for("their records", |agent| {
        let records = fs::read_to_string(agent.file("n.jsonl")).unwrap();
        // The last line may be on its way.
        let (whole, _) = records.rsplit_once('\n')?;
        let whole = whole.lines().map(|line| schema.parse(line));
        let ended = whole.filter(|record| record.service.is_some() && record.event == "close").count();
        (ended >= 6).then_some(records)
    });
    assert!(records.contains(r#""domain":"b.api.example""#), "{records}");
    assert!(records.contains(r#""service":{"name":"web","rule":"host www.example"}"#), "{records}");
    assert!(agent.stop().status.success());
}

#[test]
fn services_are_known_by_the_names_that_clients_have_looked_up() {
    let name = "names::services_are_known_by_the_names_that_clients_have_looked_up";
    let Some(lab) = Lab::new(name) else { return };
    let settings = "services:\n\
        - {name: olddb, dns: olddb.example, ports: 7310}\n\
        - {name: newdb, dns: newdb.example, ports: 7310}\n\
        - {name: shard, dns: '*.shard.example'}\n\
        - {name: cache, dns: '/^cache-[0-9]+[.]/', protocol: udp}\n\
        - {name: rest, addresses: 198.18.77.0/24, ports: [7310, 7311]}\n\
        outputs: {http: , jsonl: {path: '{folder}/n.jsonl'}}\n";
    let tenant = lab.add_pod(12);
    let agent = Agent::start(&lab.node, settings, &[]);
    let (db, db6, cache) = (lab.server.v4(7310), lab.server.v6(7310), lab.server.v4(7311));
    let _servers = [&format!("serve tcp {db}"), &format!("serve tcp {db6}"), &format!("serve udp {cache}")]
        .map(|part| lab.server().serve(part));
    let (v4, v6) = ("198.18.77.11", "2001:db8:77::11");
    let uid = 100_000 + process::id();
    let [one, two, node] = [(&lab.client.namespace, uid), (&tenant.namespace, uid + 1), (&lab.node, uid + 2)]
        .map(|(namespace, uid)| Actor::new(namespace, uid));
    // One address, which each tenant knows by a name of its own, and the node by none.
    lab.look_up(one.namespace, By::Udp, "olddb.example", v4);
    lab.look_up(two.namespace, By::Udp, "newdb.example", v4);
    lab.look_up(two.namespace, By::Tcp, "a.b.shard.example", v6);
    for (actor, server, times) in [(&one, &db, 2), (&two, &db, 3), (&two, &db6, 1), (&node, &db, 1)] {
        for _ in 0..times {
            actor.run(&format!("connect exchange {server}"));
        }
    }
    lab.look_up(one.namespace, By::Tcp, "cache-7.example", v4);
    one.run(&format!("send exchange {cache}"));
    let counted = |event: &str, (uid, transport, service): (u32, &str, &str), count: u32| {
        format!(
            "netsnoop_connections_{event}_total{{role=\"client\",transport=\"{transport}\",user=\"{uid}\",namespace=\"\",pod=\"\",service=\"{service}\"}} {count}"
        )
    };
    let tcp = |uid, service| (uid, "tcp", service);
    agent.wait_for_line(&counted("closed", tcp(uid, "olddb"), 2));
    agent.wait_for_line(&counted("closed", tcp(uid + 1, "newdb"), 3));
    agent.wait_for_line(&counted("closed", tcp(uid + 1, "shard"), 1));
    agent.wait_for_line(&counted("closed", tcp(uid + 2, "rest"), 1));
    agent.wait_for_line(&counted("opened", (uid, "udp", "cache"), 1));
    let schema = Schema::read();
    let records = agent.wait_for("the last of their records", |agent| {
        let records = fs::read_to_string(agent.file("n.jsonl")).unwrap();
        let (whole, _) = records.rsplit_once('\n')?;
        let mut read = whole.lines().map(|line| schema.parse(line));
        read.any(|record| record.service.is_some_and(|service| service.name == "cache"))
            .then(|| whole.to_owned())
    });
    let resolved = r#""domain":"newdb.example","domain_source":"dns""#;
    assert!(records.contains(resolved), "{records}");
    assert!(
        records.contains(
            r#""domain":"cache-7.example","domain_source":"dns","domain_rivals":["olddb.example"]"#
        )
    );
    assert!(records.contains(r#""service":{"name":"shard","rule":"dns *.shard.example"}"#), "{records}");
    assert!(agent.stop().status.success());
}
