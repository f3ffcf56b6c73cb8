//! Lookups of names in the lab: a question from a namespace, and its answer by a resolver in the server's pod.
//!
//! Both sides are played here in turn, so that whatever follows comes after the answer.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};

use super::{Lab, Namespace, patience};

/// How the question is asked.
#[derive(Clone, Copy)]
pub(crate) enum By {
    Udp,
    /// The answer comes in two segments.
    Tcp,
}

impl Lab {
    /// Somebody in `asker` looks `name` up and is told that it leads to `address`, by way of an alias.
    pub(crate) fn look_up(&self, asker: &Namespace, by: By, name: &str, address: &str) {
        let address: IpAddr = address.parse().unwrap();
        let answer = answer(name, address);
        // The question is all that the answer begins with, without its records.
        let question =
            [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], asked(name, address).as_slice()].concat();
        match by {
            By::Udp => self.ask_by_udp(asker, &question, &answer),
            By::Tcp => self.ask_by_tcp(asker, &question, &answer),
        }
    }

    fn ask_by_udp(&self, asker: &Namespace, question: &[u8], answer: &[u8]) {
        let at = self.server.v4(53);
        let resolver = self.server.namespace.inside(|| UdpSocket::bind(&at).unwrap());
        let client = asker.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        resolver.set_read_timeout(Some(patience())).unwrap();
        client.set_read_timeout(Some(patience())).unwrap();
        let mut heard = [0; 512];
        client.send_to(question, &at).unwrap();
        let (length, from) = resolver.recv_from(&mut heard).unwrap();
        assert_eq!(&heard[..length], question);
        resolver.send_to(answer, from).unwrap();
        let (length, _) = client.recv_from(&mut heard).unwrap();
        assert_eq!(&heard[..length], answer);
    }

    fn ask_by_tcp(&self, asker: &Namespace, question: &[u8], answer: &[u8]) {
        let at = self.server.v4(53);
        let sized = |message: &[u8]| [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat();
        let (question, answer) = (sized(question), sized(answer));
        let resolver = self.server.namespace.inside(|| TcpListener::bind(&at).unwrap());
        let mut client = asker.inside(|| TcpStream::connect(&at).unwrap());
        let (mut asked, _) = resolver.accept().unwrap();
        asked.set_read_timeout(Some(patience())).unwrap();
        client.set_read_timeout(Some(patience())).unwrap();
        asked.set_nodelay(true).unwrap();
        client.write_all(&question).unwrap();
        let mut heard = vec![0; question.len()];
        asked.read_exact(&mut heard).unwrap();
        assert_eq!(heard, question);
        let (first, second) = answer.split_at(answer.len() / 2);
        asked.write_all(first).unwrap();
        asked.write_all(second).unwrap();
        let mut heard = vec![0; answer.len()];
        client.read_exact(&mut heard).unwrap();
        assert_eq!(heard, answer);
    }
}

/// The question for addresses of this family.
fn asked(name: &str, address: IpAddr) -> Vec<u8> {
    [spelled(name).as_slice(), &kind(address).to_be_bytes(), &[0, 1]].concat()
}

fn answer(name: &str, address: IpAddr) -> Vec<u8> {
    const TTL: [u8; 4] = 300_u32.to_be_bytes();
    const CNAME: [u8; 2] = [0, 5];
    let sized = |data: &[u8]| [&u16::try_from(data.len()).unwrap().to_be_bytes(), data].concat();
    let alias = spelled("alias.example");
    // The name of the question is 12 bytes into the message.
    let leads_to_alias = [&[0xc0, 12], CNAME.as_slice(), &[0, 1], &TTL, &sized(&alias)].concat();
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let kind = kind(address).to_be_bytes();
    let leads_to_address = [alias.as_slice(), &kind, &[0, 1], &TTL, &sized(&octets)].concat();
    let header = [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0];
    [&header, asked(name, address).as_slice(), &leads_to_alias, &leads_to_address].concat()
}

const fn kind(address: IpAddr) -> u16 {
    if address.is_ipv4() { 1 } else { 28 }
}

/// A name as messages have it (RFC 1035, section 3.1).
fn spelled(name: &str) -> Vec<u8> {
    let labels = name.split('.');
    let mut spelled: Vec<u8> =
        labels.flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat()).collect();
    spelled.push(0);
    spelled
}
