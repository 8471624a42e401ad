//! Shows on standard error how far the lab is: a bar on a terminal, else a line a step.

use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

pub struct Progress {
    bar: ProgressBar,
    /// No terminal: plain lines, which a log file can take.
    plain: bool,
}

impl Progress {
    /// About what a step without load takes.
    pub const SETUP: Duration = Duration::from_millis(1000);
    pub const PING: Duration = Duration::from_millis(600);

    /// `total` is what all steps together are expected to take.
    pub fn new(total: Duration) -> Self {
        let plain = !stderr().is_terminal();
        let target = if plain {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(Some(total.as_millis() as u64), target);
        let style = ProgressStyle::with_template(
            "{spinner} {bar:24} {percent:>3} %  {elapsed}/{duration}  {wide_msg}",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, plain }
    }

    /// What happens now.
    pub fn step(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        if self.plain {
            eprintln!("{what}");
        }
    }

    /// A step that was expected to take so long is over.
    pub fn done(&self, length: Duration) {
        self.bar.inc(length.as_millis() as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
