//! The HPET's registers, named after the specification (IA-PC HPET 1.0a, chapter 2).

use crate::scale::Scale;

/// General Capabilities and ID Register.
const GCAP_ID: usize = 0x000;
/// General Configuration Register.
const GEN_CONF: usize = 0x010;
/// Main Counter Value Register.
const MAIN_CNT: usize = 0x0f0;
/// `ENABLE_CNF` of the configuration: the main counter runs.
const ENABLE_CNF: u64 = 1;

/// Shortest period that the kernel believes, in femtoseconds: 10 GHz.
const MIN_PERIOD: u32 = 100_000;
/// Longest period that the specification allows, in femtoseconds: 10 MHz.
const MAX_PERIOD: u32 = 100_000_000;

/// Read access to a block of HPET registers.
pub trait Registers {
    /// Reads 64 bits at that offset, in one access.
    fn read64(&self, offset: usize) -> u64;
    /// Reads 32 bits at that offset, in one access.
    fn read32(&self, offset: usize) -> u32;
}

/// The General Capabilities and ID Register, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// `COUNTER_CLK_PERIOD`: femtoseconds a tick.
    pub counter_clk_period: u32,
    /// `VENDOR_ID`, as PCI has it.
    pub vendor_id: u16,
    /// `COUNT_SIZE_CAP`: the main counter has 64 bits, else 32.
    pub count_size_cap: bool,
    /// `NUM_TIM_CAP`: number of the last comparator.
    pub num_tim_cap: u8,
    /// `REV_ID`.
    pub rev_id: u8,
}

/// A device that is not to be trusted with time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDevice {
    /// Nothing answers at the address.
    #[error("its registers read as all ones: no device answers there")]
    Absent,
    /// The period is none that an HPET can have.
    #[error("its period of {0} fs is outside {MIN_PERIOD} to {MAX_PERIOD} fs")]
    Period(u32),
    /// `ENABLE_CNF` is off.
    #[error("its main counter is halted (ENABLE_CNF is 0)")]
    Halted,
    /// The counter stands still.
    #[error("its main counter does not advance")]
    Stuck,
}

impl Capabilities {
    /// Takes the register apart.
    ///
    /// # Errors
    ///
    /// Where nothing answers, or the period is out of range.
    pub fn from_register(register: u64) -> Result<Capabilities, BadDevice> {
        let counter_clk_period = (register >> 32) as u32;
        if register == u64::MAX {
            return Err(BadDevice::Absent);
        }
        if !(MIN_PERIOD..=MAX_PERIOD).contains(&counter_clk_period) {
            return Err(BadDevice::Period(counter_clk_period));
        }
        Ok(Capabilities {
            counter_clk_period,
            vendor_id: (register >> 16) as u16,
            count_size_cap: register & 1 << 13 != 0,
            num_tim_cap: (register >> 8) as u8 & 0x1f,
            rev_id: register as u8,
        })
    }

    /// Reads and checks a device: its capabilities, that its counter is enabled, and that it advances.
    ///
    /// `patience` is asked after each reading of the counter that brought no change, and says whether to try again; so
    /// the caller bounds the wait.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the device.
    pub fn probe(
        device: &impl Registers,
        mut patience: impl FnMut() -> bool,
    ) -> Result<Capabilities, BadDevice> {
        let capabilities = Capabilities::from_register(device.read64(GCAP_ID))?;
        if device.read64(GEN_CONF) & ENABLE_CNF == 0 {
            return Err(BadDevice::Halted);
        }
        let start = capabilities.main_counter(device);
        while capabilities.main_counter(device) == start {
            if !patience() {
                return Err(BadDevice::Stuck);
            }
        }
        Ok(capabilities)
    }

    /// The main counter, in one access as wide as the counter is.
    ///
    /// A bridge, or an emulator, may split a 64-bit access into two of 32 bits. The halves then disagree if the lower one
    /// wraps in between, by 2^32 ticks. That shows as a lower half close to its wrap, where the halves are read
    /// one by one instead; elsewhere one access is all that it takes.
    #[inline]
    pub fn main_counter(&self, device: &impl Registers) -> u64 {
        if !self.count_size_cap {
            return u64::from(device.read32(MAIN_CNT));
        }
        let value = device.read64(MAIN_CNT);
        let to_wrap = (value as u32).wrapping_add(NEAR_WRAP);
        if to_wrap < 2 * NEAR_WRAP {
            whole_counter(device)
        } else {
            value
        }
    }

    /// Bits of the main counter.
    pub fn width(&self) -> u32 {
        if self.count_size_cap { 64 } else { 32 }
    }

    /// Ticks to nanoseconds.
    pub fn scale(&self) -> Scale {
        // A period in the checked range always has a scale.
        Scale::from_period_fs(u64::from(self.counter_clk_period)).unwrap_or(Scale::NANOSECONDS)
    }
}

/// Ticks on either side of a wrap of the lower half in which two halves are not believed: 0.17 s at 100 MHz, far more
/// than the time between two halves of one access.
const NEAR_WRAP: u32 = 1 << 24;

/// Reads the upper half before and after the lower one, until it is the same. It changes once in many seconds, so a
/// second try is enough; the bound is for a device that answers anything.
#[cold]
fn whole_counter(device: &impl Registers) -> u64 {
    let mut high = device.read32(MAIN_CNT + 4);
    for _ in 0..8 {
        let low = device.read32(MAIN_CNT);
        let again = device.read32(MAIN_CNT + 4);
        if again == high {
            return u64::from(high) << 32 | u64::from(low);
        }
        high = again;
    }
    u64::from(high) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Counts at every access, and answers a 64-bit one in two halves, the upper or the lower one first.
    struct Split {
        counter: Cell<u64>,
        upper_first: bool,
    }

    impl Split {
        fn next(&self) -> u64 {
            self.counter.replace(self.counter.get() + 1)
        }
    }

    impl Registers for Split {
        fn read64(&self, _: usize) -> u64 {
            let (first, second) = (self.next(), self.next());
            let (high, low) = if self.upper_first {
                (first, second)
            } else {
                (second, first)
            };
            high >> 32 << 32 | low & u64::from(u32::MAX)
        }

        fn read32(&self, offset: usize) -> u32 {
            let value = self.next();
            (if offset == MAIN_CNT { value } else { value >> 32 }) as u32
        }
    }

    #[test]
    fn an_access_that_is_split_does_not_tear_at_a_wrap() {
        let capabilities = Capabilities::from_register(INTEL).unwrap();
        for upper_first in [false, true] {
            for before in 0..12 {
                let start = (7 << 32) - before;
                let device = Split {
                    counter: Cell::new(start),
                    upper_first,
                };
                let read = capabilities.main_counter(&device);
                assert!((start..start + 20).contains(&read), "{read:#x} after {start:#x}");
            }
        }
    }

    struct Device {
        capabilities: u64,
        configuration: u64,
        counter: Cell<u64>,
        step: u64,
    }

    impl Registers for Device {
        fn read64(&self, offset: usize) -> u64 {
            match offset {
                GCAP_ID => self.capabilities,
                GEN_CONF => self.configuration,
                MAIN_CNT => self.counter.replace(self.counter.get().wrapping_add(self.step)),
                _ => panic!("no such register: {offset:#x}"),
            }
        }
        fn read32(&self, offset: usize) -> u32 {
            match offset {
                MAIN_CNT => self.read64(MAIN_CNT) as u32,
                _ => (self.read64(MAIN_CNT) >> 32) as u32,
            }
        }
    }

    const INTEL: u64 = 41_666_667 << 32 | 0x8086 << 16 | 1 << 13 | 7 << 8 | 1;

    fn probe(capabilities: u64, configuration: u64, step: u64) -> Result<Capabilities, BadDevice> {
        let device = Device {
            capabilities,
            configuration,
            counter: Cell::new(u64::MAX),
            step,
        };
        let mut patience = 10;
        Capabilities::probe(&device, || {
            patience -= 1;
            patience > 0
        })
    }

    #[test]
    fn a_sound_device_is_read_as_the_specification_says() {
        let capabilities = probe(INTEL, 1, 1).unwrap();
        assert_eq!(capabilities.counter_clk_period, 41_666_667);
        assert_eq!(capabilities.vendor_id, 0x8086);
        assert_eq!(
            (
                capabilities.num_tim_cap,
                capabilities.rev_id,
                capabilities.width()
            ),
            (7, 1, 64)
        );
        assert!((capabilities.scale().hz() - 24e6).abs() < 1.0);
        assert_eq!(probe(INTEL & !(1 << 13), 1, 1).unwrap().width(), 32);
    }

    #[test]
    fn unsound_devices_are_refused() {
        assert_eq!(probe(u64::MAX, 1, 1), Err(BadDevice::Absent));
        assert_eq!(probe(0, 1, 1), Err(BadDevice::Period(0)));
        assert_eq!(
            probe(u64::from(MAX_PERIOD + 1) << 32, 1, 1),
            Err(BadDevice::Period(MAX_PERIOD + 1))
        );
        assert_eq!(probe(INTEL, 2, 1), Err(BadDevice::Halted));
        assert_eq!(probe(INTEL, 1, 0), Err(BadDevice::Stuck));
    }
}
