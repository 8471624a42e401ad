//! The threads that carry packets and handshakes, in the order of a packet's stages.

pub mod combined;
pub mod handshake;
pub mod handshake_queue;
pub mod inbound;
pub mod outbound;

use std::sync::Arc;

use clockshim::{BootDuration, Timekeeper};

use crate::device::active_sockets::ActiveSockets;
use crate::device::interface::Interface;
use crate::device::peer_table::PeerTable;
use crate::device::shutdown::Shutdown;
use crate::device::stats::Stats;
use crate::tun::TunQueue;
use crate::udp::Sockets;
use handshake_queue::HandshakeQueue;
use watchdog::host::Monitor;
use wireguard::tunnel::Now;

/// What a data worker works with: the two ends of the path, and what it looks up and counts in between.
#[derive(Debug)]
pub struct DataPath<Q = TunQueue, T = Sockets> {
    pub keeper: Arc<Timekeeper>,
    pub interface: Arc<Interface<Q>>,
    pub peers: Arc<PeerTable>,
    pub sockets: Arc<ActiveSockets<T>>,
    pub handshakes: HandshakeQueue,
    pub stats: Arc<Stats>,
    pub shutdown: Arc<Shutdown>,
    pub monitor: Arc<Monitor>,
    /// How long a worker that finds nothing goes on looking before it waits in the kernel.
    pub busy_poll: BootDuration,
    /// An outbound worker goes on without a pause for as long as packets wait.
    pub never_yield: bool,
}

impl<Q, T> Clone for DataPath<Q, T> {
    fn clone(&self) -> Self {
        Self {
            keeper: self.keeper.clone(),
            interface: self.interface.clone(),
            peers: self.peers.clone(),
            sockets: self.sockets.clone(),
            handshakes: self.handshakes.clone(),
            stats: self.stats.clone(),
            shutdown: self.shutdown.clone(),
            monitor: self.monitor.clone(),
            ..*self
        }
    }
}

/// Now, by the packet clock and the wall clock.
pub(crate) fn now(keeper: &Timekeeper) -> Now {
    Now {
        boot: keeper.fast(),
        wall: clockshim::wall_clock(),
    }
}
