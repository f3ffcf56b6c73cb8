//! Bytes in the agent's metrics: while a connection lives, each of them once, and none twice after a restart.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;

use crate::lab::Lab;
use crate::lab::agent::Agent;

const SETTINGS: &str = "services:\n\
    - {name: shop, addresses: 198.18.77.11, ports: 7311, protocol: tcp}\n\
    - {name: clock, addresses: 198.18.77.11, ports: 7312, protocol: udp}\n\
    bytes: {interval: 1s}\n\
    state: {path: '{folder}/state.json', interval: 1h}\n";

/// A connection, both ends of which are this test's.
struct Held {
    client: TcpStream,
    server: TcpStream,
}

impl Held {
    fn new(lab: &Lab) -> Self {
        let address = lab.server.v4(7311);
        let listener = lab.server.namespace.inside(|| TcpListener::bind(&address).unwrap());
        let client = lab.client.namespace.inside(|| TcpStream::connect(&address).unwrap());
        let (server, _) = listener.accept().unwrap();
        Self { client, server }
    }

    /// Sends that many bytes each way, and waits until they are there.
    fn exchange(&mut self, sent: usize, received: usize) {
        let pass = |from: &mut TcpStream, to: &mut TcpStream, count: usize| {
            thread::scope(|scope| {
                scope.spawn(|| from.write_all(&vec![7; count]).unwrap());
                to.read_exact(&mut vec![0; count]).unwrap();
            });
        };
        pass(&mut self.client, &mut self.server, sent);
        pass(&mut self.server, &mut self.client, received);
    }
}

/// What the page has of a service, whoever is its client.
fn counted(page: &str, metric: &str, service: &str) -> u64 {
    let (begins, label) = (format!("netsnoop_{metric}_total{{"), format!("service=\"{service}\""));
    let lines = page.lines().filter(|line| line.starts_with(&begins) && line.contains(&label));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

fn bytes_of(page: &str, service: &str) -> (u64, u64) {
    (counted(page, "sent_bytes", service), counted(page, "received_bytes", service))
}

#[track_caller]
fn wait_for_bytes(agent: &Agent<'_>, service: &str, expected: (u64, u64)) {
    let what = format!("{expected:?} bytes of {service}");
    agent.wait_for(&what, |agent| (bytes_of(&agent.page(), service) == expected).then_some(()));
}

/// `is_told_at_the_end`: the kernel tells of ends, so that no byte is missing then.
fn check(lab: &Lab, arguments: &[&str], is_told_at_the_end: bool) {
    let agent = Agent::start(&lab.node, SETTINGS, arguments);
    let mut held = Held::new(lab);
    held.exchange(1000, 30);
    wait_for_bytes(&agent, "shop", (1000, 30));
    held.exchange(500_000, 7);
    wait_for_bytes(&agent, "shop", (501_000, 37));
    assert_eq!(counted(&agent.page(), "connections_closed", "shop"), 0, "it lives");

    let clock = lab.server.v4(7312);
    let server = lab.server.namespace.inside(|| UdpSocket::bind(&clock).unwrap());
    let client = lab.client.namespace.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let exchanged = Cell::new(0);
    let (sent, received) = agent.wait_for("bytes of a datagram flow that goes on", |agent| {
        client.send_to(&[0; 100], &clock).unwrap();
        let (_, peer) = server.recv_from(&mut [0; 100]).unwrap();
        server.send_to(&[0; 9], peer).unwrap();
        client.recv_from(&mut [0; 100]).unwrap();
        exchanged.set(exchanged.get() + 1);
        Some(bytes_of(&agent.page(), "clock")).filter(|(sent, _)| *sent != 0)
    });
    // An answer may be told of later than what it answers.
    assert!(sent <= exchanged.get() * 100 && sent % 100 == 0, "{sent} of {exchanged:?}");
    assert!(received <= exchanged.get() * 9 && received % 9 == 0, "{received} of {exchanged:?}");

    held.exchange(11, 0);
    drop(held);
    let is_closed = |agent: &Agent<'_>| counted(&agent.page(), "connections_closed", "shop") == 1;
    agent.wait_for("its end", |agent| is_closed(agent).then_some(()));
    let (sent, received) = bytes_of(&agent.page(), "shop");
    // Without the kernel's word a look may have come between, or not.
    let least = if is_told_at_the_end { 501_011 } else { 501_000 };
    assert!((least..=501_011).contains(&sent) && received == 37, "{sent} {received}");
    assert!(agent.stop().status.success());
}

#[test]
fn a_connection_is_counted_while_it_lives_and_to_the_byte_at_its_end() {
    let name = "bytes::a_connection_is_counted_while_it_lives_and_to_the_byte_at_its_end";
    let Some(lab) = Lab::new(name) else { return };
    check(&lab, &[], true);
}

#[test]
fn without_ebpf_a_connection_is_counted_while_it_lives() {
    let Some(lab) = Lab::new("bytes::without_ebpf_a_connection_is_counted_while_it_lives") else { return };
    check(&lab, &["--ebpf", "off"], false);
}

#[test]
fn no_byte_is_counted_by_two_runs() {
    let Some(lab) = Lab::new("bytes::no_byte_is_counted_by_two_runs") else { return };
    let agent = Agent::start(&lab.node, SETTINGS, &[]);
    let mut held = Held::new(&lab);
    held.exchange(100_000, 0);
    wait_for_bytes(&agent, "shop", (100_000, 0));
    let agent = agent.restart(&[]);
    wait_for_bytes(&agent, "shop", (100_000, 0));
    // It goes on from its first look at the connection, whenever that comes.
    let (held, more) = (RefCell::new(held), Cell::new(0));
    agent.wait_for("more bytes", |agent| {
        held.borrow_mut().exchange(10, 0);
        more.set(more.get() + 10);
        (bytes_of(&agent.page(), "shop").0 > 100_000).then_some(())
    });
    drop(held);
    agent.wait_for("its end", |agent| {
        (counted(&agent.page(), "connections_closed", "shop") == 1).then_some(())
    });
    let (sent, received) = bytes_of(&agent.page(), "shop");
    assert!(sent <= 100_000 + more.get() && received == 0, "{sent} {received}, {} more", more.get());
    assert!(agent.stop().status.success());
}
