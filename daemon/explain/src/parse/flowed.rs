//! Mail whose program has joined the lines of a report and broken them anew, time stamps and all:
//! `... [kworker/0:1:7] [  467.189857] Modules linked in: x [`.

/// A report of a few lines has so many stamps that are broken in two.
const FEWEST: usize = 3;

/// The lines as they were, each with the number of the one in which it begins. `None` where none were joined.
pub fn unflow(input: &[u8]) -> Option<Vec<(usize, String)>> {
    let text = String::from_utf8_lossy(input);
    let lines = || {
        text.lines()
            .map(|line| line.trim_start_matches(['>', ' ']).trim_end())
    };
    let broken = lines()
        .zip(lines().skip(1))
        .filter(|(line, next)| line.ends_with('[') && stamp(next).is_some());
    broken.take(FEWEST).nth(FEWEST - 1)?;
    let mut found = Vec::new();
    let mut paragraph = Paragraph::default();
    for (index, line) in lines().enumerate() {
        if line.is_empty() {
            std::mem::take(&mut paragraph).split_into(&mut found);
            continue;
        }
        paragraph.starts.push((paragraph.text.len(), index + 1));
        paragraph.text.push_str(line);
        paragraph.text.push(' ');
    }
    paragraph.split_into(&mut found);
    Some(found)
}

#[derive(Default)]
struct Paragraph {
    text: String,
    /// Where each of its lines begins in the text, and that line's number.
    starts: Vec<(usize, usize)>,
}

impl Paragraph {
    fn split_into(self, lines: &mut Vec<(usize, String)>) {
        let number = |at: usize| {
            let known = self.starts.iter().rev().find(|(start, _)| *start <= at);
            known.map_or(1, |(_, number)| *number)
        };
        let stamps = self.text.match_indices('[').map(|(at, _)| at);
        let stamps = stamps.filter(|at| stamp(&self.text[at + 1..]).is_some());
        let mut from = 0;
        for to in stamps.chain([self.text.len()]) {
            let line = self.text[from..to].trim_end();
            if !line.is_empty() {
                lines.push((number(from), line.to_owned()));
            }
            from = to;
        }
    }
}

/// What follows `  467.189857]`.
fn stamp(text: &str) -> Option<&str> {
    let (inside, rest) = text.split_once(']')?;
    let (seconds, fraction) = inside.trim_start().split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits(seconds) && digits(fraction) && fraction.len() == 6).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_they_were() {
        let text = "> Hello [1].\n> \n> [  1.000001] BUG: soft lockup\n> - CPU#0 [x:7] [  1.000002] a [\n> 1.000003] b c\n> d [\n> \
                    1.000004] e [\n> 1.000005] f\n";
        let found = unflow(text.as_bytes()).unwrap();
        let expected = [
            (1, "Hello [1]."),
            (3, "[  1.000001] BUG: soft lockup - CPU#0 [x:7]"),
            (4, "[  1.000002] a"),
            (4, "[ 1.000003] b c d"),
            (6, "[ 1.000004] e"),
            (7, "[ 1.000005] f"),
        ];
        let found: Vec<(usize, &str)> = found
            .iter()
            .map(|(number, line)| (*number, line.as_str()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn others_are_left_alone() {
        for text in [
            "",
            "[  1.000001] a [  1.000002] b\n[  1.000003] c [\n",
            "a [\n1.000003] b\n",
        ] {
            assert_eq!(unflow(text.as_bytes()), None, "{text}");
        }
    }
}
