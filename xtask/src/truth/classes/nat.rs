//! Connections whose addresses the node translates: each end sees another address of the other, and it is one connection.

use anyhow::Result;

use super::{CLIENT, Class, ROOT, SERVER, plays, serves};
use crate::truth::node::{
    BRIDGED_SERVICE, HAIRPIN_SERVICE, PUBLISHED, ROUTED_SERVICE, SERVICE_PORT, Service,
};
use crate::truth::player::Stage;
use crate::truth::player::tcp;
use crate::truth::player::udp;
use crate::truth::scene::Place::{Node, Outside, PodA, PodB, PodC, ServiceHost};
use crate::truth::scene::{Family, Place, service_address};

const ROUTED: u8 = ROUTED_SERVICE.number;
const BRIDGED: u8 = BRIDGED_SERVICE.number;
const HAIRPIN: u8 = HAIRPIN_SERVICE.number;

pub(super) const CLASSES: &[Class] = &[
    Class::new(
        "snat_tcp",
        "TCP to a host outside, masqueraded",
        &[serves(Outside, SERVER, tcp::echo), plays(PodA, CLIENT, ask_outside_tcp)],
    )
    .translated(),
    Class::new(
        "snat_udp",
        "UDP to a host outside, masqueraded",
        &[serves(Outside, SERVER, udp::echo), plays(PodA, CLIENT, ask_outside_udp)],
    )
    .translated(),
    Class::new(
        "snat_ipv6",
        "TCP over IPv6 to a host outside, masqueraded",
        &[serves(Outside, SERVER, serve_outside_v6), plays(PodA, CLIENT, ask_outside_v6)],
    )
    .translated(),
    Class::new(
        "service_tcp",
        "TCP to a service's address, from a pod and from the node itself",
        &[
            serves(ServiceHost, SERVER, serve_tcp::<ROUTED>),
            plays(PodA, CLIENT, ask_tcp::<ROUTED>),
            plays(Node, ROOT, ask_tcp::<ROUTED>),
        ],
    )
    .translated(),
    Class::new(
        "service_udp",
        "UDP to a service's address, from a pod and from the node itself",
        &[
            serves(ServiceHost, SERVER, serve_udp::<ROUTED>),
            plays(PodA, CLIENT, ask_udp::<ROUTED>),
            plays(Node, ROOT, ask_udp::<ROUTED>),
        ],
    )
    .translated(),
    Class::new(
        "service_bridged_tcp",
        "TCP to a service whose pod is on the caller's bridge: both addresses are translated",
        &[serves(PodB, SERVER, serve_tcp::<BRIDGED>), plays(PodA, CLIENT, ask_tcp::<BRIDGED>)],
    )
    .translated(),
    Class::new(
        "service_bridged_udp",
        "the same by UDP",
        &[serves(PodB, SERVER, serve_udp::<BRIDGED>), plays(PodA, CLIENT, ask_udp::<BRIDGED>)],
    )
    .translated(),
    Class::new(
        "hairpin_tcp",
        "TCP to a service that the caller's own pod serves",
        &[serves(PodC, SERVER, serve_tcp::<HAIRPIN>), plays(PodC, CLIENT, ask_tcp::<HAIRPIN>)],
    )
    .translated(),
    Class::new(
        "hairpin_udp",
        "the same by UDP",
        &[serves(PodC, SERVER, serve_udp::<HAIRPIN>), plays(PodC, CLIENT, ask_udp::<HAIRPIN>)],
    )
    .translated(),
    Class::new(
        "published_tcp",
        "TCP from outside to a port of the node that is a pod's",
        &[serves(PodB, SERVER, serve_published_tcp), plays(Outside, CLIENT, ask_published_tcp)],
    )
    .translated(),
    Class::new(
        "published_udp",
        "the same by UDP",
        &[serves(PodB, SERVER, serve_published_udp), plays(Outside, CLIENT, ask_published_udp)],
    )
    .translated(),
];

const TIMES: u32 = 20;

fn ask_all_tcp(stage: &Stage, server: std::net::SocketAddr) -> Result<()> {
    for turn in 0..stage.times(TIMES) {
        let held = tcp::ask(stage, server)?;
        if turn % 2 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        held.close()?;
    }
    Ok(())
}

fn ask_all_udp(stage: &Stage, server: std::net::SocketAddr) -> Result<()> {
    for turn in 0..stage.times(TIMES) {
        let socket = udp::fresh(server)?.into();
        let flow = if turn % 2 == 0 {
            udp::send_to(stage, socket, server)?
        } else {
            udp::connect_to(stage, socket, server)?
        };
        flow.hear()?;
        std::thread::sleep(std::time::Duration::from_millis(u64::from(turn % 3) * 10));
        flow.close()?;
    }
    Ok(())
}

fn ask_outside_tcp(stage: &Stage) -> Result<()> {
    ask_all_tcp(stage, stage.server(Outside))
}

fn ask_outside_udp(stage: &Stage) -> Result<()> {
    ask_all_udp(stage, stage.server(Outside))
}

fn serve_outside_v6(stage: &Stage) -> Result<()> {
    tcp::serve_echo(stage, Outside.at(Family::V6, stage.port(0)))
}

fn ask_outside_v6(stage: &Stage) -> Result<()> {
    ask_all_tcp(stage, Outside.at(Family::V6, stage.port(0)))
}

/// The service of this number, as seen from where this part plays.
const fn service(number: u8, place: Place) -> Service {
    Service { number, place }
}

fn serve_tcp<const NUMBER: u8>(stage: &Stage) -> Result<()> {
    let port = service(NUMBER, stage.place()).target_port();
    tcp::serve_echo(stage, stage.place().at(Family::V4, port))
}

fn serve_udp<const NUMBER: u8>(stage: &Stage) -> Result<()> {
    let port = service(NUMBER, stage.place()).target_port();
    udp::serve(stage, stage.place().at(Family::V4, port), true)
}

fn ask_tcp<const NUMBER: u8>(stage: &Stage) -> Result<()> {
    ask_all_tcp(stage, (service_address(NUMBER), SERVICE_PORT).into())
}

fn ask_udp<const NUMBER: u8>(stage: &Stage) -> Result<()> {
    ask_all_udp(stage, (service_address(NUMBER), SERVICE_PORT).into())
}

fn serve_published_tcp(stage: &Stage) -> Result<()> {
    tcp::serve_echo(stage, PodB.at(Family::V4, PUBLISHED))
}

fn serve_published_udp(stage: &Stage) -> Result<()> {
    udp::serve(stage, PodB.at(Family::V4, PUBLISHED), true)
}

fn ask_published_tcp(stage: &Stage) -> Result<()> {
    ask_all_tcp(stage, (Outside.gateway(Family::V4), SERVICE_PORT).into())
}

fn ask_published_udp(stage: &Stage) -> Result<()> {
    ask_all_udp(stage, (Outside.gateway(Family::V4), SERVICE_PORT).into())
}
