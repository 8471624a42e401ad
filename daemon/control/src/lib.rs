//! The way of a command: the control socket, configuration files, and what they change of the device and of the host.
//!
//! It reaches the device through `engine::settings` alone, and carries no packet.

pub mod config;
pub mod netlink;
pub mod reconcile;
pub mod uapi;
