//! What may be tuned, on the command line.

use clap::Args;
use clockshim::BootDuration;

use engine::tuning::{self, Tuning};
use text::quantity::switch;

#[derive(Debug, Clone, Args)]
pub struct TuningArgs {
    /// One thread for both ways instead of one for each: less work, and a shorter way for answers [default: yes with one or
    /// two processors]
    #[arg(hide_short_help = true, long, value_name = "yes|no", num_args = 0..=1, require_equals = true, default_missing_value = "yes", value_parser = switch)]
    combined: Option<bool>,
    /// Keep the data workers on these processors, such as 0-3,6: tx 0, rx 0, tx 1, ... one each, and round again
    #[arg(hide_short_help = true, long, value_name = "LIST", value_parser = tuning::cpus)]
    cpus: Option<std::vec::Vec<usize>>,
    /// How long a worker polls for packets before it sleeps, such as 20us [default: 0us]
    #[arg(hide_short_help = true, long, value_name = "TIME", value_parser = tuning::busy_poll)]
    busy_poll: Option<BootDuration>,
    /// The workers' time slice, such as 500us: shorter gives them, and threads that wait for them, quicker turns (Linux
    /// 6.12) [default: the scheduler's]
    #[arg(hide_short_help = true, long, value_name = "TIME", value_parser = tuning::slice)]
    slice: Option<BootDuration>,
    /// Buffer of each UDP socket, each way [default: 7M]
    #[arg(hide_short_help = true, long, value_name = "BYTES", value_parser = tuning::udp_buffer)]
    udp_buffer: Option<usize>,
}

impl TuningArgs {
    /// These, and where they say nothing, `or`.
    pub fn over(self, or: Tuning) -> Tuning {
        Tuning {
            combined: self.combined.or(or.combined),
            busy_poll: self.busy_poll.unwrap_or(or.busy_poll),
            cpus: self.cpus.unwrap_or(or.cpus),
            udp_buffer: self.udp_buffer.unwrap_or(or.udp_buffer),
            slice: self.slice.or(or.slice),
        }
    }
}
