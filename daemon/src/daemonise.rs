//! Goes into the background, and tells the caller when the work there is ready, or why it is not.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};

use sys::process::{Fork, Stdio, exit_now, fork, redirect, setsid};

/// What the daemon writes when it is ready. No error text begins with it.
const READY: u8 = 0;

/// On which side [`daemonise`] returned.
#[derive(Debug)]
pub enum Side {
    /// The process that was started; the daemon is ready and goes on by itself.
    Caller,
    /// The daemon. The caller waits for the report.
    Daemon(Report),
}

/// Where the daemon's standard output and error go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    Null,
    /// Where the caller's go.
    Kept,
}

#[derive(Debug, thiserror::Error)]
pub enum DaemoniseError {
    #[error("cannot go into the background ({0}); -f stays in the foreground")]
    Fork(#[from] io::Error),
    /// The daemon's own words.
    #[error("{0}")]
    Failed(String),
    #[error("the background process ended without a word; -f stays in the foreground and shows why")]
    Died,
}

/// Splits off a daemon: in a session that it does not lead (so no terminal ever becomes its own), in `/`,
/// standard input empty. The caller waits until the daemon reports.
///
/// To be called before any thread is started; with threads it is refused.
pub fn daemonise(output: Output) -> Result<Side, DaemoniseError> {
    let (reader, writer) = io::pipe()?;
    if fork()? == Fork::Parent {
        drop(writer);
        return await_report(reader).map(|()| Side::Caller);
    }
    drop(reader);
    let report = Report { writer };
    match become_daemon(output) {
        Ok(()) => Ok(Side::Daemon(report)),
        Err(error) => {
            report.failed(&DaemoniseError::Fork(error).to_string());
            exit_now(1)
        }
    }
}

fn await_report(mut reader: PipeReader) -> Result<(), DaemoniseError> {
    let mut report = Vec::new();
    reader.read_to_end(&mut report)?;
    match report.first() {
        Some(&READY) => Ok(()),
        Some(_) => Err(DaemoniseError::Failed(
            String::from_utf8_lossy(&report).into_owned(),
        )),
        None => Err(DaemoniseError::Died),
    }
}

/// Only the leader of a session can get a terminal, so the leader's child goes on in its place.
fn become_daemon(output: Output) -> io::Result<()> {
    setsid()?;
    if fork()? == Fork::Parent {
        exit_now(0);
    }
    std::env::set_current_dir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    redirect(Stdio::Input, &null)?;
    if output == Output::Null {
        redirect(Stdio::Output, &null)?;
        redirect(Stdio::Error, &null)?;
    }
    Ok(())
}

/// The daemon's one message to its caller. Dropped without one, the caller learns that the daemon died.
#[derive(Debug)]
pub struct Report {
    writer: PipeWriter,
}

impl Report {
    /// Lets the caller return with success.
    pub fn ready(self) {
        self.send(&[READY]);
    }

    /// Lets the caller fail with this text, which is not empty.
    pub fn failed(self, text: &str) {
        self.send(text.as_bytes());
    }

    /// A caller that has gone in the meantime is no reason to stop.
    fn send(mut self, message: &[u8]) {
        let _ = self.writer.write_all(message);
    }
}
