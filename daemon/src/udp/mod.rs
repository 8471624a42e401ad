//! The outer side: sockets of both families, where a peer is, and trains of sealed messages on their way out.

mod outgoing;
mod sockets;

use std::net::{IpAddr, SocketAddr};

use crate::sys::udp::Parcel;
pub use outgoing::{MAX_SEGMENTS, Outgoing, SendFailure};
pub use sockets::{BindError, Sockets};

/// Largest UDP payload over IPv4; the kernel takes no larger train of segments either.
pub const MAX_DATAGRAM: usize = 65_507;

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

    fn parcel<'a>(&self, payload: &'a [u8], segment: Option<u16>) -> Parcel<'a> {
        Parcel {
            to: self.addr,
            local: self.local,
            payload,
            segment,
        }
    }

    /// Whether `other` is the same place, seen from the same address.
    pub fn is_at(&self, other: &Self) -> bool {
        self.addr == other.addr && self.local == other.local
    }
}
