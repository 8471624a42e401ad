//! What the watchdog knows of the program whose threads it watches.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use clockshim::Timekeeper;
use sys::poll::Waker;

use crate::detect::idle_wakeup::IdleWakeup;
use crate::detect::thread_monitor::Work;
use crate::report::stats::WatchdogStats;

/// The program that is watched. No method may wait for a lock that a watched thread can hold.
pub trait Host: fmt::Debug + Send + Sync {
    /// Name of the interface, for reports.
    fn interface(&self) -> String;

    fn is_stopping(&self) -> bool;

    /// Readable once the program stops, and from then on.
    fn stop_descriptor(&self) -> BorrowedFd<'_>;

    /// Whether there is something to do for the thread that does this work.
    fn has_work(&self, work: Work) -> bool;

    /// Which set of packet descriptors is in use: another number after each change. `None` while it is being changed.
    fn packet_descriptor_generation(&self) -> Option<u64>;

    /// Calls `each` for every descriptor at which a packet can wait, and gives the generation of that set; stops at the first
    /// error of `each`. `None` while the set is being changed.
    fn packet_descriptors(
        &self,
        each: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<()>,
    ) -> Option<io::Result<u64>>;

    /// The watchdog or one of its threads cannot go on.
    fn thread_failed(&self, thread: &str, cause: &io::Error);
}

/// What the watchdog shares with the threads that it watches and with those who ask it.
#[derive(Debug)]
pub struct Monitor {
    /// What it has seen.
    pub stats: WatchdogStats,
    /// Wakes it, where it rests.
    pub idle_wakeup: IdleWakeup,
    dump: Waker,
}

impl Monitor {
    /// # Errors
    /// Where there are no descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            stats: WatchdogStats::default(),
            idle_wakeup: IdleWakeup::new()?,
            dump: Waker::new()?,
        })
    }

    /// Has the watchdog log what every thread is doing.
    pub fn request_dump(&self) {
        self.dump.wake();
    }

    pub(crate) fn dump_descriptor(&self) -> BorrowedFd<'_> {
        self.dump.as_fd()
    }

    pub(crate) fn clear_dump(&self) {
        self.dump.clear();
    }
}

/// Handed to every part of the watchdog that needs to ask the program, its clock, or to count.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) keeper: Arc<Timekeeper>,
    pub(crate) monitor: Arc<Monitor>,
}
