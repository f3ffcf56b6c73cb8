//! The capture against real traffic between two namespaces of the test's own. Needs root.

mod prerequisites;

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use netsnoop::counters::Counters;
use netsnoop::intake::{Input, Intake};
use netsnoop::sources::capture::{self, CaptureError, CaptureSettings, Stop};
use netsnoop_core::five_tuple::{Endpoint, FiveTuple, Transport};
use netsnoop_core::packet::{Decoded, Direction, Ignored, PacketContent, PacketHeader, TcpFlags, decode};
use rustix::thread::{CapabilitySet, CapabilitySets, LinkNameSpaceType};

const CLIENT: [&str; 2] = ["198.18.77.1", "2001:db8:77::1"];
const SERVER: [&str; 2] = ["198.18.77.2", "2001:db8:77::2"];
/// Nothing listens there.
const CLOSED: u16 = 9;
/// Over a thousand packets: a link of default settings carries at most 64 KiB in one.
const BULK: usize = 64 << 20;

/// Two namespaces with a link between them, gone when dropped.
struct Lab {
    client: String,
    server: String,
}

impl Lab {
    /// `None`, with the reason told, where this is not root.
    fn new(test: &str) -> Option<Self> {
        if !prerequisites::has(test, &["ip"]) {
            return None;
        }
        let name = |end: &str| format!("nsnoop-{test}-{end}-{}", std::process::id());
        let lab = Self { client: name("c"), server: name("s") };
        for namespace in [&lab.client, &lab.server] {
            ip(&format!("netns add {namespace}"));
            ip(&format!("-n {namespace} link set lo up"));
        }
        ip(&format!("-n {} link add veth0 type veth peer name veth0 netns {}", lab.client, lab.server));
        for (namespace, addresses) in [(&lab.client, CLIENT), (&lab.server, SERVER)] {
            ip(&format!("-n {namespace} link set veth0 up"));
            ip(&format!("-n {namespace} address add {}/30 dev veth0", addresses[0]));
            ip(&format!("-n {namespace} address add {}/64 dev veth0 nodad", addresses[1]));
        }
        Some(lab)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.client, &self.server] {
            ip(&format!("netns delete {namespace}"));
        }
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// Runs `act` on a thread of its own inside the namespace.
fn inside<T: Send>(namespace: &str, act: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        let link = std::fs::File::open(format!("/run/netns/{namespace}")).unwrap();
        rustix::thread::move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&link),
            Some(LinkNameSpaceType::Network),
        )
        .unwrap();
        act()
    };
    thread::scope(|scope| scope.spawn(enter).join().unwrap())
}

/// Captures in the client's namespace while `traffic` runs, and decodes what was seen.
fn capture_during(lab: &Lab, settings: &CaptureSettings, traffic: impl FnOnce()) -> (Vec<Seen>, Counters) {
    let (sender, receiver) = sync_channel(4096);
    let counters = Arc::new(Counters::default());
    let intake = Intake::new(sender, Arc::clone(&counters));
    let stop = Stop::new().unwrap();
    let capture = inside(&lab.client, || capture::open(settings).unwrap());
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let ended = capture.run(&intake, None, &stop);
            drop(intake);
            ended
        });
        traffic();
        stop.ask();
        reader.join().unwrap().unwrap();
    });
    (seen(&receiver), Arc::into_inner(counters).unwrap())
}

struct Seen {
    interface: Option<u32>,
    direction: Direction,
    header: PacketHeader,
}

fn seen(receiver: &Receiver<Input>) -> Vec<Seen> {
    let mut all = Vec::new();
    for input in receiver.iter() {
        let Input::Frames(batch) = input else { panic!("only frames are captured") };
        for frame in batch.frames {
            match decode(batch.link_type, &frame.data).unwrap() {
                Decoded::Header { interface, direction, header } => all.push(Seen {
                    interface: interface.or(batch.interface).map(Into::into),
                    direction: if direction == Direction::Unknown { frame.direction } else { direction },
                    header,
                }),
                // The kernel's own multicast reports have an extension header, behind which the filter
                // cannot look.
                Decoded::Ignored(why) => assert_eq!(why, Ignored::IcmpKind(143)),
            }
        }
    }
    all
}

/// One connection with bulk, one refused, a datagram and its answer, a datagram nobody takes.
fn traffic(lab: &Lab, client: &str, server: &str) -> Ports {
    let at = |address: &str, port| SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
    let listener = inside(&lab.server, || TcpListener::bind(at(server, 0)).unwrap());
    let service = inside(&lab.server, || UdpSocket::bind(at(server, 0)).unwrap());
    let tcp_to = listener.local_addr().unwrap();
    let udp_to = service.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
        });
        inside(&lab.client, || {
            let mut stream = TcpStream::connect(tcp_to).unwrap();
            stream.write_all(&vec![7; BULK]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            TcpStream::connect(at(server, CLOSED)).unwrap_err();

            let socket = UdpSocket::bind(at(client, 0)).unwrap();
            socket.send_to(b"question", udp_to).unwrap();
            let (_, from) = service.recv_from(&mut [0; 8]).unwrap();
            service.send_to(b"answer", from).unwrap();
            socket.recv(&mut [0; 8]).unwrap();
            let unwanted = UdpSocket::bind(at(client, 0)).unwrap();
            unwanted.connect(at(server, CLOSED)).unwrap();
            unwanted.send(b"anyone?").unwrap();
            unwanted.recv(&mut [0]).unwrap_err();
            Ports { tcp: tcp_to.port(), udp: udp_to.port() }
        })
    })
}

struct Ports {
    tcp: u16,
    udp: u16,
}

/// How many packets went that way with that protocol to that port (from it, if inbound) and content.
fn count(
    seen: &[Seen],
    to: (Transport, &str, u16),
    way: Direction,
    is: impl Fn(PacketContent) -> bool,
) -> usize {
    let server = Endpoint::new(to.1.parse().unwrap(), to.2);
    let matches = |tuple: FiveTuple| {
        let peer = if way == Direction::Out { tuple.remote } else { tuple.local };
        tuple.transport == to.0 && peer == server
    };
    let chosen =
        |packet: &&Seen| packet.direction == way && matches(packet.header.tuple) && is(packet.header.content);
    seen.iter().filter(chosen).count()
}

fn flags(mask: u8) -> impl Fn(PacketContent) -> bool {
    move |content| matches!(content, PacketContent::Tcp { flags, .. } if flags.contains(mask))
}

const fn datagram(content: PacketContent) -> bool {
    matches!(content, PacketContent::Udp { .. })
}

/// Every packet that matters of [`traffic`] was seen with its way. A segment may have been sent more than
/// once: that is up to the kernel and how busy the machine is.
fn check_traffic(seen: &[Seen], server: &str, ports: &Ports) {
    use Transport::{Tcp, Udp};
    let (out, inward) = (Direction::Out, Direction::In);
    for (port, way, mask) in [
        (ports.tcp, out, TcpFlags::SYN),
        (ports.tcp, inward, TcpFlags::SYN | TcpFlags::ACK),
        (ports.tcp, out, TcpFlags::FIN),
        (ports.tcp, inward, TcpFlags::FIN),
        (CLOSED, out, TcpFlags::SYN),
        (CLOSED, inward, TcpFlags::RST),
    ] {
        assert!(count(seen, (Tcp, server, port), way, flags(mask)) >= 1, "{port} {way:?} {mask:#x}");
    }
    assert_eq!(count(seen, (Udp, server, ports.udp), out, datagram), 1);
    assert_eq!(count(seen, (Udp, server, ports.udp), inward, datagram), 1);
    assert_eq!(count(seen, (Udp, server, CLOSED), out, datagram), 1);
    // The quoted packet's sender is this side, although the error came in.
    let refused = seen.iter().filter(|packet| {
        packet.header.content == PacketContent::Unreachable
            && packet.header.tuple.remote == Endpoint::new(server.parse().unwrap(), CLOSED)
            && packet.direction == inward
    });
    assert_eq!(refused.count(), 1);
}

#[test]
fn any_sees_what_matters_with_interface_and_way() {
    let Some(lab) = Lab::new("any") else { return };
    let mut ports = Vec::new();
    let (seen, counters) = capture_during(&lab, &CaptureSettings::default(), || {
        ports.extend([0, 1].map(|version| traffic(&lab, CLIENT[version], SERVER[version])));
    });
    let index = inside(&lab.client, || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        rustix::net::netdevice::name_to_index(&socket, "veth0").unwrap()
    });
    for (server, ports) in SERVER.iter().zip(&ports) {
        check_traffic(&seen, server, ports);
    }
    assert!(seen.iter().all(|packet| packet.interface == Some(index)));
    // Ten packets matter in each of the two, and some may be repeated; the bulk was over a thousand more.
    assert!((20..60).contains(&seen.len()), "{}", seen.len());
    assert_eq!(counters.packets_dropped_by_buffer.get(), 0);
    assert_eq!(counters.packets_lost_in_channel.get(), 0);
}

#[test]
fn one_interface_one_way_and_an_expression() {
    let Some(lab) = Lab::new("way") else { return };
    let settings = CaptureSettings {
        interface: "veth0".to_owned(),
        direction: Direction::In,
        expression: Some(format!("tcp src port {CLOSED} or icmp6")),
        ..CaptureSettings::default()
    };
    let (seen, _) = capture_during(&lab, &settings, || {
        for version in [0, 1] {
            traffic(&lab, CLIENT[version], SERVER[version]);
        }
    });
    for server in SERVER {
        let closed = (Transport::Tcp, server, CLOSED);
        assert!(count(&seen, closed, Direction::In, flags(TcpFlags::RST)) >= 1);
    }
    let is_unreachable = |packet: &&Seen| packet.header.content == PacketContent::Unreachable;
    assert_eq!(seen.iter().filter(is_unreachable).count(), 1);
    assert!(seen.iter().all(|packet| {
        is_unreachable(&packet)
            || packet.direction == Direction::In && flags(TcpFlags::RST)(packet.header.content)
    }));
}

#[test]
fn an_interface_that_disappears_ends_its_capture() {
    let Some(lab) = Lab::new("gone") else { return };
    let settings = CaptureSettings { interface: "veth0".to_owned(), ..CaptureSettings::default() };
    let (sender, _receiver) = sync_channel(16);
    let intake = Intake::new(sender, Arc::default());
    let capture = inside(&lab.client, || capture::open(&settings).unwrap());
    let ended = thread::scope(|scope| {
        let client = lab.client.clone();
        let reader =
            scope.spawn(move || inside(&client, || capture.run(&intake, None, &Stop::new().unwrap())));
        ip(&format!("-n {} link delete veth0", lab.client));
        reader.join().unwrap()
    });
    assert!(
        matches!(&ended, Err(CaptureError::Disappeared { interface, .. }) if interface == "veth0"),
        "{ended:?}"
    );
}

#[test]
fn refusals_say_what_to_do() {
    let Some(lab) = Lab::new("refuse") else { return };
    let open = |settings: CaptureSettings| inside(&lab.client, || capture::open(&settings).err().unwrap());
    let error = open(CaptureSettings { interface: "nosuch".to_owned(), ..CaptureSettings::default() });
    assert!(matches!(&error, CaptureError::NoSuchInterface { .. }), "{error:?}");
    assert!(error.to_string().contains("veth0"), "{error}");

    let expression = Some("port eighty and".to_owned());
    let error = open(CaptureSettings { expression, ..CaptureSettings::default() });
    assert!(matches!(&error, CaptureError::BadExpression { .. }), "{error:?}");
    assert!(error.to_string().contains("\"port eighty and\""), "{error}");

    // Sound only inside the parentheses it would be combined in.
    let expression = Some("udp) or (tcp".to_owned());
    let error = open(CaptureSettings { expression, ..CaptureSettings::default() });
    assert!(matches!(&error, CaptureError::BadExpression { .. }), "{error:?}");

    let error = open(CaptureSettings { promiscuous: true, ..CaptureSettings::default() });
    assert!(matches!(&error, CaptureError::BadSetting { .. }), "{error:?}");

    let none = CapabilitySet::empty();
    let error = inside(&lab.client, || {
        let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
        rustix::thread::set_capabilities(None, sets).unwrap();
        capture::open(&CaptureSettings::default()).err().unwrap()
    });
    assert!(matches!(&error, CaptureError::Permission { .. }), "{error:?}");
    assert!(error.to_string().contains("CAP_NET_RAW"), "{error}");
}
