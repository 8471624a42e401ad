//! The way of a packet: from the interface through a worker to the socket and back.
//!
//! It owns the descriptors and the threads. The protocol is `wireguard`'s; a stall of a thread is the watchdog's concern; what
//! a device is told to do comes through [`settings`].

pub mod device;
pub mod packet;
pub mod settings;
pub mod tun;
pub mod tuning;
pub mod udp;
pub mod workers;
