//! What one processor's registers and code bytes show, in words.

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind};

use super::busy_wait;
use super::clock::{self, Frequency};
use super::disassembly::{Disassembly, Offset, disassemble};
use super::entry::{FailedTry, failed_try};
use super::explanation::{CodeLine, LockWord, Position, View};
use super::facts;
use super::flow::{self, Loop};
use super::trace::{Place, Section};
use super::wait_loop::{Reading, WaitLoop};

/// What a view is made from, beside the section.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    pub frequency: Frequency,
    /// The report is hpetun's: user mode, and its clock's lock may be inlined anywhere.
    pub own: bool,
}

/// Everything that the disassembly gives.
pub struct Routine<'a> {
    pub section: &'a Section,
    pub place: &'a Place,
    pub code: Disassembly,
    pub around: Option<Loop>,
    pub wait: Option<WaitLoop>,
    pub reading: Option<Reading>,
    pub failed: Option<FailedTry>,
}

pub fn view(section: &Section, context: Context) -> View {
    let mut view = View {
        cpu: section.cpu,
        task: section.task.clone(),
        rip: section.rip.clone(),
        call_trace: section.frames.iter().map(frame).collect(),
        ..View::default()
    };
    let user = context.own || section.rip.as_ref().is_some_and(Place::is_user);
    view.interrupts = section.registers.interrupts().filter(|_| !user);
    let Some(place) = &section.rip else {
        if view.call_trace.is_empty() {
            view.limits.push("The report has no RIP.".to_owned());
        }
        return view;
    };
    let reads_hpet = reads_hpet(section, context);
    view.position = match reads_hpet {
        true => Position::Elsewhere,
        false => Position::NotThere,
    };
    match routine(section, place) {
        Ok(routine) => routine.into_view(&mut view, reads_hpet, context),
        Err(why) => view.limits.push(why),
    }
    facts::flags(section, user, &mut view);
    view
}

/// Whether RIP is in the kernel's routine, or in clockshim's.
fn reads_hpet(section: &Section, context: Context) -> bool {
    let name = |place: &Place| place.symbol.clone().unwrap_or_default();
    if !context.own {
        let name = section.rip.as_ref().map(name).unwrap_or_default();
        // `read_hpet.part.0`, `read_hpet.cold`
        return name == "read_hpet" || name.starts_with("read_hpet.");
    }
    let is_ours = |place: &Place| {
        let name = name(place);
        name.contains("clockshim") && (name.contains("hpet") || name.contains("Hpet"))
    };
    section.rip.as_ref().is_some_and(is_ours)
        || section.frames.iter().take(3).any(|frame| is_ours(&frame.place))
}

fn routine<'a>(section: &'a Section, place: &'a Place) -> Result<Routine<'a>, String> {
    let bytes = section.code.as_ref().ok_or(match section.foreign_code {
        true => "The code bytes are of another architecture than x86 and are not decoded.",
        false => "The report has no code bytes, so nothing can be said of the instruction at RIP.",
    })?;
    let offset = place.known_offset();
    let bitness = if section.narrow { 32 } else { 64 };
    let code = disassemble(bytes, offset, bitness)
        .ok_or("The code bytes do not decode as x86 instructions at RIP.")?;
    let around = flow::find(&code);
    let wait = around
        .as_ref()
        .filter(|_| !section.narrow)
        .and_then(|around| WaitLoop::find(&code, around));
    let reading = wait.as_ref().map(|wait| wait.read(&section.registers));
    let failed = match (&wait, &around) {
        (Some(_), Some(around)) => failed_try(&code, around),
        _ => None,
    };
    Ok(Routine {
        section,
        place,
        code,
        around,
        wait,
        reading,
        failed,
    })
}

impl Routine<'_> {
    fn into_view(self, view: &mut View, reads_hpet: bool, context: Context) {
        let is_ours = reads_hpet && self.wait.is_some();
        if is_ours {
            view.position = Position::WaitLoop;
        } else if reads_hpet && !context.own {
            view.position = self.elsewhere();
        }
        if self.place.symbol.is_some() && self.place.known_offset().is_none() && !context.own {
            let text =
                "The report does not say where in the function RIP is, so the offsets here are from RIP.";
            view.limits.push(text.to_owned());
        }
        view.position_in_words = Some(self.position_in_words(view.position));
        view.code = self.lines(reads_hpet);
        if !is_ours {
            busy_wait::describe(&self, view);
            return;
        }
        self.lock(view);
        facts::word(&self, view);
        facts::entry(&self, view);
        if let (false, Some(value)) = (context.own, self.value()) {
            let keeps = |number| self.wait.as_ref().is_some_and(|wait| wait.keeps(number));
            view.elapsed = clock::elapsed(&self.section.registers, value, keeps, context.frequency);
            facts::elapsed(view);
        }
    }

    /// The counter's last value that the registers have.
    fn value(&self) -> Option<u32> {
        let reading = self.reading.as_ref()?;
        // Before the first load, the old value is the only one.
        if reading.first_pass {
            reading.old
        } else {
            reading.value.or(reading.old)
        }
    }

    fn lock(&self, view: &mut View) {
        let (Some(wait), Some(reading)) = (&self.wait, &self.reading) else {
            return;
        };
        view.held_at_entry = facts::held_at_entry(self).0;
        let (false, Some(value), Some(lock)) = (reading.first_pass, reading.value, reading.lock) else {
            return;
        };
        view.lock = Some(LockWord {
            word: reading.word.or(Some(u64::from(value) << 32 | u64::from(lock))),
            value,
            locked: lock != 0,
            old_value: reading.old,
            keeps_waiting: lock != 0 && reading.old.is_none_or(|old| old == value),
            address: wait
                .pointer()
                .and_then(|number| self.section.registers.general(number)),
            torn: wait.torn,
        });
    }

    /// In the kernel's routine, but not in its wait.
    fn elsewhere(&self) -> Position {
        let code = &self.code;
        let nearest =
            |what: fn(&Instruction) -> bool| (0..=code.at).rev().find(|line| what(code.instruction(*line)));
        let in_one_run = |from: usize| (from..code.at).all(|line| falls_through(code.instruction(line)));
        let lock = nearest(is_try_lock).filter(|line| *line < code.at && in_one_run(*line));
        let release = nearest(is_release).filter(|line| *line < code.at && in_one_run(*line));
        // An interrupt comes in after a read that takes long, not before.
        let reads = |line: Option<usize>| line.is_some_and(|line| is_counter_read(code.instruction(line)));
        let at_read = reads(Some(code.at)) || reads(code.at.checked_sub(1));
        match (release, lock) {
            (Some(release), lock) if lock.is_none_or(|lock| lock < release) => Position::Released,
            (_, Some(_)) if at_read => Position::ReadsLocked,
            (_, Some(_)) => Position::Section,
            _ if at_read && self.is_plain() => Position::ReadsPlain,
            _ if at_read => Position::Reads,
            _ => Position::Elsewhere,
        }
    }

    /// The whole of the function is in sight, and no lock in it.
    fn is_plain(&self) -> bool {
        let lines = &self.code.lines;
        let first = lines.first().map_or(1, |line| line.offset);
        let last = lines
            .last()
            .map_or(0, |line| line.offset + line.bytes.len() as i64);
        let returns =
            |line: &super::disassembly::Line| line.instruction.flow_control() == FlowControl::Return;
        let whole =
            first == 0 && (last >= self.place.size as i64 || lines[self.code.at..].iter().any(returns));
        whole
            && (1..=0x40).contains(&self.place.size)
            && !lines.iter().any(|line| is_try_lock(&line.instruction))
    }

    fn position_in_words(&self, position: Position) -> String {
        let at = &self.code.lines[self.code.at];
        let after_pause =
            self.code.at > 0 && self.code.instruction(self.code.at - 1).mnemonic() == Mnemonic::Pause;
        let behind = match (after_pause, self.opens_interrupts()) {
            (true, _) => ", right after `pause`".to_owned(),
            (_, Some(opens)) => format!(
                ", right behind `{opens}`: interrupts that were held off come in here, so the time may have gone before it"
            ),
            _ => String::new(),
        };
        let wait = self.wait.as_ref().filter(|_| position == Position::WaitLoop);
        let what = match wait {
            Some(wait) if wait.load == self.code.at => format!("the reload of the lock word{behind}"),
            Some(_) if at.instruction.mnemonic() == Mnemonic::Pause => "the `pause`".to_owned(),
            Some(wait) if wait.lock_test == Some(self.code.at) || wait.lock_jump == Some(self.code.at) => {
                "the test of the word's lock half".to_owned()
            }
            Some(wait) if wait.value_test == Some(self.code.at) || wait.value_jump == Some(self.code.at) => {
                "the comparison of the word's value with the old one".to_owned()
            }
            Some(_) => format!("`{}`", at.text),
            None => format!("`{}`{behind}", at.text),
        };
        let place = match position {
            Position::WaitLoop => match self.span() {
                Some((first, last)) => format!(
                    "in the contended loop ({} to {}), which waits for another reader's value",
                    Offset(first),
                    Offset(last)
                ),
                None => "in the contended loop, which waits for another reader's value".to_owned(),
            },
            Position::ReadsLocked => {
                "at the read of the counter, with the lock held by this processor".to_owned()
            }
            Position::Reads => "at the read of the counter itself".to_owned(),
            Position::ReadsPlain => {
                "at the read of the counter, in a `read_hpet` that has no lock (before 4.9)".to_owned()
            }
            Position::Section => "between taking the lock and releasing it".to_owned(),
            Position::Released => {
                "behind the release of the lock: this processor has just read the counter itself".to_owned()
            }
            Position::Elsewhere => match (&self.around, self.span()) {
                (Some(around), _) if !around.closes => {
                    "in a wait whose end is beyond the code bytes; it may be the contended loop".to_owned()
                }
                (Some(_), Some((first, last))) => format!(
                    "in a loop ({} to {}) that is not known as the contended one",
                    Offset(first),
                    Offset(last)
                ),
                _ => "outside of the contended loop, as far as the bytes show".to_owned(),
            },
            Position::NotThere => match self.span() {
                Some((first, _)) if self.around.as_ref().is_some_and(|around| !around.closes) => {
                    format!("in what seems to be a loop, from {} on", Offset(first))
                }
                Some((first, last)) => format!("in a loop from {} to {}", Offset(first), Offset(last)),
                None => return format!("RIP is at {what}."),
            },
        };
        format!("RIP is at {what}, {place}.")
    }

    /// The instruction just before RIP that lets interrupts in again. One more may run in its shadow.
    fn opens_interrupts(&self) -> Option<&str> {
        let before = &self.code.lines[..self.code.at];
        let mut real = before
            .iter()
            .rev()
            .filter(|line| line.instruction.mnemonic() != Mnemonic::Nop);
        let opens = |line: &&super::disassembly::Line| {
            matches!(
                line.instruction.mnemonic(),
                Mnemonic::Sti | Mnemonic::Popfq | Mnemonic::Popfd
            )
        };
        let last = real.next()?;
        let line = Some(last).filter(opens).or_else(|| real.next().filter(opens))?;
        Some(&line.text)
    }

    /// Offsets of the first and the last instruction of the loop.
    fn span(&self) -> Option<(i64, i64)> {
        let around = self.around.as_ref()?;
        let offsets = || around.pass.iter().map(|line| self.code.lines[*line].offset);
        Some((offsets().min()?, offsets().max()?))
    }

    fn lines(&self, reads_hpet: bool) -> Vec<CodeLine> {
        let (first, last) = self.span().unwrap_or((1, 0));
        let lines = self.code.lines.iter().enumerate();
        lines
            .map(|(index, line)| CodeLine {
                offset: line.offset,
                bytes: line
                    .bytes
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<Vec<_>>()
                    .join(" "),
                text: line.text.clone(),
                note: self.note(index, reads_hpet),
                in_loop: (first..=last).contains(&line.offset),
                at_rip: index == self.code.at,
            })
            .collect()
    }

    fn note(&self, index: usize, reads_hpet: bool) -> Option<String> {
        let instruction = self.code.instruction(index);
        if !reads_hpet {
            return None;
        }
        if let Some(wait) = &self.wait {
            let exits = if instruction.condition_code() == iced_x86::ConditionCode::e {
                "=="
            } else {
                "!="
            };
            let back = self.code.target(instruction).is_some_and(|to| to <= index);
            let leaves = if back { "stay if" } else { "leave if" };
            let note = match index {
                line if line == wait.load => "load the word",
                line if Some(line) == wait.lock_jump => {
                    return Some(format!("{leaves} lock {exits} 0"));
                }
                line if Some(line) == wait.value_jump => {
                    return Some(format!("{leaves} value {exits} old"));
                }
                line if Some(line) == wait.lock_test => "its lock half",
                line if Some(line) == wait.value_test => "its value half",
                _ => "",
            };
            if !note.is_empty() {
                return Some(note.to_owned());
            }
        }
        let restores = self
            .failed
            .as_ref()
            .is_some_and(|failed| failed.restores.contains(&index));
        let note = match instruction.mnemonic() {
            Mnemonic::Pause => "wait a little",
            _ if is_try_lock(instruction) => "try to take the lock",
            _ if restores => "interrupts as before",
            _ if is_counter_read(instruction) => "read the counter",
            _ => return None,
        };
        Some(note.to_owned())
    }
}

fn falls_through(instruction: &Instruction) -> bool {
    !matches!(
        instruction.flow_control(),
        FlowControl::Return | FlowControl::UnconditionalBranch | FlowControl::IndirectBranch
    )
}

pub fn is_try_lock(instruction: &Instruction) -> bool {
    let locks =
        matches!(instruction.mnemonic(), Mnemonic::Cmpxchg | Mnemonic::Bts) && instruction.has_lock_prefix();
    locks || (instruction.mnemonic() == Mnemonic::Xchg && instruction.op0_kind() == OpKind::Memory)
}

/// `movb $0,lock`
fn is_release(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Memory
        && instruction.try_immediate(1).ok() == Some(0)
}

/// A 32-bit load from offset 0xf0, the HPET's main counter.
fn is_counter_read(instruction: &Instruction) -> bool {
    const COUNTER: u64 = 0xf0;
    instruction.mnemonic() == Mnemonic::Mov
        && instruction.op1_kind() == OpKind::Memory
        && instruction.memory_displacement64() == COUNTER
        && instruction.memory_size().size() == 4
}

fn frame(frame: &super::trace::Frame) -> String {
    format!("{}{}", if frame.doubtful { "? " } else { "" }, frame.place)
}
