//! The survey for people: at most 100 columns of plain text.

use std::fmt::{self, Display, Formatter};

use clockshim::arbiter::{ArbiterStatus, Opinion};
use clockshim::survey::{Figures, KernelChoice, SourceReport};
use clockshim::{SourceKind, Survey};

use text::units::Grouped;
use text::wrap::wrap;

/// Columns at most.
const WIDTH: usize = 100;
/// Where the text begins beside the names of clocks.
const INDENT: usize = 14;

pub struct Table<'a>(pub &'a Survey);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Survey {
            cores,
            kernel,
            sources,
            arbiter,
            verdict,
        } = self.0;
        let all = format!("read, all {cores} cores");
        writeln!(
            f,
            "{:<13}{:>6}{:>8}{:>5}{:>10}{:>6}{:>15}{all:>18}{:>8}{:>11}",
            "", "", "", "", "", "", "read alone", "step", "drift"
        )?;
        writeln!(
            f,
            "{:<13}{:>6}{:>8}{:>5}{:>10}{:>6}{:>7}{:>8}{:>8}{:>10}{:>8}{:>11}",
            "  clock",
            "rating",
            "tick",
            "bits",
            "wraps in",
            "sleep",
            "p50 ns",
            "p99 ns",
            "p50 ns",
            "p99 ns",
            "back",
            "ppm"
        )?;
        for source in sources {
            if let Some(figures) = &source.figures {
                row(f, source, figures)?;
            }
        }
        writeln!(f)?;
        legend(f)?;
        let missing = sources
            .iter()
            .filter_map(|source| Some((&source.name, source.why_not.as_ref()?)));
        for (index, (name, why)) in missing.enumerate() {
            if index == 0 {
                writeln!(f, "\nNot to be had here:")?;
            }
            paragraph(f, name, why)?;
        }
        writeln!(f)?;
        kernels_choice(f, kernel)?;
        match arbiter {
            Some(status) => arbitration(f, status, verdict.as_deref()),
            None => writeln!(
                f,
                "Arbiter: nothing to judge, for the clock to be judged is not to be had."
            ),
        }
    }
}

fn row(f: &mut Formatter<'_>, source: &SourceReport, figures: &Figures) -> fmt::Result {
    let Figures {
        resolution_ns,
        width,
        wrap_s,
        counts_sleep,
        read_ns,
        contended_ns,
        step_back_ns,
        drift_ppm,
        drift_uncertainty_ppm,
    } = figures;
    let rating = source.rating.map_or("-".to_owned(), |rating| rating.to_string());
    let wrap = wrap_s.map_or("centuries".to_owned(), |seconds| time(seconds * 1e9));
    let sleep = match counts_sleep {
        Some(true) => "yes",
        Some(false) => "no",
        None => "?",
    };
    let mark = if source.in_use { '*' } else { ' ' };
    writeln!(
        f,
        "{mark} {:<11}{rating:>6}{:>8}{width:>5}{wrap:>10}{sleep:>6}{:>7}{:>8}{:>8}{:>10}{:>8} {:>10}",
        source.name,
        time(*resolution_ns),
        nanos(read_ns.p50),
        nanos(read_ns.p99),
        nanos(contended_ns.p50),
        nanos(contended_ns.p99),
        time(*step_back_ns as f64),
        if source.name == SourceKind::Boottime.as_str() {
            "reference".to_owned()
        } else {
            drift(*drift_ppm, *drift_uncertainty_ppm)
        },
    )
}

fn legend(f: &mut Formatter<'_>) -> fmt::Result {
    let text = "* judged below. Tick: from one value to the next. Rating as in the kernel, to 499. Sleep: whether the counter itself goes on while the machine sleeps (? it \
                may or may not); the tunnel's time always does. Step back: the largest that one thread saw against another, once its loads before the reading were done. Drift: \
                against CLOCK_BOOTTIME, which NTP may steer, and which the TSC was calibrated by. Costs below 300 ns are means of 8 reads.";
    wrap(text, WIDTH)
        .iter()
        .try_for_each(|line| writeln!(f, "{line}"))
}

fn kernels_choice(f: &mut Formatter<'_>, kernel: &KernelChoice) -> fmt::Result {
    let Some(current) = &kernel.current else {
        return Ok(());
    };
    let others: Vec<_> = kernel.available.iter().filter(|name| *name != current).collect();
    let mut text = format!("counts on {current}");
    for (index, other) in others.iter().enumerate() {
        text += if index == 0 { "; it could use " } else { ", " };
        text += other;
    }
    writeln!(f, "Kernel:")?;
    paragraph(f, "clocksource", &text)?;
    writeln!(f)
}

fn arbitration(f: &mut Formatter<'_>, status: &ArbiterStatus, verdict: Option<&str>) -> fmt::Result {
    let found = match (verdict, &status.opinion) {
        (Some(verdict), _) => verdict.to_owned(),
        (None, None) => "no two rounds could be compared; try a longer --seconds".to_owned(),
        (None, Some(opinion)) => finding(status, opinion),
    };
    writeln!(f, "Arbiter:")?;
    paragraph(f, "verdict", &found)?;
    let ppm = status.opinion.as_ref().map(|opinion| &opinion.ppm[..]);
    let heard =
        status
            .witnesses
            .iter()
            .enumerate()
            .map(|(index, name)| match ppm.and_then(|ppm| ppm.get(index)) {
                Some(ppm) => format!("{name} ({ppm:+.1} ppm)"),
                None => name.clone(),
            });
    paragraph(f, "witnesses", &heard.collect::<Vec<_>>().join(", "))?;
    if let Some(opinion) = status
        .opinion
        .as_ref()
        .filter(|opinion| !opinion.agreed.is_empty())
    {
        paragraph(f, "agreed", &opinion.agreed.join(", "))?;
    }
    if status.thrown_away > 0 {
        let text = format!(
            "{} rounds, whose readings took too long or lay too far apart",
            status.thrown_away
        );
        paragraph(f, "not counted", &text)?;
    }
    if !status.put_away.is_empty() {
        paragraph(f, "put away", &status.put_away.join(", "))?;
    }
    Ok(())
}

fn finding(status: &ArbiterStatus, opinion: &Opinion) -> String {
    let using = &status.using;
    match &opinion.accused {
        _ if opinion.independent == 1 => {
            let hardware = status
                .hardware
                .first()
                .map_or("same clock", String::as_str)
                .to_uppercase();
            let but = if opinion.undecided {
                ", and yet they differ"
            } else {
                ""
            };
            format!("{using} cannot be judged: every witness counts on the {hardware}{but}")
        }
        _ if opinion.undecided => "the witnesses differ, and no majority says who is right".to_owned(),
        Some(deviation) => {
            format!(
                "{using} is suspect: it {deviation} in the last round, which is not often enough to put it away"
            )
        }
        None => format!("{using} is right"),
    }
}

/// A name, and beside it prose in as many lines as it takes.
fn paragraph(f: &mut Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    let mut name = name;
    for line in wrap(text, WIDTH - INDENT) {
        writeln!(f, "  {name:<width$}{line}", width = INDENT - 2)?;
        name = "";
    }
    Ok(())
}

/// Nanoseconds without their unit, to three digits or to the unit: `0.42`, `41.7`, `1,201`.
pub(super) fn nanos(ns: f64) -> String {
    if ns < 99.95 {
        digits(ns)
    } else {
        Grouped(ns.round() as u64).to_string()
    }
}

/// A time in nanoseconds to three digits with the unit that fits: `0`, `0.42 ns`, `4.00 ms`, `179 s`, `2.1 days`.
fn time(ns: f64) -> String {
    const UNITS: [(f64, &str); 7] = [
        (365.25 * 86_400e9, "years"),
        (86_400e9, "days"),
        (3_600e9, "h"),
        (1e9, "s"),
        (1e6, "ms"),
        (1e3, "us"),
        (0.0, "ns"),
    ];
    if ns == 0.0 {
        return "0".to_owned();
    }
    // Hours begin late: clocks are compared by their seconds.
    let fits = |&&(unit, name): &&(f64, &str)| ns >= if name == "h" { 3.0 * unit } else { unit };
    let (unit, name) = UNITS.iter().find(fits).unwrap_or(&UNITS[6]);
    format!("{} {name}", digits(ns / unit.max(1.0)))
}

/// Three digits, or all of them before the point.
fn digits(value: f64) -> String {
    let decimals = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// `+0.04±0.02`: as many decimals as the uncertainty leaves, which is rounded up.
fn drift(ppm: f64, uncertainty: f64) -> String {
    let decimals = match (uncertainty, ppm.abs()) {
        (u, _) if u >= 10.0 => 0,
        (_, p) if p >= 1000.0 => 0,
        (u, p) if u >= 1.0 || p >= 10.0 => 1,
        _ => 2,
    };
    let unit = 10f64.powi(decimals);
    let uncertainty = (uncertainty * unit).ceil() / unit;
    // Plus zero, so that what rounds to zero has no minus.
    let ppm = (ppm * unit).round() / unit + 0.0;
    let decimals = decimals as usize;
    format!("{ppm:+.decimals$}±{uncertainty:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn every_figure_is_there_within_100_columns() {
        let text = Table(&fixture::survey()).to_string();
        for line in text.lines() {
            assert!(
                line.chars().count() <= WIDTH,
                "{} in\n{text}",
                line.chars().count()
            );
        }
        for part in [
            "read, all 2 cores",
            "* tsc           350 0.48 ns   64 centuries     ?   8.53    10.2    8.61      23.4       0 +0.04±0.02\n",
            "  coarse         90 4.00 ms   64 centuries    no   8.53    10.2    8.61      23.4       0  -12.6±8.2\n",
            "  hpet-sim       20 41.7 ns   32     179 s   yes  1,201   1,350   2,412 1,234,567 41.7 us +500.0±0.1\n",
            "  hpet        there is no /dev/hpet <here> & now; use",
            "  verdict     tsc is right\n",
            "  witnesses   tsc (+0.0 ppm), monotonic-raw (-0.0 ppm), boottime (+812.5 ppm)\n",
            "  agreed      tsc, monotonic-raw\n",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(!text.contains("put away"), "{text}");
    }

    #[test]
    fn verdicts_and_doubts_are_told() {
        let mut survey = fixture::survey();
        survey.verdict = Some("clock tsc is wrong".to_owned());
        let status = survey.arbiter.as_mut().unwrap();
        status.put_away = vec!["tsc".to_owned()];
        status.thrown_away = 3;
        let text = Table(&survey).to_string();
        assert!(text.contains("verdict     clock tsc is wrong\n"), "{text}");
        assert!(text.contains("put away    tsc\n"), "{text}");
        assert!(text.contains("not counted 3 rounds"), "{text}");

        survey.verdict = None;
        let opinion = survey.arbiter.as_mut().unwrap().opinion.as_mut().unwrap();
        opinion.undecided = true;
        opinion.agreed.clear();
        let text = Table(&survey).to_string();
        assert!(text.contains("no majority") && !text.contains("agreed"), "{text}");

        let status = survey.arbiter.as_mut().unwrap();
        let opinion = status.opinion.as_mut().unwrap();
        (opinion.undecided, opinion.independent) = (false, 1);
        let text = Table(&survey).to_string();
        assert!(
            text.contains("tsc cannot be judged: every witness counts on the TSC"),
            "{text}"
        );

        survey.arbiter.as_mut().unwrap().opinion = None;
        assert!(Table(&survey).to_string().contains("longer --seconds"));
        survey.arbiter = None;
        assert!(Table(&survey).to_string().contains("nothing to judge"));
    }

    #[test]
    fn numbers_have_three_digits() {
        for (ns, text) in [
            (0.0, "0"),
            (0.4766, "0.48 ns"),
            (41.67, "41.7 ns"),
            (4e6, "4.00 ms"),
            (178.96e9, "179 s"),
            (7_200e9, "7200 s"),
            (4.0 * 3_600e9, "4.00 h"),
            (24.4e12 * 86.4, "24.4 days"),
            (24_000.0 * 365.25 * 86_400e9, "24000 years"),
        ] {
            assert_eq!(time(ns), text);
        }
        assert_eq!(
            [0.424, 41.67, 99.97, 1_201.4].map(nanos),
            ["0.42", "41.7", "100", "1,201"]
        );
    }

    #[test]
    fn drift_has_the_decimals_that_it_deserves() {
        for (ppm, uncertainty, text) in [
            (0.042, 0.0131, "+0.04±0.02"),
            (-0.001, 0.4, "+0.00±0.40"),
            (-12.34, 0.2, "-12.3±0.2"),
            (499.96, 12.1, "+500±13"),
            (-400_000.0, 0.1, "-400000±1"),
        ] {
            assert_eq!(drift(ppm, uncertainty), text);
        }
    }
}
