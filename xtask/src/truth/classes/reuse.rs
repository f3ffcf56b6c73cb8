//! Addresses that mean one thing here and another there, or one thing now and another soon.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{CLIENT, Class, ROOT, SERVER, plays, serves};
use crate::truth::player::Stage;
use crate::truth::player::tcp::{self, From};
use crate::truth::scene::Family;
use crate::truth::scene::Place::{Node, PodA, PodB};

pub(super) const CLASSES: &[Class] = &[
    Class::new(
        "twins",
        "the same five-tuple at the same time on the loopback of two pods and the node",
        &[
            serves(PodA, SERVER, serve_loopback),
            serves(PodB, SERVER, serve_loopback),
            serves(Node, ROOT, serve_loopback),
            plays(PodA, CLIENT, twin),
            plays(PodB, CLIENT, twin),
            plays(Node, ROOT, twin),
        ],
    ),
    Class::new(
        "port_reuse",
        "one local port, used by one process after another within milliseconds",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, ROOT, port_after_port)],
    ),
];

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn serve_loopback(stage: &Stage) -> Result<()> {
    tcp::serve_echo(stage, loopback(stage.port(0)))
}

fn twin(stage: &Stage) -> Result<()> {
    for _ in 0..stage.times(5) {
        let from = From { address: Some(loopback(stage.client_port(0))), protocol: None };
        let mut held = tcp::connect_to(stage, loopback(stage.port(0)), from)?;
        held.exchange()?;
        thread::sleep(Duration::from_millis(200));
        held.reset()?;
    }
    Ok(())
}

fn port_after_port(stage: &Stage) -> Result<()> {
    let own = PodA.at(Family::V4, stage.client_port(0));
    for turn in 0..stage.times(50) {
        let one = || {
            crate::truth::player::become_user(CLIENT + turn % 3)?;
            let from = From { address: Some(own), protocol: None };
            let mut held = tcp::connect_to(stage, stage.server(PodB), from)?;
            held.exchange()?;
            held.reset()
        };
        stage.fork(one)?.wait()?;
    }
    Ok(())
}
