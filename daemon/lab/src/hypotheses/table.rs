//! The report for people: a summary, and the modes side by side for each hypothesis.

use std::fmt::{self, Display, Formatter};

use super::facts::{NOTHING, decisive, facts};
use super::report::{HypothesisReport, Report, RunReport};
use text::wrap::wrap;

/// Columns at most, and those of the rows' names.
const WIDTH: usize = 110;
const LABEL: usize = 15;

pub struct Table<'a>(pub &'a Report);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let report = self.0;
        heading(f, report)?;
        summary(f, report)?;
        for hypothesis in &report.hypotheses {
            side_by_side(f, hypothesis)?;
        }
        ending(f, report)
    }
}

fn heading(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let lab = &report.lab;
    writeln!(
        f,
        "hpetun {} lab: ways in which the clock of host a can go wrong under load\nLinux {}, {} CPUs, MTU {}, offload {}, {} s of load a run\n",
        lab.version, lab.kernel, lab.cpus, lab.mtu, lab.offload, lab.seconds
    )
}

fn summary(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    writeln!(
        f,
        "{:<5}{:<10}{:<10}{:>9}{:>10}{:>9}{:>8}{:>8}{:>9}  {:<11}{:<7}carried on",
        "", "mode", "class", "detected", "recovered", "before", "during", "after", "gap", "verdict", "right",
    )?;
    for (hypothesis, run) in report.runs() {
        let (stall, throughput) = (&run.observed.stall, &run.observed.throughput);
        let ms = |ms: Option<f64>| ms.map_or(NOTHING.to_owned(), |ms| format!("{ms:.0} ms"));
        let verdict = decisive(&run.observed).map_or("none".to_owned(), |found| {
            found
                .hypothesis
                .map_or("undecided".to_owned(), |named| named.to_string())
        });
        writeln!(
            f,
            "{:<5}{:<10}{:<10}{:>9}{:>10}{:>9.2}{:>8.2}{:>8.2}{:>9}  {:<11}{:<7}{}",
            hypothesis.hypothesis,
            run.mode,
            stall.as_ref().map_or(NOTHING, |stall| stall.class.as_str()),
            ms(stall.as_ref().map(|stall| stall.detected_ms)),
            ms(stall.as_ref().and_then(|stall| stall.recovered_ms)),
            throughput.before,
            throughput.during,
            throughput.after,
            ms(Some(throughput.longest_gap_ms)),
            verdict,
            if run.judgement.right { "yes" } else { "NO" },
            if run.judgement.suffered.is_empty() {
                "yes"
            } else {
                "no"
            },
        )?;
    }
    Ok(())
}

fn side_by_side(f: &mut Formatter<'_>, hypothesis: &HypothesisReport) -> fmt::Result {
    writeln!(f, "\n{}: {}", hypothesis.hypothesis, hypothesis.summary)?;
    let runs = &hypothesis.runs;
    let column = (WIDTH - LABEL) / runs.len().max(1) - 2;
    let modes: Vec<String> = runs.iter().map(|run| run.mode.to_string()).collect();
    row(f, "", &modes, column)?;
    let columns: Vec<Vec<(&str, String)>> = runs.iter().map(facts).collect();
    let Some(first) = columns.first() else {
        return Ok(());
    };
    for (index, (name, _)) in first.iter().enumerate() {
        let texts: Vec<String> = columns.iter().map(|column| column[index].1.clone()).collect();
        if texts.iter().any(|text| text != NOTHING) {
            row(f, name, &texts, column)?;
        }
    }
    Ok(())
}

fn row(f: &mut Formatter<'_>, name: &str, texts: &[String], column: usize) -> fmt::Result {
    let cells: Vec<Vec<String>> = texts.iter().map(|text| wrap(text, column)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    for line in 0..height {
        let mut text = format!(
            "  {:<width$}",
            if line == 0 { name } else { "" },
            width = LABEL - 2
        );
        for cell in &cells {
            let part = cell.get(line).map_or("", String::as_str);
            text += &format!("{part:<width$}", width = column + 2);
        }
        writeln!(f, "{}", text.trim_end())?;
    }
    Ok(())
}

fn ending(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let wrong: Vec<String> = report
        .runs()
        .filter(|(_, run)| !run.judgement.right)
        .map(|(hypothesis, run)| name(hypothesis, run))
        .collect();
    let (count, all) = (wrong.len(), report.runs().count());
    match count {
        0 => writeln!(f, "\nEvery verdict is right, in {all} of {all} runs."),
        _ => writeln!(
            f,
            "\nVerdicts are wrong in {count} of {all} runs: {}.",
            wrong.join(", ")
        ),
    }?;
    let steal = report
        .runs()
        .map(|(_, run)| run.steal_percent)
        .fold(0.0, f64::max);
    if steal > crate::table::MUCH_STEAL {
        writeln!(
            f,
            "The hypervisor took up to {steal:.0} % of the CPU time away: run again for better figures."
        )?;
    }
    Ok(())
}

fn name(hypothesis: &HypothesisReport, run: &RunReport) -> String {
    format!("{} {}", hypothesis.hypothesis, run.mode)
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn shows_every_fact_of_both_modes_side_by_side() {
        let text = Table(&fixture::report()).to_string();
        for line in text.lines() {
            assert!(
                line.chars().count() <= WIDTH + 2,
                "{} columns: {line}",
                line.len()
            );
        }
        for expected in [
            "H2   faithful  spinning     104 ms   2003 ms     1.60",
            "H2   bounded   -                 -         -     1.60",
            "H2: the holder stalled",
            "faithful                                       bounded",
            "104 ms after the strike",
            "the value never changed",
            "nothing arrived for",
            "Verdicts are wrong in 1 of 3 runs: H3 faithful.",
            "took up to 12 %",
        ] {
            assert!(text.contains(expected), "{expected:?} in\n{text}");
        }
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let single = words(&text.split("\nH3").nth(2).unwrap().replace('\n', " "));
        assert!(single.contains("H2 (the holder stalled) was named"), "{single}");
    }

    #[test]
    fn says_when_all_is_right() {
        let mut report = fixture::report();
        report.hypotheses.pop();
        report.hypotheses[0]
            .runs
            .iter_mut()
            .for_each(|run| run.steal_percent = 0.0);
        let text = Table(&report).to_string();
        assert!(
            text.ends_with("Every verdict is right, in 2 of 2 runs.\n"),
            "{text}"
        );
    }
}
