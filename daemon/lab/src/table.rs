//! The figures for people: at most 90 columns of plain text.

use std::fmt::{self, Display, Formatter, Write as _};

use super::compare::Compared;
use super::ping::Times;
use super::report::{Report, RunReport};
use stall_report::status::Quantiles;
use text::wrap::wrap;

/// Figures are doubtful beyond this share of stolen CPU time, in per cent.
pub(super) const MUCH_STEAL: f64 = 5.0;

pub struct Table<'a>(pub &'a Report);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let report = self.0;
        heading(f, report)?;
        load(f, report)?;
        daemons(f, report)?;
        comparison(f, report)?;
        clock_verdicts(f, report)?;
        if report.lab.steal_percent > MUCH_STEAL {
            let percent = report.lab.steal_percent;
            writeln!(
                f,
                "\n  The hypervisor took up to {percent:.0} % of the CPU time away: run again for better figures."
            )?;
        }
        Ok(())
    }
}

fn heading(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let lab = &report.lab;
    let hosts = match &report.daemons {
        daemons if daemons.a == daemons.b => format!("two hosts with {} on both", daemons.a),
        daemons => format!("{} on host a, {} on host b", daemons.a, daemons.b),
    };
    let rounds = match lab.rounds {
        1 => String::new(),
        rounds => format!(", medians of {rounds} rounds"),
    };
    let rights = match lab.user_namespace {
        true => "in a user namespace",
        false => "as root",
    };
    writeln!(
        f,
        "hpetun {} lab: {hosts}\nLinux {}, {} CPUs, {rights}\nMTU {}, offload {}, {} s a run{rounds}",
        lab.version, lab.kernel, lab.cpus, lab.mtu, lab.offload, lab.seconds,
    )
}

fn load(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let load = &report.load;
    let tool = match load.tool {
        "builtin" => "built-in load".to_owned(),
        tool => format!("{tool} {}", load.tool_version),
    };
    writeln!(
        f,
        "\n  {tool:<24}{:>9}{:>12}{:>13}{:>10}{:>12}",
        "Gbit/s", "packets/s", "retransmits", "lost", "CPU s/GiB"
    )?;
    for run in &load.runs {
        let RunReport {
            label,
            gbit_s,
            packets_s,
            retransmits,
            lost_percent,
            cpu_s_per_gib,
            ..
        } = run;
        let retransmits = retransmits.map_or("-".to_owned(), thousands);
        let lost = lost_percent.map_or("-".to_owned(), |lost| format!("{lost:.2} %"));
        let packets = packets_s.map_or("-".to_owned(), |packets| thousands(packets.round() as u64));
        writeln!(
            f,
            "  {label:<24}{gbit_s:>9.2}{packets:>12}{retransmits:>13}{lost:>10}{:>12}",
            optional(*cpu_s_per_gib)
        )?;
    }
    Ok(())
}

fn daemons(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let daemons = &report.daemons;
    writeln!(f)?;
    let mut line = |name: &str, text: String| writeln!(f, "  {name:<22}{text}");
    line("ping", ping(&report.ping_us))?;
    line("ping under load", ping(&report.ping_under_load_us.ping))?;
    let cpu = optional(daemons.cpu_s_per_gib);
    line("CPU, both daemons", format!("{cpu} s a GiB of single-stream TCP"))?;
    line(
        "memory",
        format!(
            "{:.1} MiB before load, {:.1} MiB at its peak, the larger daemon",
            daemons.idle_rss_mib, daemons.peak_rss_mib
        ),
    )?;
    if let Some(clock) = &report.clock {
        line(
            "clock",
            format!("{}, {} packets stamped", clock.name, thousands(clock.stamps)),
        )?;
    }
    if let Some(latency) = &report.latency_us {
        for (name, times) in [("residence, tx", &latency.tx), ("residence, rx", &latency.rx)] {
            let Quantiles { p50, p99, p999, .. } = times;
            line(
                name,
                format!("p50 {p50:.1}, p99 {p99:.1}, p99.9 {p999:.1} us, of the slower host"),
            )?;
        }
    }
    if let Some(drops) = &report.drops {
        let reasons: Vec<String> = drops
            .iter()
            .map(|(reason, count)| format!("{reason} {}", thousands(*count)))
            .collect();
        for (index, text) in wrapped(&reasons, 66).into_iter().enumerate() {
            line(if index == 0 { "drops" } else { "" }, text)?;
        }
    }
    if let Some(stalls) = &report.stalls {
        line(
            "stalls",
            if stalls.is_empty() {
                "none".to_owned()
            } else {
                stalls.len().to_string()
            },
        )?;
        stalls.iter().try_for_each(|stall| line("", stall.clone()))?;
    }
    Ok(())
}

fn ping(times: &Times) -> String {
    let Times {
        avg,
        p50,
        p99,
        min,
        max,
        sent,
        lost,
    } = times;
    match lost {
        _ if lost == sent => format!("none of {sent} was answered"),
        0 => format!("{avg:.0} us average of {sent} (p50 {p50:.0}, p99 {p99:.0}, {min:.0} to {max:.0})"),
        _ => format!("{avg:.0} us average of {sent} (p50 {p50:.0}, p99 {p99:.0}), {lost} lost"),
    }
}

fn comparison(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    if report.compare.is_empty() {
        return Ok(());
    }
    let columns = [
        "Gbit/s",
        "ours/its",
        "CPU s/GiB",
        "ours/its",
        "ping us",
        "ours/its",
    ];
    write!(f, "\n  {:<22}", "one TCP stream")?;
    columns.iter().try_for_each(|column| write!(f, "{column:>11}"))?;
    let (daemons, ping) = (&report.daemons, report.ping_us.avg);
    let ours = daemons.both();
    writeln!(
        f,
        "\n  {ours:<22}{:>11.2}{:>11}{:>11}{:>11}{ping:>11.0}",
        daemons.gbit_s,
        "",
        optional(daemons.cpu_s_per_gib),
        ""
    )?;
    for compared in &report.compare {
        let Compared {
            name,
            gbit_s,
            cpu_s_per_gib,
            ratio_gbit,
            ratio_cpu,
            ping_us,
            ratio_ping,
            ..
        } = compared;
        let ratio_cpu = ratio_cpu.map_or("-".to_owned(), |ratio| format!("{ratio:.2}x"));
        writeln!(
            f,
            "  {name:<22}{gbit_s:>11.2}{ratio_gbit:>10.2}x{:>11}{ratio_cpu:>11}{ping_us:>11.0}{ratio_ping:>10.2}x",
            optional(*cpu_s_per_gib)
        )?;
    }
    writeln!(f, "\n  Every figure of each: --markdown FILE, --json FILE.")
}

fn clock_verdicts(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    for verdict in &report.clock_verdicts {
        let lines = wrap(verdict, 86).join("\n    ");
        writeln!(f, "\n  {lines}")?;
    }
    Ok(())
}

fn optional(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.2}"))
}

/// 1234567 as 1,234,567.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Joins with commas, in lines of at most `width` characters where a single item is not longer.
fn wrapped(items: &[String], width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for item in items {
        let last = lines.len() - 1;
        if lines[last].is_empty() {
            lines[last].clone_from(item);
        } else if lines[last].len() + 2 + item.len() <= width {
            let _ = write!(lines[last], ", {item}");
        } else {
            lines[last].push(',');
            lines.push(item.clone());
        }
    }
    if items.is_empty() {
        lines[0].push_str("none");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn shows_every_figure_within_90_columns() {
        let mut report = fixture::report(&[fixture::round(&[4.0, 2.0], 3.0)]);
        report.lab.steal_percent = 12.0;
        report.drops = Some(
            (0..9)
                .map(|n| (format!("some_reason_{n}"), 1_000_000 * n))
                .collect(),
        );
        let text = Table(&report).to_string();
        for line in text.lines() {
            assert!(
                line.chars().count() <= 90,
                "{} columns: {line}",
                line.chars().count()
            );
        }
        for figure in [
            "iperf3 3.12",
            "udp a>b, 1200 Mbit/s         1.00      91,108            -    3.25 %        3.00",
            "udp flood a>b, 64 bytes      0.02      40,000            -    3.25 %           -",
            "180 us average of 200 (p50 170, p99 390, 120 to 400)",
            "800 us average of 2350 (p50 700, p99 2400, 150 to 5000)",
            "3.00 s a GiB",
            "5.0 MiB before load, 12.0 MiB at its peak",
            "tsc, 3,000 packets stamped",
            "p50 10.0, p99 20.0, p99.9 40.0 us",
            "some_reason_8 8,000,000",
            "b: wg-tx/0 stuck for 3 s",
            "wireguard-go                 1.50      2.00x       6.00      0.50x        180      1.00x",
            "\n  a: clock hpet-sim is wrong: why",
            "took up to 12 %",
        ] {
            assert!(text.contains(figure), "{figure:?} in\n{text}");
        }
    }

    #[test]
    fn says_when_the_load_is_our_own_and_nothing_went_wrong() {
        let mut report = fixture::report(&[fixture::round(&[4.0, 2.0], 3.0)]);
        report.load.tool = "builtin";
        report.drops = Some(Default::default());
        report.stalls = Some(Vec::new());
        report.compare.clear();
        let text = Table(&report).to_string();
        assert!(text.contains("built-in load"), "{text}");
        assert!(
            !text.contains("one TCP stream") && !text.contains("took up"),
            "{text}"
        );
        assert_eq!(
            text.lines().filter(|line| line.ends_with("none")).count(),
            2,
            "{text}"
        );
    }

    #[test]
    fn lost_pings_are_told() {
        let mut report = fixture::report(&[fixture::round(&[4.0, 2.0], 3.0)]);
        let times = &mut report.ping_under_load_us.ping;
        times.lost = 17;
        assert_eq!(ping(times), "800 us average of 2350 (p50 700, p99 2400), 17 lost");
        times.lost = times.sent;
        assert_eq!(ping(times), "none of 2350 was answered");
    }

    #[test]
    fn numbers_are_grouped() {
        let numbers = [0, 999, 1000, 1_234_567].map(thousands);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn lists_wrap() {
        let items = ["aaaa", "bbbb", "cccc"].map(str::to_owned);
        assert_eq!(wrapped(&items, 10), ["aaaa, bbbb,", "cccc"]);
        assert_eq!(wrapped(&[], 10), ["none"]);
    }
}
