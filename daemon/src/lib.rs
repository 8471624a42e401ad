//! hpetun: a userspace, WireGuard-compatible tunnel daemon for Linux.

pub mod control;
pub mod key;
pub mod packet;
pub mod routing;
pub mod status;
