//! The report of 2019: what is to be found in it is known from an investigation by hand.

use super::super::explanation::{HeldAtEntry, Position, Standing};
use super::*;
use stall_report::hypothesis::Hypothesis::*;

#[test]
fn registers_are_read_as_by_hand() {
    let report = only(SEED);
    assert_eq!(
        (report.kind, report.cpu, report.seconds),
        (Kind::SoftLockup, Some(1), Some(23.0))
    );
    let view = &report.views[0];
    assert_eq!(view.position, Position::WaitLoop);
    let words = view.position_in_words.as_deref().unwrap();
    assert!(
        words.contains("the reload of the lock word, right after `pause`"),
        "{words}"
    );
    let lock = view.lock.as_ref().unwrap();
    assert_eq!(lock.word, Some(0x18a4_c89e_0000_0001));
    assert_eq!(
        (lock.value, lock.locked, lock.old_value),
        (0x18a4_c89e, true, Some(0x18a4_c89e))
    );
    assert_eq!((lock.keeps_waiting, lock.torn), (true, false));
    assert_eq!(lock.address, Some(0xffff_ffff_b820_5040));
    assert_eq!(view.held_at_entry, HeldAtEntry::Yes);
    assert_eq!(view.interrupts, Some(true));
    let elapsed = view.elapsed.as_ref().unwrap();
    assert_eq!((elapsed.mask_in, elapsed.cycle_last_in), (Some("R13"), "R14"));
    assert_eq!(
        (elapsed.wraps, elapsed.ticks, elapsed.hz),
        (5, 258_010, 24_000_000)
    );
    assert!(elapsed.hz_is_assumed);
    assert!((elapsed.seconds * 1e3 - 10.75).abs() < 0.001);
}

#[test]
fn every_fact_names_its_registers() {
    let report = only(SEED);
    for (register, words) in [
        ("RCX", "value 18a4c89e, lock 1 (held)"),
        ("RDX", "value half"),
        ("RAX", "value half"),
        (
            "RSI",
            "old value, from the routine's first look at the word: equal",
        ),
        ("RDI", "the lock was already held at the first look"),
        ("R8", "puts read_hpet at ffffffffb7061250"),
        ("R13", "32 bits"),
        (
            "R14",
            "5 wraps in its high word; the value is 258,010 ticks after it: 10.75 ms at 24 MHz (assumed",
        ),
        ("EFLAGS", "interrupts were on"),
        ("ORIG_RAX", "vector 0xec, the local timer's"),
    ] {
        let meaning = &fact(&report, register).meaning;
        assert!(meaning.contains(words), "{register}: {meaning}");
    }
}

#[test]
fn the_verdict_is_that_of_the_investigation() {
    let judgement = only(SEED).judgement.unwrap();
    assert_eq!(judgement.with(Standing::Stays), [H1, H2]);
    assert_eq!(judgement.with(Standing::RuledOut), [H3, H5, H7, H8, H9]);
    assert_eq!(judgement.with(Standing::Open), [H4, H6, H10, H11, H12]);
    let evidence = |index: usize| judgement.hypotheses[index].evidence.as_str();
    assert!(evidence(0).contains("one sample cannot tell a stuck loop from a busy one"));
    assert!(evidence(1).contains("a hold of 20 s or more that ended"));
    for index in [2, 3, 4] {
        assert!(evidence(index).contains("a nested read on this very processor completed"));
    }
    assert!(judgement.verdict.starts_with(
        "H1 (the worker hogs) or H2 (a hold of 20 s or more that ended) stay; ruled out: H3 (a counter that stays frozen), H5"
    ));
}

#[test]
fn code_is_decoded_from_an_instruction_on() {
    let view = &only(SEED).views[0];
    // The first byte is the end of an instruction.
    let first = &view.code[0];
    assert_eq!((first.offset, first.text.as_str()), (0x3e, "jne +0x51"));
    let loop_: Vec<_> = view.code.iter().filter(|line| line.in_loop).collect();
    assert_eq!((loop_[0].offset, loop_[loop_.len() - 1].offset), (0x61, 0x75));
    let at: Vec<_> = view.code.iter().filter(|line| line.at_rip).collect();
    assert_eq!(at.len(), 1);
    assert_eq!(
        (at[0].text.as_str(), at[0].bytes.as_str()),
        ("mov (%r8),%rcx", "49 8b 08")
    );
}

#[test]
fn another_frequency_is_another_time() {
    let frequency = Frequency {
        hz: 14_318_180,
        assumed: false,
    };
    let report = &explain(SEED.as_bytes(), frequency).unwrap().reports[0];
    let meaning = &fact(report, "R14").meaning;
    assert!(meaning.ends_with("18.02 ms at 14.31818 MHz"), "{meaning}");
}

#[test]
fn what_the_registers_say_follows_from_the_registers() {
    let changed = |from: &str, to: &str| {
        assert!(SEED.contains(from));
        only(&SEED.replace(from, to))
    };
    let off = changed("EFLAGS: 00000202", "EFLAGS: 00000002");
    assert_eq!(off.views[0].interrupts, Some(false));
    let failed = changed("RDI: ffffffffb8227980", "RDI: 0000000000000246");
    assert_eq!(failed.views[0].held_at_entry, HeldAtEntry::No);
    // A free lock, or another value, would have ended the loop before RIP came round again.
    for (from, to) in [
        ("RCX: 18a4c89e00000001", "RCX: 18a4c89e00000000"),
        ("RSI: 0000000018a4c89e", "RSI: 0000000018a4c89d"),
        ("RDX: 0000000018a4c89e", "RDX: 0000000018a4c89d"),
    ] {
        assert_eq!(changed(from, to).views[0].lock, None, "{to}");
    }
    let elsewhere = changed("R14: 0000000518a0d8c4", "R14: ffff9b9018a0d8c4");
    assert_eq!(elsewhere.views[0].elapsed, None);
    // Then nothing shows that the kernel's time is this counter.
    let judgement = elsewhere.judgement.unwrap();
    assert_eq!(judgement.with(Standing::RuledOut), [H7]);
    // A call trace that shows it does as well.
    let traced = SEED
        .replace("R14: 0000000518a0d8c4", "R14: ffff9b9018a0d8c4")
        .replace("Call Trace:\n", "Call Trace:\nktime_get_mono_fast_ns+0x53/0xa0\n");
    let judgement = only(&traced).judgement.unwrap();
    assert_eq!(judgement.with(Standing::RuledOut), [H3, H5, H7]);
}
