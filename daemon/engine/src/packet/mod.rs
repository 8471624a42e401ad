//! IP packets as they pass between the TUN device and the tunnel: read, cut apart, put together.
//!
//! Outbound, the kernel hands over superpackets of up to 64 KiB behind a [`VnetHeader`]; a [`Segmenter`] makes wire packets
//! of them. Inbound, a [`Coalescer`] puts the packets of a flow together again, so that the kernel's stack is entered
//! once for up to 64 of them. Both see untrusted bytes only and have no I/O, clock or allocation (once warm).

mod checksum;
mod coalesce;

mod merge;
mod segment;
mod vnet;

pub use checksum::{Sum, pseudo_header};
pub use coalesce::{Coalescer, MAX_SLICES, Offloads};
pub use segment::{PADDING, Segment, SegmentError, Segmenter};
pub use vnet::{Gso, VnetHeader};
pub use wireguard::ip::{IpError, destination, inner_length, source, udp_payload_to, version};

#[cfg(test)]
mod tests;
