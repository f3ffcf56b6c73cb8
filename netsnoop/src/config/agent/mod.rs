//! What `netsnoop agent` is to do: its file, and what the command line says besides. The file can be read again.

mod packet_filter;
mod reading;
mod services;
mod settings;
#[cfg(test)]
mod tests;
mod users;
mod yaml;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use netsnoop_core::service::NameWishes;

use super::cluster::cluster;
use super::{Knowing, SourceConfig};
use crate::cli::{AgentArgs, GlobalArgs};
use crate::failure::Failure;

pub use settings::{AgentSettings, JsonlSettings, Limits, OutputSettings, PeriodicFile};
pub use users::{UserPattern, UserRules};

/// A file beyond this configures nothing.
const FILE_MAX_BYTES: u64 = 4 << 20;

/// Bytes of a packet that hold a ClientHello of today: with keys for post-quantum groups it has about 1,800.
const NAMES_SNAPSHOT_LENGTH: u32 = 2048;

/// What `netsnoop agent` is to do.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// What is opened.
    pub sources: SourceConfig,
    /// Where the settings are, to be read again.
    pub file: PathBuf,
    /// What the file says.
    pub settings: AgentSettings,
    /// Where results go: as the file says, or the command line in its place.
    pub outputs: OutputSettings,
    /// Where counts survive a restart: likewise.
    pub state: Option<PeriodicFile>,
}

impl AgentConfig {
    /// Reads the file and decides. A file that cannot be meant is a usage failure.
    pub fn decide(args: AgentArgs, global: &GlobalArgs) -> Result<Self, Failure> {
        let settings = read(&args.config).map_err(Failure::usage)?;
        let mut outputs = settings.outputs.clone();
        outputs.http = args.listen.or(outputs.http);
        if let Some(path) = args.textfile {
            outputs.textfile = Some(PeriodicFile::textfile(path));
        }
        if let Some(path) = args.jsonl {
            outputs.jsonl = Some(JsonlSettings::at(Some(path)));
        }
        let state = args.state.map(PeriodicFile::state).or_else(|| settings.state.clone());
        let knowing = Knowing::of_watch(&args.knowing).map_err(Failure::usage)?;
        let wishes = settings.services.name_wishes();
        let expression = vec![packet_filter::expression(&settings.destinations, wishes.dns)];
        let services = settings.services.clone();
        let mut sources = SourceConfig::decide((args.capture, expression), knowing, services, global);
        sources.container_users = outputs.jsonl.is_some();
        sources.cluster = cluster(args.cluster, global)?;
        if wishes != NameWishes::default() {
            sources.snapshot_length = sources.snapshot_length.max(NAMES_SNAPSHOT_LENGTH);
        }
        Ok(Self { sources, file: args.config, settings, outputs: outputs.or_default(), state })
    }
}

/// Reads the settings in `file`.
pub fn read(file: &Path) -> anyhow::Result<AgentSettings> {
    let act = || format!("reading {}", file.display());
    let mut text = String::new();
    let opened = File::open(file).with_context(act)?;
    opened.take(FILE_MAX_BYTES + 1).read_to_string(&mut text).with_context(act)?;
    ensure!(text.len() as u64 <= FILE_MAX_BYTES, "{}: larger than any configuration", file.display());
    parse(file, &text)
}

/// Reads the settings in the text of `file`.
pub fn parse(file: &Path, text: &str) -> anyhow::Result<AgentSettings> {
    settings::read(file, text)
}
