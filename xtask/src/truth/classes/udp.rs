//! Datagrams.

use anyhow::Result;

use super::{CLIENT, Class, ROOT, SERVER, plays, serves};
use crate::truth::player::Stage;
use crate::truth::player::udp;
use crate::truth::scene::Place::{PodA, PodB, PodC};

pub(super) const CLASSES: &[Class] = &[
    Class::new(
        "udp_sendto",
        "sendto on a socket that is not connected, and an answer",
        &[serves(PodB, SERVER, udp::echo), plays(PodA, CLIENT, exchange_by_sendto)],
    ),
    Class::new(
        "udp_connected",
        "a connected socket, and an answer",
        &[serves(PodB, SERVER, udp::echo), plays(PodA, CLIENT, exchange_connected)],
    ),
    Class::new(
        "udp_once",
        "one datagram from a process that ends at once",
        &[serves(PodB, SERVER, udp::hear), plays(PodA, CLIENT, send_and_end)],
    ),
    Class::new(
        "udp_many_peers",
        "one server that answers many sockets of two pods",
        &[serves(PodB, SERVER, udp::echo), plays(PodA, CLIENT, many), plays(PodC, ROOT, many)],
    ),
];

fn exchange_by_sendto(stage: &Stage) -> Result<()> {
    let server = stage.server(PodB);
    for _ in 0..stage.times(50) {
        let flow = udp::send_to(stage, udp::fresh(server)?.into(), server)?;
        flow.hear()?;
        flow.close()?;
    }
    Ok(())
}

fn exchange_connected(stage: &Stage) -> Result<()> {
    let server = stage.server(PodB);
    for _ in 0..stage.times(50) {
        let flow = udp::connect_to(stage, udp::fresh(server)?.into(), server)?;
        flow.hear()?;
        flow.exchange()?;
        flow.close()?;
    }
    Ok(())
}

fn send_and_end(stage: &Stage) -> Result<()> {
    let server = stage.server(PodB);
    for _ in 0..stage.times(50) {
        let once = || udp::send_to(stage, udp::fresh(server)?.into(), server)?.close();
        stage.fork(once)?.wait()?;
    }
    Ok(())
}

fn many(stage: &Stage) -> Result<()> {
    let server = stage.server(PodB);
    let mut flows = Vec::new();
    for _ in 0..stage.times(60) {
        flows.push(udp::send_to(stage, udp::fresh(server)?.into(), server)?);
    }
    for flow in flows {
        flow.hear()?;
        flow.close()?;
    }
    Ok(())
}
