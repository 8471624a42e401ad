//! The end of a device: one flag, set once, and a wake-up for every thread that waits.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tracing::{error, info};

use crate::workers::handshake_queue::HandshakeQueue;
use sys::poll::Waker;

#[derive(Debug)]
pub struct Shutdown {
    /// For threads, which read it once a turn.
    is_stopping: AtomicBool,
    /// The same, for tasks that wait for it.
    stopping: watch::Sender<bool>,
    waker: Waker,
    rx_wakers: Arc<[Waker]>,
    handshakes: HandshakeQueue,
}

impl Shutdown {
    /// `rx_wakers` and `handshakes` reach the threads that do not wait for [`Self::descriptor`].
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub fn new(rx_wakers: Arc<[Waker]>, handshakes: HandshakeQueue) -> io::Result<Self> {
        Ok(Self {
            is_stopping: AtomicBool::new(false),
            stopping: watch::Sender::new(false),
            waker: Waker::new()?,
            rx_wakers,
            handshakes,
        })
    }

    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Readable once the device stops, and from then on.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }

    /// Becomes true once.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.stopping.send_replace(true);
        self.waker.wake();
        self.rx_wakers.iter().for_each(Waker::wake);
        self.handshakes.tick();
    }

    /// The interface was deleted: no packet can come any more.
    pub fn interface_deleted(&self, interface: &str) {
        if !self.is_stopping() {
            info!(interface, "interface deleted");
            self.stop();
        }
    }

    /// A queue of the interface gave an error to that worker.
    pub fn queue_failed(&self, worker: &str, interface: &str, cause: &io::Error) {
        if cause.raw_os_error() == Some(libc::EBADFD) {
            self.interface_deleted(interface);
        } else {
            self.thread_failed(worker, cause);
        }
    }

    pub fn thread_failed(&self, thread: &str, cause: &io::Error) {
        error!(worker = thread, error = %cause, "worker failed; stopping");
        self.stop();
    }
}
