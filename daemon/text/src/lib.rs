//! Numbers, times and prose as people read them: units, wrapping.
//!
//! It may use nothing of the workspace, and knows nothing of tunnels or clocks.

mod print;
pub mod units;
pub mod wrap;

pub use print::print_line;
pub use wrap::wrap;
