//! How a data worker that comes out of its wait wakes the watchdog, where that rests.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use super::heartbeat::{Heartbeat, Stage};
use sys::poll::Waker;

#[derive(Debug)]
pub struct Bell {
    is_wanted: AtomicBool,
    waker: Waker,
}

impl Bell {
    /// # Errors
    /// Where there are no descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            is_wanted: AtomicBool::new(false),
            waker: Waker::new()?,
        })
    }

    /// To be called by a data worker that comes out of its wait: its heartbeat says so, and the watchdog hears of it.
    #[inline]
    pub fn begins(&self, heart: &Heartbeat) {
        heart.at(Stage::Read);
        self.ring();
    }

    /// After that which the watchdog is to see.
    #[inline]
    pub fn ring(&self) {
        // Either the watchdog sees that heartbeat once it wants to be woken, or its wish is seen here.
        fence(Ordering::SeqCst);
        if self.is_wanted.load(Ordering::Relaxed) && self.is_wanted.swap(false, Ordering::Relaxed) {
            self.waker.wake();
        }
    }

    /// Whether the watchdog wants to be woken. If so, it looks at all heartbeats once more after this.
    pub fn want(&self, wanted: bool) {
        self.is_wanted.store(wanted, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// It has heard it.
    pub fn clear(&self) {
        self.waker.clear();
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys::poll;

    fn has_rung(bell: &Bell) -> bool {
        let [ready] = poll::readable([Some(bell.as_fd())], 0).unwrap();
        ready.readable
    }

    #[test]
    fn it_rings_once_for_each_wish() {
        let bell = Bell::new().unwrap();
        bell.ring();
        assert!(!has_rung(&bell), "nobody rests");
        bell.want(true);
        bell.ring();
        bell.ring();
        assert!(has_rung(&bell));
        bell.clear();
        bell.ring();
        assert!(!has_rung(&bell), "it was heard");
        bell.want(true);
        bell.want(false);
        bell.ring();
        assert!(!has_rung(&bell), "nobody rests any more");
    }
}
