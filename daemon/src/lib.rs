//! hpetun: a userspace, WireGuard-compatible tunnel daemon for Linux.
//!
//! This crate is the program: it parses the command line, then calls. The way of a packet is `engine`, the protocol
//! `wireguard`, the way of a stall `watchdog`, the way of a command `control`.

pub mod cli;
pub mod daemonise;
