//! A peer: its tunnel under a lock, and what may be read without it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clockshim::BootInstant;

use crate::index_table::IndexTable;
use crate::key::PublicKey;
use crate::tunnel::Tunnel;

/// No timer pending.
const NEVER: u64 = u64::MAX;

#[derive(Debug)]
pub struct Peer {
    pub public_key: PublicKey,
    /// Peers are shown in the order in which they were added.
    pub order: u64,
    /// The standard library's lock, since who finds it held soon sleeps. parking_lot's yields in between, and for each yield Linux
    /// (EEVDF) sends a thread to the end of the queue: on a full machine a worker lost tenths of a second that way.
    tunnel: Mutex<Tunnel>,
    /// Nanoseconds since boot of its next timer, so that a tick over thousands of peers locks only those that are due.
    deadline: AtomicU64,
    /// It waits in the handshake thread's queue: once is enough.
    queued: AtomicBool,
}

impl Peer {
    pub fn new(public_key: PublicKey, order: u64, indices: Arc<IndexTable>) -> Arc<Self> {
        Arc::new_cyclic(|peer| Self {
            public_key,
            order,
            tunnel: Mutex::new(Tunnel::new(public_key, indices, peer.clone())),
            deadline: AtomicU64::new(NEVER),
            queued: AtomicBool::new(false),
        })
    }

    /// Locks the tunnel; publishes its next deadline when the lock is given back.
    pub fn tunnel(&self) -> TunnelGuard<'_> {
        TunnelGuard {
            peer: self,
            // A panic of another thread ends the device anyhow.
            tunnel: self.tunnel.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// When its next timer is due; at the end of time where none is pending.
    pub fn deadline(&self) -> BootInstant {
        BootInstant::from_nanos(self.deadline.load(Ordering::Relaxed))
    }

    /// True for the one caller that has to put it into the queue.
    pub fn enqueue(&self) -> bool {
        !self.queued.swap(true, Ordering::AcqRel)
    }

    pub fn dequeued(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

#[derive(Debug)]
pub struct TunnelGuard<'a> {
    peer: &'a Peer,
    tunnel: MutexGuard<'a, Tunnel>,
}

impl std::ops::Deref for TunnelGuard<'_> {
    type Target = Tunnel;

    fn deref(&self) -> &Tunnel {
        &self.tunnel
    }
}

impl std::ops::DerefMut for TunnelGuard<'_> {
    fn deref_mut(&mut self) -> &mut Tunnel {
        &mut self.tunnel
    }
}

impl Drop for TunnelGuard<'_> {
    fn drop(&mut self) {
        let deadline = self.tunnel.next_deadline().map_or(NEVER, BootInstant::as_nanos);
        self.peer.deadline.store(deadline, Ordering::Relaxed);
    }
}

/// A peer as the value of the routing table: the same only if it is the very same one.
#[derive(Debug, Clone)]
pub struct PeerRef(pub Arc<Peer>);

impl PartialEq for PeerRef {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for PeerRef {}

impl std::hash::Hash for PeerRef {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}
