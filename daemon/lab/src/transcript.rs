//! Everything that a daemon prints, for those who read its log as a whole. Bounded, whatever it prints.

use parking_lot::Mutex;

/// Bytes that are kept at most: a long lab's reports many times over.
const MOST: usize = 64 << 20;

/// Lines in the order in which they came.
#[derive(Debug, Default)]
pub struct Transcript(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    lines: Vec<String>,
    bytes: usize,
    left_out: u64,
}

impl Transcript {
    pub fn record(&self, line: &str) {
        let mut kept = self.0.lock();
        if kept.bytes + line.len() > MOST {
            kept.left_out += 1;
            return;
        }
        kept.bytes += line.len();
        kept.lines.push(line.to_owned());
    }

    /// The lines so far, and how many more came for which there was no room.
    pub fn take(&self) -> (Vec<String>, u64) {
        let kept = std::mem::take(&mut *self.0.lock());
        (kept.lines, kept.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_and_says_so() {
        let transcript = Transcript::default();
        let line = "x".repeat(MOST / 2);
        for line in ["first", &line, &line, "last"] {
            transcript.record(line);
        }
        let (lines, left_out) = transcript.take();
        assert_eq!(
            (lines.len(), lines[0].as_str(), lines[2].as_str()),
            (3, "first", "last")
        );
        assert_eq!(left_out, 1);
        assert!(transcript.take().0.is_empty());
    }
}
