//! The same routine as several compilers make it, stopped at every instruction of its wait.

use proptest::prelude::*;

use super::super::explanation::{HeldAtEntry, Position, Standing};
use super::machine::{Machine, Reader, World, readers};
use super::*;
use stall_report::hypothesis::Hypothesis;

const WORLD: World = World {
    held_at_entry: true,
    value: 0x89ab_cdef,
    lock: 1,
    interrupts: true,
    callers: [0xffff_ffff_8204_2000; 16],
};

/// Every place in the wait, in the pass that makes the fourth look and in the one after it.
fn stops(reader: &Reader, world: World, check: &mut dyn FnMut(&Machine<'_>, &Explanation)) -> usize {
    let mut machine = Machine::new(reader, world);
    let mut stops = 0;
    for _ in 0..200 {
        if (4..=5).contains(&machine.looks) {
            stops += 1;
            check(&machine, &only(&machine.report()));
        }
        machine.step();
    }
    assert!(stops >= 12, "{}: {stops}", reader.name);
    stops
}

/// What must hold at a stop, whatever the compiler. Returns what is said of the entry.
fn holds(reader: &Reader, world: World, machine: &Machine<'_>, report: &Explanation) -> HeldAtEntry {
    let view = &report.views[0];
    let text = || format!("{}\n{}\n{view:#?}", reader.name, machine.report());
    assert_eq!(view.position, Position::WaitLoop, "{}", text());
    let lock = view
        .lock
        .as_ref()
        .unwrap_or_else(|| panic!("no word: {}", text()));
    assert_eq!(
        lock.word,
        Some(u64::from(world.value) << 32 | u64::from(world.lock)),
        "{}",
        text()
    );
    assert_eq!(
        (lock.value, lock.locked, lock.keeps_waiting),
        (world.value, true, true),
        "{}",
        text()
    );
    // The comparison may be beyond the code bytes.
    assert!(lock.old_value.is_none_or(|old| old == world.value), "{}", text());
    assert_eq!(view.interrupts, Some(world.interrupts));
    let truth = if world.held_at_entry {
        HeldAtEntry::Yes
    } else {
        HeldAtEntry::No
    };
    assert!(
        [truth, HeldAtEntry::Unknown].contains(&view.held_at_entry),
        "{}",
        text()
    );
    view.held_at_entry
}

#[test]
fn every_compiler_at_every_instruction() {
    for reader in readers() {
        for held_at_entry in [true, false] {
            let world = World {
                held_at_entry,
                ..WORLD
            };
            stops(&reader, world, &mut |machine, report| {
                holds(&reader, world, machine, report);
                let judgement = report.judgement.as_ref().unwrap();
                assert_eq!(judgement.with(Standing::Stays), [Hypothesis::H1, Hypothesis::H2]);
            });
        }
    }
}

#[test]
fn the_entry_is_told_where_a_register_is_left_over() {
    for reader in readers() {
        let told = reader.name.contains("paravirt") || reader.name.contains("xor");
        for held_at_entry in [true, false] {
            let world = World {
                held_at_entry,
                ..WORLD
            };
            let mut known = 0;
            let stops = stops(&reader, world, &mut |machine, report| {
                let entry = holds(&reader, world, machine, report);
                known += usize::from(entry != HeldAtEntry::Unknown);
            });
            // Where the flags are saved in a register that the loop takes for the word, nothing is left over.
            assert_eq!(known > stops / 2, told, "{}: {known} of {stops}", reader.name);
        }
    }
}

#[test]
fn before_the_first_load_no_word_is_claimed() {
    for reader in readers() {
        let mut machine = Machine::new(&reader, WORLD);
        for _ in 0..60 {
            if machine.looks == 1 && machine.instruction().mnemonic() == iced_x86::Mnemonic::Pause {
                let report = only(&machine.report());
                assert_eq!(report.views[0].position, Position::WaitLoop, "{}", reader.name);
                assert_eq!(
                    report.views[0].lock,
                    None,
                    "{}\n{}",
                    reader.name,
                    machine.report()
                );
                break;
            }
            machine.step();
        }
    }
}

#[test]
fn outside_of_the_wait_is_not_in_it() {
    for reader in readers() {
        let mut machine = Machine::new(
            &reader,
            World {
                held_at_entry: false,
                ..WORLD
            },
        );
        // The first look, and the try.
        while machine.looks == 0 || machine.instruction().mnemonic() != iced_x86::Mnemonic::Cmpxchg {
            let report = only(&machine.report());
            assert_ne!(
                report.views[0].position,
                Position::WaitLoop,
                "{}\n{}",
                reader.name,
                machine.report()
            );
            assert_eq!(report.views[0].lock, None);
            machine.step();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever the numbers, what is said is true.
    #[test]
    fn no_number_misleads(
        held_at_entry: bool,
        interrupts: bool,
        value: u32,
        lock in 1u32..,
        callers: [u64; 16],
        which in 0usize..10,
    ) {
        let reader = &readers()[which];
        let world = World { held_at_entry, value, lock, interrupts, callers };
        stops(reader, world, &mut |machine, report| {
            // By chance, a caller's register can look like saved flags; then the entry cannot be known, and is not asked.
            let by_chance = world.callers.iter().any(|number| super::super::entry::may_be_flags(*number));
            if !by_chance {
                holds(reader, world, machine, report);
            }
        });
    }
}
