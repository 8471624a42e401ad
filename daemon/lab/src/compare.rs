//! Medians over rounds, and one implementation against another.

use serde::Serialize;

use super::figures::{self, ComparedFigure};
use super::load::Protocol;
use super::round::{Round, RunFigures};

/// Another implementation under the same load. Throughput and CPU time are those of the single TCP stream, both
/// directions taken together. A ratio is ours by theirs within a round, and of these the median: what the machine
/// did to one of them in that round it most likely did to the other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    pub name: String,
    pub gbit_s: f64,
    pub cpu_s_per_gib: Option<f64>,
    pub ratio_gbit: f64,
    pub ratio_cpu: Option<f64>,
    pub ping_us: f64,
    pub ratio_ping: f64,
    pub peak_rss_mib: f64,
    /// Every figure, each run by itself.
    pub figures: Vec<ComparedFigure>,
}

/// `ours` and `theirs` are of the same rounds, in the same order.
pub fn compare(name: &str, ours: &[Round], theirs: &[Round]) -> Compared {
    let of = |rounds: &[Round], figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
    let ratio =
        |figure: fn(&Round) -> f64| median(ours.iter().zip(theirs).map(|(o, t)| figure(o) / figure(t)));
    let cpu = |round: &Round| single_stream(round).cpu_s_per_gib;
    let cpu_ratio = ours
        .iter()
        .zip(theirs)
        .filter_map(|(o, t)| Some(cpu(o)? / cpu(t)?));
    Compared {
        name: name.to_owned(),
        gbit_s: of(theirs, |round| single_stream(round).gbit_s),
        cpu_s_per_gib: median_of_some(theirs.iter().filter_map(cpu)),
        ratio_gbit: ratio(|round| single_stream(round).gbit_s),
        ratio_cpu: median_of_some(cpu_ratio),
        ping_us: of(theirs, |round| round.ping.avg),
        ratio_ping: ratio(|round| round.ping.avg),
        peak_rss_mib: peak_rss_mib(theirs),
        figures: figures::compared(ours, theirs),
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SingleStream {
    pub gbit_s: f64,
    pub cpu_s_per_gib: Option<f64>,
}

/// A round's TCP runs of one stream, both directions together.
pub fn single_stream(round: &Round) -> SingleStream {
    let runs = || {
        round
            .runs
            .iter()
            .filter(|run| run.run.protocol == Protocol::Tcp && run.run.streams == 1)
    };
    let sum = |figure: fn(&RunFigures) -> f64| runs().map(figure).sum::<f64>();
    let (gib, seconds) = (sum(|run| run.outcome.gib()), sum(|run| run.outcome.seconds));
    SingleStream {
        gbit_s: gib * f64::from(1 << 30) * 8.0 / 1e9 / seconds,
        cpu_s_per_gib: (gib > 0.0).then(|| sum(|run| run.cpu_seconds) / gib),
    }
}

/// The larger of the two daemons' peaks, and the largest of all rounds.
pub fn peak_rss_mib(rounds: &[Round]) -> f64 {
    rounds
        .iter()
        .map(|round| mib(round.peak_memory))
        .fold(0.0, f64::max)
}

/// The larger of two daemons'.
pub fn mib([a, b]: [u64; 2]) -> f64 {
    a.max(b) as f64 / f64::from(1 << 20)
}

/// NaN of nothing.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    median_of_some(values).unwrap_or(f64::NAN)
}

pub fn median_of_some(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert_eq!(median_of_some(std::iter::empty()), None);
    }

    #[test]
    fn single_stream_takes_both_directions_and_nothing_else() {
        let round = fixture::round(&[4.0, 2.0], 3.0);
        let single = single_stream(&round);
        assert!((single.gbit_s - 3.0).abs() < 1e-6, "{single:?}");
        assert!((single.cpu_s_per_gib.unwrap() - 3.0).abs() < 1e-6, "{single:?}");
    }

    #[test]
    fn ratios_are_paired() {
        // In the second round the machine was half as fast, for both.
        let ours = [fixture::round(&[4.0, 4.0], 3.0), fixture::round(&[2.0, 2.0], 6.0)];
        let theirs = [
            fixture::round(&[2.0, 2.0], 6.0),
            fixture::round(&[1.0, 1.0], 12.0),
        ];
        let compared = compare("other", &ours, &theirs);
        assert!((compared.gbit_s - 1.5).abs() < 1e-6, "{compared:?}");
        assert!((compared.ratio_gbit - 2.0).abs() < 1e-6, "{compared:?}");
        assert!((compared.ratio_cpu.unwrap() - 0.5).abs() < 1e-6, "{compared:?}");
        assert_eq!(compared.ratio_ping, 1.0);
    }
}
