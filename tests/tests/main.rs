//! The scenarios, one file each. They run as root, in namespaces of their own; see the crate's documentation.

mod allowed_ips;
mod basics;
mod descriptors;
mod fwmark;
mod host;
mod hostile;
mod integrity;
mod interop;
mod keys;
mod lab;
mod lab_faults;
mod lifecycle;
mod long;
mod many_peers;
mod mtu;
mod nat;
mod offload;
mod roaming;
mod source_address;
mod status;
mod uapi;
mod up;
mod watchdog;
mod wg_quick;
mod wg_tool;
mod wire;
