//! The subcommands, one file or directory each.

pub mod lab;
