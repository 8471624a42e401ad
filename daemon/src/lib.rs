//! hpetun: a userspace, WireGuard-compatible tunnel daemon for Linux.

pub mod cli;
pub mod control;
pub mod daemonise;
pub mod key;
pub mod logging;
pub mod status;
pub mod uapi;
pub mod sys;
