//! Sockets that more than one process holds, or that change hands. The owner is who called connect or accept.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::{CLIENT, Class, Limit, Question, ROOT, SERVER, plays, serves};
use crate::truth::player::tcp::{self, Held, Listen};
use crate::truth::player::{Stage, become_user, enter};
use crate::truth::scene::Place::{PodA, PodB};
use crate::truth::told::{self, Opened, Owner, Role, Transport};
use crate::truth::ways::Standard;

pub(super) const CLASSES: &[Class] = &[
    Class::new(
        "fork_inherit",
        "a child goes on with the connection that its parent made and closed",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, CLIENT, inherit_by_fork)],
    ),
    Class::new(
        "fork_at_once",
        "the same, before any lookup can come",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, CLIENT, inherit_at_once)],
    )
    .limited(&[Limit {
        role: Role::Client,
        questions: &[Question::Process, Question::User],
        standards: &[Standard::WithoutEbpf, Standard::Tables],
        may_mislead: false,
        because: "tables show who holds a socket now, and the only holder left is younger than the connection",
    }]),
    Class::new(
        "exec_inherit",
        "another program goes on with the connection, after exec in the same process",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, CLIENT, inherit_by_exec)],
    ),
    Class::new(
        "scm_rights",
        "a connection is passed to another process over SCM_RIGHTS",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, CLIENT, pass_on)],
    ),
    Class::new(
        "scm_at_once",
        "the same, before any lookup can come",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, CLIENT, pass_on_at_once)],
    )
    .limited(&[Limit {
        role: Role::Client,
        questions: &[Question::Process, Question::User],
        standards: &[Standard::WithoutEbpf, Standard::Tables],
        may_mislead: true,
        because: "tables show who holds a socket now, and a process that is older than the connection and got it before \
                  any lookup looks just as the one that connected it",
    }]),
    Class::new(
        "scm_accepted",
        "an accepted connection is passed to a worker over SCM_RIGHTS at once",
        &[serves(PodB, SERVER, serve_and_pass_on), plays(PodA, CLIENT, ask)],
    )
    .limited(&[HANDED_ON]),
    Class::new(
        "reuseport",
        "three workers listen at one port with SO_REUSEPORT",
        &[serves(PodB, SERVER, serve_by_reuseport), plays(PodA, CLIENT, ask)],
    ),
    Class::new(
        "prefork",
        "three workers accept from the socket that their parent listens at",
        &[serves(PodB, SERVER, serve_by_prefork), plays(PodA, CLIENT, ask)],
    ),
    Class::new(
        "fork_server",
        "a server that forks for each connection it has accepted",
        &[serves(PodB, SERVER, serve_by_fork), plays(PodA, CLIENT, ask)],
    )
    .limited(&[HANDED_ON]),
    Class::new(
        "worker",
        "a worker accepts from a socket of its parent, which never does",
        &[serves(PodB, SERVER, serve_by_worker), plays(PodA, CLIENT, ask)],
    ),
    Class::new(
        "unaccepted",
        "connections that nobody accepts: the server's end is of who holds the listening socket",
        &[plays(PodA, ROOT, ask_nobody)],
    ),
];

/// An accepted connection that another process holds before a lookup can come.
const HANDED_ON: Limit = Limit {
    role: Role::Server,
    questions: &[Question::Process],
    standards: &[Standard::WithoutEbpf, Standard::Tables],
    may_mislead: false,
    because: "tables show who holds a socket now; who accepted it is one of those that hold the listening socket, and they \
              do not show which",
};

/// Long enough for a lookup, which then finds who holds the socket.
const LASTING: Duration = Duration::from_millis(100);
const WORKERS: u32 = 3;

fn ask(stage: &Stage) -> Result<()> {
    for turn in 0..stage.times(40) {
        let held = tcp::ask(stage, stage.server(PodB))?;
        if turn % 2 == 0 {
            thread::sleep(Duration::from_millis(25));
        }
        tcp::finish(held)?;
    }
    Ok(())
}

fn inherit_by_fork(stage: &Stage) -> Result<()> {
    inherit_after(stage, LASTING)
}

fn inherit_at_once(stage: &Stage) -> Result<()> {
    inherit_after(stage, Duration::ZERO)
}

fn inherit_after(stage: &Stage, time: Duration) -> Result<()> {
    for _ in 0..stage.times(5) {
        let Held { mut stream, told } = tcp::ask(stage, stage.server(PodB))?;
        thread::sleep(time);
        let heir = stage.fork(|| {
            tcp::exchange(&mut stream)?;
            thread::sleep(LASTING);
            tcp::exchange(&mut stream)
        })?;
        drop(stream);
        heir.wait()?;
        // The socket ends with its last holder.
        told.closed()?;
    }
    Ok(())
}

fn inherit_by_exec(stage: &Stage) -> Result<()> {
    for _ in 0..stage.times(5) {
        let become_shell = || {
            let held = tcp::ask(stage, stage.server(PodB))?;
            fcntl_setfd(&held.stream, FdFlags::empty()).context("keeping the socket over exec")?;
            let number = std::os::fd::AsRawFd::as_raw_fd(&held.stream);
            let lines = format!("echo word >&{number}; read answer <&{number}; sleep 0.1");
            let error = std::os::unix::process::CommandExt::exec(Command::new("sh").args(["-c", &lines]));
            Err(error).context("becoming a shell")
        };
        stage.fork(become_shell)?.wait()?;
    }
    Ok(())
}

/// Hands a socket to whoever reads at the other end.
fn give(to: &UnixStream, socket: impl AsFd) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let given = [socket.as_fd()];
    ensure!(control.push(SendAncillaryMessage::ScmRights(&given)), "no room for a socket in a message");
    sendmsg(to, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).context("passing a socket on")?;
    Ok(())
}

/// Takes a socket that was handed over; none if there are no more.
fn take(from: &UnixStream) -> Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::empty())
        .context("taking a socket")?;
    let sockets = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => sockets.collect(),
        _ => Vec::new(),
    });
    Ok(sockets.last())
}

fn pass_on(stage: &Stage) -> Result<()> {
    pass_on_after(stage, LASTING)
}

fn pass_on_at_once(stage: &Stage) -> Result<()> {
    pass_on_after(stage, Duration::ZERO)
}

fn pass_on_after(stage: &Stage, time: Duration) -> Result<()> {
    for _ in 0..stage.times(5) {
        let (mine, theirs) = UnixStream::pair().context("making a pair of sockets")?;
        let heir = stage.fork(|| {
            let mut stream = TcpStream::from(take(&theirs)?.context("no socket came")?);
            tcp::exchange(&mut stream)?;
            thread::sleep(LASTING);
            tcp::exchange(&mut stream)
        })?;
        let Held { stream, told } = tcp::ask(stage, stage.server(PodB))?;
        thread::sleep(time);
        give(&mine, &stream)?;
        drop(stream);
        heir.wait()?;
        told.closed()?;
    }
    Ok(())
}

/// The worker is there before the listening socket and never holds it.
fn serve_and_pass_on(stage: &Stage) -> Result<()> {
    let (mine, theirs) = UnixStream::pair().context("making a pair of sockets")?;
    let worker = stage.fork(|| {
        while let Some(socket) = take(&theirs)? {
            tcp::echo_stream(&TcpStream::from(socket))?;
        }
        Ok(())
    })?;
    let listener = tcp::listener(stage.server(PodB), Listen::default())?;
    // The server is a child, so that this process can wait for the end.
    let server = stage.fork(|| {
        drop(theirs);
        loop {
            let Held { stream, told } = tcp::accept(stage, &listener)?;
            give(&mine, &stream)?;
            drop((stream, told));
        }
    })?;
    drop(listener);
    stage.ready()?;
    stage.wait()?;
    server.kill()?;
    worker.kill()
}

/// Accepts one after another and answers.
fn accept_in_turn(stage: &Stage, listener: &TcpListener) -> Result<()> {
    loop {
        tcp::echo_to_end(tcp::accept(stage, listener)?)?;
    }
}

/// Forks workers that each do `work` until the class ends.
fn with_workers(stage: &Stage, work: impl Fn() -> Result<()>) -> Result<()> {
    let workers = (0..WORKERS).map(|_| stage.fork(&work)).collect::<Result<Vec<_>>>()?;
    stage.ready()?;
    stage.wait()?;
    workers.into_iter().try_for_each(|worker| worker.kill())
}

fn serve_by_reuseport(stage: &Stage) -> Result<()> {
    let how = Listen { shares_port: true, ..Listen::default() };
    // All sockets are there before the first client: the kernel's choice among them does not change then.
    let listeners = (0..WORKERS)
        .map(|_| {
            let (mine, theirs) = UnixStream::pair().context("making a pair of sockets")?;
            let worker = stage.fork(|| {
                let listener = tcp::listener(stage.server(PodB), how)?;
                drop(theirs);
                accept_in_turn(stage, &listener)
            })?;
            wait_for_end(mine)?;
            Ok(worker)
        })
        .collect::<Result<Vec<_>>>()?;
    stage.ready()?;
    stage.wait()?;
    listeners.into_iter().try_for_each(|worker| worker.kill())
}

/// Waits until nobody holds the other end.
fn wait_for_end(mut stream: UnixStream) -> Result<()> {
    std::io::copy(&mut stream, &mut std::io::sink()).context("waiting for a worker")?;
    Ok(())
}

fn serve_by_prefork(stage: &Stage) -> Result<()> {
    let listener = tcp::listener(stage.server(PodB), Listen::default())?;
    with_workers(stage, || accept_in_turn(stage, &listener))
}

fn serve_by_worker(stage: &Stage) -> Result<()> {
    let listener = tcp::listener(stage.server(PodB), Listen::default())?;
    let worker = stage.fork(|| accept_in_turn(stage, &listener))?;
    stage.ready()?;
    stage.wait()?;
    worker.kill()
}

fn serve_by_fork(stage: &Stage) -> Result<()> {
    let listener = tcp::listener(stage.server(PodB), Listen::default())?;
    let server = stage.fork(|| {
        loop {
            let Held { stream, told } = tcp::accept(stage, &listener)?;
            // The child's child is nobody's to wait for, as in servers that ignore SIGCHLD.
            let child = stage.fork(|| tcp::echo_stream(&stream))?;
            drop(stream);
            child.wait()?;
            told.closed()?;
        }
    })?;
    stage.ready()?;
    stage.wait()?;
    server.kill()
}

/// Asks a server that listens and never accepts. It is a child, so that what is its can be told.
fn ask_nobody(stage: &Stage) -> Result<()> {
    let server = stage.server(PodB);
    let (mut mine, mut theirs) = UnixStream::pair().context("making a pair of sockets")?;
    let child = stage.fork(|| {
        enter(&stage.namespace(PodB)?)?;
        become_user(SERVER)?;
        let listener = tcp::listener(server, Listen::default())?;
        theirs.write_all(b"l").context("saying that it listens")?;
        theirs.read(&mut [0]).context("waiting for the end")?;
        drop(listener);
        Ok(())
    })?;
    mine.read_exact(&mut [0]).context("waiting for the listener")?;
    let owner = Owner::of_process(&child.pid().to_string())?;
    let netns = told::netns_of(&child.pid().to_string())?;
    become_user(CLIENT)?;
    for _ in 0..stage.times(5) {
        let held = tcp::connect_to(stage, server, tcp::From::default())?;
        let client = held.stream.local_addr().context("asking for the own address")?;
        let end = stage.end(Role::Server, Transport::Tcp)?;
        let end = Opened { owner: Some(owner.clone()), netns: Some(netns), ..end };
        let queued = stage.tell(end, server, client)?;
        thread::sleep(LASTING);
        queued.closed()?;
        held.reset()?;
    }
    mine.write_all(b"e").context("ending the listener")?;
    child.wait()
}
