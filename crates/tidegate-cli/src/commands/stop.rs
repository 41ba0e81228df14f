//! Being told to end, by a command that has something to tidy up first.

use crate::error::{Error, Result};

/// Ctrl-C and SIGTERM, from the moment that this is made.
pub(crate) struct Stop {
    #[cfg(unix)]
    signals: (tokio::signal::unix::Signal, tokio::signal::unix::Signal),
}

#[cfg(unix)]
impl Stop {
    /// Begins to listen. From here on the signals end nothing by themselves.
    pub(crate) fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let failed =
            |e: std::io::Error| Error::unexpected("signals cannot be waited for").because(&e);
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        Ok(Self {
            signals: (interrupt, terminate),
        })
    }

    /// Waits for the next of them.
    pub(crate) async fn told(&mut self) {
        let (interrupt, terminate) = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Stop {
    /// Nothing to begin.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {})
    }

    /// Waits for Ctrl-C.
    pub(crate) async fn told(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
