//! How often a cgroup of this process had used up its quota of processor time (`cpu.max`, systemd's `CPUQuota=`): until its next
//! period none of its threads is let run, save real-time ones.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The kernel's counts for the cgroup that the process was in when this was made, and for those around it, kept open.
#[derive(Debug)]
pub struct Throttle {
    stats: Vec<File>,
    /// When the latest of the two counts that are kept was taken.
    counted: Duration,
    counts: [Throttled; 2],
}

/// Over all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttled {
    pub periods: u64,
    /// Of all processors together.
    pub time: Duration,
}

/// From one count that is kept to the next.
const INTERVAL: Duration = Duration::from_secs(1);

impl Throttle {
    /// Nothing is counted where the kernel or the container does not show it.
    pub fn of_this_process() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let directories = own.lines().filter_map(directory);
        let stats = directories.flat_map(|(root, own)| {
            let around: Vec<_> = own
                .ancestors()
                .map(|path| root.join(path).join("cpu.stat"))
                .collect();
            around.into_iter().filter_map(|path| File::open(path).ok())
        });
        let mut this = Self {
            stats: stats.collect(),
            counted: Duration::ZERO,
            counts: Default::default(),
        };
        this.counts = [this.count(); 2];
        this
    }

    /// To be called at every look. Allocates nothing.
    pub fn sample(&mut self, now: Duration) {
        if now.saturating_sub(self.counted) >= INTERVAL {
            self.counted = now;
            self.counts = [self.counts[1], self.count()];
        }
    }

    /// For the last second or two: the kernel counts a period when it is over, so the one that lasts is not among them.
    pub fn lately(&self) -> Throttled {
        self.count().since(self.counts[0])
    }

    fn count(&self) -> Throttled {
        let mut all = Throttled::default();
        for stat in &self.stats {
            let mut buffer = [0; 1024];
            let read = stat.read_at(&mut buffer, 0).unwrap_or(0);
            let one = parse(&buffer[..read]);
            all.periods += one.periods;
            all.time += one.time;
        }
        all
    }
}

impl Throttled {
    fn since(self, before: Self) -> Self {
        Self {
            periods: self.periods.saturating_sub(before.periods),
            time: self.time.saturating_sub(before.time),
        }
    }
}

/// Where a line of `/proc/self/cgroup` has its files: below which directory, and where there. `None` for one that has nothing to do with
/// processor time. cgroups(7): `0::/path` is version 2, `4:cpu,cpuacct:/path` version 1.
fn directory(line: &str) -> Option<(&Path, PathBuf)> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    let root = match controllers {
        "" => "/sys/fs/cgroup",
        some if some.split(',').any(|one| one == "cpu") => "/sys/fs/cgroup/cpu",
        _ => return None,
    };
    Some((Path::new(root), path.trim_start_matches('/').into()))
}

/// `cpu.stat`, which counts microseconds in version 2 of cgroups and nanoseconds in version 1.
fn parse(text: &[u8]) -> Throttled {
    let mut found = Throttled::default();
    for line in std::str::from_utf8(text).unwrap_or_default().lines() {
        let (name, value) = line.split_once(' ').unwrap_or_default();
        let value = value.parse().unwrap_or(0);
        match name {
            "nr_throttled" => found.periods = value,
            "throttled_usec" => found.time = Duration::from_micros(value),
            "throttled_time" => found.time = Duration::from_nanos(value),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        let expected = Throttled {
            periods: 3,
            time: Duration::from_millis(250),
        };
        let second = b"usage_usec 9000\nuser_usec 1\nnr_periods 12\nnr_throttled 3\nthrottled_usec 250000\n";
        assert_eq!(parse(second), expected);
        assert_eq!(
            parse(b"nr_periods 12\nnr_throttled 3\nthrottled_time 250000000\n"),
            expected
        );
        assert_eq!(parse(b"usage_usec 9000\n"), Throttled::default());
        assert_eq!(parse(b"\xff nr_throttled"), Throttled::default());
        assert_eq!(expected.since(Throttled::default()), expected);
    }

    #[test]
    fn cgroups_are_found_below_their_roots() {
        let found = |line| {
            directory(line).map(|(root, own)| (root.to_str().unwrap(), own.to_str().unwrap().to_owned()))
        };
        let unit = "system.slice/hpetun.service".to_owned();
        assert_eq!(
            found("0::/system.slice/hpetun.service"),
            Some(("/sys/fs/cgroup", unit.clone()))
        );
        assert_eq!(
            found("4:cpu,cpuacct:/system.slice/hpetun.service"),
            Some(("/sys/fs/cgroup/cpu", unit))
        );
        assert_eq!(found("1:cpu:/"), Some(("/sys/fs/cgroup/cpu", String::new())));
        assert_eq!(found("3:cpuset:/a"), None);
        assert_eq!(found("nonsense"), None);
    }
}
