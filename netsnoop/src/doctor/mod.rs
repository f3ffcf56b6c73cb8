//! `netsnoop doctor`: what this kernel and these privileges allow, rung by rung, what is lost without
//! each, and the remedy. Everything is really tried; nothing is concluded from version numbers.
//!
//! Nothing stays behind: what was attached is detached before the result is printed.

mod containers;
mod host;
mod remedies;
mod render;
mod rungs;

use std::io::{self, Write};
use std::path::PathBuf;

use netsnoop_core::attribution::RungSet;
use serde::Serialize;

use crate::sources::ebpf::EbpfSettings;
use crate::sources::runtimes::RuntimeSettings;

/// What to look at.
#[derive(Clone, Debug)]
pub struct DoctorSettings {
    /// Where the node's proc file system is mounted.
    pub proc_root: PathBuf,
    /// Who is asked for names of containers.
    pub runtimes: RuntimeSettings,
    /// Whether the kernel programs' diagnostics and the verifier's logs are wanted (`-vv`).
    pub log: bool,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Diagnosis {
    /// The kernel's release.
    pub kernel: String,
    /// Who asked, by real uid.
    pub uid: u32,
    /// The capabilities in effect.
    pub capabilities: Vec<String>,
    /// The ways of knowing, strongest first.
    pub rungs: Vec<Finding>,
    /// What they stand on.
    pub host: Vec<Finding>,
    /// Whether any way of knowing works.
    pub usable: bool,
}

/// One thing that was tried.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What.
    pub name: &'static str,
    /// How it went.
    pub state: State,
    /// What was seen, a sentence for each thing worth one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// What netsnoop cannot tell without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without: Option<&'static str>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<String>,
}

/// How a thing went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All of it works.
    Works,
    /// Some of it works.
    Partly,
    /// None of it works.
    Fails,
}

impl State {
    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Partly => "partly",
            Self::Fails => "fails",
        }
    }
}

impl Finding {
    fn works(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: State::Works, details: vec![detail.into()], without: None, remedies: Vec::new() }
    }

    fn fails(name: &'static str, detail: impl Into<String>, without: &'static str) -> Self {
        let details = vec![detail.into()];
        Self { name, state: State::Fails, details, without: Some(without), remedies: Vec::new() }
    }

    fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedies.push(remedy.into());
        self
    }
}

impl Diagnosis {
    /// Writes it for people.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        render::text(self, out)
    }

    /// Writes it as one JSON object and a newline.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }
}

/// Tries everything.
pub fn examine(settings: &DoctorSettings) -> Diagnosis {
    let host = host::Host::read(&settings.proc_root);
    let ebpf = EbpfSettings { rungs: RungSet::ALL, automatic: false, log: settings.log };
    let rungs = rungs::examine(&ebpf, &host);
    let mut foundations = host.findings();
    foundations.extend(containers::findings(&settings.runtimes, &settings.proc_root));
    let usable = rungs.iter().any(|finding| finding.state != State::Fails);
    Diagnosis {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        uid: rustix::process::getuid().as_raw(),
        capabilities: host.capabilities.iter_names().map(|(name, _)| format!("CAP_{name}")).collect(),
        rungs,
        host: foundations,
        usable,
    }
}
