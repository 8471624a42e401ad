//! Every figure of a round by load and metric, and medians and ratios of them over rounds.

use serde::Serialize;

use super::compare::{median_of_some, mib};
use super::load::Protocol;
use super::ping::Times;
use super::round::{Round, RunFigures};

/// What a figure is of. All rounds of a lab have the same figures in the same order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Subject {
    /// As its run is labelled, or what is not of a run.
    pub load: String,
    pub metric: &'static str,
    pub unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unit {
    #[serde(rename = "Gbit/s")]
    GbitPerSecond,
    #[serde(rename = "packets/s")]
    PacketsPerSecond,
    #[serde(rename = "s/GiB")]
    SecondsPerGib,
    #[serde(rename = "%")]
    Percent,
    #[serde(rename = "us")]
    Microseconds,
    #[serde(rename = "MiB")]
    Mib,
}

impl Unit {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GbitPerSecond => "Gbit/s",
            Self::PacketsPerSecond => "packets/s",
            Self::SecondsPerGib => "s/GiB",
            Self::Percent => "%",
            Self::Microseconds => "us",
            Self::Mib => "MiB",
        }
    }
}

/// A median over rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    #[serde(flatten)]
    pub subject: Subject,
    /// `None` where no round has it: the time of pings that nobody answered, the cost of bytes that did not arrive.
    pub value: Option<f64>,
}

/// Another implementation's, with ours held against it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedFigure {
    #[serde(flatten)]
    pub figure: Figure,
    /// Median over rounds of ours by its. `None` unless every round has both and its is not zero: a ratio of the few
    /// rounds in which it lost something would flatter one of the two.
    pub ratio: Option<f64>,
}

pub fn medians(rounds: &[Round]) -> Vec<Figure> {
    let all: Vec<Vec<Figure>> = rounds.iter().map(of).collect();
    let median = |(index, first): (usize, &Figure)| Figure {
        subject: first.subject.clone(),
        value: median_of_some(all.iter().filter_map(|figures| figures.get(index)?.value)),
    };
    all.first()
        .map_or(Vec::new(), |first| first.iter().enumerate().map(median).collect())
}

/// `ours` and `theirs` are of the same rounds, in the same order.
pub fn compared(ours: &[Round], theirs: &[Round]) -> Vec<ComparedFigure> {
    let pairs: Vec<(Vec<Figure>, Vec<Figure>)> =
        ours.iter().zip(theirs).map(|(o, t)| (of(o), of(t))).collect();
    let ratios = |index: usize| {
        pairs
            .iter()
            .map(|(ours, theirs)| ratio(ours.get(index)?.value?, theirs.get(index)?.value?))
            .collect::<Option<Vec<f64>>>()
    };
    let compared = |(index, figure)| ComparedFigure {
        figure,
        ratio: ratios(index).and_then(|ratios| median_of_some(ratios.into_iter())),
    };
    medians(theirs).into_iter().enumerate().map(compared).collect()
}

fn ratio(ours: f64, its: f64) -> Option<f64> {
    (its != 0.0).then_some(ours / its)
}

/// One round's, in the order in which they are shown.
fn of(round: &Round) -> Vec<Figure> {
    let memory = |metric, value| figure("memory, the larger daemon", metric, Unit::Mib, value);
    let mut figures: Vec<Figure> = round.runs.iter().flat_map(of_run).collect();
    figures.extend(of_ping("ping idle", &round.ping));
    figures.extend(of_ping("ping during tcp a>b", &round.under_load.ping));
    figures.push(memory("RSS before load", Some(mib(round.idle_memory))));
    figures.push(memory("RSS at its peak", Some(mib(round.peak_memory))));
    figures
}

fn of_run(figures: &RunFigures) -> Vec<Figure> {
    let (label, outcome) = (figures.run.label(), &figures.outcome);
    let figure = |metric, unit, value| figure(&label, metric, unit, value);
    let delivered = figure("delivered", Unit::GbitPerSecond, Some(outcome.gbit_s()));
    let packets = || figure("received", Unit::PacketsPerSecond, outcome.packets_s());
    let lost = || figure("lost", Unit::Percent, outcome.lost_percent);
    let cpu = || figure("CPU, both daemons", Unit::SecondsPerGib, figures.cpu_s_per_gib());
    match figures.run.protocol {
        Protocol::Tcp => vec![delivered, cpu()],
        Protocol::Udp { .. } => vec![delivered, lost(), cpu()],
        Protocol::Flood => vec![packets(), lost()],
    }
}

fn of_ping(load: &str, times: &Times) -> [Figure; 4] {
    let time = |metric, value: f64| {
        figure(
            load,
            metric,
            Unit::Microseconds,
            Some(value).filter(|value| value.is_finite()),
        )
    };
    let lost = (times.sent > 0).then(|| 100.0 * f64::from(times.lost) / f64::from(times.sent));
    [
        time("average", times.avg),
        time("p50", times.p50),
        time("p99", times.p99),
        figure(load, "lost", Unit::Percent, lost),
    ]
}

fn figure(load: &str, metric: &'static str, unit: Unit, value: Option<f64>) -> Figure {
    let load = load.to_owned();
    Figure {
        subject: Subject { load, metric, unit },
        value,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn value(figures: &[Figure], load: &str, metric: &str) -> Option<f64> {
        let of = |figure: &&Figure| figure.subject.load == load && figure.subject.metric == metric;
        let figure = figures.iter().find(of);
        figure
            .unwrap_or_else(|| panic!("no {load}, {metric} in {figures:?}"))
            .value
    }

    fn ratio(compared: &[ComparedFigure], load: &str, metric: &str) -> Option<f64> {
        let of = |compared: &&ComparedFigure| {
            let Subject {
                load: its_load,
                metric: its_metric,
                ..
            } = &compared.figure.subject;
            (its_load.as_str(), *its_metric) == (load, metric)
        };
        compared.iter().find(of).expect("such a figure").ratio
    }

    #[test]
    fn units_are_written_alike_everywhere() {
        for unit in [
            Unit::GbitPerSecond,
            Unit::PacketsPerSecond,
            Unit::SecondsPerGib,
            Unit::Percent,
            Unit::Microseconds,
            Unit::Mib,
        ] {
            assert_eq!(serde_json::to_value(unit).unwrap(), unit.as_str());
        }
    }

    #[test]
    fn medians_are_of_each_figure_by_itself() {
        let mut rounds = [
            fixture::round(&[4.0, 1.0], 3.0),
            fixture::round(&[3.0, 2.0], 5.0),
            fixture::round(&[5.0, 3.0], 4.0),
        ];
        rounds[1].under_load.ping.p99 = 9000.0;
        rounds[2].idle_memory = [5 << 20, 6 << 20];
        let figures = medians(&rounds);
        let near = |load, metric, expected: f64| {
            let value = value(&figures, load, metric).unwrap();
            assert!((value - expected).abs() < 1e-6, "{load}, {metric}: {value}");
        };
        near("tcp a>b", "delivered", 4.0);
        near("tcp b>a", "delivered", 2.0);
        near("tcp a>b", "CPU, both daemons", 4.0);
        near("udp a>b, 1200 Mbit/s", "lost", 3.25);
        near("udp flood a>b, 64 bytes", "received", 40_000.0);
        near("ping idle", "p99", 390.0);
        near("ping during tcp a>b", "p99", 2400.0);
        near("memory, the larger daemon", "RSS before load", 5.0);
        near("memory, the larger daemon", "RSS at its peak", 12.0);
        assert!(medians(&[]).is_empty());
    }

    #[test]
    fn each_rate_has_figures_of_its_own() {
        let round = fixture::round_at(&[300, 1200], &[4.0, 2.0], 3.0);
        let figures = medians(&[round]);
        for load in ["udp a>b, 300 Mbit/s", "udp a>b, 1200 Mbit/s"] {
            assert!(value(&figures, load, "delivered").is_some());
        }
    }

    #[test]
    fn what_was_not_answered_has_no_time() {
        let mut round = fixture::round(&[4.0, 2.0], 3.0);
        round.under_load.ping = Times {
            avg: f64::NAN,
            p50: f64::NAN,
            p99: f64::NAN,
            min: f64::NAN,
            max: f64::NAN,
            sent: 10,
            lost: 10,
        };
        let figures = medians(&[round]);
        assert_eq!(value(&figures, "ping during tcp a>b", "p99"), None);
        assert_eq!(value(&figures, "ping during tcp a>b", "lost"), Some(100.0));
        assert_eq!(value(&figures, "ping idle", "lost"), Some(0.0));
    }

    #[test]
    fn ratios_are_paired_and_of_all_rounds_or_none() {
        // In the second round the machine was half as fast, for both.
        let ours = [fixture::round(&[4.0, 4.0], 3.0), fixture::round(&[2.0, 2.0], 6.0)];
        let mut theirs = [
            fixture::round(&[2.0, 2.0], 6.0),
            fixture::round(&[1.0, 1.0], 12.0),
        ];
        let udp = |round: &mut Round| round.runs[3].outcome.lost_percent = Some(0.0);
        let all = compared(&ours, &theirs);
        assert!((ratio(&all, "tcp a>b", "delivered").unwrap() - 2.0).abs() < 1e-6);
        assert!((ratio(&all, "tcp a>b", "CPU, both daemons").unwrap() - 0.5).abs() < 1e-6);
        assert_eq!(ratio(&all, "udp a>b, 1200 Mbit/s", "lost"), Some(1.0));
        assert_eq!(ratio(&all, "ping idle", "lost"), None, "none by none");
        udp(&mut theirs[0]);
        let all = compared(&ours, &theirs);
        assert_eq!(ratio(&all, "udp a>b, 1200 Mbit/s", "lost"), None);
    }
}
