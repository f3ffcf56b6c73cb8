//! A player as the bench sees it: its process, and the socket by which it says that it is ready and hears its cues.

use std::error::Error;
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::patience;
use super::player::Script;
use crate::shell;

/// A process of the bench's; killed when dropped.
pub(crate) struct Actor {
    child: Child,
    control: UnixStream,
    name: String,
}

/// Why a player cannot play here, in its words.
#[derive(Debug)]
pub(crate) struct Cannot(pub(crate) String);

impl Display for Cannot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Error for Cannot {}

impl Actor {
    /// A process that holds a new network namespace until the bench ends.
    pub(crate) fn hold(uid: u32) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.args(["truth-hold", &uid.to_string()]);
        Self::start(&mut command, "a namespace's holder".to_owned(), Stdio::null())
    }

    /// A player; what it tells goes to the end of `truth`.
    pub(crate) fn play(script: &Script, truth: &File) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("truth-play").arg(serde_json::to_string(script).context("rendering a script")?);
        let name = format!("part {} of {}", script.part, script.class);
        let truth = truth.try_clone().context("sharing the truth file")?;
        Self::start(&mut command, name, truth.into())
    }

    fn start(command: &mut Command, name: String, truth: Stdio) -> Result<Self> {
        let (control, theirs) = UnixStream::pair().context("making a pair of sockets")?;
        let child = command
            .stdin(OwnedFd::from(theirs))
            .stdout(truth)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self { child, control, name })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says that it is ready, or has ended well. If it cannot play here, the error is [`Cannot`].
    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        match &*self.hear()? {
            "ready" => Ok(()),
            "" => self.wait(),
            said => match said.strip_prefix("cannot ") {
                Some(why) => Err(Cannot(why.to_owned()).into()),
                None => bail!("{} said {said:?}", self.name),
            },
        }
    }

    /// What it says next; nothing if it has ended.
    fn hear(&mut self) -> Result<String> {
        self.control.set_read_timeout(Some(patience())).context("setting a timeout")?;
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            match self.control.read(&mut byte) {
                Ok(0) => break,
                Ok(_) if byte == *b"\n" => break,
                Ok(_) => line.extend(byte),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => return Err(error).with_context(|| format!("waiting for {}", self.name)),
            }
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Lets it go on.
    pub(crate) fn cue(&mut self) -> Result<()> {
        self.control.write_all(b"g").with_context(|| format!("cueing {}", self.name))
    }

    /// Lets it end and waits until it has.
    pub(crate) fn end(mut self) -> Result<()> {
        match self.control.shutdown(Shutdown::Both) {
            Err(error) if error.kind() != ErrorKind::NotConnected => {
                Err(error).with_context(|| format!("ending {}", self.name))
            }
            _ => self.wait(),
        }
    }

    /// Waits until it has ended, which must be well.
    pub(crate) fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + patience();
        loop {
            if let Some(status) =
                self.child.try_wait().with_context(|| format!("waiting for {}", self.name))?
            {
                ensure!(status.success(), "{} ended with {status}", self.name);
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{} does not end", self.name);
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Both do nothing to a process that has ended and been waited for.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            shell::warn(&format!("a player could not be ended: {error}"));
        }
    }
}
