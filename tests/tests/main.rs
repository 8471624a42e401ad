//! The scenarios, one file each. They run as root, in namespaces of their own; see the crate's documentation.

mod allowed_ips;
mod basics;
mod interop;
mod keys;
mod lifecycle;
mod mtu;
mod nat;
mod roaming;
mod source_address;
mod uapi;
mod wg_quick;
mod wg_tool;
