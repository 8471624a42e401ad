//! What RCU says when a grace period does not end: the headline, and the lines below it.

use super::headline::{Headline, after, leading_number};
use crate::trace::{Kind, Rcu, Trace};

/// `rcu: INFO: rcu_sched self-detected stall on CPU`, `INFO: rcu_preempt detected stalls on CPUs/tasks: { 2 P392 } ...`, and
/// before 2.6.36 `INFO: RCU detected CPU 0 stall (t=10000 jiffies)`.
pub fn headline(line: &str) -> Option<Headline> {
    let (_, rest) = line
        .split_once("INFO: rcu")
        .or_else(|| line.split_once("INFO: RCU"))?;
    let (_, found) = rest.split_once("detected ")?;
    let named = [
        "stall on CPU",
        "stalls on CPUs/tasks:",
        "expedited stalls on CPUs/tasks:",
        "expedited stalls on CPUs:",
        "CPU stalls:",
    ]
    .iter()
    .find_map(|words| found.strip_prefix(words));
    let named = match named {
        Some(named) => named,
        // `CPU 0 stall`
        None => found
            .strip_prefix("CPU ")
            .filter(|rest| rest.contains(" stall "))?,
    };
    // The processor that prints `stall`, and not `stalls`, is the stalled one.
    let is_self = !found.contains("stalls");
    let names = named.split('(').next().unwrap_or_default();
    let names = match names.split_once('{') {
        Some((_, inside)) => inside.split('}').next().unwrap_or_default(),
        None => names,
    };
    let mut headline = Headline {
        kind: if is_self {
            Kind::RcuStallSelf
        } else {
            Kind::RcuStallOther
        },
        by: after(line, "detected by ").filter(|_| !is_self),
        ..Headline::default()
    };
    headline.rcu.jiffies = jiffies(line);
    for name in names.split_whitespace() {
        if let Some(cpu) = leading_number(name) {
            stalled(cpu, &mut headline.cpu, &mut headline.rcu);
        } else {
            let task = name.strip_prefix('P').and_then(leading_number);
            headline.rcu.tasks |= task.is_some();
        }
    }
    headline.rcu.tasks &= headline.cpu.is_none();
    Some(headline)
}

/// Whether `line` may be the first half of a headline that a mail program has wrapped.
pub fn is_cut(line: &str) -> bool {
    let begins = line.starts_with("rcu: INFO: rcu") || line.starts_with("INFO: rcu");
    let ends = ["detected", "stall", "stalls", "stall on", "stalls on"];
    let ends = ends.iter().any(|end| line.ends_with(end));
    begins && ends && line.len() < 100 && headline(line).is_none()
}

/// Takes in a line below the headline.
pub fn body(line: &str, trace: &mut Trace) {
    if let Some(cpu) = cpu(line) {
        stalled(cpu, &mut trace.cpu, &mut trace.rcu);
    }
    let rcu = &mut trace.rcu;
    rcu.jiffies = rcu
        .jiffies
        .or_else(|| jiffies(line).filter(|_| line.contains("t=")));
    rcu.all_seen |= line.contains("All QSes seen") && trace.cpu.is_none();
    rcu.tasks |= line.contains("Tasks blocked on level-") && trace.cpu.is_none();
    if line.contains("kthread starved for") {
        rcu.starved = rcu.starved.or_else(|| after(line, "starved for "));
    }
    if trace.kind == Kind::RcuStallOther {
        trace.by = trace.by.or_else(|| after(line, "(detected by "));
    }
}

fn stalled(cpu: u32, first: &mut Option<u32>, rcu: &mut Rcu) {
    match first {
        None => *first = Some(cpu),
        Some(first) if *first == cpu || rcu.also.contains(&cpu) => {}
        Some(_) => rcu.also.push(cpu),
    }
}

/// `\t1-....: (20999 ticks this GP)`: a processor that is stalled.
fn cpu(line: &str) -> Option<u32> {
    let line = line.strip_prefix("rcu:").unwrap_or(line).trim_start();
    let (first, rest) = line.split_once(':')?;
    if !rest.contains("this GP") && !rest.contains("GPs behind") {
        return None;
    }
    leading_number(first)
}

/// `21002` of `(t=21002 jiffies g=2909 q=4)` and of `{ 0-... } 21002 jiffies s: 85`; the second of `t=485140/3000`, whose first
/// is the time since the start.
fn jiffies(line: &str) -> Option<u32> {
    let (before, _) = line.split_once(" jiffies")?;
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, kind: Kind, cpus: &[u32], jiffies: Option<u32>, by: Option<u32>) {
        let found = headline(line).unwrap_or_else(|| panic!("{line}"));
        let named: Vec<u32> = found
            .cpu
            .into_iter()
            .chain(found.rcu.also.iter().copied())
            .collect();
        assert_eq!(
            (found.kind, named.as_slice(), found.rcu.jiffies, found.by),
            (kind, cpus, jiffies, by),
            "{line}"
        );
    }

    #[test]
    fn headlines_old_and_new() {
        use Kind::{RcuStallOther as Other, RcuStallSelf as Itself};
        let check_one = |line: &str, kind, cpus: &[u32], jiffies| check(line, kind, cpus, jiffies, None);
        check_one(
            "rcu: INFO: rcu_sched self-detected stall on CPU",
            Itself,
            &[],
            None,
        );
        check_one(
            "INFO: rcu_preempt self-detected stall on CPU { 1}  (t=65000 jiffies g=1 c=0 q=7)",
            Itself,
            &[1],
            Some(65_000),
        );
        check_one(
            "INFO: rcu_sched self-detected stall on CPU (t=5250 jiffies g=2909 q=4)",
            Itself,
            &[],
            Some(5250),
        );
        check_one(
            "INFO: rcu_sched_state detected stall on CPU 4 (t=105060 jiffies)",
            Itself,
            &[4],
            Some(105_060),
        );
        check_one(
            "INFO: RCU detected CPU 4 stall (t=485140/3000 jiffies)",
            Itself,
            &[4],
            Some(3000),
        );
        check_one(
            "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            Other,
            &[],
            None,
        );
        check_one(
            "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 2-...D 11-.... } 5252 jiffies s: 61",
            Other,
            &[2, 11],
            Some(5252),
        );
        let tasks =
            "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { P392 } 21382 jiffies s: 117";
        check_one(tasks, Other, &[], Some(21_382));
        assert!(headline(tasks).unwrap().rcu.tasks);
        check_one(
            "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { } 6 jiffies s: 85 root: 0x0/.",
            Other,
            &[],
            Some(6),
        );
        check(
            "INFO: rcu_sched_state detected stalls on CPUs/tasks: { 2} (detected by 7, t=15002 jiffies)",
            Other,
            &[2],
            Some(15_002),
            Some(7),
        );
        check(
            "INFO: RCU detected CPU stalls: 1 3 (detected by 0, t=10002 jiffies)",
            Other,
            &[1, 3],
            Some(10_002),
            Some(0),
        );
        for line in [
            "rcu: INFO: rcu_sched",
            "INFO: rcu_sched detected no stall",
            "INFO: RCU detected",
        ] {
            assert_eq!(headline(line), None, "{line}");
        }
    }

    #[test]
    fn lines_below_the_headline() {
        let mut trace = Trace {
            kind: Kind::RcuStallOther,
            ..Trace::default()
        };
        for line in [
            "rcu: \t1-....: (20999 ticks this GP) idle=7c6/1/0x4",
            "3-...: (1 GPs behind) idle=7c6",
            "Code: 1",
            "(detected by 2, t=663225 jiffies, g=890229, q=72)",
            "rcu: rcu_preempt kthread starved for 20964 jiffies! g938281",
        ] {
            body(line, &mut trace);
        }
        assert_eq!((trace.cpu, trace.by), (Some(1), Some(2)));
        let expected = Rcu {
            jiffies: Some(663_225),
            also: vec![3],
            starved: Some(20_964),
            ..Rcu::default()
        };
        assert_eq!(trace.rcu, expected);
    }
}
