//! Connections that are older than netsnoop: only the kernel's tables tell of their owners.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{CLIENT, Class, Limit, Part, Question, SERVER, When, serves};
use crate::truth::player::Stage;
use crate::truth::player::tcp;
use crate::truth::player::udp;
use crate::truth::scene::Place::{PodA, PodB};
use crate::truth::told::Role;
use crate::truth::ways::Standard;

pub(super) const CLASSES: &[Class] = &[
    Class::new(
        "older_tcp",
        "TCP connections older than netsnoop",
        &[serves(PodB, SERVER, tcp::echo), begins(older_tcp)],
    ),
    Class::new(
        "older_udp",
        "connected UDP sockets older than netsnoop",
        &[serves(PodB, SERVER, udp::echo), begins(older_udp)],
    ),
    Class::new(
        "older_shared",
        "connections older than netsnoop that a child has inherited and both hold",
        &[serves(PodB, SERVER, tcp::echo), begins(older_shared)],
    )
    .limited(&[Limit {
        role: Role::Client,
        questions: &[Question::Process],
        standards: &Standard::ALL,
        may_mislead: false,
        because: "the kernel does not keep which of a socket's holders connected it; when that happened, nobody watched",
    }]),
];

const fn begins(act: fn(&Stage) -> Result<()>) -> Part {
    Part { place: PodA, uid: CLIENT, when: When::FromBefore, act }
}

/// How long they last once netsnoop watches.
const AFTERWARDS: Duration = Duration::from_millis(300);

fn older_tcp(stage: &Stage) -> Result<()> {
    let mut held =
        (0..stage.times(10)).map(|_| tcp::ask(stage, stage.server(PodB))).collect::<Result<Vec<_>>>()?;
    stage.ready()?;
    stage.wait()?;
    held.iter_mut().try_for_each(tcp::Held::exchange)?;
    thread::sleep(AFTERWARDS);
    held.into_iter().try_for_each(tcp::Held::close)
}

fn older_udp(stage: &Stage) -> Result<()> {
    let server = stage.server(PodB);
    let connect = |_| udp::connect_to(stage, udp::fresh(server)?.into(), server);
    let flows = (0..stage.times(10)).map(connect).collect::<Result<Vec<_>>>()?;
    flows.iter().try_for_each(udp::Flow::hear)?;
    stage.ready()?;
    stage.wait()?;
    flows.iter().try_for_each(udp::Flow::exchange)?;
    thread::sleep(AFTERWARDS);
    flows.into_iter().try_for_each(udp::Flow::close)
}

/// Afterwards the parent speaks on one, the child on another, and nobody on a third.
fn older_shared(stage: &Stage) -> Result<()> {
    let mut held = (0..3).map(|_| tcp::ask(stage, stage.server(PodB))).collect::<Result<Vec<_>>>()?;
    let (mine, theirs) = UnixStream::pair().context("making a pair of sockets")?;
    let child = stage.fork(|| {
        (&theirs).read_exact(&mut [0]).context("waiting for the cue")?;
        held.get_mut(1).context("no such connection")?.exchange()?;
        thread::sleep(AFTERWARDS);
        Ok(())
    })?;
    stage.ready()?;
    stage.wait()?;
    (&mine).write_all(b"c").context("cueing the child")?;
    held.get_mut(0).context("no such connection")?.exchange()?;
    child.wait()?;
    held.into_iter().try_for_each(tcp::Held::close)
}
