//! What a run shows, from host a's log and what arrived at host b.

use super::observed::{Found, Lock, Observed, ReportText, Rescue, Session, Stall, Throughput};
use super::plan::Course;
use super::throughput::Series;
use super::watch::{Event, Kind, Log, Moment};
use stall_report::report::{ClockFacts, StallReport};

/// Length of a slice of the throughput over time, in seconds.
pub const SLICE: f64 = 0.05;

impl Observed {
    /// `series` counts from `struck`; `load` is when the load began and ended. `renewed`: whether the session is another one.
    pub fn new(
        log: &Log,
        series: &Series,
        course: &Course,
        struck: Moment,
        load: [f64; 2],
        renewed: bool,
    ) -> Self {
        let throughput = Throughput::new(series, course, load);
        let session = match renewed {
            _ if throughput.at_the_end == 0.0 => Session::Lost,
            true => Session::Renewed,
            false => Session::Kept,
        };
        let (before, since): (Vec<&Event>, Vec<&Event>) =
            log.events.iter().partition(|event| event.at < struck);
        let (alarms, early): (Vec<Early>, Vec<Early>) = before
            .iter()
            .filter_map(|event| early(event, struck))
            .partition(|(named, _)| *named);
        let texts = |events: Vec<Early>| events.into_iter().map(|(_, text)| text).collect();
        let (stall, last) = Stall::of(&since, struck).unzip();
        let rescued = since.iter().find_map(|event| match &event.kind {
            Kind::Rescue { clock, .. } => Some(&**clock),
            _ => None,
        });
        Self {
            throughput,
            stall,
            lock: last
                .and_then(|report| report.clock.as_ref())
                .or(rescued)
                .and_then(Lock::of),
            verdicts: since
                .iter()
                .filter_map(|event| Found::of(event, struck))
                .collect(),
            false_alarms: texts(alarms),
            early_reports: texts(early),
            left_early: before.iter().find_map(|event| leaves(event)),
            rescues: since.iter().filter_map(|event| rescue(event, struck)).collect(),
            session,
            events: log.events.iter().map(|event| event.shown(struck)).collect(),
            reports: log
                .events
                .iter()
                .filter_map(|event| report_text(event, struck))
                .collect(),
        }
    }
}

/// What was said of the clock when it was left.
fn leaves(event: &Event) -> Option<String> {
    matches!(event.kind, Kind::Rescue { .. } | Kind::Clock { .. }).then(|| event.message.clone())
}

/// Whether it named a hypothesis, and what it was.
type Early = (bool, String);

/// An event before the strike that says that something is wrong. A thread that other programs keep from the processor is reported rightly,
/// fault or no fault.
fn early(event: &Event, struck: Moment) -> Option<Early> {
    let found = Found::of(event, struck)?;
    let what = match &event.kind {
        Kind::Stall { report, .. } => format!("{} was {}", report.worker, report.class),
        _ => event.message.clone(),
    };
    let text = match found.hypothesis {
        Some(hypothesis) => format!("{what}, {hypothesis} by {}", found.by),
        None => what,
    };
    Some((found.hypothesis.is_some(), text))
}

impl Throughput {
    fn new(series: &Series, course: &Course, [from, to]: [f64; 2]) -> Self {
        let window = course.window.as_secs_f64();
        // The load takes a moment to reach its rate.
        let settled = from + (0.0 - from).max(0.0) * 0.25;
        Self {
            before: series.gbit_s(settled..0.0),
            during: series.gbit_s(0.0..window.min(to)),
            after: series.gbit_s(window..to),
            longest_gap_ms: series.longest_gap(0.0..to) * 1e3,
            longest_gap_before_ms: series.longest_gap(settled..0.0) * 1e3,
            at_the_end: series.gbit_s((to - 1.0).max(0.0)..to),
            slices: series.slices(SLICE),
        }
    }
}

pub fn is_tx_worker(name: &str) -> bool {
    name.starts_with("wg-tx/")
}

impl Stall {
    /// With the report that it rests on.
    fn of<'a>(events: &[&'a Event], struck: Moment) -> Option<(Self, &'a StallReport)> {
        let all: Vec<(&Event, &'a StallReport)> = events
            .iter()
            .filter_map(|event| match &event.kind {
                Kind::Stall { report, .. } => Some((*event, &**report)),
                _ => None,
            })
            .collect();
        let of_tx = all.iter().find(|(_, report)| is_tx_worker(&report.worker));
        let (first_event, first) = *of_tx.or(all.first())?;
        let recovered = events.iter().find_map(|event| match &event.kind {
            Kind::Recovered { worker, after_ms } if *worker == first.worker && event.at >= first_event.at => {
                Some((event.at, *after_ms))
            }
            _ => None,
        });
        let same: Vec<&'a StallReport> = all
            .iter()
            .filter(|(event, report)| {
                report.worker == first.worker && recovered.is_none_or(|(end, _)| event.at <= end)
            })
            .map(|(_, report)| *report)
            .collect();
        let last = *same.last()?;
        let detected = first_event.at.since(struck);
        let stall = Self {
            worker: last.worker.clone(),
            class: last.class,
            packets: last.figures.packets,
            yields: last.figures.yields,
            seconds: last.figures.seconds,
            reports: same.len() as u32,
            began_s: recovered.map_or(detected - first.stuck_ms / 1e3, |(at, lasted)| {
                at.since(struck) - lasted / 1e3
            }),
            detected_ms: detected * 1e3,
            recovered_ms: recovered.map(|(at, _)| at.since(struck) * 1e3),
            lasted_ms: recovered.map(|(_, lasted)| lasted),
        };
        Some((stall, last))
    }
}

impl Lock {
    fn of(clock: &ClockFacts) -> Option<Self> {
        let lock = clock.lock?;
        Some(Self {
            word: format!("{:016x}", lock.word),
            values_seen: clock.values_seen,
            owner: match (&clock.owner, lock.owner) {
                (Some(name), tid) => format!("{name}:{tid} for {:.2} s", clock.held_ms / 1e3),
                (None, 0) => "none".to_owned(),
                (None, tid) => format!("unknown, {tid}"),
            },
            owners_seen: clock.owners_seen,
            acquisitions: clock.acquisitions,
        })
    }
}

impl Found {
    fn of(event: &Event, struck: Moment) -> Option<Self> {
        let at_s = event.at.since(struck);
        match &event.kind {
            Kind::Stall { report, .. } => Some(Self {
                at_s,
                by: format!("report {} on {}", report.number, report.worker),
                of_tx_worker: is_tx_worker(&report.worker),
                hypothesis: report.verdict.hypothesis,
                reason: report.verdict.reason.clone(),
                fits_2019: report.verdict.fits_2019.clone(),
            }),
            Kind::Clock { hypothesis, reason } => Some(Self {
                at_s,
                by: "arbiter".to_owned(),
                of_tx_worker: false,
                hypothesis: *hypothesis,
                reason: match reason.as_str() {
                    "" => event.message.clone(),
                    reason => reason.to_owned(),
                },
                fits_2019: None,
            }),
            Kind::Torn { hypothesis, pairs } => Some(Self {
                at_s,
                by: "pairs".to_owned(),
                of_tx_worker: false,
                hypothesis: *hypothesis,
                reason: format!("{pairs} pairs of halves were read that never stood together"),
                fits_2019: None,
            }),
            Kind::Rescue { verdict, .. } => Some(Self {
                at_s,
                by: "rescue".to_owned(),
                of_tx_worker: false,
                hypothesis: verdict.hypothesis,
                reason: verdict.reason.clone(),
                fits_2019: verdict.fits_2019.clone(),
            }),
            Kind::Recovered { .. } => None,
        }
    }
}

fn rescue(event: &Event, struck: Moment) -> Option<Rescue> {
    let Kind::Rescue { action, .. } = &event.kind else {
        return None;
    };
    Some(Rescue {
        at_s: event.at.since(struck),
        action: action.clone(),
    })
}

fn report_text(event: &Event, struck: Moment) -> Option<ReportText> {
    let Kind::Stall { report, text } = &event.kind else {
        return None;
    };
    Some(ReportText {
        at_s: event.at.since(struck),
        worker: report.worker.clone(),
        text: text.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use stall_report::report::Class;

    #[test]
    fn the_stall_is_that_of_the_tx_worker_by_its_last_report() {
        let observed = fixture::stalled();
        let (stall, lock) = (observed.stall.unwrap(), observed.lock.unwrap());
        assert_eq!((stall.worker.as_str(), stall.class), ("wg-tx/0", Class::Spinning));
        assert_eq!(stall.reports, 2);
        assert_eq!(lock.word, "18a4c89e00000001");
        assert_eq!(lock.owner, "hpet-reader/0:7930 for 0.20 s");
        assert!((stall.detected_ms - 104.0).abs() < 1e-3, "{}", stall.detected_ms);
        assert!((stall.began_s - 0.001).abs() < 1e-6, "{}", stall.began_s);
        assert!((stall.recovered_ms.unwrap() - 2003.0).abs() < 1e-3);
        assert_eq!(stall.lasted_ms, Some(2002.0));
        assert_eq!((stall.packets, stall.yields), (0, 0));
        let [rescue] = observed.rescues.as_slice() else {
            panic!("{:?}", observed.rescues)
        };
        assert!(rescue.action == "failover" && (rescue.at_s - 0.25).abs() < 1e-6);
    }

    #[test]
    fn throughput_is_parted_at_the_strike_and_at_the_end_of_the_fault() {
        let observed = fixture::stalled();
        let Throughput {
            before,
            during,
            after,
            longest_gap_ms,
            longest_gap_before_ms,
            ..
        } = observed.throughput;
        assert!((before - 1.6).abs() < 0.01 && during < 0.01, "{before} {during}");
        assert!((1.5..1.61).contains(&after), "{after}");
        assert!((1980.0..2010.0).contains(&longest_gap_ms), "{longest_gap_ms}");
        assert!(longest_gap_before_ms < 20.0, "{longest_gap_before_ms}");
    }

    #[test]
    fn verdicts_name_who_reached_them() {
        let observed = fixture::stalled();
        let by: Vec<&str> = observed.verdicts.iter().map(|found| found.by.as_str()).collect();
        assert_eq!(
            by,
            [
                "report 1 on wg-tx/0",
                "report 2 on wg-tx/0",
                "rescue",
                "arbiter",
                "pairs"
            ]
        );
        assert!(observed.verdicts[0].of_tx_worker);
        assert_eq!(observed.session, Session::Kept);
        assert_eq!(observed.reports.len(), 2);
        assert!(observed.false_alarms.is_empty());
    }

    #[test]
    fn what_comes_before_the_strike_is_a_false_alarm() {
        let observed = fixture::stalled_but_struck_later();
        // Two reports, a rescue and torn pairs; the arbiter named nothing.
        assert_eq!(observed.false_alarms.len(), 4, "{:?}", observed.false_alarms);
        assert_eq!(observed.left_early.as_deref(), Some("using tsc now"));
        assert_eq!(observed.early_reports, ["clock hpet-sim is wrong: it jumped"]);
        assert!(observed.stall.is_none());
    }
}
