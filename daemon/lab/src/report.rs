//! The figures of a whole lab, as `--json` writes them. A field here is a promise to scripts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::compare::{Compared, median, median_of_some, mib, peak_rss_mib, single_stream};
use super::figures::{Figure, medians};
use super::load::Protocol;
use super::ping::Times;
use super::round::{Round, RunFigures, UnderLoad};
use stall_report::status::{ClockStatus, LatencyStatus, Quantiles, Status};

#[derive(Debug, Serialize)]
pub struct Report {
    pub lab: Settings,
    pub load: Load,
    pub daemons: Daemons,
    /// Of the round with the median average.
    pub ping_us: Times,
    /// Likewise.
    pub ping_under_load_us: UnderLoad,
    /// `null`, like what follows, where no daemon was one that tells.
    pub clock: Option<ClockStatus>,
    pub latency_us: Option<LatencyStatus>,
    pub drops: Option<BTreeMap<String, u64>>,
    pub stalls: Option<Vec<String>>,
    /// What the daemons' arbiters found wrong in any round, as they logged it.
    pub clock_verdicts: Vec<String>,
    /// Every figure of ours, to hold against `compare[].figures`, which are in the same order.
    pub figures: Vec<Figure>,
    pub compare: Vec<Compared>,
}

/// What was asked for and where it ran.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    pub version: &'static str,
    pub kernel: String,
    pub cpus: usize,
    pub user_namespace: bool,
    pub seconds: u32,
    pub rounds: u32,
    pub mtu: u32,
    pub offload: &'static str,
    /// Mbit/s that the first UDP run sends.
    pub udp_rate: u32,
    /// And what all of them send.
    pub udp_rates: Vec<u32>,
    /// Per cent of the machine's time that its hypervisor took away, in the worst round.
    pub steal_percent: f64,
}

#[derive(Debug, Serialize)]
pub struct Load {
    pub tool: &'static str,
    pub tool_version: String,
    /// Each of the round in which it had its median throughput.
    pub runs: Vec<RunReport>,
}

#[derive(Debug, Serialize)]
pub struct RunReport {
    pub name: String,
    /// The name with what tells runs of the same name apart.
    pub label: String,
    pub from: &'static str,
    pub to: &'static str,
    pub protocol: &'static str,
    pub streams: u32,
    /// Mbit/s that it was to send; `null` where that is as many as it could.
    pub rate_mbit_s: Option<u32>,
    pub gbit_s: f64,
    /// Datagrams that arrived; `null` for TCP.
    pub packets_s: Option<f64>,
    pub retransmits: Option<u64>,
    pub lost_percent: Option<f64>,
    /// `null` of a flood, which is not about bytes.
    pub cpu_s_per_gib: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct Daemons {
    /// Which implementation ran on which host.
    pub a: String,
    pub b: String,
    /// The larger of the two daemons', after the handshake and before any load; the median of the rounds.
    pub idle_rss_mib: f64,
    /// Both daemons', over the TCP runs of one stream; the median of the rounds.
    pub cpu_s_per_gib: Option<f64>,
    /// Throughput of the same runs, to hold against `compare[].gbit_s`.
    pub gbit_s: f64,
    /// The larger of the two daemons' peaks, and the largest of all rounds.
    pub peak_rss_mib: f64,
}

impl Report {
    /// `rounds` are ours, at least one.
    pub fn new(
        lab: Settings,
        (tool, tool_version): (&'static str, &str),
        [a, b]: [&str; 2],
        rounds: &[Round],
        compare: Vec<Compared>,
    ) -> Self {
        let statuses: Vec<(&str, &Status)> = rounds
            .iter()
            .flat_map(|round| ["a", "b"].into_iter().zip(&round.statuses))
            .filter_map(|(host, status)| Some((host, status.as_ref()?)))
            .collect();
        let known = !statuses.is_empty();
        let steal_percent = rounds
            .iter()
            .map(|round| round.steal_percent)
            .fold(lab.steal_percent, f64::max);
        Self {
            lab: Settings { steal_percent, ..lab },
            load: Load {
                tool,
                tool_version: tool_version.to_owned(),
                runs: median_runs(rounds),
            },
            daemons: Daemons {
                a: a.to_owned(),
                b: b.to_owned(),
                idle_rss_mib: median(rounds.iter().map(|round| mib(round.idle_memory))),
                cpu_s_per_gib: median_of_some(
                    rounds
                        .iter()
                        .filter_map(|round| single_stream(round).cpu_s_per_gib),
                ),
                gbit_s: median(rounds.iter().map(|round| single_stream(round).gbit_s)),
                peak_rss_mib: peak_rss_mib(rounds),
            },
            ping_us: middle(rounds.iter().map(|round| round.ping), |ping| ping.avg),
            ping_under_load_us: middle(rounds.iter().map(|round| round.under_load), |load| load.ping.avg),
            clock: known.then(|| clock(&statuses)),
            latency_us: known.then(|| slowest(&statuses)),
            drops: known.then(|| drops(&statuses)),
            stalls: known.then(|| stalls(&statuses)),
            clock_verdicts: rounds
                .iter()
                .flat_map(|round| round.clock_verdicts.clone())
                .collect(),
            figures: medians(rounds),
            compare,
        }
    }
}

impl Daemons {
    /// Both names, or the one.
    pub fn both(&self) -> String {
        match self.a == self.b {
            true => self.a.clone(),
            false => format!("{} + {}", self.a, self.b),
        }
    }
}

fn median_runs(rounds: &[Round]) -> Vec<RunReport> {
    let count = rounds.iter().map(|round| round.runs.len()).min().unwrap_or(0);
    let run = |index: usize| {
        middle(rounds.iter().map(|round| &round.runs[index]), |run| {
            run.outcome.gbit_s()
        })
    };
    (0..count).map(|index| RunReport::new(run(index))).collect()
}

impl RunReport {
    fn new(figures: &RunFigures) -> Self {
        let RunFigures { run, outcome, .. } = figures;
        Self {
            name: run.name.clone(),
            label: run.label(),
            from: run.from.as_str(),
            to: run.to.as_str(),
            protocol: run.protocol.as_str(),
            streams: run.streams,
            rate_mbit_s: match run.protocol {
                Protocol::Udp { rate } => Some(rate),
                Protocol::Tcp | Protocol::Flood => None,
            },
            gbit_s: outcome.gbit_s(),
            packets_s: outcome.packets_s(),
            retransmits: outcome.retransmits,
            lost_percent: outcome.lost_percent,
            cpu_s_per_gib: figures.cpu_s_per_gib(),
        }
    }
}

/// The one in the middle by some figure; of an even number the lower.
fn middle<T>(values: impl Iterator<Item = T>, figure: impl Fn(&T) -> f64) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_by(|a, b| figure(a).total_cmp(&figure(b)));
    let middle = (values.len() - 1) / 2;
    values.swap_remove(middle)
}

/// Stamps of all hosts and rounds together; the names of their clocks, which is one name unless one failed over.
fn clock(statuses: &[(&str, &Status)]) -> ClockStatus {
    let mut names: Vec<&str> = statuses
        .iter()
        .map(|(_, status)| status.clock.name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    ClockStatus {
        name: names.join("/"),
        stamps: statuses.iter().map(|(_, status)| status.clock.stamps).sum(),
        verdicts: statuses
            .iter()
            .flat_map(|(host, status)| {
                status
                    .clock
                    .verdicts
                    .iter()
                    .map(move |line| format!("{host}: {line}"))
            })
            .collect(),
    }
}

/// For every quantile the worst of all hosts and rounds: a merged one would hide a slow host.
fn slowest(statuses: &[(&str, &Status)]) -> LatencyStatus {
    let worst = |direction: fn(&LatencyStatus) -> &Quantiles| {
        let all = || statuses.iter().map(|(_, status)| direction(&status.latency_us));
        let most = |quantile: fn(&Quantiles) -> f64| all().map(quantile).fold(0.0, f64::max);
        Quantiles {
            p50: most(|q| q.p50),
            p99: most(|q| q.p99),
            p999: most(|q| q.p999),
            max: most(|q| q.max),
            count: all().map(|q| q.count).sum(),
        }
    };
    LatencyStatus {
        tx: worst(|latency| &latency.tx),
        rx: worst(|latency| &latency.rx),
    }
}

fn drops(statuses: &[(&str, &Status)]) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for (reason, count) in statuses.iter().flat_map(|(_, status)| &status.drops) {
        *sum.entry(reason.clone()).or_default() += count;
    }
    sum
}

fn stalls(statuses: &[(&str, &Status)]) -> Vec<String> {
    let line = |(host, status): &(&str, &Status)| {
        status
            .stalls
            .iter()
            .map(|stall| format!("{host}: {stall}"))
            .collect::<Vec<_>>()
    };
    statuses.iter().flat_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use serde_json::{Value, json};

    fn json(rounds: &[super::Round]) -> Value {
        serde_json::to_value(fixture::report(rounds)).unwrap()
    }

    #[test]
    fn every_promised_field_is_there() {
        let report = json(&[fixture::round(&[4.0, 2.0], 3.0)]);
        for path in [
            "/load/tool",
            "/load/runs/0/name",
            "/load/runs/0/from",
            "/load/runs/0/to",
            "/load/runs/0/protocol",
            "/load/runs/0/streams",
            "/load/runs/0/gbit_s",
            "/load/runs/0/retransmits",
            "/load/runs/3/lost_percent",
            "/load/runs/3/rate_mbit_s",
            "/load/runs/3/label",
            "/load/runs/4/packets_s",
            "/daemons/cpu_s_per_gib",
            "/daemons/idle_rss_mib",
            "/daemons/peak_rss_mib",
            "/ping_us/avg",
            "/ping_us/p99",
            "/ping_under_load_us/avg",
            "/ping_under_load_us/p99",
            "/ping_under_load_us/gbit_s",
            "/clock/name",
            "/clock/stamps",
            "/latency_us/tx/p50",
            "/latency_us/tx/p99",
            "/latency_us/tx/p999",
            "/latency_us/rx/p50",
            "/drops/no_peer",
            "/stalls/0",
            "/clock_verdicts/0",
            "/compare/0/name",
            "/compare/0/gbit_s",
            "/compare/0/cpu_s_per_gib",
            "/compare/0/ratio_gbit",
            "/compare/0/ratio_cpu",
            "/figures/0/load",
            "/figures/0/metric",
            "/figures/0/unit",
            "/figures/0/value",
            "/compare/0/figures/0/load",
            "/compare/0/figures/0/value",
            "/compare/0/figures/0/ratio",
        ] {
            assert!(
                report.pointer(path).is_some_and(|value| !value.is_null()),
                "{path} in {report:#}"
            );
        }
    }

    #[test]
    fn hosts_and_rounds_are_merged() {
        let report = json(&[fixture::round(&[4.0, 2.0], 3.0), fixture::round(&[3.0, 2.0], 3.0)]);
        // Each round has 1000 stamps on a and 2000 on b.
        assert_eq!(
            report["clock"],
            json!({"name": "tsc", "stamps": 6000, "verdicts": []})
        );
        assert_eq!(report["latency_us"]["tx"]["p99"], 20.0, "b is the slower one");
        assert_eq!(report["latency_us"]["tx"]["count"], 6000);
        assert_eq!(report["drops"], json!({"no_peer": 6, "replay": 2}));
        assert_eq!(
            report["stalls"],
            json!(["b: wg-tx/0 stuck for 3 s", "b: wg-tx/0 stuck for 3 s"])
        );
        assert_eq!(report["daemons"]["peak_rss_mib"], 12.0);
        let gbit_s = report["load"]["runs"][0]["gbit_s"].as_f64().unwrap();
        assert!((gbit_s - 3.0).abs() < 1e-6, "the lower of two, {gbit_s}");
        assert_eq!(report["lab"]["steal_percent"], 2.5);
    }

    #[test]
    fn what_nobody_tells_is_null() {
        let mut round = fixture::round(&[4.0, 2.0], 3.0);
        round.statuses = [None, None];
        let report = json(&[round]);
        for field in ["clock", "latency_us", "drops", "stalls"] {
            assert_eq!(report[field], Value::Null, "{field}");
        }
    }
}
