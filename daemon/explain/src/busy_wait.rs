//! The loop of a routine that is not ours to judge: that it is one, and what it waits for if it pauses.

use iced_x86::{Mnemonic, OpKind, Register};

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
    let (name, address) = match NARROW.get(base) {
        Some(name) if routine.section.narrow => (*name, format!("{:08x}", address as u32)),
        _ => (GENERAL[base], format!("{address:016x}")),
    };
    let text = &routine.code.lines[line].text;
    let meaning = format!(
        "address of what the loop looks at in every pass (`{text}`), with a `pause` in between: a busy wait"
    );
    push(view, vec![name], address, meaning);
}

/// Where KASAN keeps what it knows of other addresses: it looks there before the loop looks at what it waits for.
fn is_shadow(address: u64) -> bool {
    (0xffff_ec00_0000_0000..0xffff_fc00_0000_0000).contains(&address)
}
