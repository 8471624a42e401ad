//! One thread under watch: its detector, and what it had used when it was first suspected.

use std::sync::Arc;
use std::time::Duration;

use crate::detect::detector::{Detector, Observation};
use crate::detect::steal::Steal;
use crate::thread::heartbeat::{HeartbeatSnapshot, Stage};
use crate::thread::registry::MonitoredThread;
use crate::thread::task::{Task, Usage};
use stall_report::report::Figures;

#[derive(Debug)]
pub struct ThreadMonitor {
    pub thread: Arc<MonitoredThread>,
    work: Work,
    pub detector: Detector,
    /// Its yields when they last changed, and when that was. `None` until it is first looked at.
    yielded: Option<(u64, Duration)>,
    task: Option<Task>,
    baseline: Option<Baseline>,
    /// Its present stall is in the log.
    pub reported: bool,
    /// Its end was reported.
    pub exit_reported: bool,
}

/// Where its work comes from, to see whether there is some while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A queue of the interface, a pair of sockets.
    Tx(usize),
    Rx(usize),
    /// Both.
    Both(usize),
    /// Nobody can tell from outside, but it wakes by itself so often.
    Periodic(Duration),
    /// A queue, and it wakes by itself so often.
    Handshakes(Duration),
    /// Requests of people and programs, of which a large one takes its time.
    Control,
}

impl Work {
    fn is_packets(self) -> bool {
        matches!(self, Self::Tx(_) | Self::Rx(_) | Self::Both(_))
    }

    /// How often it wakes by itself at least, if it does.
    fn period(self) -> Option<Duration> {
        match self {
            Self::Periodic(period) | Self::Handshakes(period) => Some(period),
            _ => None,
        }
    }
}

/// So many thresholds the control threads may take over one request. They beat twice in that time.
pub const CONTROL_THRESHOLDS: u32 = 5;

/// The thread when it was first suspected.
#[derive(Debug, Clone, Copy)]
struct Baseline {
    at: Duration,
    /// Who it was: work that moves between threads may be done by another one later.
    tid: u32,
    heartbeat: HeartbeatSnapshot,
    /// `None` where it is no more.
    usage: Option<Usage>,
    stolen: Duration,
    /// What it had carried when half of the threshold was over.
    midway: Option<u64>,
}

impl ThreadMonitor {
    pub fn new(thread: Arc<MonitoredThread>, work: Work, threshold: Duration) -> Self {
        let thresholds = if work == Work::Control {
            CONTROL_THRESHOLDS
        } else {
            1
        };
        Self {
            thread,
            work,
            detector: Detector::new(threshold * thresholds),
            yielded: None,
            task: None,
            baseline: None,
            reported: false,
            exit_reported: false,
        }
    }

    /// `has_work` tells of the work that can be seen from outside.
    pub fn observation(&mut self, now: Duration, has_work: impl FnOnce(Work) -> bool) -> Observation {
        let heartbeat = self.thread.heartbeat.snapshot();
        // A thread that starts has its whole period for the first round.
        let before = self.yielded.filter(|(yields, _)| *yields == heartbeat.yields);
        let (_, yielded) = *self.yielded.insert(before.unwrap_or((heartbeat.yields, now)));
        let slept = now.saturating_sub(yielded);
        let period = self.work.period();
        let is_missed = period.is_some_and(|period| slept > period + self.detector.threshold());
        Observation {
            heartbeat,
            has_work: heartbeat.stage == Stage::Idle && (is_missed || has_work(self.work)),
        }
    }

    /// Whether it has no packet to carry, has had none for so long, and will ring when it has. Other threads are calm unless they may
    /// have stalled; those of the control socket, which say nothing of when they wait, unless they have.
    pub fn is_quiescent(&self, now: Duration, quiescent_after: Duration) -> bool {
        match self.work {
            work if work.is_packets() => {
                let rests = |(_, yielded)| now.saturating_sub(yielded) >= quiescent_after;
                self.detector.is_waiting() && self.yielded.is_some_and(rests)
            }
            Work::Control => !self.detector.is_stalled(),
            _ => !self.detector.is_suspect(),
        }
    }

    /// Whether it carries no packets, or has not beaten since it was last looked at.
    pub fn is_unchanged(&self) -> bool {
        !self.work.is_packets() || self.detector.has_seen(self.thread.heartbeat.snapshot())
    }

    /// All were paused for so long: nobody could wake.
    pub fn discount(&mut self, pause: Duration) {
        if let Some((_, yielded)) = &mut self.yielded {
            *yielded += pause;
        }
    }

    /// The files of its thread, which may be another one than before.
    pub fn task(&mut self) -> Option<&Task> {
        let tid = self.thread.tid();
        if self.task.as_ref().is_none_or(|task| task.tid != tid) {
            self.task = Task::open(tid).ok();
        }
        self.task.as_ref()
    }

    /// Takes down what it has used so far: what it uses from now on is used in its stall.
    pub fn suspect(&mut self, now: Duration, steal: &mut Steal) {
        let heartbeat = self.thread.heartbeat.snapshot();
        let usage = self.task().and_then(Task::usage);
        self.baseline = Some(Baseline {
            at: now,
            tid: self.thread.tid(),
            heartbeat,
            usage,
            stolen: usage.map_or(Duration::ZERO, |usage| steal.of(usage.cpu)),
            midway: None,
        });
    }

    /// To be called at every look at which it shows no sign of life.
    pub fn note_midway(&mut self, now: Duration) {
        let half = self.detector.threshold() / 2;
        if let Some(baseline) = &mut self.baseline
            && baseline.midway.is_none()
            && now.saturating_sub(baseline.at) >= half
        {
            baseline.midway = Some(self.thread.heartbeat.snapshot().packets);
        }
    }

    /// When its present stall, if it is one, was first seen.
    pub fn suspected_at(&self) -> Option<Duration> {
        self.baseline.map(|baseline| baseline.at)
    }

    /// Whether the hypervisor had its processor for most of the time since it was suspected.
    pub fn was_stolen(&mut self, now: Duration, steal: &mut Steal) -> bool {
        let Some((baseline, usage)) = self.baseline.and_then(|it| Some((it, it.usage?))) else {
            return false;
        };
        let stolen = steal.of(usage.cpu).saturating_sub(baseline.stolen);
        2 * stolen > now.saturating_sub(baseline.at)
    }

    /// What it did since it was suspected.
    pub fn figures(&mut self, now: Duration) -> Figures {
        let heartbeat = self.thread.heartbeat.snapshot();
        let usage = self.task().and_then(Task::usage);
        let mut figures = Figures {
            stage: heartbeat.stage.as_str().to_owned(),
            state: usage.map(|usage| char::from(usage.state)),
            ..Figures::default()
        };
        let Some(baseline) = self.baseline else {
            return figures;
        };
        let passed = now.saturating_sub(baseline.at);
        figures.seconds = passed.as_secs_f64();
        figures.packets = heartbeat.packets.saturating_sub(baseline.heartbeat.packets);
        let midway = baseline.midway.unwrap_or(baseline.heartbeat.packets);
        figures.packets_lately = heartbeat.packets.saturating_sub(midway);
        figures.yields = heartbeat.yields.saturating_sub(baseline.heartbeat.yields);
        let is_same = self.thread.tid() == baseline.tid;
        if let (Some(before), Some(usage), true) = (baseline.usage, usage, is_same) {
            shares(&mut figures, &before, &usage, passed);
        }
        figures
    }
}

/// The processor time is known to the nanosecond, its parts in user mode and in the kernel only to a tick.
fn shares(figures: &mut Figures, from: &Usage, to: &Usage, passed: Duration) {
    let percent = |from: u64, to: u64| {
        let nanos = to.saturating_sub(from) as f64;
        (100.0 * nanos / passed.as_nanos().max(1) as f64).min(100.0)
    };
    let ran = percent(from.run_ns, to.run_ns);
    let (user, system) = (
        percent(from.user_ns, to.user_ns),
        percent(from.system_ns, to.system_ns),
    );
    let in_user = if user + system > 0.0 {
        user / (user + system)
    } else {
        1.0
    };
    figures.user_percent = ran * in_user;
    figures.system_percent = ran * (1.0 - in_user);
    // The kernel adds a wait when it ends. One that lasts shows in a thread that could run all the while and did not.
    let could_run = from.state == b'R' && to.state == b'R';
    let waited = if could_run {
        100.0
    } else {
        percent(from.delay_ns, to.delay_ns)
    };
    figures.waiting_percent = waited.min(100.0 - ran);
}

/// Shares of two readings of a thread that far apart: on a processor, and waiting for one.
pub fn shares_of(from: &Usage, to: &Usage, passed: Duration) -> (f64, f64) {
    let mut figures = Figures::default();
    shares(&mut figures, from, to, passed);
    (
        figures.user_percent + figures.system_percent,
        figures.waiting_percent,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_that_starts_has_its_whole_period() {
        let (period, threshold) = (Duration::from_millis(250), Duration::from_millis(100));
        let thread = MonitoredThread::new("a-start", "test");
        let mut monitor = ThreadMonitor::new(thread.clone(), Work::Periodic(period), threshold);
        let start = Duration::from_secs(3600);
        let mut is_missed = |after| monitor.observation(start + after, |_| false).has_work;
        assert!(!is_missed(Duration::ZERO));
        assert!(!is_missed(period + threshold));
        assert!(is_missed(period + threshold + Duration::from_millis(1)));
        thread.heartbeat.waits();
        assert!(!is_missed(period + threshold + Duration::from_millis(20)));
    }

    #[test]
    fn shares_are_told_from_counts() {
        let from = Usage::default();
        let to = Usage {
            user_ns: 60_000_000,
            system_ns: 20_000_000,
            run_ns: 84_000_000,
            delay_ns: 10_000_000,
            ..from
        };
        let mut figures = Figures::default();
        shares(&mut figures, &from, &to, Duration::from_millis(100));
        let rounded = [
            figures.user_percent,
            figures.system_percent,
            figures.waiting_percent,
        ]
        .map(f64::round);
        assert_eq!(rounded, [63.0, 21.0, 10.0]);
        assert_eq!(shares_of(&from, &to, Duration::from_millis(84)).0, 100.0);
        // Ready to run all the while, and nothing was counted.
        let ready = Usage { state: b'R', ..from };
        assert_eq!(shares_of(&ready, &ready, Duration::from_millis(10)), (0.0, 100.0));
    }
}
