//! Throughput of one run over time, as SVG to stand in a page: the fault and the stall shaded, what the watchdog said marked.
//! Colours and fonts are the page's, by class.

use std::fmt::Write as _;

use super::html::escape;
use super::observe::SLICE;
use super::report::RunReport;

const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 250.0;
/// The plotting area.
const LEFT: f64 = 46.0;
const RIGHT: f64 = 608.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 212.0;

/// Height of the bar that shows the fault above whatever is shaded over it.
const BAR: f64 = 5.0;

/// An event of the same kind within so many seconds of the last is not marked again.
const MARKED_ONCE_IN: f64 = 0.02;

/// `most`: Gbit/s at the top of the plot, the same for runs that stand side by side.
pub fn svg(run: &RunReport, most: f64) -> String {
    let axes = Axes::of(run, most);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        escape(&format!(
            "Throughput over time, {} mode: {:.2} Gbit/s before the fault, {:.2} during, {:.2} after",
            run.mode,
            run.observed.throughput.before,
            run.observed.throughput.during,
            run.observed.throughput.after
        ))
    );
    shades(&mut out, &axes, run);
    axes.draw(&mut out);
    curve(&mut out, &axes, &run.observed.throughput.slices);
    marks(&mut out, &axes, run);
    out + "</svg>\n"
}

/// The highest throughput in any of these runs, and a little more.
pub fn most(runs: &[RunReport]) -> f64 {
    let slices = runs.iter().flat_map(|run| &run.observed.throughput.slices);
    let most = slices.map(|(_, rate)| *rate).fold(0.0, f64::max);
    if most > 0.0 { most * 1.08 } else { 1.0 }
}

struct Axes {
    from: f64,
    to: f64,
    most: f64,
}

impl Axes {
    fn of(run: &RunReport, most: f64) -> Self {
        let slices = &run.observed.throughput.slices;
        let from = slices.first().map_or(-1.0, |slice| slice.0);
        let to = slices.last().map_or(1.0, |slice| slice.0 + SLICE);
        Self { from, to, most }
    }

    fn x(&self, at: f64) -> f64 {
        let part = ((at - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        LEFT + (RIGHT - LEFT) * part
    }

    fn y(&self, rate: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * (rate / self.most).clamp(0.0, 1.0)
    }

    fn draw(&self, out: &mut String) {
        let rise = step(self.most, 4.0);
        for index in 0..=(self.most / rise) as u32 {
            let rate = f64::from(index) * rise;
            let y = self.y(rate);
            line(out, [LEFT, y, RIGHT, y], "grid");
            text(out, LEFT - 6.0, y + 4.0, "end", &short(rate, rise));
        }
        let pace = step(self.to - self.from, 8.0);
        for index in (self.from / pace).ceil() as i32..=(self.to / pace).floor() as i32 {
            let at = f64::from(index) * pace;
            line(out, [self.x(at), BOTTOM, self.x(at), BOTTOM + 4.0], "axis");
            text(out, self.x(at), BOTTOM + 17.0, "mid", &short(at, pace));
        }
        line(out, [LEFT, BOTTOM, RIGHT, BOTTOM], "axis");
        text(out, RIGHT, BOTTOM + 33.0, "end", "s after the strike");
        text(
            out,
            LEFT,
            BOTTOM + 33.0,
            "",
            "Gbit/s arrived at host b, each 50 ms",
        );
    }
}

/// A round step by which a range has about so many.
fn step(range: f64, count: f64) -> f64 {
    let rough = (range / count).max(1e-9);
    let decade = 10f64.powf(rough.log10().floor());
    let rounded = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade);
    rounded
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * decade)
}

/// As many decimals as the step between two labels needs.
fn short(number: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    let number = if number.abs() < step / 2.0 { 0.0 } else { number };
    format!("{number:.decimals$}")
}

fn shades(out: &mut String, axes: &Axes, run: &RunReport) {
    // The halt of deep idle has no end; neither have jumps a length. The shade is the time for which "during" stands.
    let window = run.course.window.as_secs_f64();
    shade(
        out,
        axes,
        [0.0, window],
        [TOP, BOTTOM],
        "fault",
        &format!("the fault: {}", run.ordered.fault),
    );
    if let Some(stall) = &run.observed.stall {
        let end = stall.recovered_ms.map_or(axes.to, |ms| ms / 1e3);
        shade(
            out,
            axes,
            [stall.began_s, end],
            [TOP, BOTTOM],
            "stall",
            &format!("{} stalled, {}", stall.worker, stall.class),
        );
    }
    for (at, class) in [(0.0, "strike"), (window, "edge")] {
        line(out, [axes.x(at), TOP - BAR, axes.x(at), BOTTOM], class);
    }
    shade(
        out,
        axes,
        [0.0, window],
        [TOP - BAR, TOP],
        "bar",
        "from here to there it is \"during\" the fault",
    );
}

fn shade(
    out: &mut String,
    axes: &Axes,
    [from, to]: [f64; 2],
    [top, bottom]: [f64; 2],
    class: &str,
    title: &str,
) {
    let (x, width) = (axes.x(from), axes.x(to) - axes.x(from));
    let _ = writeln!(
        out,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
        width.max(1.0),
        bottom - top,
        escape(title)
    );
}

fn curve(out: &mut String, axes: &Axes, slices: &[(f64, f64)]) {
    let (Some(first), Some(last)) = (slices.first(), slices.last()) else {
        return;
    };
    let mut steps = String::new();
    for (at, rate) in slices {
        let (left, right, y) = (axes.x(*at), axes.x(at + SLICE), axes.y(*rate));
        let _ = write!(steps, "{left:.1},{y:.1} {right:.1},{y:.1} ");
    }
    let (left, right) = (axes.x(first.0), axes.x(last.0 + SLICE));
    let _ = writeln!(
        out,
        "<polygon class=\"area\" points=\"{left:.1},{BOTTOM} {steps}{right:.1},{BOTTOM}\"/>\n\
         <polyline class=\"curve\" points=\"{}\"/>",
        steps.trim_end()
    );
}

fn marks(out: &mut String, axes: &Axes, run: &RunReport) {
    let mut last: Option<(&str, f64)> = None;
    for event in &run.observed.events {
        let near = |(kind, at): (&str, f64)| kind == event.event && event.at_s - at < MARKED_ONCE_IN;
        if event.at_s < axes.from || event.at_s > axes.to || last.is_some_and(near) {
            continue;
        }
        last = Some((event.event, event.at_s));
        let x = axes.x(event.at_s);
        let shape = match event.event {
            "stall" => format!("M{:.1} {} l5 -9 h-10 z", x, TOP - 9.0),
            "recovered" => format!("M{:.1} {} l5 9 h-10 z", x, TOP - 18.0),
            "clock" => format!("M{:.1} {} l5 5 l-5 5 l-5 -5 z", x, TOP - 19.0),
            "torn" => format!("M{:.1} {} h8 v8 h-8 z", x - 4.0, TOP - 18.0),
            "rescue" => format!(
                "M{:.1} {} h3 v3 h3 v3 h-3 v3 h-3 v-3 h-3 v-3 h3 z",
                x - 1.5,
                TOP - 18.0
            ),
            _ => format!("M{:.1} {} v9", x, TOP - 18.0),
        };
        let title = format!("{:+.3} s: {}", event.at_s, event.message);
        let _ = writeln!(
            out,
            "<path class=\"mark {}\" d=\"{shape}\"><title>{}</title></path>",
            event.event,
            escape(&title)
        );
    }
}

fn line(out: &mut String, [x1, y1, x2, y2]: [f64; 4], class: &str) {
    let _ = writeln!(
        out,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

fn text(out: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
        escape(text)
    );
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn is_xml_with_the_stall_and_the_fault_where_they_were() {
        let report = fixture::report();
        let runs = &report.hypotheses[0].runs;
        let svg = svg(&runs[0], most(runs));
        let document = roxmltree::Document::parse(&svg).unwrap();
        let of_class = |class: &str| {
            document
                .descendants()
                .filter(|node| {
                    node.attribute("class")
                        .is_some_and(|all| all.split(' ').any(|one| one == class))
                })
                .collect::<Vec<_>>()
        };
        let number =
            |node: &roxmltree::Node<'_, '_>, name| node.attribute(name).unwrap().parse::<f64>().unwrap();
        let (fault, stall) = (of_class("fault"), of_class("stall"));
        // Both begin at the strike, and last about as long.
        let strike = number(&of_class("strike")[0], "x1");
        assert!((number(&fault[0], "x") - strike).abs() < 0.2);
        let widths = [&fault[0], &stall[0]].map(|node| number(node, "width"));
        assert!(
            (widths[0] - widths[1]).abs() < 2.0 && widths[0] > 50.0,
            "{widths:?}"
        );
        // One of two recoveries within a millisecond, two reports.
        let marked = |class| {
            of_class(class)
                .iter()
                .filter(|node| node.has_tag_name("path"))
                .count()
        };
        assert_eq!((marked("recovered"), marked("stall"), marked("torn")), (1, 2, 1));
        let curve = of_class("curve")[0].attribute("points").unwrap();
        assert_eq!(
            curve.split(' ').count(),
            2 * runs[0].observed.throughput.slices.len()
        );
        assert!(
            curve.contains(&format!(",{BOTTOM:.1}")),
            "nothing arrives during the stall"
        );
    }

    #[test]
    fn a_quiet_run_has_no_stall() {
        let report = fixture::report();
        let runs = &report.hypotheses[0].runs;
        let svg = svg(&runs[1], most(runs));
        roxmltree::Document::parse(&svg).unwrap();
        assert!(svg.contains("class=\"fault\"") && !svg.contains("stall"), "{svg}");
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([8.0, 1.0, 3.4].map(|range| step(range, 4.0)), [2.0, 0.5, 1.0]);
        assert_eq!(
            [(0.5, 0.5), (-2.0, 1.0), (-1e-12, 0.2)].map(|(n, s)| short(n, s)),
            ["0.5", "-2", "0.0"]
        );
    }
}
