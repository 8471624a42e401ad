//! Standard error as a place for log lines: each whole, and without waiting for a reader that does not read, nor for long for a
//! thread that was stopped while it wrote.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tracing_subscriber::fmt::MakeWriter;

use super::descriptor::{with_stderr, write_some};
use sys::poll;

/// A pipe that is writable takes so much at once (PIPE_BUF), whole.
const ATOMIC: usize = 4096;
/// How long a line waits for room, and for its turn. Once one has waited in vain, none waits until there is room again.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);
/// Between two tries where a descriptor was said to take output, and did not.
pub(super) const PAUSE: Duration = Duration::from_millis(1);

static SINK: Sink = Sink::new();

thread_local! {
    /// Lines of this thread that are to be written together.
    static BLOCK: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
    /// The last line that this thread wrote.
    static LAST: Cell<Option<Line>> = const { Cell::new(None) };
}

/// Which line of the log one is, of all that were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line(u64);

/// One log line is one call to `write`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stderr;

impl Stderr {
    /// Writes one line, or drops it where nobody reads. Never fails: there is nobody to tell.
    pub fn line(line: &[u8]) {
        let is_kept = BLOCK.with_borrow_mut(|block| {
            let block = block.as_mut();
            block.map(|block| block.extend_from_slice(line)).is_some()
        });
        if !is_kept {
            LAST.set(with_stderr(|stderr| SINK.write(&stderr, &[line])));
        }
    }

    /// The line that the calling thread wrote last, unless it was lost.
    pub fn last() -> Option<Line> {
        LAST.get()
    }

    /// The lines that `write` logs on this thread, with none of another thread's between them. Those of `opening` come first,
    /// unless `after` is the last line that was written.
    pub fn block(after: Option<Line>, opening: impl FnOnce(), write: impl FnOnce()) {
        let (opening, lines) = (gathered(opening), gathered(write));
        LAST.set(with_stderr(|stderr| {
            SINK.write_after(&stderr, after, &opening, &lines)
        }));
    }
}

fn gathered(write: impl FnOnce()) -> Vec<u8> {
    BLOCK.set(Some(Vec::new()));
    write();
    BLOCK.take().unwrap_or_default()
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

#[derive(Debug)]
struct Sink {
    turn: Mutex<()>,
    /// Whose turn it is does not get on.
    held: AtomicBool,
    clogged: AtomicBool,
    /// The last line that was written lacks its end.
    cut: AtomicBool,
    lost: AtomicU64,
    /// All that were written, a block being one.
    lines: AtomicU64,
}

impl Sink {
    const fn new() -> Self {
        Self {
            turn: Mutex::new(()),
            held: AtomicBool::new(false),
            clogged: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            lines: AtomicU64::new(0),
        }
    }

    fn write(&self, file: &impl AsFd, lines: &[&[u8]]) -> Option<Line> {
        let _turn = self.turn();
        self.put_all(file, lines)
    }

    fn write_after(
        &self,
        file: &impl AsFd,
        after: Option<Line>,
        opening: &[u8],
        lines: &[u8],
    ) -> Option<Line> {
        let _turn = self.turn();
        let follows = after == Some(Line(self.lines.load(Relaxed)));
        self.put_all(file, &[if follows { &[] } else { opening }, lines])
    }

    /// `None` where it is out of turn: better a torn line than one that waits for a thread that a debugger stopped.
    fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        let patience = if self.held.load(Relaxed) {
            Duration::ZERO
        } else {
            PATIENCE
        };
        let turn = self.turn.try_lock_for(patience);
        self.held.store(turn.is_none(), Relaxed);
        turn
    }

    /// Whole, or not at all where there is no room for the beginning.
    fn put_all(&self, file: &impl AsFd, parts: &[&[u8]]) -> Option<Line> {
        if parts.iter().all(|part| part.is_empty()) {
            return None;
        }
        if !self.has_room(file) {
            self.lose(parts);
            return None;
        }
        if self.clogged.swap(false, Relaxed) {
            self.tell_loss(file);
        }
        let number = self.lines.fetch_add(1, Relaxed) + 1;
        for (at, part) in parts.iter().enumerate() {
            let written = self.put(file, part);
            if written < part.len() {
                let before = part[..written]
                    .last()
                    .or(parts[..at].iter().rev().find_map(|part| part.last()));
                self.cut.store(before.is_some_and(|byte| *byte != b'\n'), Relaxed);
                self.lose(&[&part[written..]]);
                self.lose(&parts[at + 1..]);
                return None;
            }
        }
        Some(Line(number))
    }

    /// How much of it was written before there was no more room.
    fn put(&self, file: &impl AsFd, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            let end = bytes.len().min(written + ATOMIC);
            match self.put_piece(file, &bytes[written..end]) {
                Some(more) => written += more,
                None => break,
            }
        }
        written
    }

    fn put_piece(&self, file: &impl AsFd, piece: &[u8]) -> Option<usize> {
        for _ in 0..PATIENCE.as_millis() {
            if !self.has_room(file) {
                return None;
            }
            match write_some(file, piece) {
                Ok(written) => return Some(written),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
                    io::ErrorKind::Interrupted => {}
                    // Whatever is wrong with it, to try again would not help.
                    _ => return Some(piece.len()),
                },
            }
        }
        None
    }

    fn has_room(&self, file: &impl AsFd) -> bool {
        let patience = if self.clogged.load(Relaxed) {
            0
        } else {
            PATIENCE.as_millis() as i32
        };
        let room = poll::writable(file.as_fd(), patience).unwrap_or(true);
        if !room {
            self.clogged.store(true, Relaxed);
        }
        room
    }

    fn lose(&self, parts: &[&[u8]]) {
        let ends = |part: &&[u8]| part.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.lost.fetch_add(parts.iter().map(ends).sum(), Relaxed);
    }

    fn tell_loss(&self, file: &impl AsFd) {
        let lost = self.lost.swap(0, Relaxed);
        let end = if self.cut.swap(false, Relaxed) { "\n" } else { "" };
        let what = format!("{lost} log lines were lost: nobody read them");
        let what = if super::is_json() {
            super::json::json_line(tracing::Level::WARN, module_path!(), &what, &Lost { lost })
        } else {
            format!("{what}\n").into_bytes()
        };
        self.put(file, &[end.as_bytes(), &what].concat());
    }
}

#[derive(serde::Serialize)]
#[serde(tag = "event", rename = "lost")]
struct Lost {
    #[serde(rename = "lines")]
    lost: u64,
}

#[cfg(test)]
#[path = "stderr_tests.rs"]
mod tests;
