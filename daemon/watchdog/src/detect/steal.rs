//! The time that a hypervisor took away from a processor, during which nothing on it could get on.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

/// The kernel's count, kept open.
#[derive(Debug)]
pub struct Steal {
    stat: Option<File>,
    tick: Duration,
    /// Room for the lines of some hundred processors.
    buffer: Box<[u8]>,
}

impl Steal {
    pub fn new(tick: Duration) -> Self {
        Self {
            stat: File::open("/proc/stat").ok(),
            tick,
            buffer: vec![0; 16 << 10].into(),
        }
    }

    /// So far from that processor, to one tick of the kernel; nothing where it is not told. Allocates nothing.
    pub fn of(&mut self, cpu: u32) -> Duration {
        let Some(stat) = &self.stat else {
            return Duration::ZERO;
        };
        let read = stat.read_at(&mut self.buffer, 0).unwrap_or(0);
        let ticks = parse(&self.buffer[..read], cpu).unwrap_or(0);
        self.tick * u32::try_from(ticks).unwrap_or(u32::MAX)
    }
}

/// proc_stat(5): `cpu1 user nice system idle iowait irq softirq steal ...`.
fn parse(text: &[u8], cpu: u32) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let of_cpu = |line: &str| {
        let (name, rest) = line.split_once(' ')?;
        (name.strip_prefix("cpu")?.parse() == Ok(cpu))
            .then(|| rest.split_ascii_whitespace().nth(7)?.parse().ok())?
    };
    text.lines().find_map(of_cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_processor_is_found() {
        let text =
            b"cpu  9 9 9 9 9 9 9 99 0 0\ncpu0 1 2 3 4 5 6 7 8 9 0\ncpu1 1 2 3 4 5 6 7 18 9 0\nintr 1\n";
        assert_eq!(
            (parse(text, 0), parse(text, 1), parse(text, 2)),
            (Some(8), Some(18), None)
        );
        assert_eq!(parse(b"cpu0 1 2", 0), None);
    }
}
