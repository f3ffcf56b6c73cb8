//! A player: this program, started anew in one place of the bench as one user, to play one part of one class. It
//! tells the truth on standard output; on standard input, a socket, it says when it is ready and hears when to end.

mod stage;
pub(crate) mod tcp;
pub(crate) mod udp;

use std::fs;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use rustix::process::{Gid, Signal, Uid, set_parent_process_death_signal};
use rustix::thread::{
    LinkNameSpaceType, UnshareFlags, move_into_link_name_space, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid, unshare_unsafe,
};
use serde::{Deserialize, Serialize};

pub(crate) use self::stage::Stage;
use super::classes;
use super::scene::Place;

/// All that a player is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Script {
    pub(crate) class: String,
    /// Which part of the class's cast.
    pub(crate) part: usize,
    /// Few repetitions.
    pub(crate) small: bool,
    pub(crate) place: Place,
    pub(crate) uid: u32,
    /// Every place's namespace.
    pub(crate) namespaces: Vec<(Place, PathBuf)>,
    /// The file that takes the pids to move into the place's cgroup.
    pub(crate) cgroup: Option<PathBuf>,
    /// Whether this process is in its place already, as one that was executed by a player is.
    pub(crate) is_placed: bool,
}

impl Script {
    /// A place's namespace.
    pub(crate) fn namespace(&self, place: Place) -> Result<File> {
        let (_, path) =
            self.namespaces.iter().find(|(named, _)| *named == place).context("a place has no namespace")?;
        File::open(path).with_context(|| format!("opening {}", path.display()))
    }

    /// Goes where the script says: cgroup and namespace first, as the user may do neither.
    fn take_place(&self) -> Result<()> {
        if let Some(cgroup) = &self.cgroup {
            fs::write(cgroup, "0").with_context(|| format!("moving into {}", cgroup.display()))?;
        }
        enter(&self.namespace(self.place)?)?;
        become_user(self.uid)
    }
}

/// Moves this thread into a network namespace.
pub(crate) fn enter(namespace: &File) -> Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .context("entering a network namespace")
}

/// Becomes a user for good. The system calls change one thread (man 2 setresuid, "C library/kernel differences"): a
/// player has only one then.
pub(crate) fn become_user(uid: u32) -> Result<()> {
    if uid != 0 {
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
        set_thread_groups(&[]).context("leaving all groups")?;
        set_thread_res_gid(group, group, group).context("changing the group")?;
        set_thread_res_uid(user, user, user).context("changing the user")?;
    }
    end_with_parent()
}

/// Ends this process when its parent ends, whatever becomes of the bench. Changing the user undoes it (man 2
/// PR_SET_PDEATHSIG).
pub(crate) fn end_with_parent() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("asking to end with the parent")
}

/// What the hidden subcommand that holds a namespace takes.
#[derive(clap::Args)]
pub(crate) struct HoldArguments {
    /// The user to become
    uid: u32,
}

/// Makes a network namespace and holds it until the bench ends.
pub(crate) fn hold(arguments: &HoldArguments) -> Result<ExitCode> {
    new_namespace(UnshareFlags::NEWNET)?;
    become_user(arguments.uid)?;
    stage::say("ready")?;
    stage::wait()?;
    Ok(ExitCode::SUCCESS)
}

/// Moves this thread into new namespaces.
pub(crate) fn new_namespace(kinds: UnshareFlags) -> Result<()> {
    // SAFETY: none of these kinds unshares file descriptors, which is what could break other code.
    unsafe { unshare_unsafe(kinds) }.context("making a namespace")
}

/// What the hidden subcommand that plays takes.
#[derive(clap::Args)]
pub(crate) struct PlayArguments {
    /// A script, as JSON
    script: String,
}

/// Plays a part.
pub(crate) fn play(arguments: &PlayArguments) -> Result<ExitCode> {
    let script: Script = serde_json::from_str(&arguments.script).context("reading the script")?;
    if !script.is_placed {
        script.take_place()?;
    }
    let (number, class) = classes::find(&script.class)?;
    let part = class.cast.get(script.part).context("the class has no such part")?;
    let act = part.act;
    act(&Stage::new(script, number)).map(|()| ExitCode::SUCCESS)
}
