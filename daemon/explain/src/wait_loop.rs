//! Recognises the wait for a combined lock: `pause; load` while the value half of the word is the old one and its lock
//! half is held. By what the instructions do, not by how one compiler wrote them.

use iced_x86::ConditionCode;

use super::disassembly::{Disassembly, is_jump};
use super::flow::Loop;
use super::symbolic::{Address, Condition, Expr, Flags, HIGH, Load, State, negated};
use super::trace::Registers;

/// The loop, and what the registers hold at RIP.
#[derive(Debug, Clone)]
pub struct WaitLoop {
    /// Lines of the disassembly: the load of the word, the test of its lock half, and the comparison of its value half
    /// with the old one; and the jumps that go on or leave by these.
    pub load: usize,
    pub lock_test: Option<usize>,
    pub value_test: Option<usize>,
    /// At the end of the code bytes where it is beyond that; `None` where nothing of it is in sight.
    pub lock_jump: Option<usize>,
    pub value_jump: Option<usize>,
    /// The value and the lock come from two loads, which may be of different moments.
    pub torn: bool,
    /// RIP is behind the load. If not, the registers have the word of the pass before.
    pub loaded_in_this_pass: bool,
    word: Load,
    lock_word: Load,
    old: Option<Expr>,
    /// Instructions beyond the code bytes run between the load and RIP.
    cut: bool,
    at_rip: [Expr; 16],
}

/// What the numbers come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// The word last loaded, whole, and the registers that hold it.
    pub word: Option<u64>,
    pub word_in: Vec<usize>,
    pub value: Option<u32>,
    pub value_in: Vec<usize>,
    pub lock: Option<u32>,
    pub lock_in: Vec<usize>,
    /// The value at the routine's first load, and the register that keeps it.
    pub old: Option<u32>,
    pub old_in: Option<usize>,
    /// The lock half at the first load, where the register keeps that as well.
    pub old_lock: Option<u32>,
    /// The registers contradict each other or the loop's conditions: no pass was complete when they were taken.
    pub first_pass: bool,
}

/// What makes the loop go on.
enum Stay {
    LockHeld(Load),
    ValueSame(Load, Expr),
}

impl WaitLoop {
    /// `None` where the loop is another one.
    pub fn find(code: &Disassembly, around: &Loop) -> Option<WaitLoop> {
        let mut state = State::default();
        // What the first pass leaves is what the second one finds. Its jumps are those that count. Then on to RIP.
        run(&mut state, code, around, None);
        state.next_pass();
        run(&mut state, code, around, None);
        let mut conditions = state.conditions.clone();
        if !around.closes {
            conditions.extend(cut_off(code, &state));
        }
        state.next_pass();
        run(&mut state, code, around, Some(code.at));

        let stays: Vec<(usize, Stay)> = conditions
            .iter()
            .filter_map(|condition| Some((condition.line, stay(condition)?)))
            .collect();
        let value = stays.iter().find_map(|(line, stay)| match stay {
            Stay::ValueSame(load, old) => Some((*line, load.clone(), old.clone())),
            Stay::LockHeld(_) => None,
        });
        let lock = stays.iter().find_map(|(line, stay)| match (stay, &value) {
            (Stay::LockHeld(load), Some((_, word, _))) if !adjoin(&word.address, &load.address) => None,
            (Stay::LockHeld(load), _) => Some((*line, load.clone())),
            (Stay::ValueSame(..), _) => None,
        });
        // Where the bytes end before one of the two, the other is enough: it would be an odd thing to do elsewhere.
        let whole = |load: &Load| !around.closes && load.bytes == 8;
        let (word, lock_word) = match (&value, &lock) {
            (Some((_, word, _)), Some((_, lock_word))) => (word.clone(), lock_word.clone()),
            (Some((_, load, _)), None) | (None, Some((_, load))) if whole(load) => {
                (load.clone(), load.clone())
            }
            _ => return None,
        };
        let lock_jump = lock.map(|(line, _)| line);
        let value_jump = value.as_ref().map(|(line, ..)| *line);
        let position = |line: usize| around.pass.iter().position(|other| *other == line);
        let cut = !around.closes && position(word.line) >= position(code.at);
        Some(WaitLoop {
            load: word.line,
            lock_test: lock_jump.and_then(|line| test_before(code, line)),
            value_test: value_jump.and_then(|line| test_before(code, line)),
            lock_jump,
            value_jump,
            torn: word.line != lock_word.line,
            loaded_in_this_pass: position(word.line).max(position(lock_word.line)) < position(code.at),
            word,
            lock_word,
            cut,
            old: value.map(|(.., old)| old),
            at_rip: state.registers,
        })
    }

    /// Puts numbers in.
    pub fn read(&self, registers: &Registers) -> Reading {
        let mut reading = Reading::default();
        let parts: Vec<(usize, Part, u32)> = self
            .at_rip
            .iter()
            .enumerate()
            .filter_map(|(number, expr)| self.part(expr).map(|(part, pass)| (number, part, pass)))
            .collect();
        // In the midst of a pass, some registers are still those of the one before.
        let latest = parts.iter().map(|(.., pass)| *pass).max();
        for (number, part, pass) in parts {
            let Some(actual) = registers.general(number).filter(|_| Some(pass) == latest) else {
                continue;
            };
            match part {
                Part::Whole => {
                    reading.first_pass |= reading.word.is_some_and(|word| word != actual);
                    reading.word_in.push(number);
                    reading.word = Some(actual);
                }
                Part::Value => {
                    reading.first_pass |= reading.value.is_some_and(|value| u64::from(value) != actual);
                    reading.first_pass |= actual >> 32 != 0;
                    reading.value_in.push(number);
                    reading.value = Some(actual as u32);
                }
                Part::Lock => {
                    reading.lock_in.push(number);
                    reading.lock = Some(actual as u32);
                }
            }
        }
        // What is beyond the code bytes may have cut the word down to its lock half, which is all that is asked for then.
        let is_half = |word: u64| word >> 32 == 0 && reading.value.is_some_and(|value| value != 0);
        if let Some(word) = reading.word.filter(|word| self.cut && is_half(*word)) {
            reading.word = None;
            reading.lock = Some(word as u32);
            reading.lock_in = std::mem::take(&mut reading.word_in);
        }
        if let Some(word) = reading.word {
            let (value, lock) = ((word >> 32) as u32, word as u32);
            reading.first_pass |= reading.value.is_some_and(|other| other != value);
            reading.value = Some(value);
            reading.lock = Some(lock);
        }
        self.read_old(registers, &mut reading);
        // Before the load, the word is that of the last pass, which would have left the loop on any other.
        if !self.loaded_in_this_pass {
            let leaves = reading.lock == Some(0) || (reading.old.is_some() && reading.value != reading.old);
            reading.first_pass |= leaves;
        }
        reading
    }

    /// Which part of the word `expr` is, and of which pass.
    fn part(&self, expr: &Expr) -> Option<(Part, u32)> {
        let (part, load) = match expr {
            Expr::Load(load) if load.bytes == 8 && load.line == self.word.line => (Part::Whole, load),
            Expr::Load(load) if load.line == self.word.line => (Part::Value, load),
            Expr::Load(load) if load.line == self.lock_word.line => (Part::Lock, load),
            Expr::Upper(inner) => (Part::Value, whole(inner, &self.word)?),
            Expr::Lower(inner) => (Part::Lock, whole(inner, &self.lock_word)?),
            _ => return None,
        };
        Some((part, load.pass))
    }

    fn read_old(&self, registers: &Registers, reading: &mut Reading) {
        let (number, shifted) = match &self.old {
            Some(Expr::Entry(number)) => (*number, true),
            Some(Expr::Lower(inner)) => match **inner {
                Expr::Entry(number) => (number, true),
                _ => return,
            },
            Some(Expr::Upper(inner)) => match **inner {
                Expr::Entry(number) => (number, false),
                _ => return,
            },
            _ => return,
        };
        let Some(actual) = registers.general(number) else {
            return;
        };
        reading.old_in = Some(number);
        reading.old = Some(if shifted {
            actual as u32
        } else {
            (actual >> 32) as u32
        });
        reading.old_lock = (!shifted).then_some(actual as u32);
    }

    /// Whether the loop leaves a register alone.
    pub fn keeps(&self, number: usize) -> bool {
        self.at_rip[number] == Expr::Entry(number)
    }

    /// The number of the register that points to the word, where nothing is added to it.
    pub fn pointer(&self) -> Option<usize> {
        let address = &self.word.address;
        let plain = address.index.is_none() && address.displacement == 0 && !self.torn;
        address.base.filter(|_| plain)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    Value,
    Lock,
}

fn run(state: &mut State, code: &Disassembly, around: &Loop, until: Option<usize>) {
    for (index, line) in around.pass.iter().enumerate() {
        if until == Some(*line) {
            return;
        }
        let instruction = code.instruction(*line);
        let condition = instruction.condition_code();
        if is_jump(instruction) && condition != ConditionCode::None {
            let next = around.pass.get(index + 1).copied();
            let target = code.target(instruction);
            // After the last one comes the first one again.
            let taken = match next {
                Some(next) => target == Some(next) && next != line + 1,
                None => around.closes,
            };
            state.jumped(*line, if taken { condition } else { negated(condition) });
        } else {
            state.run(*line, instruction);
        }
    }
}

/// What the jump beyond the end of the bytes asks for. The first byte of it may be there and tell; if not, it is taken to go
/// on with the wait.
fn cut_off(code: &Disassembly, state: &State) -> Option<Condition> {
    let known = match *code.tail.as_slice() {
        [short] => Some(short),
        [0x0f, near, ..] => Some(near & 0x0f | 0x70),
        _ => None,
    };
    let possible = match known {
        Some(0x74) => &[ConditionCode::e][..],
        Some(0x75) => &[ConditionCode::ne],
        Some(_) => &[],
        None if code.tail.is_empty() => &[ConditionCode::e, ConditionCode::ne],
        None => &[],
    };
    possible.iter().find_map(|holds| {
        let mut state = state.clone();
        state.jumped(code.lines.len(), *holds);
        state
            .conditions
            .pop()
            .filter(|condition| stay(condition).is_some())
    })
}

fn stay(condition: &Condition) -> Option<Stay> {
    use ConditionCode::{b, be, e, ne};
    match (&condition.flags, condition.holds) {
        (Flags::Zero(expr), ne) => is_lock(expr).then(|| Some(Stay::LockHeld(expr.load()?.clone())))?,
        (Flags::Zero(Expr::Upper(inner)), e) => difference(inner),
        (Flags::Zero(Expr::And(inner, HIGH)), e) => difference(inner),
        (Flags::Compared(left, right), e) => same(left, right).or_else(|| same(right, left)),
        (Flags::Compared(left, Expr::Const(0xffff_ffff)), be) => difference(left),
        (Flags::Compared(left, Expr::Const(0x1_0000_0000)), b) => difference(left),
        _ => None,
    }
}

/// The low half of a 64-bit load, a part of it, or a load of that half alone.
fn is_lock(expr: &Expr) -> bool {
    match expr {
        Expr::Load(load) => load.bytes == 4,
        Expr::Lower(inner) => matches!(**inner, Expr::Load(_)),
        Expr::And(inner, mask) => {
            let whole = matches!(&**inner, Expr::Load(load) if load.bytes >= 4);
            *mask <= 0xffff_ffff && (whole || is_lock(inner))
        }
        _ => false,
    }
}

/// The value half compared with one that the loop leaves alone.
fn same(new: &Expr, old: &Expr) -> Option<Stay> {
    let load = match new {
        Expr::Upper(inner) | Expr::And(inner, HIGH) => match &**inner {
            Expr::Load(load) if load.bytes == 8 => load,
            _ => return None,
        },
        Expr::Load(load) if load.bytes == 4 => load,
        _ => return None,
    };
    let old = match old {
        Expr::And(inner, HIGH) => inner.clone().upper(),
        other => other.clone(),
    };
    (old.load().is_none() && !matches!(old, Expr::Const(_))).then(|| Stay::ValueSame(load.clone(), old))
}

/// The word xor the old word, of which the upper half is zero.
fn difference(expr: &Expr) -> Option<Stay> {
    let Expr::Xor(left, right) = expr else {
        return None;
    };
    let (new, old) = match (&**left, &**right) {
        (Expr::Load(load), old) | (old, Expr::Load(load)) if load.bytes == 8 => (load, old),
        _ => return None,
    };
    old.load()
        .is_none()
        .then(|| Stay::ValueSame(new.clone(), old.clone().upper()))
}

fn whole<'a>(expr: &'a Expr, word: &Load) -> Option<&'a Load> {
    match expr {
        Expr::Load(load) if load.line == word.line && load.bytes == 8 => Some(load),
        _ => None,
    }
}

/// Whether two loads can be of one word.
fn adjoin(left: &Address, right: &Address) -> bool {
    left == right || left.plus(4) == *right || right.plus(4) == *left
}

/// The line whose flags the jump at `line` asks for.
fn test_before(code: &Disassembly, line: usize) -> Option<usize> {
    let first = line.saturating_sub(4);
    (first..line)
        .rev()
        .find(|line| code.instruction(*line).rflags_modified() != 0)
}
