//! The inner side: an interface of one or more queues, which give and take packets or superpackets.

mod device;

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use crate::packet::VnetHeader;
pub use device::{TunError, TunQueue};

/// What WireGuard interfaces have everywhere: 1500 less 20 to 40 of IP, 8 of UDP and 32 of ours.
pub const DEFAULT_MTU: u32 = 1420;
/// Room for one read: the vnet header and the largest IP packet.
pub const MAX_READ: usize = VnetHeader::LEN + 65_535;

/// One queue of an interface. Workers are generic over it, so that a packet costs no dynamic call. Its descriptor is readable
/// while a packet waits.
pub trait Queue: AsFd + fmt::Debug + Send + Sync {
    /// Reads one packet, after its vnet header where there is one, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` where there is none; `EBADFD` once the interface is deleted; `EINVAL` for a superpacket that the kernel
    /// dropped, since no vnet header can describe it.
    fn read_packet(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes one packet of up to [`MAX_SLICES`](crate::packet::MAX_SLICES) parts. A plain interface does not get the vnet
    /// header.
    ///
    /// # Errors
    /// The kernel's, such as `EIO` while the interface is down.
    fn write_packet(&self, header: &VnetHeader, parts: &[IoSlice<'_>]) -> io::Result<()>;

    /// Whether a vnet header stands before every packet.
    fn has_vnet_header(&self) -> bool;
}

/// What the kernel hands over and takes in one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offload {
    /// A vnet header before every packet.
    pub vnet: bool,
    /// Superpackets of TCP segments.
    pub tcp: bool,
    /// Superpackets of UDP datagrams.
    pub udp: bool,
}

/// An interface. It is deleted when its last queue is closed.
#[derive(Debug)]
pub struct Tun<Q = TunQueue> {
    queues: Vec<Q>,
    offload: Offload,
    name: String,
}

impl<Q> Tun<Q> {
    /// At least one queue.
    pub(crate) fn new(name: String, offload: Offload, queues: Vec<Q>) -> Self {
        Self {
            queues,
            offload,
            name,
        }
    }

    /// Its name when it was made; it may have been renamed since.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn offload(&self) -> Offload {
        self.offload
    }

    pub fn queues(&self) -> &[Q] {
        &self.queues
    }

    /// The queue of a worker; where there are more workers than queues, they share them.
    #[inline]
    pub fn queue(&self, worker: usize) -> &Q {
        &self.queues[worker % self.queues.len()]
    }
}
