//! The outer side: sockets of both families, where a peer is, and trains of sealed messages on their way out.

mod outgoing;
mod sockets;

use sys::udp::Parcel;
use wireguard::endpoint::Endpoint;

pub use outgoing::{MAX_SEGMENTS, Outgoing, SendFailure};
pub use sockets::{BindError, Sockets};

/// Largest UDP payload over IPv4; the kernel takes no larger train of segments either.
pub const MAX_DATAGRAM: usize = 65_507;

/// A datagram to `endpoint`, or a train of them of `segment` bytes each.
fn parcel<'a>(endpoint: &Endpoint, payload: &'a [u8], segment: Option<u16>) -> Parcel<'a> {
    Parcel {
        to: endpoint.addr,
        local: endpoint.local,
        payload,
        segment,
    }
}
