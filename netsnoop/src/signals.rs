//! What a running netsnoop may be asked from outside: to end, to end now, to tell its counts.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals this close together are one wish to end: timeout(1) signals its child, and then its whole group.
const ONE_WISH: Duration = Duration::from_millis(200);

/// The signals that mean something.
pub struct Signals {
    /// SIGINT: end.
    pub interrupted: Signal,
    /// SIGTERM: end.
    pub terminated: Signal,
    /// SIGUSR1: tell the counts.
    pub statistics: Signal,
    /// SIGHUP: read the settings anew. Where there are none it ends the run, as it does of itself.
    pub hangup: Option<Signal>,
}

impl Signals {
    /// Hears them from now on, SIGHUP only if there are settings to read.
    pub fn listen(has_settings: bool) -> anyhow::Result<Self> {
        let hangup = || signal(SignalKind::hangup()).context("listening for SIGHUP");
        Ok(Self {
            interrupted: signal(SignalKind::interrupt()).context("listening for SIGINT")?,
            terminated: signal(SignalKind::terminate()).context("listening for SIGTERM")?,
            statistics: signal(SignalKind::user_defined1()).context("listening for SIGUSR1")?,
            hangup: has_settings.then(hangup).transpose()?,
        })
    }
}

/// Waits for a second wish to end, which means now.
pub async fn exit_at_second_signal() {
    tokio::time::sleep(ONE_WISH).await;
    if second_signal().await.is_ok() {
        std::process::exit(1);
    }
}

async fn second_signal() -> anyhow::Result<()> {
    let mut signals = Signals::listen(false)?;
    tokio::select! {
        _ = signals.interrupted.recv() => {}
        _ = signals.terminated.recv() => {}
    }
    Ok(())
}
