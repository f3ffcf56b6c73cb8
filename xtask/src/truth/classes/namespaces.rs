//! Network namespaces that come and go, the node's own, and traffic that is nobody's on the node.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with};
use rustix::thread::UnshareFlags;

use super::{CLIENT, Class, ROOT, SERVER, plays, serves};
use crate::shell;
use crate::truth::node::{NOBODY_IN, NOBODY_OUT};
use crate::truth::player::tcp::{self, From, Listen};
use crate::truth::player::{Stage, become_user, new_namespace, udp};
use crate::truth::scene::Family;
use crate::truth::scene::Place::{Node, Outside, PodA, PodB};
use crate::truth::told::{self, Opened, Role, Transport};

pub(super) const CLASSES: &[Class] = &[
    Class::new(
        "brief_netns",
        "namespaces made, used on loopback and gone within 100 ms, each with the last one's inode",
        &[plays(Node, ROOT, use_brief_namespaces)],
    ),
    Class::new(
        "brief_pod",
        "pods made, linked, used and gone within 100 ms, each with the last one's inode",
        &[serves(PodB, SERVER, tcp::echo), serves(PodB, SERVER, hear_udp), plays(Node, ROOT, use_brief_pods)],
    ),
    Class::new(
        "node_to_pod",
        "a process of the node itself asks a pod",
        &[serves(PodB, SERVER, tcp::echo), plays(Node, CLIENT, ask_pod)],
    ),
    Class::new(
        "pod_to_node",
        "a pod asks a process of the node itself",
        &[serves(Node, ROOT, tcp::echo), plays(PodA, CLIENT, ask_node)],
    ),
    Class::new(
        "forwarded",
        "packets through the node between addresses that no socket here has",
        &[plays(Outside, ROOT, forge)],
    ),
];

fn ask_times(stage: &Stage, server: SocketAddr) -> Result<()> {
    for _ in 0..stage.times(30) {
        tcp::ask(stage, server)?.close()?;
    }
    Ok(())
}

fn ask_pod(stage: &Stage) -> Result<()> {
    ask_times(stage, stage.server(PodB))
}

fn ask_node(stage: &Stage) -> Result<()> {
    ask_times(stage, stage.server(Node))
}

/// Hands `ip` a batch, in this thread's namespace.
fn ip(batch: &str) -> Result<()> {
    shell::feed(Command::new("ip").args(["-batch", "-"]).stdout(Stdio::null()), batch)
}

fn use_brief_namespaces(stage: &Stage) -> Result<()> {
    for turn in 0..stage.times(5) {
        let one = || {
            new_namespace(UnshareFlags::NEWNET)?;
            ip("link set lo up\n")?;
            become_user(CLIENT + turn)?;
            let address: SocketAddr = (Ipv4Addr::LOCALHOST, stage.port(0)).into();
            let listener = tcp::listener(address, Listen::default())?;
            let client = tcp::connect_to(stage, address, From::default())?;
            let server = tcp::accept(stage, &listener)?;
            client.close()?;
            server.close()
        };
        stage.fork(one)?.wait()?;
    }
    Ok(())
}

fn hear_udp(stage: &Stage) -> Result<()> {
    udp::serve(stage, PodB.at(Family::V4, stage.port(1)), true)
}

/// Its address is another one than the last pod's, and the one before had it.
fn use_brief_pods(stage: &Stage) -> Result<()> {
    for turn in 0..stage.times(6) {
        let own = Ipv4Addr::new(198, 18, 64, 100 + u8::from(turn % 2 == 0));
        let (mut mine, mut theirs) = UnixStream::pair().context("making a pair of sockets")?;
        let pod = stage.fork(|| {
            new_namespace(UnshareFlags::NEWNET)?;
            theirs.write_all(b"n").context("saying that the namespace is there")?;
            theirs.read_exact(&mut [0]).context("waiting for the link")?;
            // As on every node it is root that makes a pod, so the pod has been of two users.
            told::inhabitant()?;
            ip(&format!("link set lo up\naddr add {own}/24 dev eth0\nlink set eth0 up\n"))?;
            become_user(CLIENT + turn)?;
            tcp::ask(stage, stage.server(PodB))?.close()?;
            let server = PodB.at(Family::V4, stage.port(1));
            let socket = udp::bound((own, 0).into(), false)?;
            let flow = udp::send_to(stage, socket, server)?;
            flow.hear()?;
            flow.close()
        })?;
        mine.read_exact(&mut [0]).context("waiting for the namespace")?;
        let name = format!("brief{turn}");
        ip(&format!(
            "link add {name} type veth peer name eth0 netns {}\nlink set {name} master br0 up\n",
            pod.pid()
        ))?;
        mine.write_all(b"l").context("saying that the link is there")?;
        pod.wait()?;
    }
    Ok(())
}

/// Sends SYNs and datagrams whose addresses are nobody's, which the node forwards.
fn forge(stage: &Stage) -> Result<()> {
    let raw = socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW))
        .context("making a raw socket")?;
    for turn in 0..10 {
        let client = SocketAddrV4::new(NOBODY_OUT, 1111 + turn);
        let server = SocketAddrV4::new(NOBODY_IN, stage.port(0));
        for transport in [Transport::Tcp, Transport::Udp] {
            let end = stage.end(Role::Client, transport)?;
            let packet = packet(transport, client, server);
            let to: SocketAddr = (*server.ip(), 0).into();
            sendto(&raw, &packet, SendFlags::empty(), &to).context("sending a forged packet")?;
            let ends = [(Role::Client, client, server), (Role::Server, server, client)];
            for (role, local, remote) in ends {
                let end = Opened { role, local: local.into(), remote: remote.into(), ..end.clone() };
                stage.tell_nobody(end)?.closed()?;
            }
        }
    }
    Ok(())
}

/// An IPv4 packet with a SYN or an empty datagram in it (RFC 791, RFC 9293 section 3.1, RFC 768). The kernel fills in the
/// IP header's checksum and length (man 7 raw).
fn packet(transport: Transport, client: SocketAddrV4, server: SocketAddrV4) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(client.port().to_be_bytes());
    segment.extend(server.port().to_be_bytes());
    let (protocol, checksum_at) = match transport {
        Transport::Tcp => {
            // Sequence number, no acknowledgement, five words of header, SYN, window, checksum, no urgent data.
            segment.extend([
                0,
                0,
                0x12,
                client.port().to_be_bytes()[1],
                0,
                0,
                0,
                0,
                0x50,
                0x02,
                0x10,
                0,
                0,
                0,
                0,
                0,
            ]);
            (6, 16)
        }
        Transport::Udp => {
            segment.extend([0, 8, 0, 0]);
            (17, 6)
        }
    };
    let mut pseudo = [client.ip().octets(), server.ip().octets()].concat();
    pseudo.extend([0, protocol, 0, segment.len() as u8]);
    let checksum = checksum(&[pseudo, segment.clone()].concat());
    segment.splice(checksum_at..checksum_at + 2, checksum.to_be_bytes());
    let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0];
    packet.extend(client.ip().octets());
    packet.extend(server.ip().octets());
    packet.extend(segment);
    packet
}

/// The ones' complement of the ones' complement sum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
