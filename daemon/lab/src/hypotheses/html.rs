//! The report as one page that needs nothing else: light and dark, on screen and on paper.

use std::fmt::Write as _;

use super::facts::{NOTHING, decisive, facts};
use super::observed::{Observed, ReportText};
use super::plot;
use super::report::{HypothesisReport, Report, RunReport};

const STYLE: &str = include_str!("style.css");

/// A whole document, well-formed as XML too.
pub fn page(report: &Report) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>hpetun lab: hypotheses</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    heading(&mut out, report);
    summary(&mut out, report);
    legend(&mut out);
    for hypothesis in &report.hypotheses {
        section(&mut out, hypothesis);
    }
    out + "</main>\n</body>\n</html>\n"
}

/// For text and for attributes in double quotes. What XML cannot hold at all becomes a replacement character.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(character),
            _ if character.is_control() => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
}

fn heading(out: &mut String, report: &Report) {
    let lab = &report.lab;
    let all = report.runs().count();
    let right = report.runs().filter(|(_, run)| run.judgement.right).count();
    let (class, verdict) = match right == all {
        true => ("good", format!("every verdict is right, in {all} of {all} runs")),
        false => (
            "bad",
            format!("verdicts are wrong in {} of {all} runs", all - right),
        ),
    };
    let _ = writeln!(
        out,
        "<header>\n<h1>What stalls a reader of the HPET</h1>\n\
         <p class=\"verdict {class}\">{verdict}</p>\n\
         <p>Each hypothesis about the soft lockup of 2019, ordered on host a under load from host a to host b, with the lock of the kernel \
         (<b>faithful</b>) and with hpetun’s own (<b>bounded</b>). The watchdog is not told which one it is.</p>\n\
         <p class=\"muted\">hpetun {} · Linux {} · {} CPUs · MTU {} · offload {} · {} s of load a run</p>\n</header>",
        escape(lab.version),
        escape(&lab.kernel),
        lab.cpus,
        lab.mtu,
        lab.offload,
        lab.seconds
    );
}

fn summary(out: &mut String, report: &Report) {
    out.push_str(
        "<div class=\"wide\"><table class=\"summary\">\n<thead><tr><th>hypothesis</th><th>mode</th><th>class</th>\
         <th class=\"n\">detected</th><th class=\"n\">recovered</th><th class=\"n\">before</th><th class=\"n\">during</th>\
         <th class=\"n\">after</th><th class=\"n\">longest gap</th><th>carried on</th><th>fits 2019</th><th>verdict</th></tr>\n\
         <tr class=\"units\"><th></th><th></th><th></th><th class=\"n\">ms</th><th class=\"n\">ms</th>\
         <th class=\"n\">Gbit/s</th><th class=\"n\">Gbit/s</th><th class=\"n\">Gbit/s</th><th class=\"n\">ms</th>\
         <th></th><th></th><th></th></tr></thead>\n<tbody>\n",
    );
    for hypothesis in &report.hypotheses {
        for (index, run) in hypothesis.runs.iter().enumerate() {
            let head = match index {
                0 => format!(
                    "<th rowspan=\"{}\" scope=\"rowgroup\"><a href=\"#{}\">{}</a> {}</th>",
                    hypothesis.runs.len(),
                    hypothesis.hypothesis,
                    hypothesis.hypothesis,
                    escape(hypothesis.summary)
                ),
                _ => String::new(),
            };
            summary_row(out, &head, index == 0, run);
        }
    }
    out.push_str("</tbody></table></div>\n");
}

fn summary_row(out: &mut String, head: &str, first: bool, run: &RunReport) {
    let (observed, stall) = (&run.observed, &run.observed.stall);
    let ms = |ms: Option<f64>| ms.map_or(NOTHING.to_owned(), |ms| format!("{ms:.0}"));
    let throughput = &observed.throughput;
    let _ = writeln!(
        out,
        "<tr{}>{head}<td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{:.2}</td>\
         <td class=\"n\">{:.2}</td><td class=\"n\">{:.2}</td><td class=\"n\">{:.0}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        if first { " class=\"first\"" } else { "" },
        run.mode,
        stall.as_ref().map_or(NOTHING, |stall| stall.class.as_str()),
        ms(stall.as_ref().map(|stall| stall.detected_ms)),
        ms(stall.as_ref().and_then(|stall| stall.recovered_ms)),
        throughput.before,
        throughput.during,
        throughput.after,
        throughput.longest_gap_ms,
        yes_no(run.judgement.suffered.is_empty()),
        fits(observed),
        pill(run),
    );
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn fits(observed: &Observed) -> &'static str {
    let fit = decisive(observed).and_then(|found| found.fits_2019.as_ref());
    fit.map_or(NOTHING, |fit| yes_no(fit.fits))
}

fn pill(run: &RunReport) -> String {
    let named = decisive(&run.observed).map_or("none".to_owned(), |found| {
        found
            .hypothesis
            .map_or("undecided".to_owned(), |named| named.to_string())
    });
    let (class, word) = match run.judgement.right {
        true => ("good", "right"),
        false => ("bad", "wrong"),
    };
    format!("<span class=\"pill {class}\">{named}, {word}</span>")
}

fn legend(out: &mut String) {
    out.push_str(
        "<p class=\"legend\"><span><i class=\"key fault\"></i> the fault</span>\
         <span><i class=\"key stall\"></i> the worker is stalled</span>\
         <span><b class=\"stall\">▼</b> stall reported</span><span><b class=\"recovered\">▲</b> recovered</span>\
         <span><b class=\"rescue\">✚</b> rescue</span><span><b class=\"clock\">◆</b> arbiter: a clock is wrong</span>\
         <span><b class=\"torn\">■</b> torn pairs</span><span><b class=\"late\">|</b> the watchdog was late</span></p>\n",
    );
}

fn section(out: &mut String, hypothesis: &HypothesisReport) {
    let _ = writeln!(
        out,
        "<section id=\"{0}\">\n<h2><b>{0}</b> {1}</h2>\n<div class=\"runs\">",
        hypothesis.hypothesis,
        escape(hypothesis.summary)
    );
    let most = plot::most(&hypothesis.runs);
    for run in &hypothesis.runs {
        let _ = writeln!(
            out,
            "<figure><figcaption><b>{}</b> {}</figcaption>\n{}</figure>",
            run.mode,
            pill(run),
            plot::svg(run, most)
        );
    }
    out.push_str("</div>\n");
    side_by_side(out, &hypothesis.runs);
    for run in &hypothesis.runs {
        reports(out, run);
    }
    out.push_str("</section>\n");
}

fn side_by_side(out: &mut String, runs: &[RunReport]) {
    out.push_str("<table class=\"facts\">\n<thead><tr><th></th>");
    for run in runs {
        let _ = write!(out, "<th>{}</th>", run.mode);
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    let columns: Vec<Vec<(&str, String)>> = runs.iter().map(facts).collect();
    for (index, (name, _)) in columns.first().into_iter().flatten().enumerate() {
        let texts: Vec<&str> = columns.iter().map(|column| column[index].1.as_str()).collect();
        if texts.iter().all(|text| *text == NOTHING) {
            continue;
        }
        let _ = write!(out, "<tr><th scope=\"row\">{name}</th>");
        for text in texts {
            let class = match *name {
                "ordered" | "lock word" | "owner" => " class=\"code\"",
                "right" if text != "yes" => " class=\"bad\"",
                "right" => " class=\"good\"",
                _ => "",
            };
            let _ = write!(out, "<td{class}>{}</td>", escape(text));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table>\n");
}

/// The first report of the stall that the table is about open, the others folded.
fn reports(out: &mut String, run: &RunReport) {
    let reports = &run.observed.reports;
    let worker = run.observed.stall.as_ref().map(|stall| stall.worker.as_str());
    let first = reports
        .iter()
        .position(|report| Some(report.worker.as_str()) == worker && report.at_s >= 0.0);
    for (index, report) in reports.iter().enumerate() {
        let ReportText { at_s, worker, text } = report;
        let open = if Some(index) == first.or(Some(0)) {
            " open=\"open\""
        } else {
            ""
        };
        let _ = writeln!(
            out,
            "<details{open}><summary>{} mode: report on <b>{}</b>, {:.3} s after the strike</summary>\n<pre>{}</pre></details>",
            run.mode,
            escape(worker),
            at_s,
            escape(text.trim_end())
        );
    }
    let others: Vec<_> = run
        .observed
        .events
        .iter()
        .filter(|event| event.event != "stall")
        .collect();
    if others.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "<details><summary>{} mode: what else the watchdog said</summary>\n<pre>",
        run.mode
    );
    for event in others {
        let _ = writeln!(
            out,
            "{:+9.3} s  {:<9}  {}",
            event.at_s,
            event.event,
            escape(&event.message)
        );
    }
    out.push_str("</pre></details>\n");
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn parsed(page: &str) -> roxmltree::Document<'_> {
        let options = roxmltree::ParsingOptions {
            allow_dtd: true,
            ..roxmltree::ParsingOptions::default()
        };
        roxmltree::Document::parse_with_options(page, options).unwrap()
    }

    #[test]
    fn is_xml_with_a_plot_for_each_run_and_all_reports() {
        let report = fixture::report();
        let page = page(&report);
        let document = parsed(&page);
        let count = |tag: &str| {
            document
                .descendants()
                .filter(|node| node.tag_name().name() == tag)
                .count()
        };
        assert_eq!((count("svg"), count("section")), (3, 2));
        // Two reports and the other events for each of the stalled runs.
        assert_eq!(count("details"), 6);
        let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).collect();
        assert!(
            texts
                .iter()
                .any(|text| text.contains("Class: <spinning> & so on")),
            "report text"
        );
        for (_, run) in report.runs() {
            for (name, text) in facts(run).into_iter().filter(|(_, text)| text != NOTHING) {
                assert!(texts.contains(&text.as_str()), "{name}: {text}");
            }
        }
        assert!(texts.contains(&"verdicts are wrong in 1 of 3 runs"));
    }

    #[test]
    fn needs_nothing_else() {
        let page = page(&fixture::report());
        let namespaces = ["http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg"];
        let rest = namespaces.iter().fold(page, |page, name| page.replace(name, ""));
        for word in ["http:", "https:", "src=", "url(", "@import", "<script", "<link"] {
            assert!(!rest.contains(word), "{word}");
        }
    }

    #[test]
    fn what_xml_cannot_hold_is_replaced() {
        assert_eq!(
            escape("a<b>&\"c\"\u{1b}[0m\n"),
            "a&lt;b&gt;&amp;&quot;c&quot;\u{fffd}[0m\n"
        );
    }
}
