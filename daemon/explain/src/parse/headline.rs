//! The lines that say that something stands still: those of the kernel's watchdogs, of RCU, and hpetun's.

use super::rcu;
use crate::trace::{Kind, Rcu, Task};

/// What such a line holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Headline {
    pub kind: Kind,
    pub cpu: Option<u32>,
    pub seconds: Option<f64>,
    pub task: Option<Task>,
    pub by: Option<u32>,
    pub rcu: Rcu,
}

/// `line` is clean. `None` for any other line.
pub fn parse(line: &str) -> Option<Headline> {
    soft(line)
        .or_else(|| own(line))
        .or_else(|| hard(line))
        .or_else(|| rcu::headline(line))
        .or_else(|| hung(line))
        .or_else(|| workqueue(line))
        .or_else(|| panic(line))
}

/// `BUG: soft lockup - CPU#1 stuck for 23s! [kworker/1:3:7927]`; the first kernels had `BUG: soft lockup detected on CPU#0!`.
fn soft(line: &str) -> Option<Headline> {
    let (_, rest) = line.split_once("BUG: soft lockup")?;
    let is_subject = ["Subject:", "Re:", "Fwd:"]
        .iter()
        .any(|words| line.starts_with(words));
    if is_subject || !(rest.trim_start().starts_with("- CPU") || rest.contains("on CPU#")) {
        return None;
    }
    Some(Headline {
        kind: Kind::SoftLockup,
        cpu: after(rest, "CPU#"),
        seconds: rest.split_once("stuck for ").and_then(|(_, span)| seconds(span)),
        task: task(rest),
        ..Headline::default()
    })
}

/// `report of [wg-tx/0:7927], stuck for 104ms at detection:`, where hpetun goes on with a report after other lines, and
/// `BUG: thread ended - [wg-tx/0:7927]`.
fn own(line: &str) -> Option<Headline> {
    let line = line.strip_prefix("watchdog: ").unwrap_or(line);
    if !line.starts_with("report of [") && !line.starts_with("BUG: thread ended - [") {
        return None;
    }
    Some(Headline {
        kind: Kind::Hpetun,
        seconds: line
            .split_once("], stuck for ")
            .and_then(|(_, span)| seconds(span)),
        task: Some(task(line)?),
        ..Headline::default()
    })
}

/// `Kernel panic - not syncing: softlockup: hung tasks`, `... Hard LOCKUP`: for many who are told to panic, the first line.
pub fn panic(line: &str) -> Option<Headline> {
    let (_, why) = line.split_once("Kernel panic - not syncing: ")?;
    let kind = if why.starts_with("softlockup") {
        Kind::SoftLockup
    } else if why.contains("ard LOCKUP") {
        Kind::HardLockup
    } else {
        return None;
    };
    Some(Headline {
        kind,
        ..hard(why).unwrap_or_default()
    })
}

/// `NMI watchdog: Watchdog detected hard LOCKUP on cpu 3`, and what older and newer kernels have instead.
fn hard(line: &str) -> Option<Headline> {
    let (before, rest) = ["detected hard LOCKUP on cpu", "Watchdog detected LOCKUP on CPU"]
        .iter()
        .find_map(|words| line.split_once(words))?;
    let cpu = leading_number(rest.trim_start_matches([' ', '#']));
    Some(Headline {
        kind: Kind::HardLockup,
        cpu,
        // Since 6.5, one processor may watch another one by its own timer.
        by: after(before, "CPU").filter(|by| Some(*by) != cpu),
        ..Headline::default()
    })
}

/// `INFO: task mdadm:2858 blocked for more than 243 seconds.`
fn hung(line: &str) -> Option<Headline> {
    let (who, span) = line
        .strip_prefix("INFO: task ")?
        .split_once(" blocked for more than ")?;
    let (name, pid) = who.rsplit_once(':')?;
    Some(Headline {
        kind: Kind::HungTask,
        seconds: Some(span.split_once(" seconds")?.0.parse().ok()?),
        task: Some(Task {
            name: name.to_owned(),
            pid: Some(pid.parse().ok()?),
        }),
        ..Headline::default()
    })
}

/// `BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 34s!`
fn workqueue(line: &str) -> Option<Headline> {
    let (_, pool) = line
        .strip_prefix("BUG: workqueue lockup - pool ")?
        .split_once("cpus=")?;
    let (cpus, rest) = pool.split_once(' ')?;
    Some(Headline {
        kind: Kind::WorkqueueLockup,
        // A pool that is bound to no processor has several.
        cpu: cpus.parse().ok(),
        seconds: seconds(rest.split_once("stuck for ")?.1),
        ..Headline::default()
    })
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
    const BEGINNINGS: [&str; 16] = [
        "------------[ cut here",
        "WARNING: ",
        "BUG: ",
        "kernel BUG at",
        "general protection fault",
        "invalid opcode",
        "divide error",
        "double fault",
        "Oops: ",
        "UBSAN: ",
        "Kernel panic - not syncing",
        "Unable to handle kernel",
        "sysrq: ",
        "SysRq : ",
        "INFO: task ",
        "page allocation failure",
    ];
    // What the kernel says while it prints a call trace that it cannot follow.
    const WITHIN: [&str; 3] = ["WARNING: kernel stack", "WARNING: stack", "WARNING: can't"];
    BEGINNINGS.iter().any(|beginning| line.starts_with(beginning))
        && !WITHIN.iter().any(|within| line.starts_with(within))
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

pub fn after(text: &str, words: &str) -> Option<u32> {
    leading_number(text.split_once(words)?.1)
}

pub fn leading_number(text: &str) -> Option<u32> {
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
            ..Headline::default()
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
            "watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 3",
            "NMI Watchdog detected LOCKUP on CPU 3",
        ] {
            check(line, HardLockup, Some(3), None, None);
        }
    }

    #[test]
    fn a_report_may_go_on_later() {
        let task = Some(("wg-tx/0", 7927));
        for prefix in ["", "watchdog: "] {
            for suffix in ["", " (seen 230 ms ago)"] {
                let line = format!("{prefix}report of [wg-tx/0:7927], stuck for 104ms at detection{suffix}:");
                check(&line, Kind::Hpetun, None, Some(0.104), task);
            }
        }
        for line in [
            "watchdog: BUG: thread ended - [wg-tx/0:7927]",
            "report of [wg-tx/0:7927], which ended:",
        ] {
            check(line, Kind::Hpetun, None, None, task);
        }
        assert_eq!(parse("a report of [this] kind"), None);
    }

    #[test]
    fn a_neighbour_may_watch() {
        let found = parse("watchdog: CPU5: Watchdog detected hard LOCKUP on cpu 3").unwrap();
        assert_eq!((found.cpu, found.by), (Some(3), Some(5)));
    }

    #[test]
    fn panics_of_the_watchdogs() {
        check(
            "Kernel panic - not syncing: softlockup: hung tasks",
            Kind::SoftLockup,
            None,
            None,
            None,
        );
        check(
            "Kernel panic - not syncing: Hard LOCKUP",
            Kind::HardLockup,
            None,
            None,
            None,
        );
        let other = "Kernel panic - not syncing: Attempted to kill init!";
        assert_eq!(parse(other), None);
        assert!(is_foreign(other));
        assert!(!is_foreign(
            "WARNING: kernel stack regs at 0 in x:1 has bad 'bp' value 0"
        ));
    }

    #[test]
    fn tasks_and_pools_that_wait() {
        check(
            "INFO: task kworker/1:3:7927 blocked for more than 120 seconds.",
            Kind::HungTask,
            None,
            Some(120.0),
            Some(("kworker/1:3", 7927)),
        );
        let pool = "BUG: workqueue lockup - pool cpus=3 node=0 flags=0x0 nice=0 stuck for 34s!";
        check(pool, Kind::WorkqueueLockup, Some(3), Some(34.0), None);
        let unbound = "BUG: workqueue lockup - pool cpus=0-3 flags=0x4 nice=0 stuck for 34s!";
        check(unbound, Kind::WorkqueueLockup, None, Some(34.0), None);
    }

    #[test]
    fn other_lines_are_none() {
        for line in [
            "rcu: INFO: rcu_sched",
            "INFO: task hung in f",
            "BUG: workqueue lockup",
            "watchdog: Disabling watchdog",
            "",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
