//! UDP as players do it: a flow is a socket and a peer, told of once by each side.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::net::sockopt::set_socket_reuseport;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use super::Stage;
use crate::truth::told::{Role, Told, Transport};

/// An answer that did not come by then is asked for again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);
const ASK_TIMES: u32 = 20;

/// A flow that was told of.
pub(crate) struct Flow {
    pub(crate) socket: UdpSocket,
    pub(crate) told: Told,
    server: SocketAddr,
}

impl Flow {
    /// Sends once more and hears the answer.
    pub(crate) fn exchange(&self) -> Result<()> {
        self.send().context("sending")?;
        self.hear()
    }

    /// Hears an answer; a datagram may be lost on the way, so it asks again.
    pub(crate) fn hear(&self) -> Result<()> {
        self.socket.set_read_timeout(Some(ASK_AGAIN_AFTER)).context("setting a timeout")?;
        for _ in 0..ASK_TIMES {
            match self.socket.recv_from(&mut [0; 64]) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.send().context("asking again")?,
                Err(error) => return Err(error).context("hearing the answer"),
            };
        }
        bail!("{} does not answer", self.server)
    }

    fn send(&self) -> std::io::Result<usize> {
        match self.socket.peer_addr() {
            Ok(_) => self.socket.send(b"hello"),
            Err(_) => self.socket.send_to(b"hello", self.server),
        }
    }

    /// Tells of the end and closes.
    pub(crate) fn close(self) -> Result<()> {
        self.told.closed()?;
        drop(self.socket);
        Ok(())
    }
}

/// A socket that no bind has given a port: the kernel does when it first sends.
pub(crate) fn fresh(server: SocketAddr) -> Result<OwnedFd> {
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None).context("making a UDP socket")
}

/// A socket bound to `own`; others may be too if they all say so.
pub(crate) fn bound(own: SocketAddr, shares_port: bool) -> Result<UdpSocket> {
    let socket = fresh(own)?;
    set_socket_reuseport(&socket, shares_port).context("allowing others the same address")?;
    bind(&socket, &own).with_context(|| format!("binding to {own}"))?;
    Ok(UdpSocket::from(socket))
}

/// Sends the first datagram to `server` by sendto, and tells of it.
pub(crate) fn send_to(stage: &Stage, socket: UdpSocket, server: SocketAddr) -> Result<Flow> {
    let end = stage.end(Role::Client, Transport::Udp)?;
    socket.send_to(b"hello", server).with_context(|| format!("sending to {server}"))?;
    let local = socket.local_addr().context("asking for the own address")?;
    let told = stage.tell(end, local, server)?;
    Ok(Flow { socket, told, server })
}

/// Connects to `server`, sends the first datagram, and tells of it.
pub(crate) fn connect_to(stage: &Stage, socket: UdpSocket, server: SocketAddr) -> Result<Flow> {
    let end = stage.end(Role::Client, Transport::Udp)?;
    socket.connect(server).with_context(|| format!("connecting to {server}"))?;
    socket.send(b"hello").context("sending")?;
    let local = socket.local_addr().context("asking for the own address")?;
    let told = stage.tell(end, local, server)?;
    Ok(Flow { socket, told, server })
}

/// Hears datagrams at `socket`, tells of each new peer, and answers if `answers`.
pub(crate) fn hear_all(stage: &Stage, socket: &UdpSocket, answers: bool) -> Result<()> {
    let local = socket.local_addr().context("asking for the own address")?;
    let mut peers = BTreeSet::new();
    let mut buffer = [0; 2048];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).context("hearing")?;
        if peers.insert(peer) {
            stage.tell(stage.end(Role::Server, Transport::Udp)?, local, peer)?;
        }
        if answers {
            socket.send_to(buffer.get(..length).unwrap_or_default(), peer).context("answering")?;
        }
    }
}

/// A server at `address` until the class ends.
pub(crate) fn serve(stage: &Stage, address: SocketAddr, answers: bool) -> Result<()> {
    let socket = bound(address, false)?;
    thread::scope(|scope| {
        scope.spawn(|| hear_all(stage, &socket, answers));
        stage.ready()?;
        stage.wait()?;
        // The thread that hears ends with the process.
        std::process::exit(0);
    })
}

/// A server at the class's first port of every address that answers.
pub(crate) fn echo(stage: &Stage) -> Result<()> {
    serve(stage, (Ipv4Addr::UNSPECIFIED, stage.port(0)).into(), true)
}

/// A server at the class's first port that only hears.
pub(crate) fn hear(stage: &Stage) -> Result<()> {
    serve(stage, (Ipv4Addr::UNSPECIFIED, stage.port(0)).into(), false)
}
