//! Bytes that look random and are the same each run.

/// xorshift64*.
#[derive(Debug)]
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        // Seeds that differ by a bit must not run in step.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.number() >> 56) as u8).collect()
    }

    /// 32 bytes in hexadecimal, which are a public key like any other.
    pub fn hex_key(&mut self) -> String {
        self.bytes(32).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
