//! What processes used, from /proc.

use std::fs;

use nix::unistd::Pid;

/// Unit of the times in /proc (USER_HZ), fixed at 100 in the kernel's interface to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of all threads of a process, user and system, in seconds. `None` once it has ended.
pub fn cpu_seconds(pid: Pid) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&stat)
}

/// `None` of a process that has ended and waits to be reaped.
fn parse_stat(stat: &str) -> Option<f64> {
    // The name, second field, is in parentheses and may hold spaces and parentheses.
    let fields: Vec<&str> = stat
        .get(stat.rfind(')')? + 1..)?
        .split_ascii_whitespace()
        .collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some((ticks(14)? + ticks(15)?) as f64 / TICKS_PER_SECOND)
}

/// The most memory that a process ever had resident, in bytes. `None` once it has ended.
pub fn peak_memory(pid: Pid) -> Option<u64> {
    memory(pid, "VmHWM:")
}

/// The memory that a process has resident now, in bytes. `None` once it has ended.
pub fn resident_memory(pid: Pid) -> Option<u64> {
    memory(pid, "VmRSS:")
}

fn memory(pid: Pid, field: &str) -> Option<u64> {
    parse_memory(field, &fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_memory(field: &str, status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    value
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

/// Time of all CPUs since boot, to tell how much of it the hypervisor gave to others.
#[derive(Debug, Clone, Copy, Default)]
pub struct MachineTime {
    all: u64,
    stolen: u64,
}

impl MachineTime {
    /// Zero where /proc/stat cannot be read.
    pub fn now() -> Self {
        fs::read_to_string("/proc/stat")
            .ok()
            .and_then(|stat| Self::parse(&stat))
            .unwrap_or_default()
    }

    fn parse(stat: &str) -> Option<Self> {
        let times = stat.lines().next()?.strip_prefix("cpu ")?;
        // user nice system idle iowait irq softirq steal; the guest times that follow are part of user.
        let times: Vec<u64> = times
            .split_ascii_whitespace()
            .take(8)
            .map_while(|time| time.parse().ok())
            .collect();
        Some(Self {
            all: times.iter().sum(),
            stolen: *times.get(7)?,
        })
    }

    /// Per cent of the machine's time since `earlier` that was stolen.
    pub fn stolen_since(self, earlier: Self) -> f64 {
        match self.all.saturating_sub(earlier.all) {
            0 => 0.0,
            all => 100.0 * self.stolen.saturating_sub(earlier.stolen) as f64 / all as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_an_awkward_name() {
        let rest = "1 1 1 0 -1 4194560 100 0 0 0 250 75 0 0 20 0 1 0 100 1000 10";
        assert_eq!(parse_stat(&format!("17 (a) R b) S {rest}")), Some(3.25));
        assert_eq!(parse_stat(&format!("17 (gone) Z {rest}")), None);
        assert_eq!(parse_stat("17 (cut"), None);
        assert_eq!(parse_stat("17 (cut) S 1 2"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(parse_memory("VmHWM:", status), Some(2 << 20));
        assert_eq!(parse_memory("VmRSS:", status), Some(1 << 20));
        assert_eq!(parse_memory("VmHWM:", "Name:\tkthread\n"), None);
    }

    #[test]
    fn own_figures_are_there() {
        let own = Pid::this();
        assert!(cpu_seconds(own).is_some());
        assert!(peak_memory(own).is_some_and(|peak| peak > 100_000));
        assert!(resident_memory(own).is_some_and(|resident| resident > 100_000));
        assert_eq!(cpu_seconds(Pid::from_raw(i32::MAX)), None);
    }

    #[test]
    fn steal_is_a_share_of_everything() {
        let before = MachineTime::parse("cpu  100 0 100 700 0 0 0 100 50 0\n").unwrap();
        let after = MachineTime::parse("cpu  150 0 150 750 0 0 0 150 90 0\n").unwrap();
        assert_eq!(after.stolen_since(before), 25.0);
        assert_eq!(after.stolen_since(after), 0.0);
    }
}
