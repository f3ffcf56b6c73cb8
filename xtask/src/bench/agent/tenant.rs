//! The load, as processes of their own: tenants, each one user, and the services that they use.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::sockopt::set_socket_linger;
use serde::{Deserialize, Serialize};

use super::scene::{PEERS_PORT, SERVICES, peer, service};
use crate::bench::measure::tell;
use crate::truth::{become_user, end_with_parent};

/// What a tenant takes.
#[derive(clap::Args)]
pub(crate) struct TenantArguments {
    /// The user to become
    #[arg(long)]
    uid: u32,
    /// Its number among the tenants
    #[arg(long)]
    number: u64,
    /// How many connections to make, or datagrams to send
    #[arg(long)]
    count: u64,
    /// How many of them in a second
    #[arg(long)]
    per_second: u64,
    /// A datagram to a peer of its own each, instead of connections to services
    #[arg(long)]
    peers: bool,
}

/// What a tenant did.
#[derive(Serialize, Deserialize)]
pub(crate) struct Made {
    /// Its user.
    pub(crate) uid: u32,
    /// To each service; of peers all are in the first.
    pub(crate) made: Vec<u64>,
    /// How long that took.
    pub(crate) seconds: f64,
}

/// Plays a tenant: says that it is ready, begins with the end of its input, and tells what it did.
pub(crate) fn play(arguments: &TenantArguments) -> Result<()> {
    become_user(arguments.uid)?;
    let mut output = io::stdout().lock();
    tell(&mut output, &"ready")?;
    io::copy(&mut io::stdin().lock(), &mut io::sink()).context("waiting for the beginning")?;
    let began = Instant::now();
    let made = if arguments.peers { send_to_peers(arguments)? } else { connect_to_services(arguments)? };
    let seconds = began.elapsed().as_secs_f64();
    tell(&mut output, &Made { uid: arguments.uid, made, seconds })?;
    output.flush().context("telling what was done")
}

/// Waits until the `number`th is due.
fn keep_pace(began: Instant, number: u64, per_second: u64) {
    let due = began + Duration::from_nanos(number * 1_000_000_000 / per_second);
    thread::sleep(due.saturating_duration_since(Instant::now()));
}

/// Each ends with a reset, so that no port stays in TIME_WAIT.
fn connect_to_services(arguments: &TenantArguments) -> Result<Vec<u64>> {
    let mut made = vec![0; SERVICES];
    let began = Instant::now();
    for number in 0..arguments.count {
        keep_pace(began, number, arguments.per_second);
        // Tenants begin with different services, so that none is asked by all at once.
        let chosen = usize::try_from((arguments.number + number) % SERVICES as u64).unwrap_or_default();
        let stream = TcpStream::connect(service(chosen)).context("connecting to a service")?;
        set_socket_linger(&stream, Some(Duration::ZERO)).context("asking for a reset at the end")?;
        drop(stream);
        made[chosen] += 1;
    }
    Ok(made)
}

fn send_to_peers(arguments: &TenantArguments) -> Result<Vec<u64>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("making a socket")?;
    let began = Instant::now();
    for number in 0..arguments.count {
        keep_pace(began, number, arguments.per_second);
        let peer = peer(arguments.number * arguments.count + number);
        socket.send_to(b"to a peer", peer).context("sending to a peer")?;
    }
    Ok(vec![arguments.count])
}

/// Serves until its input ends: accepts and closes at once, and throws datagrams away.
pub(crate) fn serve() -> Result<()> {
    end_with_parent()?;
    for place in 0..SERVICES {
        let listener = TcpListener::bind(service(place)).context("listening as a service")?;
        thread::spawn(move || while listener.accept().is_ok() {});
    }
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PEERS_PORT));
    let socket = UdpSocket::bind(everywhere).context("listening as all peers")?;
    thread::spawn(move || while socket.recv(&mut [0; 64]).is_ok() {});
    tell(&mut io::stdout().lock(), &"ready")?;
    if io::stdin().lock().read(&mut [0]).context("waiting for the end")? != 0 {
        bail!("nothing is expected");
    }
    Ok(())
}
