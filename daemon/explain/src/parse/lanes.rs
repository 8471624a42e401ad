//! Keeps apart the reports that several processors print at once, so that their lines come mixed.
//!
//! The lines of one processor carry times that do not fall. Where the times of a log fall, the lines of one time stay
//! together, and each such group goes to the lane (one processor's lines) that it can follow: not while another group of
//! that lane goes on, not against the kernel's print order, and not to the lane of another processor.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{fields, headline, place};
use crate::trace::Section;

/// Times fall by less where processors print at once. By more after a restart, or where logs were put together.
const AT_ONCE_US: u64 = 10_000_000;
/// A mixed stretch reaches back for so long, and goes on for so long behind the last fall.
const BEFORE_US: u64 = 5_000_000;
const BEHIND_US: u64 = 1_000_000;
const MOST_LINES_BEFORE: usize = 400;
const MOST_LINES: usize = 5000;
/// What fits into none of so many goes to the last: more are no processors that print at once.
const MOST_LANES: usize = 128;

/// A line of the log.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    /// From 1.
    pub number: usize,
    /// The kernel's time in microseconds; that of the line before where it has none.
    pub stamp: Option<u64>,
    /// The text of the line is printed at the same moment as another processor's.
    pub mixed: bool,
    pub text: Cow<'a, str>,
}

/// `[12345.678901]`, anywhere near the beginning of the line.
pub fn stamp(line: &[u8]) -> Option<u64> {
    const NEAR: usize = 120;
    let near = &line[..line.len().min(NEAR)];
    near.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'[')
        .find_map(|(at, _)| {
            let inside = &near[at + 1..];
            let inside = &inside[..inside.iter().position(|byte| *byte == b']')?];
            let text = std::str::from_utf8(inside).ok()?.trim_start();
            let (seconds, fraction) = text.split_once('.')?;
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if !digits(seconds) || !digits(fraction) || fraction.len() != 6 {
                return None;
            }
            seconds
                .parse::<u64>()
                .ok()?
                .checked_mul(1_000_000)?
                .checked_add(fraction.parse().ok()?)
        })
}

/// The lines with each mixed stretch in the order of its reports.
pub fn separate(lines: Vec<Line<'_>>) -> Vec<Line<'_>> {
    let falls = |at: usize| match (lines[at].stamp, lines[at - 1].stamp) {
        (Some(now), Some(before)) => now < before && before - now < AT_ONCE_US,
        _ => false,
    };
    let mut order = Vec::with_capacity(lines.len());
    let mut done = 0;
    let mut at = 1;
    while at < lines.len() {
        if !falls(at) {
            at += 1;
            continue;
        }
        let stretch = stretch(&lines, done, at);
        order.extend((done..stretch.start).map(|index| (index, false)));
        let lanes = lanes(&lines, stretch.clone());
        let reports = lanes.iter().filter(|lane| lane.is_report).count();
        if reports < 2 {
            order.extend(stretch.clone().map(|index| (index, false)));
        } else {
            order.extend(
                lanes
                    .iter()
                    .flat_map(|lane| lane.lines.iter().map(|index| (*index, lane.is_report))),
            );
        }
        done = stretch.end;
        at = stretch.end.max(at + 1);
    }
    if order.is_empty() {
        return lines;
    }
    order.extend((done..lines.len()).map(|index| (index, false)));
    let mut lines: Vec<_> = lines.into_iter().map(Some).collect();
    order
        .into_iter()
        .filter_map(|(index, mixed)| {
            Some(Line {
                mixed,
                ..lines[index].take()?
            })
        })
        .collect()
}

/// The lines around the fall at `at` that may be mixed: none before `from`.
fn stretch(lines: &[Line<'_>], from: usize, at: usize) -> std::ops::Range<usize> {
    let low = lines[at].stamp.unwrap_or(0);
    let mut start = at - 1;
    while start > from
        && at - start < MOST_LINES_BEFORE
        && lines[start - 1]
            .stamp
            .is_some_and(|stamp| stamp + BEFORE_US >= low)
        && lines[start - 1].stamp <= lines[at - 1].stamp
    {
        start -= 1;
    }
    let mut highest = lines[at - 1].stamp.unwrap_or(low);
    let mut end = at + 1;
    while end < lines.len() && end - start < MOST_LINES {
        let (Some(now), Some(before)) = (lines[end].stamp, lines[end - 1].stamp) else {
            break;
        };
        if now > highest + BEHIND_US || now + AT_ONCE_US < highest {
            break;
        }
        if now < before {
            highest = highest.max(before);
        }
        end += 1;
    }
    start.max(from)..end
}

/// One processor's lines.
#[derive(Default)]
struct Lane {
    lines: Vec<usize>,
    stage: u8,
    cpu: Option<u32>,
    /// It has the beginning of a report, and not only lines of another kind.
    is_report: bool,
}

/// The lines of one time.
struct Group {
    lines: Vec<usize>,
    first_stage: Option<u8>,
    last_stage: Option<u8>,
    cpu: Option<u32>,
    is_report: bool,
}

fn lanes(lines: &[Line<'_>], stretch: std::ops::Range<usize>) -> Vec<Lane> {
    let mut by_time: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for index in stretch {
        by_time
            .entry(lines[index].stamp.unwrap_or(0))
            .or_default()
            .push(index);
    }
    let mut lanes: Vec<Lane> = Vec::new();
    for indexes in by_time.into_values() {
        let group = Group::of(lines, indexes);
        let first = group.lines[0];
        let fits = |lane: &Lane| {
            let follows = lane.lines.last().is_some_and(|last| *last < first);
            let in_order = group
                .first_stage
                .is_none_or(|stage| stage > HEADLINE && stage >= lane.stage);
            let same_cpu = lane.cpu.is_none() || group.cpu.is_none() || lane.cpu == group.cpu;
            follows && in_order && same_cpu
        };
        let of_cpu = lanes
            .iter()
            .position(|lane| group.cpu.is_some() && lane.cpu == group.cpu && fits(lane));
        // The lane that printed last, among equals.
        let chosen = of_cpu.or_else(|| {
            let fitting = lanes.iter().enumerate().filter(|(_, lane)| fits(lane));
            fitting
                .max_by_key(|(_, lane)| lane.lines.last().copied())
                .map(|(index, _)| index)
        });
        let lane = match chosen {
            Some(index) => &mut lanes[index],
            None => {
                if lanes.len() < MOST_LANES {
                    lanes.push(Lane::default());
                }
                lanes.last_mut().expect("there is one at least")
            }
        };
        lane.lines.extend(group.lines);
        lane.stage = group.last_stage.unwrap_or(lane.stage);
        lane.cpu = lane.cpu.or(group.cpu);
        lane.is_report |= group.is_report;
    }
    lanes.sort_by_key(|lane| lane.lines[0]);
    lanes
}

impl Group {
    fn of(lines: &[Line<'_>], indexes: Vec<usize>) -> Group {
        let stages: Vec<u8> = indexes
            .iter()
            .filter_map(|index| stage(&lines[*index].text))
            .collect();
        Group {
            first_stage: stages.first().copied(),
            last_stage: stages.last().copied(),
            cpu: indexes.iter().find_map(|index| cpu(&lines[*index].text)),
            is_report: stages.iter().any(|stage| *stage <= PLACE),
            lines: indexes,
        }
    }
}

const HEADLINE: u8 = 0;
const PLACE: u8 = 5;

/// When the kernel prints such a line of a report, counted from its headline on. `None` for what is anywhere.
fn stage(text: &str) -> Option<u8> {
    const ORDER: [(&str, u8); 16] = [
        ("Modules linked in", 1),
        ("CPU:", 2),
        ("Hardware name:", 3),
        ("Workqueue:", 4),
        // Of user mode, behind the call trace; its registers follow.
        ("RIP: 0033:", 5),
        ("RIP:", PLACE),
        ("Code:", 6),
        ("RSP:", 7),
        ("RAX:", 8),
        ("FS:", 8),
        ("CS:", 8),
        ("CR2:", 8),
        ("Call Trace:", 9),
        ("<TASK>", 10),
        ("<IRQ>", 10),
        ("</TASK>", 10),
    ];
    if headline::parse(text).is_some() {
        return Some(HEADLINE);
    }
    let named = ORDER
        .iter()
        .find(|(words, _)| text.starts_with(words))
        .map(|(_, stage)| *stage);
    named.or_else(|| place::frame(text).map(|_| 10))
}

/// The processor that a line is of, where it says so.
fn cpu(text: &str) -> Option<u32> {
    if let Some(headline) = headline::parse(text) {
        return headline.cpu;
    }
    let mut section = Section::default();
    (text.starts_with("CPU:") && fields::cpu_line(text, &mut section)).then_some(section.cpu)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn separated(text: &str) -> Vec<(usize, bool)> {
        let lines = text.lines().enumerate().map(|(index, line)| Line {
            number: index + 1,
            stamp: stamp(line.as_bytes()),
            mixed: false,
            text: super::super::line::clean(line.as_bytes()),
        });
        separate(lines.collect())
            .iter()
            .map(|line| (line.number, line.mixed))
            .collect()
    }

    #[test]
    fn lines_go_to_the_lane_of_their_time() {
        let text = "[    9.000002] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [a:1]\n\
                    [    9.000001] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [b:2]\n\
                    [    9.000005] CPU: 1 PID: 2 Comm: b Not tainted 6.1.0\n\
                    [    9.000004] CPU: 0 PID: 1 Comm: a Not tainted 6.1.0\n\
                    [    9.000005] RIP: 0010:g+0x1/0x2\n\
                    [    9.000004] RIP: 0010:f+0x1/0x2\n";
        let of_0 = [1, 4, 6];
        let of_1 = [2, 3, 5];
        let expected: Vec<_> = of_0
            .into_iter()
            .chain(of_1)
            .map(|number| (number, true))
            .collect();
        assert_eq!(separated(text), expected);
    }

    #[test]
    fn what_is_not_mixed_stays() {
        let ordered = "[    1.000001] a\n[    1.000002] b\n[    1.000002] c\n";
        assert_eq!(separated(ordered), [(1, false), (2, false), (3, false)]);
        // A restart, and a line of another processor within one report.
        let again = "[   99.000001] a\n[    1.000002] b\n";
        assert_eq!(separated(again), [(1, false), (2, false)]);
        let one = "[    1.000003] RIP: 0010:f+0x1/0x2\n[    1.000001] usb 1-1: new device\n[    1.000004] Code: 90 <90>\n";
        assert_eq!(separated(one), [(1, false), (2, false), (3, false)]);
    }

    #[test]
    fn stamps() {
        assert_eq!(stamp(b"<4>[   12.345678][    C1] x"), Some(12_345_678));
        assert_eq!(
            stamp(b"Jun  1 12:00:00 box kernel: [ 1.000001] x"),
            Some(1_000_001)
        );
        assert_eq!(
            stamp(b"[kworker/1:3:7927] [1.2] [99999999999999999999.000001]"),
            None
        );
    }
}
