//! The harness of the system tests: network namespaces, daemons, `wg`, `ping` and iperf3 as real processes, so that a
//! scenario reads like the shell session of a person who tries it by hand.
//!
//! Everything in here panics, with the command and what it printed, where a step does not do what it should, and
//! every wait is bounded. Namespaces, processes and sockets are cleaned up when their owner is dropped, which a
//! panicking test does too; what a killed run left behind is swept by the next one.
//!
//! `tests/run` installs what is needed and runs everything. By hand, as root, and with the daemon built:
//! `cargo test --release -p hpetun-tests roaming`. `HPETUN_BIN` names another binary to test.

pub mod capture;
pub mod cgroup;
pub mod command;
pub mod daemon;
pub mod load;
pub mod namespace;
pub mod noise;
pub mod pair;
pub mod relay;
#[allow(unsafe_code, reason = "unsafe calls are fenced in here")]
pub mod sys;
pub mod uapi;
pub mod vm;
pub mod wait;
pub mod wg;

pub use command::{Output, run, try_run};
pub use daemon::{Daemon, Program, hpetun};
pub use namespace::Namespace;
pub use pair::{Host, Pair, Plan};
pub use wait::{wait_for, wait_until};
pub use wg::KeyPair;
