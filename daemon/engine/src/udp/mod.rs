//! The outer side: sockets of both families, where a peer is, and GSO batches of sealed messages on their way out.

mod send_batch;
mod sockets;
mod transport;

pub use send_batch::{MAX_SEGMENTS, SendBatch};
pub use sockets::{BindError, Sockets};
pub use transport::{Family, SendFailure, Transport};

/// Largest UDP payload over IPv4; the kernel takes no larger GSO batch of segments either.
pub const MAX_DATAGRAM: usize = 65_507;
