//! TCP as players do it: listening, accepting and connecting, each telling the truth. What a class does beyond that
//! is its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::sockopt::{set_socket_linger, set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, bind, connect, listen, socket_with};

use super::Stage;
use crate::truth::told::{Role, Told, Transport};

/// More than any class has waiting at once.
const BACKLOG: i32 = 1024;

/// A connection that was told of.
pub(crate) struct Held {
    pub(crate) stream: TcpStream,
    pub(crate) told: Told,
}

impl Held {
    /// Says a word and hears it back.
    pub(crate) fn exchange(&mut self) -> Result<()> {
        exchange(&mut self.stream)
    }

    /// Tells of the end and closes in the ordinary way.
    pub(crate) fn close(self) -> Result<()> {
        self.told.closed()?;
        drop(self.stream);
        Ok(())
    }

    /// Ends with a reset, which leaves no TIME_WAIT behind.
    pub(crate) fn reset(self) -> Result<()> {
        set_socket_linger(&self.stream, Some(Duration::ZERO)).context("asking for a reset")?;
        self.close()
    }
}

/// Says a word and hears it back.
pub(crate) fn exchange(stream: &mut TcpStream) -> Result<()> {
    let mut answer = [0; 5];
    stream.write_all(b"hello").context("sending")?;
    stream.read_exact(&mut answer).context("hearing the answer")
}

/// A TCP socket for talking to or listening at `address`.
pub(crate) fn socket(address: SocketAddr, protocol: Option<Protocol>) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, protocol).context("making a TCP socket")
}

/// How a listener is made.
#[derive(Clone, Copy, Default)]
pub(crate) struct Listen {
    /// With others at the same address.
    pub(crate) shares_port: bool,
    pub(crate) protocol: Option<Protocol>,
}

/// Listens at `address`.
pub(crate) fn listener(address: SocketAddr, how: Listen) -> Result<TcpListener> {
    let socket = socket(address, how.protocol)?;
    set_socket_reuseaddr(&socket, true).context("allowing the address to be used again")?;
    set_socket_reuseport(&socket, how.shares_port).context("allowing others the same address")?;
    bind(&socket, &address).with_context(|| format!("binding to {address}"))?;
    listen(&socket, BACKLOG).with_context(|| format!("listening at {address}"))?;
    Ok(TcpListener::from(socket))
}

/// A wildcard address of IPv6, which takes IPv4 too, with this port.
pub(crate) fn any_v6(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}

/// Accepts one connection and tells of it.
pub(crate) fn accept(stage: &Stage, listener: &TcpListener) -> Result<Held> {
    let (stream, remote) = listener.accept().context("accepting")?;
    let end = stage.end(Role::Server, Transport::Tcp)?;
    let local = stream.local_addr().context("asking for the own address")?;
    let told = stage.tell(end, local, remote)?;
    Ok(Held { stream, told })
}

/// Sends back what comes until the other side has no more. Resets are among what clients do here.
pub(crate) fn echo_stream(mut stream: &TcpStream) -> Result<()> {
    match io::copy(&mut stream.try_clone().context("sharing a socket")?, &mut stream) {
        Err(error) if !matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
            Err(error).context("answering")
        }
        _ => Ok(()),
    }
}

/// Does that, and closes.
pub(crate) fn echo_to_end(held: Held) -> Result<()> {
    echo_stream(&held.stream)?;
    held.close()
}

/// A server that answers each connection in a thread of its own, until the class ends.
pub(crate) fn serve(stage: &Stage, listener: TcpListener, answer: fn(Held) -> Result<()>) -> Result<()> {
    let listener = Arc::new(listener);
    thread::scope(|scope| {
        let accepting = Arc::clone(&listener);
        scope.spawn(move || {
            while let Ok(held) = accept(stage, &accepting) {
                scope.spawn(move || answer(held));
            }
        });
        stage.ready()?;
        stage.wait()?;
        // Threads that still accept or answer end with the process.
        std::process::exit(0);
    })
}

/// An echo server at `address`.
pub(crate) fn serve_echo(stage: &Stage, address: SocketAddr) -> Result<()> {
    serve(stage, listener(address, Listen::default())?, echo_to_end)
}

/// The class's first port of this place, IPv4.
pub(crate) fn echo(stage: &Stage) -> Result<()> {
    serve_echo(stage, stage.place().at(crate::truth::scene::Family::V4, stage.port(0)))
}

/// A server at the class's first port that closes what it has accepted.
pub(crate) fn accept_and_close(stage: &Stage) -> Result<()> {
    let address = stage.place().at(crate::truth::scene::Family::V4, stage.port(0));
    serve(stage, listener(address, Listen::default())?, Held::close)
}

/// How a client connects.
#[derive(Clone, Copy, Default)]
pub(crate) struct From {
    /// An address of its own choice, which may be in TIME_WAIT.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) protocol: Option<Protocol>,
}

/// Connects and tells of it.
pub(crate) fn connect_to(stage: &Stage, server: SocketAddr, from: From) -> Result<Held> {
    let socket = socket(server, from.protocol)?;
    if let Some(own) = from.address {
        set_socket_reuseaddr(&socket, true).context("allowing the address to be used again")?;
        bind(&socket, &own).with_context(|| format!("binding to {own}"))?;
    }
    let end = stage.end(Role::Client, Transport::Tcp)?;
    connect(&socket, &server).with_context(|| format!("connecting to {server}"))?;
    let stream = TcpStream::from(socket);
    let local = stream.local_addr().context("asking for the own address")?;
    let told = stage.tell(end, local, server)?;
    Ok(Held { stream, told })
}

/// Connects, says a word, hears it back.
pub(crate) fn ask(stage: &Stage, server: SocketAddr) -> Result<Held> {
    let mut held = connect_to(stage, server, From::default())?;
    held.exchange()?;
    Ok(held)
}

/// Ends the sending side and waits for the other's end.
pub(crate) fn finish(held: Held) -> Result<()> {
    held.stream.shutdown(Shutdown::Write).context("ending the sending side")?;
    let mut rest = [0; 64];
    let mut stream = &held.stream;
    while stream.read(&mut rest).context("waiting for the other's end")? > 0 {}
    held.close()
}
