//! Standard error as a place for log lines: without a lock that one thread could hold against another, and without waiting
//! for a reader that does not read.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tracing_subscriber::fmt::MakeWriter;

use crate::sys::poll;

/// A pipe that is writable takes so much at once (PIPE_BUF), whole.
const ATOMIC: usize = 4096;
/// How long a line waits for room. Once one has waited in vain, none waits until there is room again.
const PATIENCE_MS: i32 = 100;

static CLOGGED: AtomicBool = AtomicBool::new(false);
static LOST: AtomicU64 = AtomicU64::new(0);

/// One log line is one call to `write`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stderr;

impl Stderr {
    /// Writes one line, or drops it where nobody reads. Never fails: there is nobody to tell.
    pub fn line(line: &[u8]) {
        write_line(&io::stderr(), line);
    }
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        Self::line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Stderr {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

fn write_line(file: &impl AsFd, line: &[u8]) {
    for part in line.chunks(ATOMIC) {
        let patience = if CLOGGED.load(Ordering::Relaxed) {
            0
        } else {
            PATIENCE_MS
        };
        if !poll::writable(file.as_fd(), patience).unwrap_or(true) {
            CLOGGED.store(true, Ordering::Relaxed);
            LOST.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if CLOGGED.swap(false, Ordering::Relaxed) {
            let lost = LOST.swap(0, Ordering::Relaxed);
            put(
                file,
                format!("\n{lost} log lines were lost: nobody read them\n").as_bytes(),
            );
        }
        put(file, part);
    }
}

/// Past the lock and the buffer that `std::io::Stderr` has. A short write to a pipe comes from its being nearly full: the rest is lost.
fn put(file: &impl AsFd, bytes: &[u8]) {
    let _ = nix::unistd::write(file.as_fd(), bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn a_reader_that_does_not_read_holds_nobody_up_and_is_told_of_its_loss() {
        let (mut reader, writer) = io::pipe().unwrap();
        let line = [b'x'; 999];
        let lines = 100;
        for _ in 0..lines {
            write_line(&writer, &[&line[..], b"\n"].concat());
        }
        let mut whole = vec![0; 30_000];
        reader.read_exact(&mut whole).unwrap();
        write_line(&writer, b"again\n");
        drop(writer);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        let (before, after) = rest.split_once(" log lines were lost").unwrap();
        let lost: usize = before.rsplit('\n').next().unwrap().parse().unwrap();
        let passed = (whole.len() + before.len()) / 1000;
        assert_eq!(passed + lost, lines, "{lost} lost");
        assert!(after.ends_with("again\n"), "{after}");
    }
}
