//! What a part sees of the bench: its ports and addresses, the cue to begin and end, ways to become more processes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::{Script, end_with_parent};
use crate::truth::scene::{Family, Place, plain};
use crate::truth::told::{self, Opened, Owner, Role, Told, Transport};

/// Servers' ports; each class has ten of its own.
const SERVER_PORTS: u16 = 20_000;
/// Ports that clients choose for themselves; below those that the kernel chooses.
const CLIENT_PORTS: u16 = 10_000;
const PORTS_A_CLASS: u16 = 10;

/// One part's view.
pub(crate) struct Stage {
    script: Script,
    /// The class's place in the list.
    number: u16,
}

impl Stage {
    pub(super) const fn new(script: Script, number: u16) -> Self {
        Self { script, number }
    }

    /// Where this part plays.
    pub(crate) const fn place(&self) -> Place {
        self.script.place
    }

    /// A port of the class's own for a server.
    pub(crate) const fn port(&self, which: u16) -> u16 {
        SERVER_PORTS + self.number * PORTS_A_CLASS + which
    }

    /// A port of the class's own for a client that chooses its port.
    pub(crate) const fn client_port(&self, which: u16) -> u16 {
        CLIENT_PORTS + self.number * PORTS_A_CLASS + which
    }

    /// How often to repeat what a full run repeats `full` times.
    pub(crate) const fn times(&self, full: u32) -> u32 {
        if self.script.small { full.div_ceil(5) } else { full }
    }

    /// The address at which the class's first server is in `place`, IPv4.
    pub(crate) fn server(&self, place: Place) -> SocketAddr {
        place.at(Family::V4, self.port(0))
    }

    /// A place's namespace.
    pub(crate) fn namespace(&self, place: Place) -> Result<File> {
        self.script.namespace(place)
    }

    /// Says that this part is ready.
    pub(crate) fn ready(&self) -> Result<()> {
        say("ready")
    }

    /// Says that this machine cannot play the class, and why; what was played of it is not judged.
    pub(crate) fn cannot(&self, why: &str) -> Result<()> {
        say(&format!("cannot {why}"))
    }

    /// Waits for the cue to go on, or to end.
    pub(crate) fn wait(&self) -> Result<()> {
        wait()
    }

    /// An end of this process's own in this thread's namespace, not told yet: `at` is now.
    pub(crate) fn end(&self, role: Role, transport: Transport) -> Result<Opened> {
        let unset = SocketAddr::from(([0, 0, 0, 0], 0));
        Ok(Opened {
            id: String::new(),
            class: self.script.class.clone(),
            role,
            transport,
            local: unset,
            remote: unset,
            owner: Some(Owner::this_process()?),
            netns: Some(told::this_netns()?),
            at: told::now(),
        })
    }

    /// Tells of an end that nobody owns.
    pub(crate) fn tell_nobody(&self, mut end: Opened) -> Result<Told> {
        end.owner = None;
        end.netns = None;
        told::opened(end)
    }

    /// Tells of `end` between these addresses; a wildcard one stands for the place's own.
    pub(crate) fn tell(&self, mut end: Opened, local: SocketAddr, remote: SocketAddr) -> Result<Told> {
        end.remote = plain(remote);
        end.local = plain(local);
        if end.local.ip().is_unspecified() {
            let family = if end.remote.is_ipv4() { Family::V4 } else { Family::V6 };
            end.local.set_ip(self.script.place.address(family));
        }
        told::opened(end)
    }

    /// Starts this program anew, by exec, for another part of the class.
    pub(crate) fn execute(&self, part: usize) -> Result<Command> {
        let script = Script { part, is_placed: true, ..self.script.clone() };
        let mut command = Command::new("/proc/self/exe");
        command.arg("truth-play").arg(serde_json::to_string(&script).context("rendering a script")?);
        Ok(command)
    }

    /// Forks; the child does `act`, ends, and never returns from here. Only for players without threads.
    pub(crate) fn fork(&self, act: impl FnOnce() -> Result<()>) -> Result<Child> {
        // SAFETY: this process has one thread, so the child finds no lock held and may go on as after any call.
        let pid = unsafe { libc::fork() };
        ensure!(pid >= 0, "forking: {}", io::Error::last_os_error());
        Ok(Child(parent_of(pid, act)))
    }

    /// As [`Self::fork`], with a pid that no process has (man 2 clone, `set_tid`, Linux 5.5).
    pub(crate) fn fork_with_pid(&self, pid: Pid, act: impl FnOnce() -> Result<()>) -> io::Result<Child> {
        let pids = [pid.as_raw_nonzero().get()];
        let arguments = CloneArguments {
            exit_signal: Signal::CHILD.as_raw() as u64,
            set_tid: pids.as_ptr() as u64,
            set_tid_size: 1,
            ..CloneArguments::default()
        };
        let (arguments, size) = (&raw const arguments, size_of::<CloneArguments>());
        // SAFETY: as of fork; the kernel only reads the arguments, which outlive the call, as does the list of pids.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, arguments, size) };
        if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(Child(parent_of(pid as libc::pid_t, act))) }
    }
}

/// `struct clone_args` of version 2 (man 2 clone, "The clone3() system call").
#[derive(Default)]
#[repr(C)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
}

/// In the parent the child that was made; in the child this does `act` and ends.
fn parent_of(pid: libc::pid_t, act: impl FnOnce() -> Result<()>) -> Pid {
    if let Some(child) = Pid::from_raw(pid) {
        return child;
    }
    let code = match end_with_parent().and_then(|()| act()) {
        Ok(()) => 0,
        // If nobody can be told, the exit code still says it.
        Err(error) => writeln!(io::stderr(), "a player's child: {error:#}").map_or(2, |()| 1),
    };
    // SAFETY: _exit takes any number and does not return; nothing of the parent's is flushed twice.
    unsafe { libc::_exit(code) }
}

/// Says a line to the bench by standard input, which is a socket.
pub(super) fn say(line: &str) -> Result<()> {
    let text = format!("{line}\n");
    rustix::io::write(rustix::stdio::stdin(), text.as_bytes()).context("saying something to the bench")?;
    Ok(())
}

/// Waits for a cue: the bench writes one byte, and closes its end as the last.
pub(super) fn wait() -> Result<()> {
    match io::stdin().lock().read(&mut [0]) {
        Ok(_) => Ok(()),
        // A bench that was killed has ended too.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error).context("waiting for a cue"),
    }
}

/// A child that was forked.
pub(crate) struct Child(Pid);

impl Child {
    /// Its pid.
    pub(crate) const fn pid(&self) -> Pid {
        self.0
    }

    /// Waits until it has ended, which must be well.
    pub(crate) fn wait(self) -> Result<()> {
        let (_, status) = waitpid(Some(self.0), WaitOptions::empty())
            .context("waiting for a child")?
            .context("no child has ended")?;
        ensure!(status.exit_status() == Some(0), "a player's child failed");
        Ok(())
    }

    /// Ends it.
    pub(crate) fn kill(self) -> Result<()> {
        kill_process(self.0, Signal::KILL).context("ending a child")?;
        waitpid(Some(self.0), WaitOptions::empty()).context("waiting for a child")?;
        Ok(())
    }
}
