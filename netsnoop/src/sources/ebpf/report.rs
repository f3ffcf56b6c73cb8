//! What became of each program, and why: the ladder's state as `doctor`, the first lines of `watch` and
//! the metrics tell it. What to do about a failure is `doctor`'s.

use std::fmt;

use netsnoop_core::attribution::Rung;

use super::programs::Topic;

/// What became of a rung's programs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RungReport {
    /// The rung.
    pub rung: Rung,
    /// Its programs.
    pub programs: Vec<ProgramReport>,
}

/// What became of one program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProgramReport {
    /// Its name.
    pub name: &'static str,
    /// What it tells; `None` for the iterator, which is asked instead.
    pub tells: Option<Topic>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of one program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It runs.
    Attached,
    /// A stronger rung tells the same.
    NotNeeded,
    /// It could not be loaded or attached.
    Failed(Failure),
}

/// Why a program could not be loaded or attached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The kind of cause, which decides the remedy.
    pub cause: Cause,
    /// What was tried and what the kernel said.
    pub text: String,
    /// Only what the kernel said: the same for hooks that fail for the same reason.
    pub reason: String,
}

/// The kinds of causes that have different remedies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The kernel denied it.
    Permission,
    /// The kernel denied a perf event, which has a lock of its own beside capabilities.
    PerfEvent,
    /// The kernel counts maps as locked memory, and this process may not lock more.
    LockedMemory,
    /// The kernel has not got what the program attaches to.
    MissingHook,
    /// The verifier refused the program.
    Verifier,
    /// The kernel shows no BTF, so the offsets of its structs are unknown.
    NoBtf,
    /// The root of the cgroup v2 hierarchy cannot be opened.
    CgroupRoot,
    /// tracefs cannot be had.
    Tracefs,
    /// Anything else.
    Other,
}

impl RungReport {
    /// Whether any of its programs runs.
    pub fn works(&self) -> bool {
        self.programs.iter().any(|program| program.outcome == Outcome::Attached)
    }

    /// Whether a stronger rung tells all it could.
    pub fn is_not_needed(&self) -> bool {
        self.programs.iter().all(|program| program.outcome == Outcome::NotNeeded)
    }

    /// The programs that failed, with why.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &Failure)> {
        self.programs.iter().filter_map(|program| match &program.outcome {
            Outcome::Failed(failure) => Some((program.name, failure)),
            Outcome::Attached | Outcome::NotNeeded => None,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
