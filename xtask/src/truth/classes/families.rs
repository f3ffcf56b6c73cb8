//! Connections by address family and by how the socket was asked to connect.

use anyhow::Result;

use super::{CLIENT, Class, SERVER, plays, serves};
use crate::truth::player::Stage;
use crate::truth::player::tcp::{self, From};
use crate::truth::scene::Family;
use crate::truth::scene::Place::{PodA, PodB};

pub(super) const CLASSES: &[Class] = &[
    Class::new("ipv6", "IPv6", &[serves(PodB, SERVER, serve_v6), plays(PodA, CLIENT, v6)]),
    Class::new(
        "v4_mapped",
        "IPv4 between IPv6 sockets, and from an IPv4 socket to an IPv6 one",
        &[serves(PodB, SERVER, serve_any_v6), plays(PodA, CLIENT, mapped)],
    ),
];

fn serve_v6(stage: &Stage) -> Result<()> {
    tcp::serve_echo(stage, PodB.at(Family::V6, stage.port(0)))
}

fn v6(stage: &Stage) -> Result<()> {
    for _ in 0..stage.times(30) {
        tcp::ask(stage, PodB.at(Family::V6, stage.port(0)))?.close()?;
    }
    Ok(())
}

fn serve_any_v6(stage: &Stage) -> Result<()> {
    tcp::serve_echo(stage, tcp::any_v6(stage.port(0)))
}

fn mapped(stage: &Stage) -> Result<()> {
    let server = stage.server(PodB);
    let mapped = match server.ip() {
        std::net::IpAddr::V4(address) => (address.to_ipv6_mapped(), server.port()).into(),
        std::net::IpAddr::V6(_) => server,
    };
    for _ in 0..stage.times(15) {
        tcp::connect_to(stage, mapped, From::default())?.close()?;
        tcp::ask(stage, server)?.close()?;
    }
    Ok(())
}
