//! The WireGuard protocol: handshakes, sessions, timers, cookies and allowed IPs of any number of peers.
//!
//! It opens no descriptor, starts no thread and reads no clock: packets, messages and the time are parameters.

pub mod allowed_ips;
pub mod cookie;
pub mod drop_reason;
pub mod endpoint;
pub mod index_table;
pub mod ip;
pub mod key;
pub mod keypair;
pub mod message;
pub mod noise;
pub mod noise_set;
pub mod peer;
pub mod timers;
pub mod tunnel;
