//! How a run ends badly: what to say, and with which exit code. Nothing is printed here; `main` does.

use std::fmt;
use std::process::ExitCode;

/// What kind of failure it was, by the exit code that tells scripts apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FailureKind {
    /// The run began and could not go on.
    RunFailed = 1,
    /// The command line asks for something that cannot be meant.
    Usage = 2,
    /// A privilege or a kernel feature is missing.
    Unavailable = 77,
}

/// A failed run.
#[derive(Debug)]
pub struct Failure {
    /// Which kind.
    pub kind: FailureKind,
    /// What was tried on which object, why it failed, what to do.
    pub error: anyhow::Error,
}

impl Failure {
    /// The command line is at fault.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { kind: FailureKind::Usage, error: error.into() }
    }

    /// This machine or these privileges do not allow it.
    pub fn unavailable(error: impl Into<anyhow::Error>) -> Self {
        Self { kind: FailureKind::Unavailable, error: error.into() }
    }

    /// The code to exit with.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { kind: FailureKind::RunFailed, error }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}
