//! The loop of a routine that is not ours to judge: that it is one, and what it waits for if it pauses.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::explanation::View;
use super::facts::push;
use super::symbolic::{Expr, State};
use super::trace::{GENERAL, number};
use super::view::Routine;

/// The names of [`GENERAL`] in a 32-bit kernel, which has the first half of them.
const NARROW: [&str; 8] = ["EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI"];

pub fn describe(routine: &Routine<'_>, view: &mut View) {
    let Some(around) = &routine.around else {
        return;
    };
    if !around.closes {
        // What else it looks at may be beyond them, too.
        let text = "The jump back is beyond the code bytes; the `pause` near RIP suggests a loop.";
        return view.limits.push(text.to_owned());
    }
    let instructions = || {
        around
            .pass
            .iter()
            .map(|line| (*line, routine.code.instruction(*line)))
    };
    let pauses = instructions().any(|(_, instruction)| instruction.mnemonic() == Mnemonic::Pause);
    let mut loads = instructions().filter(|(_, instruction)| {
        let reads_first = matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test);
        let is_memory = |kind: OpKind| kind == OpKind::Memory;
        instruction.op_kinds().skip(1).any(is_memory) || (reads_first && is_memory(instruction.op0_kind()))
    });
    let (true, Some((line, load)), None) = (pauses, loads.next(), loads.next()) else {
        return;
    };
    let Some(base) = number(load.memory_base()).filter(|_| load.memory_index() == Register::None) else {
        return;
    };
    let mut state = State::default();
    for (line, instruction) in instructions() {
        state.run(line, instruction);
    }
    // One that the loop changes is not the one that was looked at.
    let keeps = state.registers[base] == Expr::Entry(base);
    let Some(register) = routine.section.registers.general(base).filter(|_| keeps) else {
        return;
    };
    let address = register.wrapping_add(load.memory_displacement64());
    if is_shadow(address) {
        return;
    }
    let displacement = load.memory_displacement64();
    let (name, value) = match NARROW.get(base) {
        Some(name) if routine.section.narrow => (*name, format!("{:08x}", register as u32)),
        _ => (GENERAL[base], format!("{register:016x}")),
    };
    let text = &routine.code.lines[line].text;
    let what =
        format!("what the loop looks at in every pass (`{text}`), with a `pause` in between: a busy wait");
    let meaning = match displacement {
        0 => format!("address of {what}"),
        _ if routine.section.narrow => format!(
            "with its displacement, at {:08x}, the address of {what}",
            address as u32
        ),
        _ => format!("with its displacement, at {address:016x}, the address of {what}"),
    };
    push(view, vec![name], value, meaning);
    let name = routine.place.symbol.as_deref().unwrap_or_default();
    if !name.contains("queued_spin_lock_slowpath") {
        return;
    }
    if displacement == 8 {
        let text = "It waits in the queue of a spin lock (MCS): until the processor in front of it in the queue hands the turn on.";
        return view.limits.push(text.to_owned());
    }
    let Some(loaded) = number(load.op0_register()).filter(|_| displacement == 0 && reads_word(load)) else {
        return;
    };
    let is_other = |(other, instruction): (usize, &Instruction)| {
        let compares = matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test);
        let writes =
            instruction.op0_kind() == OpKind::Register && number(instruction.op0_register()) == Some(loaded);
        other != line && writes && !compares
    };
    if instructions().any(is_other) {
        return;
    }
    if let Some(word) = routine.section.registers.general(loaded) {
        let word = word as u32;
        push(
            view,
            vec![GENERAL[loaded]],
            format!("{word:08x}"),
            lock_word(word),
        );
    }
}

/// A load of the whole word of 32 bits.
fn reads_word(load: &Instruction) -> bool {
    load.mnemonic() == Mnemonic::Mov && load.op0_kind() == OpKind::Register && load.op0_register().size() == 4
}

/// The word of a queued spin lock (`qspinlock_types.h`, up to 16383 processors): locked in bits 0 to 7, pending in bit 8, the
/// nesting of the last in the queue in bits 16 and 17, and its processor, counted from 1, above.
fn lock_word(word: u32) -> String {
    let held = match word & 0xff {
        0 => "free",
        _ => "held",
    };
    let pending = match word >> 8 & 1 {
        0 => "nobody is pending",
        _ => "one waiter is pending",
    };
    let queue = match word >> 18 {
        0 => "the queue is empty".to_owned(),
        tail => format!("the last in the queue is CPU {}", tail - 1),
    };
    format!("the spin lock's word, as it was loaded last: {held}; {pending}; {queue}")
}

/// Where KASAN keeps what it knows of other addresses: it looks there before the loop looks at what it waits for.
fn is_shadow(address: u64) -> bool {
    (0xffff_ec00_0000_0000..0xffff_fc00_0000_0000).contains(&address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_queued_spin_locks() {
        for (word, expected) in [
            (0x0000_0001, "held; nobody is pending; the queue is empty"),
            (0x0000_0100, "free; one waiter is pending; the queue is empty"),
            (
                0x0004_0101,
                "held; one waiter is pending; the last in the queue is CPU 0",
            ),
            (
                0x0008_0101,
                "held; one waiter is pending; the last in the queue is CPU 1",
            ),
            (
                0x01d0_0001,
                "held; nobody is pending; the last in the queue is CPU 115",
            ),
        ] {
            let text = lock_word(word);
            assert!(text.ends_with(expected), "{word:08x}: {text}");
        }
    }
}
