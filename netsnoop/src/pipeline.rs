//! Sources -> reconciler -> sinks: the only file that makes channels and starts threads and tasks.

use std::sync::Arc;

use anyhow::anyhow;

use crate::config::WatchConfig;
use crate::counters::Counters;
use crate::failure::Failure;
use crate::sinks;

/// Runs `netsnoop watch`.
pub fn watch(config: WatchConfig) -> Result<(), Failure> {
    let mut output = sinks::open(&config, Arc::<Counters>::default())?;
    if output.flush()? == sinks::Flow::Continue {
        return Err(Failure::unavailable(anyhow!("no source is wired to the output yet")));
    }
    Ok(())
}
