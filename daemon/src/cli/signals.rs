//! The signals that a running daemon heeds.

use tokio::signal::unix::{Signal, SignalKind, signal};

pub struct Signals {
    pub terminate: Signal,
    pub interrupt: Signal,
    /// Caught also where it means nothing, so that a terminal that goes away does not end the daemon.
    pub hangup: Signal,
}

impl Signals {
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The name of the one by which it is to end.
    pub async fn end(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// The user is impatient.
    pub async fn interrupted(&mut self) {
        self.interrupt.recv().await;
    }
}
