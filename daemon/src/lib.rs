//! hpetun: a userspace, WireGuard-compatible tunnel daemon for Linux.

pub mod config;
pub mod control;
pub mod key;
pub mod netlink;
pub mod reconcile;
pub mod status;
pub mod uapi;
