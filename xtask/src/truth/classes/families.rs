//! Connections by address family and by how the socket was asked to connect.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;
use std::{io, thread};

use anyhow::{Context, Result, bail, ensure};
use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::Errno;
use rustix::net::ipproto;

use super::{CLIENT, Class, SERVER, plays, serves};
use crate::truth::player::Stage;
use crate::truth::player::tcp::{self, From, Held, Listen};
use crate::truth::scene::Family;
use crate::truth::scene::Place::{PodA, PodB, PodC};
use crate::truth::told::{Role, Transport};

pub(super) const CLASSES: &[Class] = &[
    Class::new("ipv6", "IPv6", &[serves(PodB, SERVER, serve_v6), plays(PodA, CLIENT, v6)]),
    Class::new(
        "v4_mapped",
        "IPv4 between IPv6 sockets, and from an IPv4 socket to an IPv6 one",
        &[serves(PodB, SERVER, serve_any_v6), plays(PodA, CLIENT, mapped)],
    ),
    Class::new(
        "io_uring",
        "connect and accept by io_uring",
        &[serves(PodB, SERVER, serve_by_ring), plays(PodA, CLIENT, ask_by_ring)],
    ),
    Class::new(
        "mptcp",
        "MPTCP at both ends, and at either",
        &[serves(PodB, SERVER, serve_mptcp), serves(PodC, SERVER, tcp::echo), plays(PodA, CLIENT, ask_mptcp)],
    ),
    Class::new("self_connect", "a socket that connects to itself", &[plays(PodA, CLIENT, connect_to_itself)]),
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
        IpAddr::V4(address) => (address.to_ipv6_mapped(), server.port()).into(),
        IpAddr::V6(_) => server,
    };
    for _ in 0..stage.times(15) {
        tcp::connect_to(stage, mapped, From::default())?.close()?;
        tcp::ask(stage, server)?.close()?;
    }
    Ok(())
}

/// A ring, or none where the kernel has none for us.
fn ring(stage: &Stage) -> Result<Option<IoUring>> {
    match IoUring::new(4) {
        Ok(ring) => Ok(Some(ring)),
        Err(error) => stage.cannot(&format!("io_uring is not to be had: {error}")).map(|()| None),
    }
}

/// Does one thing by a ring, and returns what came of it.
///
/// # Safety
/// What the entry points at must live until this returns.
unsafe fn complete(ring: &mut IoUring, entry: &squeue::Entry) -> Result<i32> {
    // SAFETY: the caller keeps what the entry points at until it is completed, which is waited for below.
    unsafe { ring.submission().push(entry) }.context("queueing for a ring")?;
    ring.submit_and_wait(1).context("waiting for a ring")?;
    let result = ring.completion().next().context("a ring completed nothing")?.result();
    ensure!(result >= 0, "a ring: {}", io::Error::from_raw_os_error(-result));
    Ok(result)
}

fn serve_by_ring(stage: &Stage) -> Result<()> {
    let Some(ring) = ring(stage)? else { return Ok(()) };
    drop(ring);
    let listener = tcp::listener(stage.server(PodB), Listen::default())?;
    let server = stage.fork(|| {
        let mut ring = IoUring::new(4).context("making a ring")?;
        loop {
            let entry = opcode::Accept::new(
                types::Fd(listener.as_raw_fd()),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            );
            // SAFETY: the entry points at nothing.
            let accepted: RawFd = unsafe { complete(&mut ring, &entry.build()) }?;
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
            let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(accepted) });
            let end = stage.end(Role::Server, Transport::Tcp)?;
            let remote = stream.peer_addr().context("asking for the peer's address")?;
            let told = stage.tell(end, stage.server(PodB), remote)?;
            tcp::echo_to_end(Held { stream, told })?;
        }
    })?;
    stage.ready()?;
    stage.wait()?;
    server.kill()
}

fn ask_by_ring(stage: &Stage) -> Result<()> {
    let Some(mut ring) = ring(stage)? else { return Ok(()) };
    let server = stage.server(PodB);
    let SocketAddr::V4(plain) = server else { bail!("{server} is not IPv4") };
    let address = c_address(plain);
    for _ in 0..stage.times(30) {
        let socket = tcp::socket(server, None)?;
        let length = u32::try_from(size_of_val(&address)).context("the length of an address")?;
        let entry =
            opcode::Connect::new(types::Fd(socket.as_raw_fd()), (&raw const address).cast(), length).build();
        let end = stage.end(Role::Client, Transport::Tcp)?;
        // SAFETY: the address outlives the loop.
        unsafe { complete(&mut ring, &entry) }?;
        let stream = TcpStream::from(socket);
        let told = stage.tell(end, stream.local_addr().context("asking for the own address")?, server)?;
        let mut held = Held { stream, told };
        held.exchange()?;
        held.close()?;
    }
    Ok(())
}

/// An address as the kernel takes it (man 7 ip): in network byte order.
fn c_address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

fn serve_mptcp(stage: &Stage) -> Result<()> {
    let how = Listen { protocol: Some(ipproto::MPTCP), ..Listen::default() };
    match tcp::listener(stage.server(PodB), how) {
        Ok(listener) => tcp::serve(stage, listener, tcp::echo_to_end),
        Err(error) if error.downcast_ref() == Some(&Errno::PROTONOSUPPORT) => {
            stage.cannot("this kernel has no MPTCP")
        }
        Err(error) => Err(error),
    }
}

fn ask_mptcp(stage: &Stage) -> Result<()> {
    let mptcp = From { protocol: Some(ipproto::MPTCP), ..From::default() };
    for _ in 0..stage.times(10) {
        let (both, plain_server) = (stage.server(PodB), stage.server(PodC));
        for (server, from) in [(both, mptcp), (plain_server, mptcp), (both, From::default())] {
            let mut held = tcp::connect_to(stage, server, from)?;
            held.exchange()?;
            thread::sleep(Duration::from_millis(5));
            held.close()?;
        }
    }
    Ok(())
}

fn connect_to_itself(stage: &Stage) -> Result<()> {
    for turn in 0..3 {
        let own = PodA.at(Family::V4, stage.client_port(turn));
        let mut held = tcp::connect_to(stage, own, From { address: Some(own), protocol: None })?;
        held.exchange()?;
        thread::sleep(Duration::from_millis(25));
        held.reset()?;
    }
    Ok(())
}
