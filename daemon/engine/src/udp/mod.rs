//! The outer side: sockets of both families, where a peer is, and GSO batches of sealed messages on their way out.

mod send_batch;
mod sockets;

use sys::udp::Transmit;
use wireguard::endpoint::Endpoint;

pub use send_batch::{MAX_SEGMENTS, SendBatch, SendFailure};
pub use sockets::{BindError, Sockets};

/// Largest UDP payload over IPv4; the kernel takes no larger GSO batch of segments either.
pub const MAX_DATAGRAM: usize = 65_507;

/// A datagram to `endpoint`, or a GSO batch of them of `segment` bytes each.
fn transmit<'a>(endpoint: &Endpoint, payload: &'a [u8], segment: Option<u16>) -> Transmit<'a> {
    Transmit {
        to: endpoint.addr,
        local: endpoint.local,
        payload,
        segment,
    }
}
