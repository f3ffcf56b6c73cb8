//! A node full of sockets, for `cargo xtask bench list`: namespaces with processes with sockets, all on loopback, gone
//! with its standard input.
//!
//! `crowd NAMESPACES PROCESSES SOCKETS` prints one line once all is there: `ready` and a pid in each namespace. Of each
//! process's sockets one listens, half of the others are TCP connections, the rest UDP. Needs root, and `ip`.

use std::env;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{UnshareFlags, unshare_unsafe};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["namespace", processes, sockets] => namespace(processes.parse()?, sockets),
        ["hold", sockets] => hold(sockets.parse()?),
        [namespaces, processes, sockets] => crowd(namespaces.parse()?, processes, sockets),
        _ => Err("usage: crowd NAMESPACES PROCESSES SOCKETS".into()),
    }
}

fn crowd(namespaces: usize, processes: &str, sockets: &str) -> Result<(), Box<dyn Error>> {
    let mut parts = Vec::new();
    for _ in 0..namespaces {
        parts.push(Part::start(&["namespace", processes, sockets])?);
    }
    let mut pids = Vec::new();
    for part in &mut parts {
        part.wait_until_ready()?;
        pids.push(part.child.id().to_string());
    }
    say_ready(&pids.join(" "))?;
    wait_for_the_end()?;
    parts.into_iter().try_for_each(Part::end)
}

fn namespace(processes: usize, sockets: &str) -> Result<(), Box<dyn Error>> {
    // SAFETY: a new network namespace changes no memory and no descriptors, and this process has one thread.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
    if !status.success() {
        return Err("ip cannot set lo up".into());
    }
    let mut parts = Vec::new();
    for _ in 0..processes {
        parts.push(Part::start(&["hold", sockets])?);
    }
    parts.iter_mut().try_for_each(Part::wait_until_ready)?;
    say_ready("")?;
    wait_for_the_end()?;
    parts.into_iter().try_for_each(Part::end)
}

fn hold(sockets: usize) -> Result<(), Box<dyn Error>> {
    let allowed = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: allowed.maximum, maximum: allowed.maximum })?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let server = listener.local_addr()?;
    let mut connections = Vec::new();
    for _ in 0..sockets.saturating_sub(1) / 4 {
        connections.push((TcpStream::connect(server)?, listener.accept()?));
    }
    let others = sockets.saturating_sub(1 + (2 * connections.len()));
    let datagrams: Result<Vec<_>, _> =
        (0..others).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).collect();
    let datagrams = datagrams?;
    say_ready("")?;
    wait_for_the_end()?;
    drop((listener, connections, datagrams));
    Ok(())
}

fn say_ready(more: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ready {more}")?;
    out.flush()
}

fn wait_for_the_end() -> io::Result<()> {
    io::copy(&mut io::stdin().lock(), &mut io::sink()).map(drop)
}

/// A child that ends with its standard input.
struct Part {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Part {
    fn start(words: &[&str]) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(env::current_exe()?)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { child, input, output })
    }

    fn wait_until_ready(&mut self) -> Result<(), Box<dyn Error>> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.starts_with("ready") { Ok(()) } else { Err("a part of the crowd did not start".into()) }
    }

    fn end(self) -> Result<(), Box<dyn Error>> {
        let Self { mut child, input, mut output } = self;
        drop(input);
        io::copy(&mut output.by_ref(), &mut io::sink())?;
        child.wait()?;
        Ok(())
    }
}
