//! Datagrams.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::sockopt::set_socket_broadcast;

use super::{CLIENT, Class, Limit, Question, ROOT, SERVER, plays, serves};
use crate::truth::player::udp;
use crate::truth::player::{Stage, become_user};
use crate::truth::scene::Family;
use crate::truth::scene::Place::{PodA, PodB, PodC};
use crate::truth::told::Role;
use crate::truth::ways::Standard;

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
    Class::new(
        "udp_ipv6",
        "IPv6, and IPv4 from an IPv6 socket",
        &[serves(PodB, SERVER, serve_any), plays(PodA, CLIENT, ask_by_v6)],
    ),
    Class::new(
        "udp_closed",
        "datagrams to a port where nobody hears",
        &[plays(PodA, CLIENT, send_to_nobody)],
    ),
    Class::new(
        "udp_port_reuse",
        "one local port, used by one process after another",
        &[serves(PodB, SERVER, udp::echo), plays(PodA, ROOT, reuse_port)],
    )
    .limited(&[one_flow(Role::Client), one_flow(Role::Server)]),
    Class::new(
        "udp_reuseport",
        "three workers at one port with SO_REUSEPORT",
        &[serves(PodB, SERVER, serve_by_workers), plays(PodA, CLIENT, exchange_by_sendto)],
    ),
    Class::new(
        "udp_shared_port",
        "two processes with one local port by SO_REUSEPORT, each with a peer of its own",
        &[serves(PodB, SERVER, udp::echo), serves(PodC, SERVER, udp::echo), plays(PodA, CLIENT, share_port)],
    ),
    Class::new(
        "udp_fork",
        "a child goes on with its parent's socket and peer",
        &[serves(PodB, SERVER, udp::echo), plays(PodA, CLIENT, inherit)],
    ),
    Class::new(
        "udp_retarget",
        "a connected socket is connected to another peer",
        &[serves(PodB, SERVER, udp::echo), serves(PodC, SERVER, udp::echo), plays(PodA, CLIENT, retarget)],
    ),
    Class::new(
        "multicast",
        "to a multicast group, IPv4 and IPv6; only the sender is judged",
        &[serves(PodB, SERVER, join_group), plays(PodA, CLIENT, multicast)],
    ),
    Class::new(
        "broadcast",
        "to the subnet's broadcast address; only the sender is judged",
        &[serves(PodB, SERVER, hear_silently), plays(PodA, CLIENT, broadcast)],
    ),
];

/// Datagrams of one socket and of the next at the same address.
const fn one_flow(role: Role) -> Limit {
    Limit {
        role,
        questions: &Question::ALL,
        standards: &[Standard::WithoutEbpf, Standard::Rung, Standard::Tables],
        may_mislead: false,
        because: "datagrams do not show where one socket's end and the next one's at the same address begin",
    }
}

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

fn serve_any(stage: &Stage) -> Result<()> {
    udp::serve(stage, (Ipv6Addr::UNSPECIFIED, stage.port(0)).into(), true)
}

fn ask_by_v6(stage: &Stage) -> Result<()> {
    let mapped = Ipv4Addr::to_ipv6_mapped(&Ipv4Addr::new(198, 18, 64, 12));
    for _ in 0..stage.times(10) {
        for server in [PodB.at(Family::V6, stage.port(0)), (mapped, stage.port(0)).into()] {
            let flow = udp::send_to(stage, udp::fresh(server)?.into(), server)?;
            flow.hear()?;
            flow.close()?;
            let flow = udp::connect_to(stage, udp::fresh(server)?.into(), server)?;
            flow.hear()?;
            flow.close()?;
        }
    }
    Ok(())
}

fn send_to_nobody(stage: &Stage) -> Result<()> {
    let server = stage.server(PodB);
    for _ in 0..stage.times(20) {
        let flow = udp::send_to(stage, udp::fresh(server)?.into(), server)?;
        thread::sleep(Duration::from_millis(25));
        flow.close()?;
    }
    Ok(())
}

fn reuse_port(stage: &Stage) -> Result<()> {
    // Shorter and longer than netsnoop waits before it asks again who holds a port.
    for (which, pause) in [(0, 2), (1, 300)] {
        for turn in 0..stage.times(5) {
            let one = || {
                become_user(CLIENT + turn)?;
                let own = PodA.at(Family::V4, stage.client_port(which));
                let flow = udp::send_to(stage, udp::bound(own, false)?, stage.server(PodB))?;
                flow.hear()?;
                flow.close()
            };
            stage.fork(one)?.wait()?;
            thread::sleep(Duration::from_millis(pause));
        }
    }
    Ok(())
}

fn serve_by_workers(stage: &Stage) -> Result<()> {
    // All sockets are there before the first datagram: the kernel's choice among them does not change then.
    let sockets = (0..3).map(|_| udp::bound(stage.server(PodB), true)).collect::<Result<Vec<UdpSocket>>>()?;
    let mut workers = Vec::new();
    for place in 0..sockets.len() {
        let only = || {
            let socket = sockets.get(place).context("no such socket")?.try_clone().context("a socket")?;
            udp::hear_all(stage, &socket, true)
        };
        workers.push(stage.fork(only)?);
    }
    drop(sockets);
    stage.ready()?;
    stage.wait()?;
    workers.into_iter().try_for_each(|worker| worker.kill())
}

fn share_port(stage: &Stage) -> Result<()> {
    let own = PodA.at(Family::V4, stage.client_port(0));
    for _ in 0..stage.times(5) {
        let ask = |server: SocketAddr| {
            stage.fork(move || {
                // Connected before it sends, so that the answer comes to this one of the two.
                let socket = udp::bound(own, true)?;
                let flow = udp::connect_to(stage, socket, server)?;
                flow.hear()?;
                thread::sleep(Duration::from_millis(60));
                flow.close()
            })
        };
        let both = [ask(stage.server(PodB))?, ask(stage.server(PodC))?];
        both.into_iter().try_for_each(|child| child.wait())?;
    }
    Ok(())
}

fn inherit(stage: &Stage) -> Result<()> {
    let server = stage.server(PodB);
    for _ in 0..stage.times(5) {
        let flow = udp::connect_to(stage, udp::fresh(server)?.into(), server)?;
        flow.hear()?;
        let child = stage.fork(|| {
            flow.exchange()?;
            thread::sleep(Duration::from_millis(60));
            flow.exchange()
        })?;
        child.wait()?;
        flow.close()?;
    }
    Ok(())
}

fn retarget(stage: &Stage) -> Result<()> {
    for _ in 0..stage.times(5) {
        let first = udp::connect_to(stage, udp::fresh(stage.server(PodB))?.into(), stage.server(PodB))?;
        first.hear()?;
        first.told.closed()?;
        let second = udp::connect_to(stage, first.socket, stage.server(PodC))?;
        second.hear()?;
        second.close()?;
    }
    Ok(())
}

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 1, 1, 7);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x1107);

/// Hears until the class ends, and tells nothing: what is sent to many has no one server.
fn hear_quietly(stage: &Stage, sockets: &[UdpSocket]) -> Result<()> {
    for socket in sockets {
        socket.set_nonblocking(true).context("asking not to wait")?;
    }
    stage.ready()?;
    stage.wait()
}

fn join_group(stage: &Stage) -> Result<()> {
    let v4 = udp::bound((Ipv4Addr::UNSPECIFIED, stage.port(0)).into(), true)?;
    v4.join_multicast_v4(&GROUP_V4, &Ipv4Addr::new(198, 18, 64, 12)).context("joining a group")?;
    let v6 = udp::bound((Ipv6Addr::UNSPECIFIED, stage.port(1)).into(), true)?;
    v6.join_multicast_v6(&GROUP_V6, interface_index()?).context("joining a group")?;
    hear_quietly(stage, &[v4, v6])
}

/// The number of the place's only link.
fn interface_index() -> Result<u32> {
    let index = rustix::net::netdevice::name_to_index(udp::fresh(([0, 0, 0, 0], 0).into())?, "eth0");
    index.context("looking for eth0")
}

fn multicast(stage: &Stage) -> Result<()> {
    let v6 = SocketAddrV6::new(GROUP_V6, stage.port(1), 0, interface_index()?);
    for group in [SocketAddr::from((GROUP_V4, stage.port(0))), v6.into()] {
        for _ in 0..stage.times(5) {
            // Bound, as the kernel would choose another address for a link's own group than the place's.
            let own = PodA.at(if group.is_ipv4() { Family::V4 } else { Family::V6 }, 0);
            let flow = udp::send_to(stage, udp::bound(own, false)?, group)?;
            thread::sleep(Duration::from_millis(25));
            flow.close()?;
        }
    }
    Ok(())
}

fn hear_silently(stage: &Stage) -> Result<()> {
    hear_quietly(stage, &[udp::bound((Ipv4Addr::UNSPECIFIED, stage.port(0)).into(), true)?])
}

fn broadcast(stage: &Stage) -> Result<()> {
    let everybody = (Ipv4Addr::new(198, 18, 64, 255), stage.port(0)).into();
    for _ in 0..stage.times(5) {
        let socket = udp::fresh(everybody)?;
        set_socket_broadcast(&socket, true).context("allowing broadcasts")?;
        let flow = udp::send_to(stage, socket.into(), everybody)?;
        thread::sleep(Duration::from_millis(25));
        flow.close()?;
    }
    Ok(())
}
