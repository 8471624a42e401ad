//! The threads that carry packets and handshakes, in the order of a packet's stages.

pub mod combined;
pub mod handshake;
pub mod handshake_queue;
pub mod inbound;
pub mod outbound;
