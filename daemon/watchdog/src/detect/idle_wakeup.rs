//! How a data worker that comes out of its wait wakes the watchdog, where that rests.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crate::thread::heartbeat::{Heartbeat, Stage};
use sys::poll::Waker;

#[derive(Debug)]
pub struct IdleWakeup {
    is_armed: AtomicBool,
    waker: Waker,
}

impl IdleWakeup {
    /// # Errors
    /// Where there are no descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            is_armed: AtomicBool::new(false),
            waker: Waker::new()?,
        })
    }

    /// To be called by a data worker that comes out of its wait: its heartbeat says so, and the watchdog hears of it.
    #[inline]
    pub fn notify_busy(&self, heartbeat: &Heartbeat) {
        heartbeat.enter(Stage::Read);
        self.notify();
    }

    /// After that which the watchdog is to see.
    #[inline]
    pub fn notify(&self) {
        // Either the watchdog sees that heartbeat once it wants to be woken, or its wish is seen here.
        fence(Ordering::SeqCst);
        if self.is_armed.load(Ordering::Relaxed) && self.is_armed.swap(false, Ordering::Relaxed) {
            self.waker.wake();
        }
    }

    /// Whether the watchdog wants to be woken. If so, it looks at all heartbeats once more after this.
    pub fn arm(&self, armed: bool) {
        self.is_armed.store(armed, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// It has heard it.
    pub fn clear(&self) {
        self.waker.clear();
    }
}

impl AsFd for IdleWakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys::poll;

    fn was_notified(wakeup: &IdleWakeup) -> bool {
        let [ready] = poll::readable([Some(wakeup.as_fd())], 0).unwrap();
        ready.readable
    }

    #[test]
    fn it_rings_once_for_each_wish() {
        let wakeup = IdleWakeup::new().unwrap();
        wakeup.notify();
        assert!(!was_notified(&wakeup), "nobody rests");
        wakeup.arm(true);
        wakeup.notify();
        wakeup.notify();
        assert!(was_notified(&wakeup));
        wakeup.clear();
        wakeup.notify();
        assert!(!was_notified(&wakeup), "it was heard");
        wakeup.arm(true);
        wakeup.arm(false);
        wakeup.notify();
        assert!(!was_notified(&wakeup), "nobody rests any more");
    }
}
