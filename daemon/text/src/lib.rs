//! Numbers, times and prose as people write and read them: quantities, units, wrapping.
//!
//! It may use nothing of the workspace, and knows nothing of tunnels or clocks.

mod print;
pub mod quantity;
pub mod units;
pub mod wrap;

pub use print::print_line;
pub use wrap::wrap;
