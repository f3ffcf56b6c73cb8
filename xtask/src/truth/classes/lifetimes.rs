//! Connections by how long they and their processes live.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{CLIENT, Class, Part, ROOT, SERVER, When, plays, serves};
use crate::truth::player::Stage;
use crate::truth::player::tcp::{self, From};
use crate::truth::run::LAST_CLASS;
use crate::truth::scene::Place::{PodA, PodB};

pub(super) const CLASSES: &[Class] = &[
    Class::new(
        "long",
        "connections held for 300 ms",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, CLIENT, long)],
    ),
    Class::new(
        "brief",
        "connections of less than 1 ms, one after another, from a process that lasts",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, CLIENT, brief)],
    ),
    Class::new(
        "paced",
        "connections of 30 ms from a process that lasts",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, CLIENT, paced)],
    ),
    Class::new(
        "fork",
        "a forked process for each connection, gone at once",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, CLIENT, fork_each)],
    ),
    Class::new(
        "fork_exec",
        "a forked and executed process for each connection, gone at once",
        &[
            serves(PodB, SERVER, tcp::echo),
            plays(PodA, CLIENT, execute_each),
            Part { place: PodA, uid: CLIENT, when: When::Summoned, act: connect_once },
        ],
    ),
    Class::new(
        "burst",
        "bursts from four threads at once, each connection ended by a reset",
        &[serves(PodB, SERVER, tcp::accept_and_close), plays(PodA, ROOT, burst)],
    )
    .loud(),
    Class::new(
        LAST_CLASS,
        "the last connection of a run; not judged",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, CLIENT, last)],
    ),
];

fn last(stage: &Stage) -> Result<()> {
    tcp::ask(stage, stage.server(PodB))?.reset()
}

/// Longer than any targeted lookup takes.
const LONG: Duration = Duration::from_millis(300);
/// Just more than what is judged without eBPF.
const PACE: Duration = Duration::from_millis(30);

fn long(stage: &Stage) -> Result<()> {
    for _ in 0..stage.times(5) {
        let held = tcp::ask(stage, stage.server(PodB))?;
        thread::sleep(LONG);
        held.close()?;
    }
    Ok(())
}

fn brief(stage: &Stage) -> Result<()> {
    for _ in 0..stage.times(200) {
        tcp::ask(stage, stage.server(PodB))?.close()?;
    }
    Ok(())
}

fn paced(stage: &Stage) -> Result<()> {
    for _ in 0..stage.times(100) {
        let held = tcp::ask(stage, stage.server(PodB))?;
        thread::sleep(PACE);
        held.close()?;
    }
    Ok(())
}

fn fork_each(stage: &Stage) -> Result<()> {
    for _ in 0..stage.times(100) {
        let child = stage.fork(|| connect_once(stage))?;
        child.wait()?;
    }
    Ok(())
}

fn connect_once(stage: &Stage) -> Result<()> {
    tcp::connect_to(stage, stage.server(PodB), From::default())?.close()
}

fn execute_each(stage: &Stage) -> Result<()> {
    for _ in 0..stage.times(50) {
        let status = stage.execute(2)?.status().context("executing a player")?;
        ensure!(status.success(), "an executed player ended with {status}");
    }
    Ok(())
}

fn burst(stage: &Stage) -> Result<()> {
    let each = stage.times(500);
    thread::scope(|scope| {
        let connect_all = || {
            (0..each).try_for_each(|_| tcp::connect_to(stage, stage.server(PodB), From::default())?.reset())
        };
        let threads = [(); 4].map(|()| scope.spawn(connect_all));
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Ok(())))
    })
}
