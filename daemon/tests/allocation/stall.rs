//! Between a stall and the first line of its report the watchdog allocates nothing: memory may be what everybody waits for.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::UdpSocket;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use logging::{self, Format, Level, LogOptions};

use nix::poll::{PollFd, PollFlags, poll};

use crate::{Host, sys};

static WATCHDOG: sys::Threads = [b"wg-watchdog", b"wg-watchdog"];

pub fn the_first_line_is_written_without_an_allocation() {
    let mut log = Log::instead_of_stderr();
    logging::configure(LogOptions {
        level: Level::Warn,
        format: Format::Text,
    })
    .expect("nobody else logs here");
    let mut options = crate::options("alloc-w");
    options.tuning.combined = Some(false);
    let host = Host::start(options, "10.9.1.1", "fd09:1::1");
    // The first stall finds tables to be made and files to be opened.
    stall(&host);
    finish(&mut log);
    settle();
    sys::arm(&WATCHDOG, Some(log.reader()));
    stall(&host);
    assert!(log.wait(), "a stall is reported");
    // What is counted is told apart by what is in the pipe, so it stays there until there is enough.
    thread::sleep(Duration::from_millis(100));
    let counts = sys::disarm();
    let report = finish(&mut log);
    drop(log);
    assert_eq!(counts.count, 0, "{counts:?} before the first line of {report}");
    assert!(
        counts.later > 0,
        "the rest of a report is not made out of nothing"
    );
    println!(
        "allocation: none before the first line of a report, {} after it",
        counts.later
    );
}

/// Stalls the tx worker.
fn stall(host: &Host) {
    sys::hold(thread_named("wg-tx/0"));
    // Something for it to do: nobody is missed who waits and has nothing to do.
    let socket = host.inside(|| UdpSocket::bind((host.v4, 0)).expect("an address of ours"));
    socket.send_to(b"hello", "10.9.1.2:9").expect("a route");
}

/// Lets it go once the stall is reported. What the log says of it.
fn finish(log: &mut Log) -> String {
    let report = log.read_until("Verdict: ");
    assert!(report.contains("BUG: soft lockup"), "{report}");
    sys::let_go();
    report + &log.read_until("recovered after")
}

/// Waits until the watchdog has done with a report.
fn settle() {
    for _ in 0..400 {
        sys::arm(&WATCHDOG, None);
        thread::sleep(Duration::from_millis(50));
        if sys::disarm().count == 0 {
            return;
        }
    }
    panic!("the watchdog allocates though nothing stalls");
}

fn thread_named(name: &str) -> i32 {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is there");
    let task = tasks
        .map(|task| task.expect("a thread").path())
        .find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name));
    let task = task.expect("the worker runs");
    let id = task.file_name().and_then(|id| id.to_str());
    id.and_then(|id| id.parse().ok()).expect("a number")
}

/// What is written to standard error, until it goes.
struct Log {
    /// Lives as long as the process, for the allocator to look at.
    reader: &'static File,
    before: OwnedFd,
}

impl Log {
    fn instead_of_stderr() -> Self {
        let stderr = std::io::stderr();
        let before = stderr.as_fd().try_clone_to_owned().expect("a descriptor");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        nix::unistd::dup2_stderr(&writer).expect("a descriptor");
        let reader = Box::leak(Box::new(File::from(OwnedFd::from(reader))));
        Self { reader, before }
    }

    fn reader(&self) -> BorrowedFd<'static> {
        self.reader.as_fd()
    }

    /// Until there is something to read; false where there is nothing for long.
    fn wait(&self) -> bool {
        let mut fds = [PollFd::new(self.reader(), PollFlags::POLLIN)];
        poll(&mut fds, 20_000u16).expect("it can be waited for") > 0
    }

    fn read_until(&mut self, what: &str) -> String {
        let mut text = String::new();
        let mut buffer = [0; 1 << 16];
        while !text.contains(what) || !text.ends_with('\n') {
            let mut fds = [nix::poll::PollFd::new(
                self.reader(),
                nix::poll::PollFlags::POLLIN,
            )];
            let limit = u16::try_from(Duration::from_secs(20).as_millis()).expect("it fits");
            let ready = nix::poll::poll(&mut fds, limit).expect("it can be waited for");
            assert_ne!(ready, 0, "no `{what}` after {text}");
            let length = self.reader.read(&mut buffer).expect("a pipe");
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        text
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = nix::unistd::dup2_stderr(&self.before);
    }
}
