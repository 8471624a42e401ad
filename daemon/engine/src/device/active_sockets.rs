//! The UDP sockets in use, which a change of the port replaces while workers go on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use crate::udp::{BindError, SendFailure, Sockets, Transport};
use sys::poll::Waker;
use watchdog::host::Monitor;
use wireguard::drop_reason::{DropReason, Drops};
use wireguard::endpoint::Endpoint;
use wireguard::peer::Peer;
use wireguard::tunnel::Outbox;

/// Lock order: the firewall mark, then the sockets. Both come after the locks of the peer table.
#[derive(Debug)]
pub struct ActiveSockets<T = Sockets> {
    current: RwLock<Generation<T>>,
    /// Held while sockets are opened or marked, so that new sockets have the mark that was set last.
    fwmark: Mutex<u32>,
    /// One for each rx worker: it is woken to take the new sockets.
    rx_wakers: Arc<[Waker]>,
    monitor: Arc<Monitor>,
    /// Bytes asked of the kernel for each socket, each way.
    buffer: usize,
    /// `errno` of the last refused send; 0: none since it was last taken.
    send_error: AtomicI32,
}

/// One set of sockets and its number: the first ones, the second, ...
#[derive(Debug)]
pub struct Generation<T> {
    pub sockets: Arc<T>,
    pub number: u64,
}

impl ActiveSockets {
    /// Opens sockets on a free port for as many workers as there are wakers, `buffer` bytes each way.
    pub fn open(rx_wakers: Arc<[Waker]>, monitor: Arc<Monitor>, buffer: usize) -> Result<Self, BindError> {
        let sockets = Sockets::bind(0, 0, rx_wakers.len(), buffer)?;
        Ok(Self::new(sockets, rx_wakers, monitor, buffer))
    }

    /// Moves to another port. 0 is one that is free. False where the port is in use by these sockets already.
    pub fn set_port(&self, port: u16) -> Result<bool, BindError> {
        let mark = self.fwmark.lock();
        if port != 0 && port == self.get().port() {
            return Ok(false);
        }
        self.replace(Sockets::bind(port, *mark, self.rx_wakers.len(), self.buffer)?);
        Ok(true)
    }

    /// Marks the sockets, and those that replace them.
    pub fn set_fwmark(&self, mark: u32) -> io::Result<()> {
        let mut current = self.fwmark.lock();
        self.get().set_mark(mark)?;
        *current = mark;
        Ok(())
    }
}

impl<T: Transport> ActiveSockets<T> {
    pub fn new(sockets: T, rx_wakers: Arc<[Waker]>, monitor: Arc<Monitor>, buffer: usize) -> Self {
        let first = Generation {
            sockets: Arc::new(sockets),
            number: 1,
        };
        Self {
            current: RwLock::new(first),
            fwmark: Mutex::default(),
            rx_wakers,
            monitor,
            buffer,
            send_error: AtomicI32::new(0),
        }
    }

    /// Puts `sockets` in the place of those in use, which close once the last worker has let go of them.
    pub fn replace(&self, sockets: T) {
        let mut current = self.current.write();
        current.number += 1;
        current.sockets = Arc::new(sockets);
        drop(current);
        self.rx_wakers.iter().for_each(Waker::wake);
        // A packet to the new ones must wake the watchdog.
        self.monitor.idle_wakeup.notify();
    }

    pub fn get(&self) -> Arc<T> {
        self.current.read().sockets.clone()
    }

    /// `None` while they are being replaced: for the watchdog, which waits for no lock.
    pub fn try_get(&self) -> Option<RwLockReadGuard<'_, Generation<T>>> {
        self.current.try_read()
    }

    pub fn fwmark(&self) -> u32 {
        *self.fwmark.lock()
    }

    /// Wakes one rx worker, for new sockets or for the end.
    pub fn rx_waker(&self, worker: usize) -> &Waker {
        &self.rx_wakers[worker]
    }

    /// Sends handshake messages and the like to a peer. What is not sent is counted in `drops`.
    pub fn send_to_peer(&self, peer: &Peer, out: &Outbox, drops: &Drops) {
        if out.is_empty() {
            return;
        }
        let Some(mut endpoint) = peer.tunnel().endpoint else {
            return drops.add(DropReason::TxNoEndpoint, out.len() as u64);
        };
        let before = endpoint;
        self.send_messages(&mut endpoint, out, drops);
        if endpoint != before {
            peer.tunnel().resettle(endpoint);
        }
    }

    /// Sends each message by itself.
    pub fn send_messages(&self, endpoint: &mut Endpoint, out: &[Vec<u8>], drops: &Drops) {
        let sockets = self.get();
        for message in out {
            if let Err(failure) = sockets.send(0, endpoint, message, None) {
                drops.add(DropReason::TxSendError, 1);
                if let SendFailure::Refused(errno) = failure {
                    self.note_send_error(errno);
                }
            }
        }
    }

    /// Keeps an error for the log, which the handshake thread writes.
    pub fn note_send_error(&self, errno: i32) {
        self.send_error.store(errno, Ordering::Relaxed);
    }

    /// The last error since the last call.
    pub fn take_send_error(&self) -> Option<io::Error> {
        let errno = self.send_error.swap(0, Ordering::Relaxed);
        (errno != 0).then(|| io::Error::from_raw_os_error(errno))
    }
}
