//! Notices Ctrl-C and its kin, so that the lab can end in order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// How often anything that waits looks whether it still should.
const LOOK: Duration = Duration::from_millis(20);

/// Set once a signal that asks the process to end has come.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

/// The error with which everything ends after a signal.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

impl Interrupt {
    /// Takes over SIGINT, SIGTERM and SIGHUP for the rest of the process's life.
    pub fn watch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let (mut interrupt, mut terminate, mut hangup) = {
            let _context = runtime.enter();
            (
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            )
        };
        let flag = Arc::new(AtomicBool::new(false));
        let raised = flag.clone();
        thread::Builder::new().name("lab-signals".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
            });
            raised.store(true, Ordering::Relaxed);
        })?;
        Ok(Self(flag))
    }

    pub fn check(&self) -> Result<(), Interrupted> {
        if self.0.load(Ordering::Relaxed) {
            Err(Interrupted)
        } else {
            Ok(())
        }
    }
}

/// Sleeps a moment between two looks at something.
pub fn moment() {
    thread::sleep(LOOK);
}
