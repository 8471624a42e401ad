//! The timekeeper's state in the caller's registers: the counter's mask and the counter at the last update.

use super::explanation::Elapsed;
use super::trace::{GENERAL, Registers};

/// The frequency of the HPET, to turn ticks into time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frequency {
    pub hz: u64,
    /// Nobody said so.
    pub assumed: bool,
}

impl Default for Frequency {
    /// That of Intel's chipsets since 2015. Older ones have 14.318180 MHz.
    fn default() -> Frequency {
        Frequency {
            hz: 24_000_000,
            assumed: true,
        }
    }
}

/// Registers that a function gives back as it got them: RBX, RBP, R12 to R15. They are the caller's.
const CALLERS: [usize; 6] = [3, 5, 12, 13, 14, 15];

/// Finds `cycle_last` by its distance from `value`, the counter's: less than a second, or less than a tenth where no
/// mask is beside it. `keeps` tells which registers the routine leaves alone.
pub fn elapsed(
    registers: &Registers,
    value: u32,
    keeps: impl Fn(usize) -> bool,
    frequency: Frequency,
) -> Option<Elapsed> {
    const MASK: u64 = 0xffff_ffff;
    // Less is a count of something, or nothing.
    const LEAST: u64 = 1 << 16;
    // 2 million wraps are more than ten years.
    const MOST_WRAPS: u64 = 1 << 21;
    let callers = || {
        CALLERS
            .into_iter()
            .filter(|number| keeps(*number))
            .filter_map(|number| Some((number, registers.general(number)?)))
    };
    let mask = callers().find(|(_, number)| *number == MASK);
    let farthest = match mask {
        Some(_) => frequency.hz,
        None => frequency.hz / 10,
    };
    let distance = |last: u64| i64::from(value.wrapping_sub(last as u32) as i32);
    let (number, cycle_last) = callers()
        .filter(|(_, last)| *last >= LEAST && *last != MASK && last >> 32 < MOST_WRAPS)
        .filter(|(_, last)| distance(*last).unsigned_abs() < farthest)
        .min_by_key(|(_, last)| distance(*last).unsigned_abs())?;
    let ticks = distance(cycle_last);
    Some(Elapsed {
        mask_in: mask.map(|(number, _)| GENERAL[number]),
        cycle_last_in: GENERAL[number],
        cycle_last,
        wraps: cycle_last >> 32,
        ticks,
        seconds: ticks as f64 / frequency.hz as f64,
        hz: frequency.hz,
        hz_is_assumed: frequency.assumed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(values: &[(&str, u64)]) -> Registers {
        let mut registers = Registers::default();
        for (name, value) in values {
            assert!(registers.set(name, *value));
        }
        registers
    }

    #[test]
    fn the_last_update_of_2019() {
        let found = registers(&[
            ("RBP", 0x0000_06c1_c3f6_02a2),
            ("RBX", 0),
            ("R12", 0xffff_ffff_b825_9a80),
            ("R13", 0xffff_ffff),
            ("R14", 0x0000_0005_18a0_d8c4),
            ("R15", 0x0010_fa5a),
        ]);
        let elapsed = elapsed(&found, 0x18a4_c89e, |_| true, Frequency::default()).unwrap();
        assert_eq!((elapsed.mask_in, elapsed.cycle_last_in), (Some("R13"), "R14"));
        assert_eq!((elapsed.wraps, elapsed.ticks), (5, 258_010));
        assert!((elapsed.seconds - 0.010_750_4).abs() < 1e-6, "{elapsed:?}");
    }

    #[test]
    fn nothing_is_claimed_of_numbers_that_are_just_there() {
        for (name, value) in [
            // A pointer, however near its lower half is.
            ("R14", 0xffff_9b90_18a4_c000),
            // 2 seconds before.
            ("R14", 0x18a4_c89e - 48_000_000),
            // The routine's own.
            ("RSI", 0x18a4_c89e),
        ] {
            let found = registers(&[("R13", 0xffff_ffff), (name, value)]);
            assert_eq!(
                elapsed(&found, 0x18a4_c89e, |_| true, Frequency::default()),
                None,
                "{value:x}"
            );
        }
        let half_a_second = registers(&[("R14", 0x18a4_c89e - 12_000_000)]);
        assert_eq!(
            elapsed(&half_a_second, 0x18a4_c89e, |_| true, Frequency::default()),
            None
        );
    }

    #[test]
    fn a_value_behind_and_one_past_a_wrap() {
        let hz = Frequency {
            hz: 14_318_180,
            assumed: false,
        };
        let behind = registers(&[("RBX", 0xffff_ffff), ("R12", 0x2_0000_1000)]);
        assert_eq!(elapsed(&behind, 0xff0, |_| true, hz).unwrap().ticks, -16);
        let wrapped = registers(&[("RBX", 0xffff_ffff), ("R12", 0x2_ffff_ff00)]);
        let found = elapsed(&wrapped, 0x100, |_| true, hz).unwrap();
        assert_eq!((found.ticks, found.wraps), (0x200, 2));
    }
}
