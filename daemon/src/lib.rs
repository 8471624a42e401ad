//! hpetun: a userspace, WireGuard-compatible tunnel daemon for Linux.

pub mod config;
pub mod control;
pub mod key;
pub mod status;
pub mod uapi;
