//! Brings a configuration into force, and another one after it: only what differs between the two is touched.
//!
//! What is not named in a change stays as it is in the device, so that a peer that the file leaves alone keeps its session,
//! and so does what somebody set with `wg set` in the meantime.

mod changes;
mod setup;

pub use changes::{Changes, Resolved};
pub use setup::{Setup, SetupError};
