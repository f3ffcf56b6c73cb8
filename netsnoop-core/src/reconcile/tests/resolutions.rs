//! What servers are called by those who looked their names up.

use alloc::string::String;
use alloc::sync::Arc;

use super::*;
use crate::connection::Role;
use crate::namespace::TopologyReport;
use crate::observation::{Tracker, TranslationReport};
use crate::resolution::{Resolution, ResolvedAddress};
use crate::service::{LearntName, NameKind, NamePattern, ServiceName, ServiceRule, Services, Where};
use crate::translation::{Translation, TranslationChange};

/// The resolver and a server, neither on this node.
const RESOLVER: &str = "203.0.113.53:53";
const SERVER: &str = "203.0.113.9";

fn services() -> Services {
    let rule = |service: &str, pattern: &str| ServiceRule {
        service: ServiceName::Given(service.into()),
        place: Where::Named(NameKind::Dns, NamePattern::parse(pattern).unwrap()),
        ports: None,
        transport: None,
    };
    Services::new(vec![rule("db", "db.example"), rule("shop", "*.shop.example")])
}

fn world(hooks: Hooks) -> World {
    World::with(Settings { hooks, services: services(), ..Settings::default() })
}

fn datagram() -> PacketContent {
    PacketContent::Udp { payload_length: 40 }
}

fn sighting(millis: u64, interface: u32, tuple: FiveTuple) -> PacketSighting {
    PacketSighting {
        at: at(millis),
        interface: NonZeroU32::new(interface),
        direction: Direction::Unknown,
        header: PacketHeader { tuple, content: datagram() },
    }
}

fn resolution(name: &str, address: &str, ttl: u64) -> Arc<Resolution> {
    let address = address.parse().unwrap();
    let ttl = Duration::from_secs(ttl);
    Arc::new(Resolution { name: name.into(), addresses: vec![ResolvedAddress { address, ttl }] })
}

impl World {
    /// `asker` sends something to the resolver.
    fn asks(&mut self, millis: u64, interface: u32, asker: &str) {
        self.see(millis, packet(millis, interface, udp(asker, RESOLVER), datagram()));
    }

    /// The resolver tells `asker` that `name` leads to the server.
    fn is_told(&mut self, millis: u64, interface: u32, asker: &str, name: &str) {
        let tuple = udp(RESOLVER, asker);
        let told = resolution(name, SERVER, 300);
        self.see(millis, Observation::Resolution(sighting(millis, interface, tuple), told));
        self.see(millis, packet(millis, interface, tuple, datagram()));
    }

    fn resolves(&mut self, millis: u64, interface: u32, asker: &str, name: &str) {
        self.asks(millis, interface, asker);
        self.is_told(millis, interface, asker, name);
    }

    fn connects(&mut self, millis: u64, interface: u32, client: &str) {
        let tuple = tcp(client, &alloc::format!("{SERVER}:5432"));
        self.see(millis, packet(millis, interface, tuple, syn(5)));
        self.see(millis, packet(millis, interface, tuple.mirrored(), syn_ack(5)));
    }

    /// Service, name and rivals of each connection to the server that was told of last.
    fn named(&self) -> Vec<String> {
        let to_server = |record: &&ConnectionRecord| record.server.endpoint.port == 5432;
        let of_last = |record: &ConnectionRecord| {
            let service = record.service.as_ref().map_or("-", |service| &*service.name);
            let name = record.names.first().map_or("-", |name| &*name.text);
            let rivals: Vec<&str> = record.rival_names.iter().map(|name| &**name).collect();
            [service, name, &rivals.join(",")].join(" ").trim_end().into()
        };
        self.told.iter().filter(to_server).map(of_last).collect()
    }
}

const WEB_ASKS: &str = "198.18.1.10:40053";
const DB_ASKS: &str = "198.18.1.13:40053";
const WEB_CONNECTS: &str = "198.18.1.10:41000";
const DB_CONNECTS: &str = "198.18.1.13:41000";

#[test]
fn a_server_is_called_as_the_clients_namespace_looked_it_up() {
    let mut world = world(Hooks::default());
    world.resolves(1, WEB_VETH, WEB_ASKS, "db.example");
    world.resolves(1, DB_VETH, DB_ASKS, "a.shop.example");
    world.connects(2, WEB_VETH, WEB_CONNECTS);
    world.connects(3, DB_VETH, DB_CONNECTS);
    // The node itself has asked for nothing.
    world.connects(4, UPLINK, "198.18.0.1:41000");
    world.wait_until(500);
    assert_eq!(world.named(), ["db db.example", "shop a.shop.example", "- -"]);
    let record = world.opens().into_iter().find(|record| record.service.is_some()).unwrap();
    assert_eq!(&*record.service.as_ref().unwrap().rule, "dns db.example");
    assert_eq!(record.role, Role::Syn);
    assert_eq!(world.reconciler.ledger().resolutions_unmatched, 0);
}

#[test]
fn the_last_name_before_the_connection_counts_and_the_others_are_told() {
    let mut world = world(Hooks::default());
    world.resolves(1, WEB_VETH, WEB_ASKS, "other.example");
    world.resolves(2, WEB_VETH, WEB_ASKS, "db.example");
    world.connects(3, WEB_VETH, WEB_CONNECTS);
    world.resolves(4, WEB_VETH, WEB_ASKS, "a.shop.example");
    world.wait_until(500);
    assert_eq!(world.named(), ["db db.example other.example"]);
}

#[test]
fn names_end_with_their_time_to_live_and_do_not_name_what_is_older() {
    let mut world = world(Hooks::default());
    world.connects(1, WEB_VETH, WEB_CONNECTS);
    world.wait_until(2_000);
    world.resolves(2_000, WEB_VETH, WEB_ASKS, "db.example");
    world.connects(302_000, WEB_VETH, "198.18.1.10:41001");
    world.connects(302_002, WEB_VETH, "198.18.1.10:41002");
    world.wait_until(302_500);
    assert_eq!(world.named(), ["- -", "db db.example", "- -"]);
}

#[test]
fn what_nobody_asked_for_names_nothing() {
    let mut world = world(Hooks::default());
    world.is_told(1, WEB_VETH, WEB_ASKS, "db.example");
    // The same by another interface, once the forged answer has made a connection of its own.
    world.is_told(1, UPLINK, WEB_ASKS, "db.example");
    // Another port than that which asked.
    world.asks(2, WEB_VETH, "198.18.1.10:40054");
    world.is_told(3, WEB_VETH, "198.18.1.10:40055", "db.example");
    world.connects(4, WEB_VETH, WEB_CONNECTS);
    world.wait_until(500);
    assert_eq!(world.named(), ["- -"]);
    assert_eq!(world.reconciler.ledger().resolutions_unmatched, 3);
}

#[test]
fn an_answer_that_is_read_after_the_connection_is_waited_for() {
    let mut world = world(ALL_HOOKS);
    world.see(0, Observation::PacketsUntil(at(0)));
    world.asks(1, WEB_VETH, WEB_ASKS);
    let client = Socket::new(WEB, tcp(WEB_CONNECTS, &alloc::format!("{SERVER}:5432")), 7);
    world.see(3, client.event(3, Act::Connect, Some(7)));
    world.see(4, client.event(4, Act::Established { by_client: true }, None));
    assert_eq!(world.named(), [""; 0]);
    // libpcap hands over what it saw before.
    world.see(6, Observation::PacketsUntil(at(1)));
    let tuple = udp(RESOLVER, WEB_ASKS);
    let told = Observation::Resolution(sighting(2, WEB_VETH, tuple), resolution("db.example", SERVER, 5));
    world.see(7, told);
    assert_eq!(world.named(), [""; 0]);
    world.see(8, Observation::PacketsUntil(at(8)));
    assert_eq!(world.named(), ["db db.example"]);
}

#[test]
fn a_capture_that_tells_nothing_holds_a_connection_up_for_a_second_at_most() {
    let mut world = world(ALL_HOOKS);
    world.see(0, Observation::PacketsUntil(at(0)));
    let client = Socket::new(WEB, tcp(WEB_CONNECTS, &alloc::format!("{SERVER}:5432")), 7);
    world.see(3, client.event(3, Act::Connect, Some(7)));
    world.see(4, client.event(4, Act::Established { by_client: true }, None));
    world.wait_until(900);
    assert_eq!(world.named(), [""; 0]);
    world.wait_until(1_200);
    assert_eq!(world.named(), ["- -"]);
}

#[test]
fn an_answer_under_the_address_of_the_node_is_the_pods_that_asked() {
    let mut world = world(Hooks::default());
    world.hears = false;
    let translation = |id, transport, port: &str, (client, server): (&str, &str)| {
        let tuple = |local: &str, remote: &str| FiveTuple { transport, ..tcp(local, remote) };
        let original = tuple(client, server);
        let reply = tuple(server, &alloc::format!("198.18.0.1:{port}"));
        TranslationChange::Began(Translation { original, reply, id })
    };
    let entries = |millis, changes| {
        let tracker = Tracker::Own;
        Observation::Translations(TranslationReport { tracker, at: at(millis), whole: false, changes })
    };
    // On the uplink before the entry is read: it looks like the node's own.
    world.see(1, entries(1, vec![]));
    world.asks(1, WEB_VETH, WEB_ASKS);
    world.asks(1, UPLINK, "198.18.0.1:60053");
    world.is_told(2, UPLINK, "198.18.0.1:60053", "db.example");
    world.is_told(2, WEB_VETH, WEB_ASKS, "db.example");
    world.see(3, entries(3, vec![translation(1, Transport::Udp, "60053", (WEB_ASKS, RESOLVER))]));
    let server = alloc::format!("{SERVER}:5432");
    world.see(3, entries(3, vec![translation(2, Transport::Tcp, "61000", (WEB_CONNECTS, &server))]));
    world.connects(4, WEB_VETH, WEB_CONNECTS);
    world.connects(4, UPLINK, "198.18.0.1:41000");
    world.hears = true;
    world.wait_until(2_000);
    assert_eq!(world.named(), ["db db.example", "- -"]);
}

#[test]
fn who_asked_may_be_known_later_than_the_answer() {
    let mut world = World::with(Settings {
        services: services(),
        topology_changes: true,
        lookups: true,
        ..Settings::default()
    });
    let tuple = udp("198.18.1.77:40053", RESOLVER);
    let seen = |millis, tuple: FiveTuple, direction, content| {
        let header = PacketHeader { tuple, content };
        PacketSighting { at: at(millis), interface: NonZeroU32::new(99), direction, header }
    };
    world.see(300, Observation::Packet(seen(300, tuple, Direction::In, datagram())));
    let answer = seen(301, tuple.mirrored(), Direction::Out, datagram());
    world.see(301, Observation::Resolution(answer, resolution("db.example", SERVER, 300)));
    world.see(301, Observation::Packet(answer));
    let connection = tcp("198.18.1.77:41000", &alloc::format!("{SERVER}:5432"));
    world.see(302, Observation::Packet(seen(302, connection, Direction::In, syn(5))));
    world.see(302, Observation::Packet(seen(302, connection.mirrored(), Direction::Out, syn_ack(5))));
    let mut grown = topology();
    let key = NamespaceKey { inode: 9, cookie: None };
    grown.began = at(303);
    grown.interfaces.push(Interface { index: 99, name: "new".into(), kind: InterfaceKind::Veth(Some(9)) });
    let addresses = vec!["198.18.1.77".parse().unwrap()];
    grown.namespaces.push(NamespaceFacts { key, addresses, name: None, id: Some(9) });
    world.see(304, Observation::Topology(grown));
    let told = TopologyReport { since: at(0), until: at(304), changes: vec![] };
    world.see(304, Observation::TopologyChanges(told));
    world.wait_until(1_000);
    assert_eq!(world.named(), ["db db.example"]);
    assert_eq!(world.opens().last().unwrap().client.namespace, Some(key));
}

#[test]
fn a_datagram_goes_to_what_its_sender_looked_up() {
    let mut world = world(Hooks::default());
    world.resolves(1, WEB_VETH, WEB_ASKS, "db.example");
    let tuple = udp("198.18.1.10:41000", &alloc::format!("{SERVER}:5432"));
    world.see(2, packet(2, WEB_VETH, tuple, datagram()));
    world.wait_until(500);
    assert_eq!(world.named(), ["db db.example"]);
    assert_eq!(world.last().client.endpoint, endpoint("198.18.1.10:41000"));
}

#[test]
fn who_is_elsewhere_is_known_by_its_address() {
    let mut world = world(Hooks::default());
    world.resolves(1, UPLINK, "203.0.113.7:40053", "db.example");
    world.connects(2, UPLINK, "203.0.113.7:41000");
    world.connects(2, UPLINK, "203.0.113.8:41000");
    world.wait_until(500);
    assert_eq!(world.named(), ["db db.example", "- -"]);
}

#[test]
fn a_name_said_under_either_address_is_that_of_the_one_connection() {
    let mut world = world(Hooks::default());
    world.hears = false;
    let entries = |changes| {
        let report = TranslationReport { tracker: Tracker::Own, at: at(1), whole: false, changes };
        Observation::Translations(report)
    };
    world.see(1, entries(vec![]));
    let original = tcp(WEB_CONNECTS, "203.0.113.80:443");
    let led_to = tcp(WEB_CONNECTS, "198.18.1.13:8443");
    world.see(1, packet(1, WEB_VETH, original, syn(5)));
    world.see(1, packet(1, DB_VETH, led_to, syn(5)));
    let said = LearntName::new(NameKind::Sni, "a.example");
    world.see(2, Observation::Name(sighting(2, DB_VETH, led_to), said.clone()));
    let translation = Translation { original, reply: led_to.mirrored(), id: 1 };
    world.see(3, entries(vec![TranslationChange::Began(translation)]));
    world.hears = true;
    world.wait_until(2_000);
    assert_eq!(world.opens().len(), 1);
    assert_eq!(world.last().names, [said]);
}
