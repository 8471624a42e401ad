//! Facts in words, each with the registers that it is read from.

use super::disassembly::Offset;
use super::entry::may_be_flags;
use super::explanation::{Fact, HeldAtEntry, View};
use super::trace::{GENERAL, Section};
use super::view::{Routine, is_try_lock};
use text::units::Grouped;

fn names(numbers: &[usize]) -> Vec<&'static str> {
    numbers.iter().map(|number| GENERAL[*number]).collect()
}

/// EFLAGS and what interrupted.
pub fn flags(section: &Section, user: bool, view: &mut View) {
    if let Some(flags) = section.registers.eflags {
        let meaning = match (user, section.registers.interrupts() == Some(true)) {
            (true, true) => "user mode; interrupts are always on there",
            (true, false) => "user mode with the interrupt flag off, which cannot be: the register is wrong",
            (false, true) => "interrupts were on (bit 9, IF, is set)",
            (false, false) => "interrupts were off (bit 9, IF, is clear)",
        };
        push(view, vec!["EFLAGS"], format!("{flags:#x}"), meaning.to_owned());
    }
    if let Some(vector) = section.registers.orig_rax.and_then(vector).filter(|_| !user) {
        let timer = match version(section) {
            // LOCAL_TIMER_VECTOR in the kernel's irq_vectors.h.
            Some(version) if version >= (4, 19) && vector == 0xec => ", the local timer's",
            Some(version) if version <= (4, 13) && vector == 0xef => ", the local timer's",
            _ => "",
        };
        let value = section.registers.orig_rax.unwrap_or_default();
        let meaning = format!("an interrupt came in here, by vector {vector:#x}{timer}");
        push(view, vec!["ORIG_RAX"], format!("{value:x}"), meaning);
    }
}

/// The kernel pushed `~vector` where it came in by an interrupt, until 5.8.
fn vector(orig_rax: u64) -> Option<u8> {
    let vector = !orig_rax;
    (0x20..=0xff).contains(&vector).then_some(vector as u8)
}

fn version(section: &Section) -> Option<(u32, u32)> {
    let mut parts = section.kernel.as_ref()?.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The lock word and the old value.
pub fn word(routine: &Routine<'_>, view: &mut View) {
    let (Some(wait), Some(reading)) = (&routine.wait, &routine.reading) else {
        return;
    };
    if reading.first_pass {
        view.limits.push(
            "The registers that would have the lock word do not agree with each other or with the loop's conditions: RIP is \
             in its first pass, before the load, or the report is damaged. The word is not known."
                .to_owned(),
        );
    }
    let pass = match wait.loaded_in_this_pass {
        true => "as loaded in this pass",
        false => "as loaded in the pass before; the load at RIP has not run yet",
    };
    let pass = match routine.code.at == wait.load || wait.loaded_in_this_pass {
        true => pass,
        false => "as loaded in the pass before",
    };
    if let (Some(lock), false) = (view.lock.clone(), reading.first_pass) {
        let held = if lock.locked { "held" } else { "free" };
        let low = reading.lock.unwrap_or_default();
        if let Some(word) = reading.word {
            let meaning = format!(
                "the lock word, {pass}: value {:08x}, lock {low:x} ({held})",
                lock.value
            );
            push(view, names(&reading.word_in), format!("{word:016x}"), meaning);
        } else if !reading.lock_in.is_empty() {
            let meaning = format!("the lock half of the word, {pass}: {held}");
            push(view, names(&reading.lock_in), format!("{low:08x}"), meaning);
        }
        if !reading.value_in.is_empty() {
            let whose = if reading.word.is_some() {
                "its"
            } else {
                "the word's"
            };
            let meaning = format!("{whose} value half, shifted down");
            push(
                view,
                names(&reading.value_in),
                format!("{:08x}", lock.value),
                meaning,
            );
        }
    }
    if let (Some(old), Some(number)) = (reading.old, reading.old_in) {
        let then = match (reading.first_pass, view.lock.as_ref()) {
            (false, Some(lock)) if lock.value != old => "differs, so the loop ends",
            (false, Some(lock)) if lock.locked => "equal and the lock held, so the loop goes on",
            (false, Some(_)) => "equal, but the lock is free, so the loop ends",
            _ => "the loop goes on while the word has this value",
        };
        let meaning = format!("the old value, from the routine's first look at the word: {then}");
        push(view, vec![GENERAL[number]], format!("{old:08x}"), meaning);
    }
    if let (Some(address), Some(number)) = (view.lock.as_ref().and_then(|lock| lock.address), wait.pointer())
    {
        let meaning = match address & 7 {
            0 => "address of the lock word, aligned to 8 bytes".to_owned(),
            _ => "address of the lock word, NOT aligned to 8 bytes".to_owned(),
        };
        let meaning = match loaded_at(routine, address) {
            Some(start) => format!(
                "{meaning}; with the try-lock's operand that puts {} at {start:x}",
                routine.place.symbol.as_deref().unwrap_or("the routine")
            ),
            None => meaning,
        };
        push(view, vec![GENERAL[number]], format!("{address:016x}"), meaning);
    }
    for (test, what) in [(wait.lock_jump, "lock"), (wait.value_jump, "value")] {
        if test.is_none() {
            let text = format!("The code bytes end before the loop looks at the {what} half of the word.");
            view.limits.push(text);
        }
    }
    if wait.torn {
        view.limits.push(
            "This kernel loads value and lock apart: the two may be of different moments (a torn read)."
                .to_owned(),
        );
    }
}

/// Where the function must be, for the try-lock to mean the word at `address`. Functions are aligned to 16 bytes.
fn loaded_at(routine: &Routine<'_>, address: u64) -> Option<u64> {
    routine.place.known_offset()?;
    let failed = routine.failed.as_ref()?;
    let line = &routine.code.lines[failed.try_lock?];
    let instruction = &line.instruction;
    if !instruction.is_ip_rel_memory_operand() || !is_try_lock(instruction) {
        return None;
    }
    let from_start = instruction
        .ip_rel_memory_address()
        .wrapping_sub(instruction.ip())
        .wrapping_add_signed(line.offset);
    let start = address.wrapping_sub(from_start);
    (start.is_multiple_of(16) && start >> 47 == 0x1_ffff).then_some(start)
}

/// Registers that hold the word which hpetun's own report names, or its value: for where the code bytes do not tell.
pub fn own_word(section: &Section, word: u64, view: &mut View) {
    if view.lock.is_some() || word == 0 {
        return;
    }
    let holding = |number: u64| -> Vec<&'static str> {
        let holds = |register: &usize| section.registers.general(*register) == Some(number);
        names(&(0..16).filter(holds).collect::<Vec<_>>())
    };
    let held = if word as u32 == 0 { "free" } else { "held" };
    for (number, what) in [
        (
            word,
            format!(
                "the lock word, as the report names it: value {:08x}, lock {held}",
                word >> 32
            ),
        ),
        (word >> 32, "the value half of the report's lock word".to_owned()),
    ] {
        let registers = holding(number);
        if !registers.is_empty() && number > 0xffff {
            push(view, registers, format!("{number:016x}"), what);
        }
    }
}

/// Whether the lock was held when the routine was entered.
pub fn entry(routine: &Routine<'_>, view: &mut View) {
    match held_at_entry(routine) {
        (_, Evidence::Fact(fact)) => view.facts.push(fact),
        (_, Evidence::Limit(limit)) => view.limits.push(limit),
    }
}

pub enum Evidence {
    Fact(Fact),
    Limit(String),
}

pub fn held_at_entry(routine: &Routine<'_>) -> (HeldAtEntry, Evidence) {
    let registers = &routine.section.registers;
    let reading = routine.reading.as_ref();
    if let Some((lock, number)) = reading.and_then(|reading| Some((reading.old_lock?, reading.old_in?))) {
        let (held, meaning) = match lock {
            0 => (
                HeldAtEntry::No,
                "free at the first look; the try for it came too late",
            ),
            _ => (HeldAtEntry::Yes, "held at the first look"),
        };
        let meaning = format!("the old word, whole: the lock was {meaning}");
        let value = format!("{:016x}", registers.general(number).unwrap_or_default());
        return (held, Evidence::Fact(fact(vec![GENERAL[number]], value, meaning)));
    }
    let unknown = |why: String| {
        let text = format!("Whether the lock was held at the first look is not to be seen: {why}.");
        (HeldAtEntry::Unknown, Evidence::Limit(text))
    };
    let (Some(failed), Some(wait)) = (&routine.failed, &routine.wait) else {
        return unknown("the way from the try-lock into the loop is not in the code bytes".to_owned());
    };
    if failed.flags_in.is_empty() {
        return unknown(
            "a failed try-lock leaves the saved flags in no register that is known here".to_owned(),
        );
    }
    let kept = failed
        .flags_in
        .iter()
        .copied()
        .filter(|number| wait.keeps(*number));
    let known: Vec<(usize, u64)> = kept
        .filter_map(|number| Some((number, registers.general(number)?)))
        .collect();
    let Some((number, value)) = known
        .iter()
        .find(|(_, value)| !may_be_flags(*value))
        .or(known.first())
        .copied()
    else {
        let names = names(&failed.flags_in).join(", ");
        return unknown(format!(
            "a failed try-lock leaves the saved flags in {names}, which the loop overwrites"
        ));
    };
    let try_lock = failed.try_lock.map_or(String::new(), |line| {
        format!(" ({})", Offset(routine.code.lines[line].offset))
    });
    if may_be_flags(value) {
        let meaning = format!(
            "saved flags, as the try-lock{try_lock} leaves them when it fails: the lock was free at the first look, and \
             another reader was quicker"
        );
        let fact = fact(vec![GENERAL[number]], format!("{value:016x}"), meaning);
        return (HeldAtEntry::No, Evidence::Fact(fact));
    }
    let pointer = match value >> 40 {
        0xff_ffff => "an address, of the clocksource if it is still the argument,",
        _ => "this",
    };
    let meaning = format!(
        "not saved flags, which a failed try-lock{try_lock} would have left here, but {pointer} untouched: so no try was \
         made, and the lock was already held at the first look"
    );
    let meaning = match number {
        7 => meaning,
        _ => meaning.replace(
            "an address, of the clocksource if it is still the argument,",
            "an address,",
        ),
    };
    let fact = fact(vec![GENERAL[number]], format!("{value:016x}"), meaning);
    (HeldAtEntry::Yes, Evidence::Fact(fact))
}

/// The mask and `cycle_last`.
pub fn elapsed(view: &mut View) {
    let Some(found) = view.elapsed.clone() else {
        view.limits.push(
            "No register of the caller looks like the timekeeper's cycle_last (within a second of the value), so the time \
             since its last update is not known."
                .to_owned(),
        );
        return;
    };
    if let Some(mask) = found.mask_in {
        push(
            view,
            vec![mask],
            "ffffffff".to_owned(),
            "the counter's mask: 32 bits".to_owned(),
        );
    }
    let assumed = if found.hz_is_assumed {
        " (assumed; see --hpet-hz)"
    } else {
        ""
    };
    let megahertz = found.hz as f64 / 1e6;
    let ticks = Grouped(found.ticks.unsigned_abs());
    let distance = match found.ticks {
        0.. => format!("the value is {ticks} ticks after it"),
        _ => format!("the value is {ticks} ticks BEFORE it"),
    };
    let wraps = match found.wraps {
        0 => "no wraps in its high word".to_owned(),
        1 => "1 wrap in its high word".to_owned(),
        wraps => format!("{wraps} wraps in its high word"),
    };
    let meaning = format!(
        "cycle_last, the counter at the timekeeper's last update, with {wraps}; {distance}: {} at {megahertz} MHz{assumed}",
        time(found.seconds.abs())
    );
    push(
        view,
        vec![found.cycle_last_in],
        format!("{:016x}", found.cycle_last),
        meaning,
    );
}

/// `10.75 ms`
pub fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 1e-3 => format!("{:.2} us", seconds * 1e6),
        seconds if seconds < 1.0 => format!("{:.2} ms", seconds * 1e3),
        seconds => format!("{seconds:.2} s"),
    }
}

pub fn push(view: &mut View, registers: Vec<&'static str>, value: String, meaning: String) {
    view.facts.push(fact(registers, value, meaning));
}

fn fact(registers: Vec<&'static str>, value: String, meaning: String) -> Fact {
    Fact {
        registers,
        value,
        meaning,
    }
}
