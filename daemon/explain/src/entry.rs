//! How the wait was entered: with the lock held at the first look, or after a try for it that failed. The failing way
//! restores the interrupt flag, and so leaves the saved flags in a register; the other way has never saved them.

use iced_x86::{FlowControl, Mnemonic, OpKind};

use super::disassembly::Disassembly;
use super::flow::Loop;
use super::symbolic::{Expr, State, negated};
use super::view::is_try_lock;

/// What the way from the failed try to the loop leaves behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailedTry {
    /// Line of the `lock cmpxchg` or its like, where that is in sight.
    pub try_lock: Option<usize>,
    /// Registers that hold the saved flags when the loop begins, on every such way.
    pub flags_in: Vec<usize>,
    /// Lines that give the interrupt flag back.
    pub restores: Vec<usize>,
}

/// The way from the try-lock into the loop, or the end of that way. `None` where nothing of it is in sight.
pub fn failed_try(code: &Disassembly, around: &Loop) -> Option<FailedTry> {
    // Usually before the loop; some compilers put what is not likely behind it.
    let outside = || (0..code.lines.len()).filter(|line| !around.pass.contains(line));
    let try_lock = outside().find(|line| is_try_lock(code.instruction(*line)));
    let save = |until: usize| {
        (until.saturating_sub(12)..until).rev().find(|line| {
            matches!(
                code.instruction(*line).mnemonic(),
                Mnemonic::Pushfq | Mnemonic::Pushfd
            )
        })
    };
    let tries = try_lock.map(|line| save(line).unwrap_or(line)..line);
    // Interrupts come back on behind a try, and only the one that failed goes on into the loop.
    let restores = outside().filter(|line| begins_restore(code, *line));
    let mut walk = Walk {
        code,
        around,
        found: None,
        restores: Vec::new(),
        steps: 0,
    };
    for straight in tries.into_iter().chain(restores.map(|line| line..line)) {
        let mut state = State::default();
        // From where the flags are saved to the try itself, no jump is taken.
        for line in straight.clone() {
            state.run(line, code.instruction(line));
        }
        walk.visit(straight.end, state);
        if walk.found.is_some() {
            break;
        }
    }
    Some(FailedTry {
        try_lock,
        flags_in: walk.found?,
        restores: walk.restores,
    })
}

/// `push; popf`, or the test of the interrupt flag in front of `sti`.
fn begins_restore(code: &Disassembly, line: usize) -> bool {
    let is = |line: usize, what: &[Mnemonic]| {
        line < code.lines.len() && what.contains(&code.instruction(line).mnemonic())
    };
    let pops = is(line, &[Mnemonic::Push]) && is(line + 1, &[Mnemonic::Popfq, Mnemonic::Popfd]);
    let tests = is(line, &[Mnemonic::Test, Mnemonic::And, Mnemonic::Bt]) && is(line + 2, &[Mnemonic::Sti]);
    pops || tests
}

struct Walk<'a> {
    code: &'a Disassembly,
    around: &'a Loop,
    found: Option<Vec<usize>>,
    restores: Vec<usize>,
    steps: usize,
}

impl Walk<'_> {
    /// Every way from `line` on, until it comes to the loop or leaves what is in sight.
    fn visit(&mut self, mut line: usize, mut state: State) {
        const MOST_STEPS: usize = 512;
        loop {
            self.steps += 1;
            if line >= self.code.lines.len() || self.steps > MOST_STEPS {
                return;
            }
            if self.around.pass.contains(&line) {
                return self.arrived(&state);
            }
            let instruction = self.code.instruction(line);
            match instruction.flow_control() {
                FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => {
                    self.restore(line, &mut state);
                    state.run(line, instruction);
                    line += 1;
                }
                FlowControl::ConditionalBranch => {
                    if let Some(to) = self.code.target(instruction) {
                        let mut taken = state.clone();
                        taken.jumped(line, instruction.condition_code());
                        self.visit(to, taken);
                    }
                    state.jumped(line, negated(instruction.condition_code()));
                    line += 1;
                }
                FlowControl::UnconditionalBranch => match self.code.target(instruction) {
                    Some(to) => line = to,
                    None => return,
                },
                _ => return,
            }
        }
    }

    fn arrived(&mut self, state: &State) {
        let flags = |number: &usize| state.registers[*number] == Expr::Flags;
        match &mut self.found {
            Some(known) => known.retain(flags),
            None => self.found = Some((0..16).filter(flags).collect()),
        }
    }

    /// `popf`, or since 5.12 a test of bit 9 around `sti`.
    fn restore(&mut self, line: usize, state: &mut State) {
        let instruction = self.code.instruction(line);
        let mnemonic = instruction.mnemonic();
        if matches!(mnemonic, Mnemonic::Popfq | Mnemonic::Popfd | Mnemonic::Sti)
            && !self.restores.contains(&line)
        {
            self.restores.push(line);
        }
        let last = (line + 3).min(self.code.lines.len());
        let sti_follows =
            (line + 1..last).any(|next| self.code.instruction(next).mnemonic() == Mnemonic::Sti);
        let asks = matches!(mnemonic, Mnemonic::Test | Mnemonic::And | Mnemonic::Bt);
        if !asks || !sti_follows || instruction.op0_kind() != OpKind::Register {
            return;
        }
        let bit = instruction.try_immediate(1).ok();
        let register = instruction.op0_register();
        let is_high_byte = register.size() == 1 && register != register.full_register();
        let asks_for_interrupts = match mnemonic {
            Mnemonic::Bt => bit == Some(9),
            _ => bit == Some(0x200) || (is_high_byte && bit == Some(2)),
        };
        if let Some(number) = super::trace::number(register).filter(|_| asks_for_interrupts) {
            let saved = state.registers[number].clone();
            state.are_flags(&saved);
        }
    }
}

/// Whether a number can be the EFLAGS of code that runs: reserved bits as they always are, nothing above them.
pub fn may_be_flags(number: u64) -> bool {
    const ALWAYS_SET: u64 = 1 << 1;
    const NEVER_SET: u64 = 1 << 3 | 1 << 5 | 1 << 15 | !0 << 22;
    number & ALWAYS_SET != 0 && number & NEVER_SET == 0
}
