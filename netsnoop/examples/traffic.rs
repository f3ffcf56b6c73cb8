//! A traffic program for the live tests: makes the connections it is told to and says on standard
//! output, a JSON object a line, what really happened and who it is. Tests hold netsnoop to that.
//!
//! It lives until its standard input ends, unless its part is over before. It leaves out everything
//! clever: no retries, no time-outs; the test that started it has the deadline.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::linux::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    // Its own name may be any bytes.
    let arguments = env::args_os().skip(1).map(OsString::into_string).collect::<Result<Vec<String>, _>>();
    let arguments = arguments.map_err(|odd| format!("this is no part: {odd:?}"))?;
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words.as_slice() {
        ["hold"] => {
            tell("ready", json!({}))?;
            wait_for_end_of_input()
        }
        ["serve", "tcp", address] => serve_tcp(TcpListener::bind(address)?),
        ["serve", "udp", address] => serve_udp(address),
        ["prefork", address] => prefork(address),
        ["worker"] => worker(),
        ["connect", how, server] => connect(how, server.parse()?, None),
        ["connect", how, server, "from", client] => connect(how, server.parse()?, Some(client.parse()?)),
        ["send", how, server] => send(how, server),
        ["sink", address] => sink(address),
        ["burst", server, connections, threads] => {
            burst(server.parse()?, connections.parse()?, threads.parse()?)
        }
        _ => Err(format!("this is no part: {arguments:?}").into()),
    }
}

/// Writes one line of truth: what was done, and by whom.
fn tell(act: &str, mut what: Value) -> Outcome<()> {
    let stat = String::from_utf8_lossy(&fs::read("/proc/self/stat")?).into_owned();
    let after_name = stat.rsplit_once(')').ok_or("stat without a name")?.1;
    let start_ticks: u64 = after_name.split_whitespace().nth(19).ok_or("stat without a start")?.parse()?;
    let who = json!({
        "act": act,
        "pid": std::process::id(),
        "start_ticks": start_ticks,
        "uid": rustix::process::getuid().as_raw(),
        "netns": fs::metadata("/proc/self/ns/net")?.st_ino(),
    });
    if let (Value::Object(what), Value::Object(who)) = (&mut what, who) {
        what.extend(who);
    }
    let mut output = io::stdout().lock();
    writeln!(output, "{what}")?;
    Ok(output.flush()?)
}

fn ends(local: SocketAddr, remote: SocketAddr) -> Value {
    json!({ "local": plain(local), "remote": plain(remote) })
}

/// As netsnoop prints it: a v4-mapped address is the IPv4 one.
fn plain(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

fn wait_for_end_of_input() -> Outcome<()> {
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}

fn serve_tcp(listener: TcpListener) -> Outcome<()> {
    tell("listen", json!({ "local": plain(listener.local_addr()?) }))?;
    thread::spawn(move || accept_all(&listener));
    wait_for_end_of_input()
}

/// Accepts until the process ends; each connection is echoed until its client has said all.
fn accept_all(listener: &TcpListener) {
    while let Ok((mut stream, remote)) = listener.accept() {
        let local = stream.local_addr();
        thread::spawn(move || -> io::Result<()> {
            tell("accept", ends(local?, remote)).map_err(|error| io::Error::other(error.to_string()))?;
            let mut said = Vec::new();
            stream.read_to_end(&mut said)?;
            stream.write_all(&said)
        });
    }
}

fn serve_udp(address: &str) -> Outcome<()> {
    let socket = UdpSocket::bind(address)?;
    tell("listen", json!({ "local": plain(socket.local_addr()?) }))?;
    thread::spawn(move || -> io::Result<()> {
        let mut datagram = [0; 2048];
        loop {
            let (length, remote) = socket.recv_from(&mut datagram)?;
            let local = socket.local_addr()?;
            tell("receive", ends(local, remote)).map_err(|error| io::Error::other(error.to_string()))?;
            socket.send_to(&datagram[..length], remote)?;
        }
    });
    wait_for_end_of_input()
}

/// Listens, and lets a worker process accept: the worker, not the listener, owns what it accepts.
fn prefork(address: &str) -> Outcome<()> {
    let listener = TcpListener::bind(address)?;
    tell("listen", json!({ "local": plain(listener.local_addr()?) }))?;
    let listening = Stdio::from(OwnedFd::from(listener.try_clone()?));
    let mut worker = Command::new(env::current_exe()?).arg("worker").stdin(listening).spawn()?;
    wait_for_end_of_input()?;
    worker.kill()?;
    worker.wait()?;
    drop(listener);
    Ok(())
}

fn worker() -> Outcome<()> {
    // A test that fails kills only the process it started, and this one must not outlive that.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // SAFETY: the parent gave its listener as descriptor 0, and nothing else in this process uses it.
    let listener = unsafe { TcpListener::from_raw_fd(0) };
    tell("work", json!({}))?;
    accept_all(&listener);
    Ok(())
}

/// A TCP connection. `brief`: closed at once, the process ends. `exchange`: says something, hears it
/// back. `reset`: ends it with a reset. `hold`: keeps it until the input ends.
fn connect(how: &str, server: SocketAddr, client: Option<SocketAddr>) -> Outcome<()> {
    let mut stream = match open(server, client) {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return tell("refused", json!({ "remote": plain(server) }));
        }
        Err(error) => return Err(error.into()),
    };
    let truth = ends(stream.local_addr()?, stream.peer_addr()?);
    match how {
        "brief" => drop(stream),
        "exchange" => {
            stream.write_all(b"sixteen bytes...")?;
            stream.shutdown(Shutdown::Write)?;
            io::copy(&mut stream, &mut io::sink())?;
        }
        "reset" => set_socket_linger(&stream, Some(Duration::ZERO))?,
        "hold" => {
            stream.write_all(b"hello")?;
            tell("connect", truth)?;
            wait_for_end_of_input()?;
            stream.shutdown(Shutdown::Write)?;
            io::copy(&mut stream, &mut io::sink())?;
            return Ok(());
        }
        _ => return Err(format!("this is no way to connect: {how}").into()),
    }
    tell("connect", truth)
}

fn open(server: SocketAddr, client: Option<SocketAddr>) -> io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let Some(client) = client else { return TcpStream::connect(server) };
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    bind(&socket, &client)?;
    connect(&socket, &server)?;
    Ok(TcpStream::from(socket))
}

/// A datagram. `once`: sends it and ends without waiting. `exchange`: waits for the answer.
/// `connected`: the same on a connected socket. `hold`: waits for the answer, and keeps the socket until the input ends.
fn send(how: &str, server: &str) -> Outcome<()> {
    let server: SocketAddr = server.parse()?;
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    let mut answer = [0; 64];
    if how == "connected" {
        socket.connect(server)?;
        socket.send(b"question")?;
        socket.recv(&mut answer)?;
    } else {
        socket.send_to(b"question", server)?;
        if how != "once" {
            socket.recv_from(&mut answer)?;
        }
    }
    let port = socket.local_addr()?.port();
    tell("send", json!({ "local_port": port, "remote": plain(server) }))?;
    if how == "hold" { wait_for_end_of_input() } else { Ok(()) }
}

/// A server for bursts: accepts with four threads and closes at once, telling nothing.
fn sink(address: &str) -> Outcome<()> {
    let listener = TcpListener::bind(address)?;
    for _ in 0..4 {
        let listener = listener.try_clone()?;
        thread::spawn(move || while listener.accept().is_ok() {});
    }
    tell("listen", json!({ "local": plain(listener.local_addr()?) }))?;
    wait_for_end_of_input()
}

/// Many connections at a bounded rate, each ended by a reset so that no port stays in TIME_WAIT.
fn burst(server: SocketAddr, connections: u64, threads: u64) -> Outcome<()> {
    const PER_SECOND: u64 = 15_000;
    let started = Instant::now();
    let (next, made) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| -> io::Result<()> {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= connections {
                        return Ok(());
                    }
                    let due = started + Duration::from_nanos(number * 1_000_000_000 / PER_SECOND);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let stream = TcpStream::connect(server)?;
                    set_socket_linger(&stream, Some(Duration::ZERO))?;
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let elapsed = started.elapsed().as_secs_f64();
    tell("burst", json!({ "connections": made.load(Ordering::Relaxed), "seconds": elapsed }))
}
