//! How a report came to be printed, and what that proves of the clock.

use super::explanation::View;
use super::trace::{Kind, Trace};

/// How the report came to be printed, and what that proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Printed {
    /// By a timer interrupt on the processor that is stuck.
    TimerHere,
    /// By another processor's timer, whose jiffies went on.
    TimerElsewhere,
    /// By the timer of a processor that watches this one.
    Neighbour,
    /// By an NMI, which reads the counter past the lock.
    Nmi,
    Unknown,
}

impl Printed {
    pub fn of(trace: &Trace) -> Printed {
        match trace.kind {
            Kind::HardLockup if trace.by.is_some() => Printed::Neighbour,
            Kind::SoftLockup | Kind::RcuStallSelf => Printed::TimerHere,
            Kind::RcuStallOther => Printed::TimerElsewhere,
            Kind::HardLockup => Printed::Nmi,
            Kind::HungTask | Kind::WorkqueueLockup | Kind::Clocksource | Kind::Hpetun | Kind::Dump => {
                Printed::Unknown
            }
        }
    }

    /// Where the printing itself proves that a read of the clock completed: the sentence that says so.
    pub fn completed(self, keeps_time: Option<&(bool, String)>) -> Option<String> {
        let (true, why) = keeps_time? else {
            return None;
        };
        match self {
            Printed::TimerHere => Some(format!(
                "the report was printed from a timer interrupt on this processor, whose own path reads this clock ({why}): a \
                 nested read on this very processor completed"
            )),
            Printed::TimerElsewhere => Some(format!(
                "RCU counts jiffies, which timer interrupts advance by this clock ({why}): reads completed while this \
                 processor was stuck"
            )),
            Printed::Neighbour => Some(format!(
                "the report was printed from a timer interrupt on another processor, whose path reads this clock ({why}): reads \
                 completed while this processor was stuck"
            )),
            Printed::Nmi | Printed::Unknown => None,
        }
    }

    /// Why the printing proves nothing.
    pub fn not_completed(self, keeps_time: Option<&(bool, String)>) -> String {
        match (self, keeps_time) {
            (Printed::Nmi, _) => {
                "the report came by NMI, which reads the counter past the lock, so it would be printed all the same".to_owned()
            }
            (Printed::Unknown, _) => "nothing tells how these lines came to be printed".to_owned(),
            (_, Some((false, why))) => format!(
                "the kernel's time is another clock ({why}), so a report could be printed without reading this one"
            ),
            _ => "if the kernel's own time was the HPET, the printing proves that a read completed and rules this out; the \
                  report does not show it (see current_clocksource in sysfs)"
                .to_owned(),
        }
    }
}

/// Whether the kernel's time is the HPET: its timekeeper's registers, or the call trace, tell.
pub fn keeps_time(view: &View) -> Option<(bool, String)> {
    if let Some(elapsed) = &view.elapsed
        && let Some(mask) = elapsed.mask_in
    {
        let last = elapsed.cycle_last_in;
        return Some((
            true,
            format!("{mask} and {last} are the timekeeper's mask and cycle_last"),
        ));
    }
    const TIMEKEEPER: [&str; 8] = [
        "ktime_get",
        "timekeeping_",
        "getnstimeofday",
        "do_gettimeofday",
        "update_wall_time",
        "getrawmonotonic",
        "get_monotonic_boottime",
        "current_kernel_time",
    ];
    let solid = || view.call_trace.iter().filter(|frame| !frame.starts_with('?'));
    if let Some(frame) = solid().find(|frame| frame.contains("clocksource_watchdog")) {
        return Some((false, format!("{frame} compares clocks")));
    }
    let frame = solid().find(|frame| TIMEKEEPER.iter().any(|name| frame.contains(name)))?;
    let name = frame.split(['+', ' ']).next().unwrap_or(frame);
    Some((true, format!("{name} called it")))
}
