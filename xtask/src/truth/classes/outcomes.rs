//! Connections by how they begin and end.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{bind, connect};

use super::{CLIENT, Class, ROOT, SERVER, plays, serves};
use crate::truth::player::Stage;
use crate::truth::player::tcp;
use crate::truth::scene::Place::{PodA, PodB};
use crate::truth::scene::{Family, Place};
use crate::truth::told::{Opened, Role, Transport};

pub(super) const CLASSES: &[Class] = &[
    Class::new("refused", "connections to a port where nobody listens", &[plays(PodA, CLIENT, refused)]),
    Class::new(
        "reset",
        "connections that the client resets after a word",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, CLIENT, reset)],
    ),
    Class::new(
        "nonblocking",
        "connect without waiting, then poll",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, ROOT, nonblocking)],
    ),
    Class::new(
        "abandoned",
        "connect without waiting, closed before the handshake is done",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, ROOT, abandoned)],
    ),
    Class::new(
        "again",
        "a connect that is refused, then one with the same socket that is not",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, CLIENT, again)],
    ),
];

/// A port of this class that nobody listens at.
const CLOSED_PORT: u16 = 9;

fn refused(stage: &Stage) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        for _ in 0..stage.times(10) {
            let socket = bound_socket(family)?;
            refuse(stage, &socket, PodB.at(family, stage.port(CLOSED_PORT)))?.closed()?;
            drop(socket);
        }
    }
    Ok(())
}

/// A socket that knows its address before it connects, as it has none when it was refused.
fn bound_socket(family: Family) -> Result<OwnedFd> {
    let own = PodA.at(family, 0);
    let socket = tcp::socket(own, None)?;
    bind(&socket, &own).with_context(|| format!("binding to {own}"))?;
    Ok(socket)
}

fn own_address(socket: &OwnedFd) -> Result<SocketAddr> {
    let address = rustix::net::getsockname(socket).context("asking for the own address")?;
    SocketAddr::try_from(address).context("the own address is of another family")
}

/// Connects to where nobody listens, and tells of it: the client's end has an owner, the server's has none.
fn refuse(stage: &Stage, socket: &OwnedFd, server: SocketAddr) -> Result<crate::truth::told::Told> {
    let end = stage.end(Role::Client, Transport::Tcp)?;
    let local = own_address(socket)?;
    match connect(socket, &server) {
        Err(Errno::CONNREFUSED) => {}
        other => bail!("connecting to {server}, where nobody listens, gave {other:?}"),
    }
    let nobody = Opened { role: Role::Server, local: server, remote: local, ..end.clone() };
    stage.tell_nobody(nobody)?.closed()?;
    stage.tell(end, local, server)
}

fn reset(stage: &Stage) -> Result<()> {
    for _ in 0..stage.times(30) {
        tcp::ask(stage, stage.server(PodB))?.reset()?;
    }
    Ok(())
}

/// Begins to connect and does not wait; tells of it.
fn begin(stage: &Stage, place: Place) -> Result<tcp::Held> {
    let server = stage.server(place);
    let socket = tcp::socket(server, None)?;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(true).context("asking not to wait")?;
    let end = stage.end(Role::Client, Transport::Tcp)?;
    match connect(&stream, &server) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => bail!("connecting to {server}: {error}"),
    }
    let local = stream.local_addr().context("asking for the own address")?;
    let told = stage.tell(end, local, server)?;
    Ok(tcp::Held { stream, told })
}

fn nonblocking(stage: &Stage) -> Result<()> {
    for _ in 0..stage.times(30) {
        let held = begin(stage, PodB)?;
        let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
        poll(&mut [PollFd::new(&held.stream.as_fd(), PollFlags::OUT)], Some(&patience)).context("polling")?;
        thread::sleep(Duration::from_millis(1));
        held.close()?;
    }
    Ok(())
}

fn abandoned(stage: &Stage) -> Result<()> {
    for _ in 0..stage.times(20) {
        begin(stage, PodB)?.close()?;
    }
    Ok(())
}

fn again(stage: &Stage) -> Result<()> {
    for _ in 0..stage.times(20) {
        let socket = bound_socket(Family::V4)?;
        refuse(stage, &socket, PodB.at(Family::V4, stage.port(CLOSED_PORT)))?.closed()?;
        let server = stage.server(PodB);
        let end = stage.end(Role::Client, Transport::Tcp)?;
        connect(&socket, &server).with_context(|| format!("connecting to {server}"))?;
        let stream = TcpStream::from(socket);
        let told = stage.tell(end, stream.local_addr().context("asking for the own address")?, server)?;
        let mut held = tcp::Held { stream, told };
        held.exchange()?;
        held.close()?;
    }
    Ok(())
}
