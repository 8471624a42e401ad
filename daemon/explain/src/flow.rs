//! The loop that RIP is in, as far as the code bytes show it.

use iced_x86::{FlowControl, Mnemonic};

use super::disassembly::{Disassembly, is_jump};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loop {
    /// Lines of the disassembly in the order in which one pass runs them, from the loop's first one. RIP's is among them.
    pub pass: Vec<usize>,
    /// Whether the jump back is in sight. If not, a `pause` just before RIP is why this is taken for a loop.
    pub closes: bool,
}

/// The innermost loop around RIP.
pub fn find(code: &Disassembly) -> Option<Loop> {
    let backward = |from: usize| {
        let jump = code.instruction(from);
        let to = is_jump(jump).then(|| code.target(jump))??;
        (to <= code.at && code.at <= from).then_some((to, from))
    };
    let mut spans: Vec<(usize, usize)> = (code.at..code.lines.len()).filter_map(backward).collect();
    spans.sort_by_key(|(to, from)| from - to);
    spans
        .into_iter()
        .find_map(|span| {
            let mut search = Search {
                code,
                span,
                pass: Vec::new(),
                steps: 0,
            };
            search.visit(span.0).then_some(Loop {
                pass: search.pass,
                closes: true,
            })
        })
        .or_else(|| open_end(code))
}

/// One pass, depth first: ways that skip something before those that do not.
struct Search<'a> {
    code: &'a Disassembly,
    span: (usize, usize),
    pass: Vec<usize>,
    steps: usize,
}

impl Search<'_> {
    /// True where a way leads from `line` back to the loop's first line, by RIP.
    fn visit(&mut self, line: usize) -> bool {
        const MOST_STEPS: usize = 4096;
        self.steps += 1;
        if self.steps > MOST_STEPS || line > self.span.1 {
            return false;
        }
        self.pass.push(line);
        let instruction = self.code.instruction(line);
        let goes_on = match instruction.flow_control() {
            FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => self.visit(line + 1),
            FlowControl::ConditionalBranch => self.jump(line) || self.visit(line + 1),
            FlowControl::UnconditionalBranch => self.jump(line),
            _ => false,
        };
        if !goes_on {
            self.pass.pop();
        }
        goes_on
    }

    fn jump(&mut self, line: usize) -> bool {
        match self.code.target(self.code.instruction(line)) {
            Some(to) if to == self.span.0 => self.pass.contains(&self.code.at),
            Some(to) if to > line => self.visit(to),
            _ => false,
        }
    }
}

/// A loop whose jump back is beyond the end of the bytes.
fn open_end(code: &Disassembly) -> Option<Loop> {
    let first = begins_with_pause(code).or_else(|| begins_with_test(code))?;
    let ends = |line: &usize| {
        let control = code.instruction(*line).flow_control();
        matches!(
            control,
            FlowControl::Return
                | FlowControl::UnconditionalBranch
                | FlowControl::IndirectBranch
                | FlowControl::Exception
        )
    };
    let pass: Vec<usize> = (first..code.lines.len()).take_while(|line| !ends(line)).collect();
    // A return after the pause, in sight, is the end of something that does not loop.
    let is_cut = pass.last().is_some_and(|last| last + 1 == code.lines.len());
    (is_cut && pass.contains(&code.at)).then_some(Loop { pass, closes: false })
}

const NEAR: usize = 8;

fn is_pause(code: &Disassembly, line: usize) -> bool {
    code.instruction(line).mnemonic() == Mnemonic::Pause
}

/// RIP is at a `pause`, or shortly behind it.
fn begins_with_pause(code: &Disassembly) -> Option<usize> {
    (code.at.saturating_sub(NEAR)..=code.at)
        .rev()
        .find(|line| is_pause(code, *line))
}

/// RIP is shortly before a `pause`, at or behind a place that only a jump comes to: the jump back.
fn begins_with_test(code: &Disassembly) -> Option<usize> {
    let last = (code.at + NEAR).min(code.lines.len());
    (code.at..last).find(|line| is_pause(code, *line))?;
    let is_nop = |line: usize| code.instruction(line).mnemonic() == Mnemonic::Nop;
    let first = code.at.saturating_sub(NEAR);
    (first + 1..=code.at).rev().find(|line| {
        // Padding, and before it something that does not go on.
        let before = (0..*line).rev().find(|before| !is_nop(*before));
        before.is_some_and(|before| {
            matches!(
                code.instruction(before).flow_control(),
                FlowControl::UnconditionalBranch | FlowControl::Return | FlowControl::IndirectBranch
            )
        })
    })
}
