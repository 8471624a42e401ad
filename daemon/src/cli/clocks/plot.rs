//! The costs of a read as a picture: a row for each clock, alone above the line and contended below it, on one scale.

use std::fmt::Write as _;

use clockshim::Survey;
use clockshim::survey::{Bucket, Cost, Figures, SourceReport};

use super::table::nanos;
use text::wrap::wrap;

const WIDTH: f64 = 1000.0;
/// The plotting area, from the left.
const LEFT: f64 = 140.0;
const RIGHT: f64 = 800.0;
const TOP: f64 = 92.0;
/// Height of a clock's row, and of a distribution on either side of its line.
const ROW: f64 = 88.0;
const HALF: f64 = 36.0;
const ALONE: &str = "#1f6fb4";
const CONTENDED: &str = "#d9731a";
const MARKS: [&str; 2] = ["#0b3a66", "#8a3c00"];
const GREY: &str = "#767676";

const STYLE: &str = "text{font-family:'DejaVu Sans',Verdana,sans-serif;font-size:13px;fill:#222}\
    .title{font-size:19px;font-weight:bold}.name{font-size:15px;font-weight:bold}\
    .grey{fill:#767676}.end{text-anchor:end}.mid{text-anchor:middle}";

/// A whole SVG document.
pub fn svg(survey: &Survey) -> String {
    let axis = Axis::of(survey);
    let bottom = TOP + ROW * survey.sources.len() as f64;
    let height = bottom + 62.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">\n\
         <style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    text(&mut out, 24.0, 34.0, "title", "What one read of each clock costs");
    legend(&mut out, survey.cores);
    axis.draw(&mut out, bottom);
    for (index, source) in survey.sources.iter().enumerate() {
        row(
            &mut out,
            &axis,
            source,
            TOP + ROW * (index as f64 + 0.5),
            survey.cores,
        );
    }
    out + "</svg>\n"
}

fn legend(out: &mut String, cores: usize) {
    let all = format!("all {cores} cores at once");
    for (x, colour, label) in [
        (24.0, ALONE, "one thread alone"),
        (170.0, CONTENDED, all.as_str()),
    ] {
        rect(out, x, 53.0, 12.0, 12.0, colour);
        text(out, x + 18.0, 64.0, "", label);
    }
    let rest = "solid mark p50, dashed p99; height: square root of the share of reads";
    text(out, RIGHT, 64.0, "grey end", rest);
    text(out, WIDTH - 24.0, 64.0, "grey end", "p50 / p99, ns");
}

/// Nanoseconds from left to right, by their logarithm.
struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    /// Whole decades, with all samples in them.
    fn of(survey: &Survey) -> Axis {
        let figures = survey.sources.iter().filter_map(|source| source.figures.as_ref());
        let costs = figures.flat_map(|figures| [&figures.read_ns, &figures.contended_ns]);
        let samples = costs.flat_map(|cost| cost.distribution.iter().map(|bucket| bucket.ns));
        let (least, most) = samples
            .filter(|ns| *ns >= 0.1)
            .fold((f64::MAX, f64::MIN), |(least, most), ns| {
                (least.min(ns), most.max(ns * 1.1))
            });
        if least > most {
            return Axis { from: 0.0, to: 4.0 };
        }
        let from = least.log10().floor();
        Axis {
            from,
            to: most.log10().ceil().max(from + 1.0),
        }
    }

    /// What costs less than the axis has lies at its left end.
    fn x(&self, ns: f64) -> f64 {
        let part = (ns.max(1e-3).log10() - self.from) / (self.to - self.from);
        LEFT + (RIGHT - LEFT) * part.clamp(0.0, 1.0)
    }

    fn draw(&self, out: &mut String, bottom: f64) {
        for decade in self.from as i32..=self.to as i32 {
            let x = self.x(10f64.powi(decade));
            line(out, [x, TOP, x, bottom], "#cccccc", "");
            text(out, x, bottom + 20.0, "mid", &tick(decade));
            let minor = (2..10).map(|n| f64::from(n) * 10f64.powi(decade));
            for ns in minor.filter(|_| decade < self.to as i32) {
                let x = self.x(ns);
                line(out, [x, TOP, x, bottom], "#f0f0f0", "");
            }
        }
        let middle = (LEFT + RIGHT) / 2.0;
        text(
            out,
            middle,
            bottom + 44.0,
            "mid",
            "time of one read (logarithmic)",
        );
    }
}

fn tick(decade: i32) -> String {
    let (exponent, unit) = match decade {
        ..3 => (0, "ns"),
        3..6 => (3, "us"),
        6..9 => (6, "ms"),
        _ => (9, "s"),
    };
    format!("{} {unit}", 10f64.powi(decade - exponent))
}

fn row(out: &mut String, axis: &Axis, source: &SourceReport, y: f64, cores: usize) {
    let in_use = if source.in_use { "in use" } else { "" };
    text(out, 24.0, y + 1.0, "name", &source.name);
    text(out, 24.0, y + 19.0, "grey", in_use);
    match &source.figures {
        Some(figures) => distributions(out, axis, figures, y, cores),
        None => {
            let why = source.why_not.as_deref().unwrap_or("not measured");
            let lines = wrap(&format!("Not to be had: {why}"), 84);
            let first = y + 4.0 - 9.0 * (lines.len() as f64 - 1.0);
            for (index, part) in lines.iter().enumerate() {
                text(out, LEFT + 10.0, first + 18.0 * index as f64, "grey", part);
            }
        }
    }
}

fn distributions(out: &mut String, axis: &Axis, figures: &Figures, y: f64, cores: usize) {
    let sides = [
        (&figures.read_ns, [ALONE, MARKS[0]], -1.0, "alone".to_owned()),
        (
            &figures.contended_ns,
            [CONTENDED, MARKS[1]],
            1.0,
            format!("{cores} cores"),
        ),
    ];
    for (cost, [colour, mark], way, label) in sides {
        bars(out, axis, cost, y, colour, way);
        for (ns, dashes) in [(cost.p50, ""), (cost.p99, "4 3")] {
            let x = axis.x(ns);
            line(out, [x, y, x, y + way * (HALF + 4.0)], mark, dashes);
        }
        let figures = format!("{label}: {} / {}", nanos(cost.p50), nanos(cost.p99));
        text(out, WIDTH - 24.0, y + 5.0 + way * 14.0, "end", &figures);
    }
    line(out, [LEFT, y, RIGHT, y], GREY, "");
}

fn bars(out: &mut String, axis: &Axis, cost: &Cost, y: f64, colour: &str, way: f64) {
    let most = cost.distribution.iter().map(|bucket| bucket.count).max();
    let most = f64::from(most.unwrap_or(1).max(1));
    for (index, &Bucket { ns, count }) in cost.distribution.iter().enumerate() {
        let next = cost.distribution.get(index + 1).map_or(f64::MAX, |next| next.ns);
        let (left, right) = (axis.x(ns), axis.x(next.min(ns * 1.1)));
        let height = HALF * (f64::from(count) / most).sqrt();
        rect(
            out,
            left,
            y.min(y + way * height),
            (right - left).max(1.0),
            height,
            colour,
        );
    }
}

fn rect(out: &mut String, x: f64, y: f64, width: f64, height: f64, colour: &str) {
    let _ = writeln!(
        out,
        "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" fill=\"{colour}\" fill-opacity=\"0.75\"/>"
    );
}

fn line(out: &mut String, [x1, y1, x2, y2]: [f64; 4], colour: &str, dashes: &str) {
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.2}\" y1=\"{y1:.2}\" x2=\"{x2:.2}\" y2=\"{y2:.2}\" stroke=\"{colour}\" stroke-width=\"1.3\" stroke-dasharray=\"{dashes}\"/>"
    );
}

fn text(out: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.2}\" y=\"{y:.2}\" class=\"{class}\">{text}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn is_xml_with_every_clock_in_it() {
        let survey = fixture::survey();
        let svg = svg(&survey);
        let document = roxmltree::Document::parse(&svg).unwrap();
        let texts: Vec<&str> = document
            .descendants()
            .filter(|node| node.has_tag_name("text"))
            .filter_map(|node| node.text())
            .collect();
        for source in &survey.sources {
            assert!(
                texts.contains(&source.name.as_str()),
                "{} in {texts:?}",
                source.name
            );
        }
        assert!(
            texts.iter().any(|text| text.contains("<here> & now")),
            "{texts:?}"
        );
        assert!(texts.contains(&"2 cores: 2,412 / 1,234,567"), "{texts:?}");
        let filled = |colour: &str| {
            document
                .descendants()
                .filter(|n| n.attribute("fill") == Some(colour))
                .count()
        };
        // Three clocks with three buckets each, and the legend.
        assert_eq!((filled(ALONE), filled(CONTENDED)), (10, 10));
    }

    #[test]
    fn the_axis_has_whole_decades_around_all_samples() {
        let axis = Axis::of(&fixture::survey());
        assert_eq!((axis.from, axis.to), (0.0, 7.0));
        assert_eq!((axis.x(1.0), axis.x(1e7), axis.x(0.0)), (LEFT, RIGHT, LEFT));
        assert_eq!([-1, 2, 3, 8].map(tick), ["0.1 ns", "100 ns", "1 us", "100 ms"]);
        let mut survey = fixture::survey();
        survey.sources.retain(|source| source.figures.is_none());
        assert!(roxmltree::Document::parse(&svg(&survey)).is_ok());
    }
}
