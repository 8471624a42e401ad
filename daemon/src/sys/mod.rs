//! System calls that no crate offers: the only `unsafe` of this package.

pub mod namespace;
pub mod tcp_info;
