//! hpetun: a userspace, WireGuard-compatible tunnel daemon for Linux.
//!
//! The way of a packet out is [`tx_worker`], the way in [`rx_worker`], both in one thread [`combined_worker`]; handshakes and
//! timers run in [`handshake`]. What one peer knows of the protocol is [`tunnel`]; [`noise`] alone knows boringtun.

#![allow(
    rustdoc::private_intra_doc_links,
    reason = "these docs are for who works on the daemon, not for users of a library"
)]

pub mod cli;
pub mod combined_worker;
pub mod config;
pub mod control;
pub mod cookie;
pub mod daemonise;
pub mod device;
pub mod explain;
pub mod handshake;
pub mod index_table;
pub mod key;
pub mod keypair;
pub mod link;
pub mod logging;
pub mod message;
pub mod metrics;
pub mod netlink;
pub mod noise;
pub mod noise_set;
pub mod packet;
pub mod peer;
pub mod reconcile;
pub mod routing;
pub mod rx_worker;
pub mod status;
mod sys;
pub mod timers;
pub mod tun;
pub mod tuning;
pub mod tunnel;
pub mod tx_worker;
pub mod uapi;
pub mod udp;
pub mod watchdog;
