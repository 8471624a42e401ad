//! What arrives at host b over time, from the counters of its tunnel's interface.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use super::watch::Moment;
use crate::hosts::Host;

/// Time between two looks at the counters.
const LOOK: Duration = Duration::from_millis(5);

/// Of the calling thread's network namespace.
const COUNTERS: &str = "/proc/thread-self/net/dev";

/// Bytes that had arrived by a moment, in seconds after some origin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    pub at: f64,
    pub bytes: u64,
}

/// Looks in the order of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series(pub Vec<Look>);

/// Looks again and again until `over`; times count from `origin`.
pub fn watch(host: &Host, origin: Moment, over: &AtomicBool) -> anyhow::Result<Series> {
    host.enter(|| {
        let counters = File::open(COUNTERS).with_context(|| format!("cannot open {COUNTERS}"))?;
        let mut text = vec![0; 16 << 10];
        let mut looks = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let length = counters
                .read_at(&mut text, 0)
                .with_context(|| format!("cannot read {COUNTERS}"))?;
            let at = Moment::now().since(origin);
            let bytes = received(&String::from_utf8_lossy(&text[..length]), host.interface)
                .with_context(|| format!("{COUNTERS} has no line of {}", host.interface))?;
            looks.push(Look { at, bytes });
            thread::sleep(LOOK);
        }
        Ok(Series(looks))
    })
}

/// Bytes that an interface has received: its first column.
fn received(counters: &str, interface: &str) -> Option<u64> {
    let mut lines = counters.lines().filter_map(|line| line.split_once(':'));
    let (_, columns) = lines.find(|(name, _)| name.trim() == interface)?;
    columns.split_ascii_whitespace().next()?.parse().ok()
}

impl Series {
    /// The same with other zeros: `origin` is where time begins.
    pub fn shifted(&self, origin: f64) -> Self {
        let looks = self.0.iter().map(|look| Look {
            at: look.at - origin,
            ..*look
        });
        Self(looks.collect())
    }

    /// Bytes by `at`, between two looks in proportion.
    fn bytes_by(&self, at: f64) -> f64 {
        let next = self.0.partition_point(|look| look.at < at);
        let Some(last) = self.0.last() else {
            return 0.0;
        };
        match (next.checked_sub(1).map(|index| self.0[index]), self.0.get(next)) {
            (None, _) => self.0[0].bytes as f64,
            (_, None) => last.bytes as f64,
            (Some(a), Some(b)) => {
                let part = (at - a.at) / (b.at - a.at);
                a.bytes as f64 + part * b.bytes.saturating_sub(a.bytes) as f64
            }
        }
    }

    /// Gbit/s over a span of time; zero for an empty one.
    pub fn gbit_s(&self, span: Range<f64>) -> f64 {
        let seconds = span.end - span.start;
        if seconds <= 0.0 {
            return 0.0;
        }
        (self.bytes_by(span.end) - self.bytes_by(span.start)) * 8.0 / seconds / 1e9
    }

    /// Gbit/s of one slice after the other, all of the same length, from the first look on.
    pub fn slices(&self, length: f64) -> Vec<(f64, f64)> {
        let (Some(first), Some(last)) = (self.0.first(), self.0.last()) else {
            return Vec::new();
        };
        let start = (first.at / length).ceil() * length;
        let count = ((last.at - start) / length).floor().max(0.0) as usize;
        (0..count)
            .map(|slice| start + slice as f64 * length)
            .map(|at| (at, self.gbit_s(at..at + length)))
            .collect()
    }

    /// The longest time in a span during which certainly nothing arrived, in seconds: from a look to a later one with the same
    /// count. What is shorter than the time between two looks does not show.
    pub fn longest_gap(&self, span: Range<f64>) -> f64 {
        let mut longest: f64 = 0.0;
        let mut since: Option<Look> = None;
        for look in self.0.iter().filter(|look| span.contains(&look.at)) {
            match since {
                Some(start) if start.bytes == look.bytes => longest = longest.max(look.at - start.at),
                _ => since = Some(*look),
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 MB each 10 ms, save from 1.0 s to 1.5 s.
    fn series() -> Series {
        let mut bytes = 0;
        let look = |step: u32| {
            let at = f64::from(step) / 100.0;
            if !(1.005..1.505).contains(&at) {
                bytes += 1_000_000;
            }
            Look { at, bytes }
        };
        Series((0..300).map(look).collect())
    }

    #[test]
    fn rates_and_gaps() {
        let series = series();
        assert!((series.gbit_s(0.0..1.0) - 0.8).abs() < 1e-9);
        assert_eq!(series.gbit_s(1.1..1.4), 0.0);
        assert!((series.gbit_s(0.505..0.515) - 0.8).abs() < 1e-9, "in between");
        assert!((series.longest_gap(0.0..3.0) - 0.5).abs() < 1e-9);
        assert_eq!(series.longest_gap(2.0..3.0), 0.0);
        assert!((series.longest_gap(1.2..3.0) - 0.3).abs() < 1e-9);
        assert_eq!(
            (series.gbit_s(1.0..1.0), Series::default().longest_gap(0.0..1.0)),
            (0.0, 0.0)
        );
    }

    #[test]
    fn slices_are_of_one_length_and_begin_at_whole_ones() {
        let slices = series().shifted(1.013).slices(0.05);
        assert!((slices[0].0 - -1.0).abs() < 1e-9, "{:?}", slices[0]);
        assert!(
            slices
                .windows(2)
                .all(|two| (two[1].0 - two[0].0 - 0.05).abs() < 1e-9)
        );
        assert!(slices.iter().any(|(_, rate)| *rate == 0.0));
        assert!(Series::default().slices(0.05).is_empty());
    }

    #[test]
    fn the_right_interface_is_read() {
        let text = "Inter-|   Receive\n face |bytes    packets\n    lo: 11 1 0\nwg-lab-b2: 5 1\n  wg-lab-b:4242      7 0\n";
        assert_eq!(received(text, "wg-lab-b"), Some(4242));
        assert_eq!(received(text, "lo"), Some(11));
        assert_eq!(received(text, "wg-lab-a"), None);
    }
}
