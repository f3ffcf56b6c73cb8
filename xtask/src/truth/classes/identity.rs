//! Processes whose identity is not what it seems, or does not stay what it was.

use std::io;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{UnshareFlags, set_name};

use super::{CLIENT, Class, Limit, Question, ROOT, SERVER, plays, serves};
use crate::truth::player::tcp::{self, From};
use crate::truth::player::{Stage, become_user, enter, new_namespace};
use crate::truth::scene::Place::{OneUserPod, PodA, PodB, PodC};
use crate::truth::scene::{Family, ONE_USER};
use crate::truth::told::Role;
use crate::truth::ways::Standard;

pub(super) const CLASSES: &[Class] = &[
    Class::new(
        "uid_change",
        "the user changes while the connection lasts: its owner is who connected",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, ROOT, change_user)],
    )
    .limited(&[Limit {
        role: Role::Client,
        questions: &[Question::Process],
        standards: &[Standard::WithoutEbpf, Standard::Tables],
        may_mislead: false,
        because: "tables do not keep which user a process was: one that has changed looks just as one that was handed \
                  the socket of another user, so the socket's user is told and no process",
    }]),
    Class::new(
        "comm_change",
        "the process renames itself while the connection lasts",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, CLIENT, change_name)],
    ),
    Class::new(
        "pid_namespace",
        "client and server in pid namespaces of their own",
        &[serves(PodB, ROOT, serve_in_pid_namespace), plays(PodA, ROOT, ask_in_pid_namespace)],
    ),
    Class::new(
        "pid_reuse",
        "one pid, used by one process after another, each of another user",
        &[serves(PodB, SERVER, tcp::echo), plays(PodA, ROOT, reuse_pid)],
    ),
    Class::new(
        "thread_netns",
        "a thread in another network namespace than its process",
        &[serves(PodC, SERVER, tcp::echo), plays(PodA, ROOT, ask_from_other_namespace)],
    ),
    Class::new(
        "sidecars",
        "two users in one pod: one asks the other on loopback, both ask another pod",
        &[
            serves(PodB, SERVER, tcp::echo),
            serves(PodA, SERVER, serve_loopback),
            plays(PodA, CLIENT, ask_sidecar_and_pod),
            plays(PodA, SERVER, ask_pod),
        ],
    ),
    Class::new(
        "one_user_brief",
        "connections of less than 1 ms from a pod in which all is of one user",
        &[serves(PodB, SERVER, tcp::echo), plays(OneUserPod, ONE_USER, ask_pod)],
    ),
];

/// How long a connection lasts after what changes has changed.
const AFTERWARDS: Duration = Duration::from_millis(150);

fn change_user(stage: &Stage) -> Result<()> {
    for turn in 0..stage.times(5) {
        let one = || {
            let mut held = tcp::ask(stage, stage.server(PodB))?;
            become_user(CLIENT + 10 + turn)?;
            held.exchange()?;
            thread::sleep(AFTERWARDS);
            held.close()
        };
        stage.fork(one)?.wait()?;
    }
    Ok(())
}

fn change_name(stage: &Stage) -> Result<()> {
    for _ in 0..stage.times(5) {
        let one = || {
            let mut held = tcp::ask(stage, stage.server(PodB))?;
            set_name(c"renamed").context("renaming the process")?;
            held.exchange()?;
            thread::sleep(AFTERWARDS);
            held.close()
        };
        stage.fork(one)?.wait()?;
    }
    Ok(())
}

/// Plays `act` as the first process of a pid namespace; /proc shows it as it is shown outside.
fn in_pid_namespace(stage: &Stage, act: impl FnOnce() -> Result<()>) -> Result<()> {
    new_namespace(UnshareFlags::NEWPID)?;
    stage.fork(act)?.wait()
}

fn serve_in_pid_namespace(stage: &Stage) -> Result<()> {
    in_pid_namespace(stage, || tcp::echo(stage))
}

fn ask_in_pid_namespace(stage: &Stage) -> Result<()> {
    in_pid_namespace(stage, || {
        for _ in 0..stage.times(20) {
            tcp::ask(stage, stage.server(PodB))?.close()?;
        }
        Ok(())
    })
}

fn reuse_pid(stage: &Stage) -> Result<()> {
    let first = stage.fork(|| Ok(()))?;
    let pid = first.pid();
    first.wait()?;
    for turn in 0..stage.times(30) {
        let one = || {
            become_user(CLIENT + turn % 7)?;
            tcp::connect_to(stage, stage.server(PodB), From::default())?.close()
        };
        match stage.fork_with_pid(pid, one) {
            Ok(child) => child.wait()?,
            // Before Linux 5.5 nobody can choose a pid.
            Err(error)
                if error.raw_os_error().is_some_and(|code| code == libc::EINVAL || code == libc::E2BIG) =>
            {
                return stage.cannot("this kernel lets nobody choose a pid");
            }
            // Another program of the machine got the pid first: one turn less.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                ensure!(turn > 0, "the pid {pid} is taken from the first");
            }
            Err(error) => return Err(error).context("forking with a chosen pid"),
        }
    }
    Ok(())
}

fn ask_from_other_namespace(stage: &Stage) -> Result<()> {
    let other = stage.namespace(PodB)?;
    let server = stage.server(PodC);
    let ask = || -> Result<()> {
        enter(&other)?;
        for _ in 0..stage.times(20) {
            let held = tcp::ask(stage, server)?;
            thread::sleep(Duration::from_millis(25));
            held.close()?;
        }
        Ok(())
    };
    thread::scope(|scope| match scope.spawn(ask).join() {
        Ok(asked) => asked,
        Err(_) => bail!("the thread panicked"),
    })
}

fn serve_loopback(stage: &Stage) -> Result<()> {
    tcp::serve_echo(stage, ([127, 0, 0, 1], stage.port(1)).into())
}

fn ask_sidecar_and_pod(stage: &Stage) -> Result<()> {
    for _ in 0..stage.times(10) {
        let sidecar = tcp::ask(stage, ([127, 0, 0, 1], stage.port(1)).into())?;
        thread::sleep(Duration::from_millis(25));
        sidecar.close()?;
    }
    ask_pod(stage)
}

fn ask_pod(stage: &Stage) -> Result<()> {
    for _ in 0..stage.times(30) {
        tcp::ask(stage, PodB.at(Family::V4, stage.port(0)))?.close()?;
    }
    Ok(())
}
