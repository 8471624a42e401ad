//! One run of a hypothesis, as it was seen: what tables, pages and JSON show.

use serde::Serialize;

use super::watch::Shown;
use stall_report::hypothesis::{Fit, Hypothesis};
use stall_report::report::Class;

/// One run, as it was seen. Times are in seconds after the fault struck unless they say otherwise.
#[derive(Debug, Clone, Serialize)]
pub struct Observed {
    pub throughput: Throughput,
    /// That of the tx worker that was reported first; of another thread where no tx worker was.
    pub stall: Option<Stall>,
    /// The lock during the stall, or at the first rescue where nobody stalled.
    pub lock: Option<Lock>,
    /// Every verdict that named a hypothesis or gave a reason, in the order in which they came.
    pub verdicts: Vec<Found>,
    /// Before the fault struck: verdicts that named a hypothesis, and reports that named none.
    pub false_alarms: Vec<String>,
    pub early_reports: Vec<String>,
    /// Why the clock was left before the fault could strike it, where it was.
    pub left_early: Option<String>,
    /// What was done about it: each action, and when.
    pub rescues: Vec<Rescue>,
    pub session: Session,
    pub events: Vec<Shown>,
    /// The stall reports as people read them.
    pub reports: Vec<ReportText>,
}

/// Gbit/s of what arrived, outer headers not counted, and when nothing did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Throughput {
    pub before: f64,
    /// From the strike to the fault's end.
    pub during: f64,
    /// From there to the end of the load.
    pub after: f64,
    /// The longest time during which certainly nothing arrived, in milliseconds, from the strike on and before it.
    pub longest_gap_ms: f64,
    pub longest_gap_before_ms: f64,
    /// In the last second of the load.
    pub at_the_end: f64,
    /// Beginnings of slices of 50 ms, with the Gbit/s of each.
    pub slices: Vec<(f64, f64)>,
}

/// A stall, by its last report: that has the most evidence.
#[derive(Debug, Clone, Serialize)]
pub struct Stall {
    pub worker: String,
    pub class: Class,
    /// Packets and yields, and in how many seconds.
    pub packets: u64,
    pub yields: u64,
    pub seconds: f64,
    pub reports: u32,
    /// When it began, by the line on its recovery, or else by the first report.
    pub began_s: f64,
    /// From the strike to the first report, in milliseconds.
    pub detected_ms: f64,
    /// From the strike to the recovery, in milliseconds; `None` where there was none while the load lasted.
    pub recovered_ms: Option<f64>,
    /// How long it was stalled, by the watchdog's own account of its recovery.
    pub lasted_ms: Option<f64>,
}

/// The lock in front of the clock, over a stall.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lock {
    /// In hexadecimal: the value, and whether it is locked.
    pub word: String,
    pub values_seen: u32,
    pub owner: String,
    pub owners_seen: u32,
    pub acquisitions: u64,
}

/// A verdict, and who reached it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    pub at_s: f64,
    pub by: String,
    /// Whether a report of a stalled tx worker has it.
    pub of_tx_worker: bool,
    pub hypothesis: Option<Hypothesis>,
    pub reason: String,
    pub fits_2019: Option<Fit>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rescue {
    pub at_s: f64,
    pub action: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Session {
    Kept,
    /// Another handshake was made.
    Renewed,
    /// Nothing arrived at the end of the load.
    Lost,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReportText {
    pub at_s: f64,
    pub worker: String,
    pub text: String,
}
