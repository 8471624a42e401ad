//! Where a peer is.

use std::net::{IpAddr, SocketAddr};

/// Where a peer is, and how we are seen from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    pub addr: SocketAddr,
    /// Our address that the peer wrote to: answers leave from it. `None` lets the kernel choose.
    pub local: Option<IpAddr>,
    /// Messages of this size and above go out one by one, since the route refused a train of them. 0: none so far.
    pub ungrouped_from: u16,
}

impl Endpoint {
    pub fn new(addr: SocketAddr, local: Option<IpAddr>) -> Self {
        Self {
            addr,
            local,
            ungrouped_from: 0,
        }
    }

    /// Lets the kernel choose the source address again, and try trains again.
    pub fn forget_source(&mut self) {
        self.local = None;
        self.ungrouped_from = 0;
    }

    /// Whether `other` is the same place, seen from the same address.
    pub fn is_at(&self, other: &Self) -> bool {
        self.addr == other.addr && self.local == other.local
    }
}
