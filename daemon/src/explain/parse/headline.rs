//! The lines that say that something stands still: those of the kernel's watchdogs, of RCU, and hpetun's.

use crate::explain::trace::{Kind, Task};

/// What such a line holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Headline {
    pub kind: Kind,
    pub cpu: Option<u32>,
    pub seconds: Option<f64>,
    pub task: Option<Task>,
}

/// `line` is clean. `None` for any other line.
pub fn parse(line: &str) -> Option<Headline> {
    soft(line).or_else(|| hard(line)).or_else(|| rcu(line))
}

/// `BUG: soft lockup - CPU#1 stuck for 23s! [kworker/1:3:7927]`; the first kernels had `BUG: soft lockup detected on CPU#0!`.
fn soft(line: &str) -> Option<Headline> {
    let (_, rest) = line.split_once("BUG: soft lockup")?;
    Some(Headline {
        kind: Kind::SoftLockup,
        cpu: after(rest, "CPU#"),
        seconds: rest.split_once("stuck for ").and_then(|(_, span)| seconds(span)),
        task: task(rest),
    })
}

/// `NMI watchdog: Watchdog detected hard LOCKUP on cpu 3`, and what older and newer kernels have instead.
fn hard(line: &str) -> Option<Headline> {
    let rest = ["detected hard LOCKUP on cpu", "Watchdog detected LOCKUP on CPU"]
        .iter()
        .find_map(|words| Some(line.split_once(words)?.1))?;
    Some(Headline {
        kind: Kind::HardLockup,
        cpu: leading_number(rest.trim_start_matches([' ', '#'])),
        ..Headline::default()
    })
}

/// `rcu: INFO: rcu_sched self-detected stall on CPU`, `INFO: rcu_preempt detected stalls on CPUs/tasks:`, ...
fn rcu(line: &str) -> Option<Headline> {
    let (_, rest) = line.split_once("INFO: rcu")?;
    let kind = if rest.contains("self-detected stall") {
        Kind::RcuStallSelf
    } else if rest.contains("detected stall") || rest.contains("detected expedited stall") {
        Kind::RcuStallOther
    } else {
        return None;
    };
    let (_, stalled) = rest.split_once("stall")?;
    // `on CPU { 1}  (t=65000 jiffies`, `on CPU 0 (t=60030 jiffies)`, `on CPUs/tasks: { 2-... }`
    let digits = stalled.find(|c: char| c.is_ascii_digit());
    let first = digits.map(|at| stalled.split_at(at));
    let cpu = first.and_then(|(before, number)| {
        let names_cpu = !before.contains(['(', '=']);
        leading_number(number).filter(|_| names_cpu)
    });
    Some(Headline {
        kind,
        cpu,
        ..Headline::default()
    })
}

/// `\t1-....: (20999 ticks this GP)`, below a line of RCU's: the processor that is stalled.
pub fn rcu_cpu(line: &str) -> Option<u32> {
    let line = line.strip_prefix("rcu:").unwrap_or(line).trim_start();
    let (first, rest) = line.split_once(':')?;
    if !rest.contains("this GP") && !rest.contains("GPs behind") {
        return None;
    }
    leading_number(first)
}

/// `t=21002` of `(t=21002 jiffies g=2909 q=4)`.
pub fn rcu_jiffies(line: &str) -> Option<u32> {
    after(line, "t=").filter(|_| line.contains("jiffies"))
}

/// The task in brackets: `[kworker/1:3:7927]`, whose name may hold colons and brackets.
pub fn task(text: &str) -> Option<Task> {
    let (_, rest) = text.split_once('[')?;
    let (inside, _) = rest.rsplit_once(']')?;
    let (name, pid) = inside.rsplit_once(':')?;
    Some(Task {
        name: name.to_owned(),
        pid: Some(pid.parse().ok()?),
    })
}

/// `[kworker/1:3:7927]` or `85s! [kworker/1:3:7927]`, the end of a headline that was wrapped.
pub fn rest(line: &str) -> Option<(Option<f64>, Task)> {
    let seconds = seconds(line).filter(|_| line.contains("! ["));
    let begins = seconds.is_some() || line.starts_with('[');
    Some((seconds, task(line).filter(|_| begins)?))
}

/// Whether `line` begins a report of another kind, whose registers are not ours to explain.
pub fn is_foreign(line: &str) -> bool {
    const BEGINNINGS: [&str; 13] = [
        "------------[ cut here",
        "WARNING: ",
        "BUG: unable",
        "BUG: kernel NULL",
        "BUG: sleeping",
        "BUG: scheduling while atomic",
        "BUG: workqueue lockup",
        "kernel BUG at",
        "general protection fault",
        "Oops: ",
        "sysrq: ",
        "INFO: task ",
        "page allocation failure",
    ];
    BEGINNINGS.iter().any(|beginning| line.starts_with(beginning))
}

/// `23s`, and hpetun's `2.3s` and `104ms`.
fn seconds(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    match unit.trim_start() {
        unit if unit.starts_with("ms") => Some(number / 1e3),
        unit if unit.starts_with('s') => Some(number),
        _ => None,
    }
}

fn after(text: &str, words: &str) -> Option<u32> {
    leading_number(text.split_once(words)?.1)
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, kind: Kind, cpu: Option<u32>, seconds: Option<f64>, name: Option<(&str, u32)>) {
        let task = name.map(|(name, pid)| Task {
            name: name.to_owned(),
            pid: Some(pid),
        });
        let expected = Headline {
            kind,
            cpu,
            seconds,
            task,
        };
        assert_eq!(parse(line), Some(expected), "{line}");
    }

    #[test]
    fn kernels_old_and_new() {
        use Kind::*;
        let worker = Some(("kworker/1:3", 7927));
        for prefix in ["", "watchdog: ", "NMI watchdog: "] {
            let line = format!("{prefix}BUG: soft lockup - CPU#1 stuck for 23s! [kworker/1:3:7927]");
            check(&line, SoftLockup, Some(1), Some(23.0), worker);
        }
        check(
            "watchdog: BUG: soft lockup - CPU#? stuck for 104ms! [wg-tx/0:7927]",
            SoftLockup,
            None,
            Some(0.104),
            Some(("wg-tx/0", 7927)),
        );
        check(
            "BUG: soft lockup detected on CPU#0!",
            SoftLockup,
            Some(0),
            None,
            None,
        );
        check(
            "watchdog: BUG: soft lockup - CPU#12 stuck for 2471s! [CPU 0/KVM:31664]",
            SoftLockup,
            Some(12),
            Some(2471.0),
            Some(("CPU 0/KVM", 31664)),
        );
        for line in [
            "NMI watchdog: Watchdog detected hard LOCKUP on cpu 3",
            "watchdog: Watchdog detected hard LOCKUP on cpu 3",
            "Kernel panic - not syncing: Watchdog detected hard LOCKUP on cpu 3",
            "watchdog: CPU5: Watchdog detected hard LOCKUP on cpu 3",
            "NMI Watchdog detected LOCKUP on CPU 3",
        ] {
            check(line, HardLockup, Some(3), None, None);
        }
        check(
            "rcu: INFO: rcu_sched self-detected stall on CPU",
            RcuStallSelf,
            None,
            None,
            None,
        );
        check(
            "INFO: rcu_preempt self-detected stall on CPU { 1}  (t=65000 jiffies g=1 c=0 q=7)",
            RcuStallSelf,
            Some(1),
            None,
            None,
        );
        check(
            "INFO: rcu_sched self-detected stall on CPU (t=5250 jiffies g=2909 q=4)",
            RcuStallSelf,
            None,
            None,
            None,
        );
        check(
            "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            RcuStallOther,
            None,
            None,
            None,
        );
        check(
            "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 2-... } 5252 jiffies s: 61",
            RcuStallOther,
            Some(2),
            None,
            None,
        );
    }

    #[test]
    fn other_lines_are_none() {
        for line in [
            "rcu: INFO: rcu_sched",
            "INFO: task kworker/1:3:7927 blocked for more than 120 seconds.",
            "watchdog: Disabling watchdog",
            "",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
        assert_eq!(
            rcu_cpu("rcu: \t1-....: (20999 ticks this GP) idle=7c6/1/0x4"),
            Some(1)
        );
        assert_eq!(rcu_cpu("1-...: (1 GPs behind) idle=7c6"), Some(1));
        assert_eq!(rcu_cpu("Code: 1"), None);
        assert_eq!(rcu_jiffies("(t=21002 jiffies g=2909 q=4)"), Some(21002));
        assert_eq!(
            rcu_jiffies("(detected by 2, t=663225 jiffies, g=890229, q=72)"),
            Some(663_225)
        );
    }
}
