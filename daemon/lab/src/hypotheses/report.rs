//! The whole of what the runs found, as `--json` writes it. A field here is a promise to scripts.

use serde::Serialize;

use super::judge::Judgement;
use super::mode::Mode;
use super::observed::Observed;
use super::plan::{Course, Expectation, Order};
use crate::load::Protocol;
use stall_report::hypothesis::Hypothesis;

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub lab: Settings,
    /// Whether every verdict of every run is right.
    pub right: bool,
    pub hypotheses: Vec<HypothesisReport>,
}

/// What was asked for and where it ran.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    pub version: &'static str,
    pub kernel: String,
    pub cpus: usize,
    pub user_namespace: bool,
    /// Of load, in each run.
    pub seconds: u32,
    pub mtu: u32,
    pub offload: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub struct HypothesisReport {
    pub hypothesis: Hypothesis,
    pub summary: &'static str,
    /// One for each mode.
    pub runs: Vec<RunReport>,
}

#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    pub mode: Mode,
    pub ordered: Ordered,
    pub course: Course,
    pub expected: Expectation,
    pub observed: Observed,
    pub judgement: Judgement,
    /// Per cent of the machine's time that its hypervisor took away during the load.
    pub steal_percent: f64,
    /// Why it was played again: what made the daemon leave the clock before the fault, each time.
    pub replayed: Vec<String>,
}

/// What host a's daemon was given beside its clock and its mode, and the load.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ordered {
    pub fault: String,
    pub options: Vec<&'static str>,
    pub load: String,
}

impl Report {
    pub fn new(lab: Settings, hypotheses: Vec<HypothesisReport>) -> Self {
        let mut runs = hypotheses.iter().flat_map(|hypothesis| &hypothesis.runs);
        Self {
            lab,
            right: runs.all(|run| run.judgement.right),
            hypotheses,
        }
    }

    pub fn runs(&self) -> impl Iterator<Item = (&HypothesisReport, &RunReport)> {
        self.hypotheses
            .iter()
            .flat_map(|hypothesis| hypothesis.runs.iter().map(move |run| (hypothesis, run)))
    }
}

impl Ordered {
    pub fn new(order: &Order, streams: u32) -> Self {
        Self {
            fault: order.fault.clone(),
            options: order.options.clone(),
            load: load(order, streams),
        }
    }
}

fn load(order: &Order, streams: u32) -> String {
    let load = match order.protocol {
        Protocol::Tcp => format!("{streams} TCP streams from host a to host b"),
        Protocol::Udp { rate } => format!("{rate} Mbit/s of UDP from host a to host b"),
        Protocol::Flood => "a flood of UDP from host a to host b".to_owned(),
    };
    match order.flood {
        true => load + ", and a flood of it during the fault",
        false => load,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;

    #[test]
    fn every_promised_field_is_there() {
        let json = serde_json::to_value(fixture::report()).unwrap();
        let run = "/hypotheses/0/runs/0";
        for path in [
            "/lab/version",
            "/right",
            "/hypotheses/0/hypothesis",
            &format!("{run}/mode"),
            &format!("{run}/ordered/fault"),
            &format!("{run}/course/window"),
            &format!("{run}/expected/class"),
            &format!("{run}/expected/text"),
            &format!("{run}/observed/lock/word"),
            &format!("{run}/observed/lock/owner"),
            &format!("{run}/observed/stall/detected_ms"),
            &format!("{run}/observed/stall/recovered_ms"),
            &format!("{run}/observed/throughput/before"),
            &format!("{run}/observed/throughput/slices/0/1"),
            &format!("{run}/observed/verdicts/0/hypothesis"),
            &format!("{run}/observed/verdicts/0/fits_2019/reason"),
            &format!("{run}/observed/reports/0/text"),
            &format!("{run}/judgement/right"),
            &format!("{run}/steal_percent"),
        ] {
            assert!(
                json.pointer(path).is_some_and(|value| !value.is_null()),
                "{path} in {json:#}"
            );
        }
        assert_eq!(json["hypotheses"][0]["runs"][0]["mode"], "faithful");
        assert_eq!(json["right"], false, "the second hypothesis has a wrong verdict");
    }
}
