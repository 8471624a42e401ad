//! The comparison as one page of Markdown: what was measured, on what, and one table. The same figures make the same page.

use std::fmt::{self, Display, Formatter};

use super::figures::{Figure, Unit};
use super::report::Report;
use super::table::{MUCH_STEAL, thousands};

pub struct Page<'a>(pub &'a Report);

/// In the place of a figure that is not there.
const NONE: &str = "-";

impl Display for Page<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let report = self.0;
        heading(f, report)?;
        circumstances(f, report)?;
        table(f, report)?;
        legend(f, report)
    }
}

fn heading(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let others: Vec<&str> = report.compare.iter().map(|other| other.name.as_str()).collect();
    let against = match others.as_slice() {
        [] => String::new(),
        [only] => format!(" against {only}"),
        [all @ .., last] => format!(" against {} and {last}", all.join(", ")),
    };
    writeln!(f, "# {}{against}\n", report.daemons.both())?;
    let turns = match others.len() {
        0 => "",
        _ => "; the implementations took turns within each round",
    };
    writeln!(
        f,
        "Two hosts (network namespaces joined by a veth pair) with a tunnel between them. Daemons and load shared the\n\
         CPUs of one machine{turns}.\n"
    )
}

fn circumstances(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let (lab, load) = (&report.lab, &report.load);
    let rates: Vec<String> = lab.udp_rates.iter().map(u32::to_string).collect();
    let tool = match load.tool {
        "builtin" => "built-in".to_owned(),
        tool => format!("{tool} {}", load.tool_version),
    };
    let lines = [
        ("hpetun", format!("{}, offload {}", lab.version, lab.offload)),
        ("kernel", format!("Linux {}", lab.kernel)),
        ("CPUs", lab.cpus.to_string()),
        ("MTU", lab.mtu.to_string()),
        ("load", format!("{tool}, UDP at {} Mbit/s", rates.join(", "))),
        ("seconds a run", lab.seconds.to_string()),
        ("rounds", lab.rounds.to_string()),
        ("steal", format!("{:.1} % in the worst round", lab.steal_percent)),
    ];
    lines
        .iter()
        .try_for_each(|(name, text)| writeln!(f, "- {name}: {text}"))?;
    writeln!(f)
}

fn table(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let mut header = vec!["load".to_owned(), "metric".to_owned(), report.daemons.both()];
    for other in &report.compare {
        header.extend([other.name.clone(), "ours/its".to_owned()]);
    }
    let rows = report
        .figures
        .iter()
        .enumerate()
        .map(|(index, ours)| row(report, index, ours));
    let cells: Vec<Vec<String>> = std::iter::once(header)
        .chain(rows)
        .map(|row| row.iter().map(|cell| cell.replace('|', "\\|")).collect())
        .collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..cells[0].len())
        .map(|column| width(column).unwrap_or(0).max(3))
        .collect();
    for (number, row) in cells.iter().enumerate() {
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            match column {
                0 | 1 => write!(f, "| {cell:<width$} ")?,
                _ => write!(f, "| {cell:>width$} ")?,
            }
        }
        writeln!(f, "|")?;
        if number == 0 {
            rule(f, &widths)?;
        }
    }
    writeln!(f)
}

/// Text to the left, figures to the right.
fn rule(f: &mut Formatter<'_>, widths: &[usize]) -> fmt::Result {
    for (column, &width) in widths.iter().enumerate() {
        match column {
            0 | 1 => write!(f, "| {:-<width$} ", "")?,
            _ => write!(f, "| {:->1$}: ", "", width - 1)?,
        }
    }
    writeln!(f, "|")
}

fn row(report: &Report, index: usize, ours: &Figure) -> Vec<String> {
    let subject = &ours.subject;
    let metric = format!("{}, {}", subject.metric, subject.unit.as_str());
    let mut row = vec![subject.load.clone(), metric, shown(subject.unit, ours.value)];
    for other in &report.compare {
        let its = other.figures.get(index);
        let ratio = its.and_then(|its| its.ratio);
        row.push(shown(subject.unit, its.and_then(|its| its.figure.value)));
        row.push(ratio.map_or(NONE.to_owned(), |ratio| format!("{ratio:.2}x")));
    }
    row
}

/// Something is never shown as nothing.
fn shown(unit: Unit, value: Option<f64>) -> String {
    let Some(value) = value else {
        return NONE.to_owned();
    };
    match unit {
        Unit::PacketsPerSecond => thousands(value.round() as u64),
        Unit::Microseconds => thousands(value.round() as u64),
        Unit::Mib => format!("{value:.1}"),
        _ if value > 0.0 && value < 0.005 => "<0.01".to_owned(),
        Unit::GbitPerSecond | Unit::SecondsPerGib | Unit::Percent => format!("{value:.2}"),
    }
}

fn legend(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let (several, compared) = (report.lab.rounds > 1, !report.compare.is_empty());
    if several {
        writeln!(f, "- Figures are medians over the rounds.")?;
    }
    if compared {
        let ratio = match several {
            true => "is ours by its within a round, and of these the median",
            false => "is ours by its",
        };
        writeln!(
            f,
            "- A ratio {ratio}: above 1.00x is better for Gbit/s and packets/s, below it for everything else."
        )?;
    }
    let no_ratio = match compared {
        true => ", or no ratio to nothing lost",
        false => "",
    };
    writeln!(
        f,
        "- `{NONE}`: no such figure, as the time of pings without a reply{no_ratio}."
    )?;
    writeln!(
        f,
        "- Delivered and received is what came to the receiver, lost a share of what was sent, which is less than the rate \
         asked for where the sender cannot keep up. The flood has no rate: the load tool's own speed limits it, too."
    )?;
    writeln!(
        f,
        "- A ping goes every 2 ms, whether or not the last one was answered; without a reply for 1 s it is lost."
    )?;
    if report.lab.steal_percent > MUCH_STEAL {
        writeln!(
            f,
            "- **The hypervisor took up to {:.0} % of the CPU time away: run again for better figures.**",
            report.lab.steal_percent
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::compare::compare;
    use super::super::fixture;
    use super::*;

    #[test]
    fn every_load_and_metric_has_a_row() {
        let rounds = [fixture::round(&[4.0, 2.0], 3.0)];
        let page = Page(&fixture::report(&rounds)).to_string();
        for row in [
            "| load                      | metric                   | hpetun | wireguard-go | ours/its |",
            "| ------------------------- | ------------------------ | -----: | -----------: | -------: |",
            "| tcp a>b                   | delivered, Gbit/s        |   4.00 |         2.00 |    2.00x |",
            "| tcp a>b                   | CPU, both daemons, s/GiB |   3.00 |         6.00 |    0.50x |",
            "| tcp a>b x4                | delivered, Gbit/s        |   5.00 |         5.00 |    1.00x |",
            "| udp a>b, 1200 Mbit/s      | lost, %                  |   3.25 |         3.25 |    1.00x |",
            "| udp flood a>b, 64 bytes   | received, packets/s      | 40,000 |       40,000 |    1.00x |",
            "| ping idle                 | p50, us                  |    170 |          170 |    1.00x |",
            "| ping during tcp a>b       | p99, us                  |  2,400 |        2,400 |    1.00x |",
            "| ping during tcp a>b       | lost, %                  |   0.00 |         0.00 |        - |",
            "| memory, the larger daemon | RSS before load, MiB     |    5.0 |          5.0 |    1.00x |",
            "| memory, the larger daemon | RSS at its peak, MiB     |   12.0 |         12.0 |    1.00x |",
        ] {
            assert!(page.lines().any(|line| line == row), "{row:?} in\n{page}");
        }
        let widths: Vec<usize> = page
            .lines()
            .filter(|line| line.starts_with('|'))
            .map(str::len)
            .collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{page}");
    }

    #[test]
    fn says_what_was_measured_and_on_what() {
        let rounds = [fixture::round(&[4.0, 2.0], 3.0), fixture::round(&[4.0, 2.0], 3.0)];
        let mut report = fixture::report(&rounds);
        report.compare.push(compare("a|b", &rounds, &rounds));
        report.lab.steal_percent = 12.0;
        let page = Page(&report).to_string();
        for text in [
            "# hpetun against wireguard-go and a|b\n",
            "- kernel: Linux 6.18.44\n- CPUs: 2\n- MTU: 1420\n- load: iperf3 3.12, UDP at 1200 Mbit/s\n",
            "- seconds a run: 5\n- rounds: 2\n- steal: 12.0 % in the worst round\n",
            " a\\|b | ours/its |",
            "medians over the rounds",
            "took up to 12 %",
        ] {
            assert!(page.contains(text), "{text:?} in\n{page}");
        }
        assert_eq!(page, Page(&report).to_string());
    }

    #[test]
    fn alone_it_has_no_ratios() {
        let mut report = fixture::report(&[fixture::round(&[4.0, 2.0], 3.0)]);
        report.compare.clear();
        report.load.tool = "builtin";
        let page = Page(&report).to_string();
        assert!(page.starts_with("# hpetun\n"), "{page}");
        assert!(page.contains("- load: built-in, UDP"), "{page}");
        assert!(!page.contains("ratio") && !page.contains("ours/its"), "{page}");
        assert!(!page.contains("medians"), "{page}");
    }

    #[test]
    fn little_is_not_nothing_and_nothing_is_not_unknown() {
        assert_eq!(shown(Unit::Percent, Some(0.0)), "0.00");
        assert_eq!(shown(Unit::Percent, Some(0.004)), "<0.01");
        assert_eq!(shown(Unit::Percent, Some(0.005)), "0.01");
        assert_eq!(shown(Unit::GbitPerSecond, None), "-");
        assert_eq!(shown(Unit::PacketsPerSecond, Some(12_345.6)), "12,346");
        assert_eq!(shown(Unit::Mib, Some(9.96)), "10.0");
    }
}
