//! Limbs of 44, 44 and 42 bits, for a multiplier of 52-bit integers.
//!
//! Bounds: a carried element has limbs below 2^44, 2^44 + 2^17 and 2^42, a block's are below 2^44, 2^44 and
//! 2^41, so the sum of both is below 2^46, and twenty times a limb of a carried element below 2^49: all fit
//! the multiplier. A limb of a sum of 8 products gathers 24 halves. Low ones are below 2^52, so that is below
//! 2^57; high ones are below 2^43, so that is below 2^48, and what [`carry`](Field::carry) folds back below
//! 2^61.

use std::marker::PhantomData;

use super::chacha::double_round;
use super::field::{Field, Quad};
use super::vector::{Cpu, Multiply52};

const MASK44: u64 = (1 << 44) - 1;
const MASK42: u64 = (1 << 42) - 1;

#[derive(Clone, Copy, Debug)]
pub(super) struct Radix44<V>(PhantomData<V>);

/// The limbs, and 20 times the upper two: a product of weight 2^132 counts 2^2 * 5 times at weight 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factor<V> {
    r: [V; 3],
    r1x20: V,
    r2x20: V,
}

/// For each limb, the low and the high 52 bits of products.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sum<V> {
    low: [V; 3],
    high: [V; 3],
}

impl<V: Copy> Factor<V> {
    /// What limb `i` is multiplied by for limbs 0, 1 and 2 of the product.
    #[inline(always)]
    fn of_limb(&self, i: usize) -> [V; 3] {
        let [r0, r1, r2] = self.r;
        match i {
            0 => [r0, r1, r2],
            1 => [self.r2x20, r0, r1],
            _ => [self.r1x20, self.r2x20, r0],
        }
    }
}

impl<V: Multiply52 + std::fmt::Debug> Field for Radix44<V> {
    type V = V;
    type Element = [V; 3];
    type Factor = Factor<V>;
    type Sum = Sum<V>;

    const TOP: u64 = 1 << 40;

    #[inline(always)]
    fn element(cpu: Cpu<V>, low: V, high: V, top: V) -> [V; 3] {
        let mask = V::splat64(cpu, MASK44);
        [
            low.and(mask),
            low.shift44(high).and(mask),
            high.shr64::<24>().or(top),
        ]
    }

    #[inline(always)]
    fn factor(cpu: Cpu<V>, r: [V; 3]) -> Factor<V> {
        // Shifts and an addition would come out of the compiler as a multiplication of 64 bits, which is
        // slower.
        let (zero, twenty) = (V::splat64(cpu, 0), V::splat64(cpu, 20));
        Factor {
            r,
            r1x20: zero.add_low52(r[1], twenty),
            r2x20: zero.add_low52(r[2], twenty),
        }
    }

    #[inline(always)]
    fn broadcast(cpu: Cpu<V>, factor: &Factor<V>, lane: usize) -> Factor<V> {
        Factor {
            r: [
                V::splat64(cpu, factor.r[0].word64(lane)),
                V::splat64(cpu, factor.r[1].word64(lane)),
                V::splat64(cpu, factor.r[2].word64(lane)),
            ],
            r1x20: V::splat64(cpu, factor.r1x20.word64(lane)),
            r2x20: V::splat64(cpu, factor.r2x20.word64(lane)),
        }
    }

    #[inline(always)]
    fn add(a: [V; 3], b: [V; 3]) -> [V; 3] {
        [a[0].add64(b[0]), a[1].add64(b[1]), a[2].add64(b[2])]
    }

    #[inline(always)]
    fn zero(cpu: Cpu<V>) -> Sum<V> {
        let zero = V::splat64(cpu, 0);
        Sum {
            low: [zero; 3],
            high: [zero; 3],
        }
    }

    #[inline(always)]
    fn multiply_add(sum: &mut Sum<V>, a: [V; 3], b: &Factor<V>) {
        for i in 0..3 {
            let factors = b.of_limb(i);
            for k in 0..3 {
                sum.low[k] = sum.low[k].add_low52(a[i], factors[k]);
            }
            for k in 0..3 {
                sum.high[k] = sum.high[k].add_high52(a[i], factors[k]);
            }
        }
    }

    #[inline(always)]
    fn carry(cpu: Cpu<V>, sum: Sum<V>) -> [V; 3] {
        let (mask44, mask42) = (V::splat64(cpu, MASK44), V::splat64(cpu, MASK42));
        let (low, high) = (sum.low, sum.high);
        let limb1 = low[1].add64(high[0].shl64::<8>()).add64(low[0].shr64::<44>());
        let limb2 = low[2].add64(high[1].shl64::<8>()).add64(limb1.shr64::<44>());
        // What is above 2^130 counts five times.
        let above = limb2.shr64::<42>().add64(high[2].shl64::<10>());
        let limb0 = low[0].and(mask44).add64(above.add64(above.shl64::<2>()));
        [
            limb0.and(mask44),
            limb1.and(mask44).add64(limb0.shr64::<44>()),
            limb2.and(mask42),
        ]
    }

    #[inline(always)]
    fn transpose(elements: [[V; 3]; 8]) -> [[V; 3]; 8] {
        let mut result = elements;
        for limb in 0..3 {
            let mut rows = [elements[0][limb]; 8];
            for packet in 0..8 {
                rows[packet] = elements[packet][limb];
            }
            let lanes = V::transpose64(rows);
            for lane in 0..8 {
                result[lane][limb] = lanes[lane];
            }
        }
        result
    }

    #[inline(always)]
    fn reduce(cpu: Cpu<V>, element: [V; 3]) -> (V, V) {
        let (mask44, mask42) = (V::splat64(cpu, MASK44), V::splat64(cpu, MASK42));
        let [mut h0, mut h1, mut h2] = element;
        // Twice around: the first leaves limbs of their width but h0, which may be 2^10 more, and the second
        // all.
        for _ in 0..2 {
            h1 = h1.add64(h0.shr64::<44>());
            h2 = h2.add64(h1.shr64::<44>());
            let above = h2.shr64::<42>();
            h0 = h0.and(mask44).add64(above).add64(above.shl64::<2>());
            h1 = h1.and(mask44);
            h2 = h2.and(mask42);
        }
        // Five more reach 2^130 if the number is no less than 2^130 - 5; without bit 130 they are the result
        // then.
        let carry0 = h0.add64(V::splat64(cpu, 5)).shr64::<44>();
        let above = h2.add64(h1.add64(carry0).shr64::<44>()).shr64::<42>();
        h0 = h0.add64(above).add64(above.shl64::<2>());
        h1 = h1.add64(h0.shr64::<44>());
        h2 = h2.add64(h1.shr64::<44>()).and(mask42);
        h0 = h0.and(mask44);
        h1 = h1.and(mask44);
        (h0.or(h1.shl64::<44>()), h1.shr64::<20>().or(h2.shl64::<24>()))
    }

    #[inline(always)]
    fn absorb(cpu: Cpu<V>, rows: &mut [V; 16], element: [V; 3], quad: &Quad<'_, Self>) -> [V; 3] {
        let mut sum = Self::zero(cpu);
        let mut limbs = element;
        // A loop, and not unrolled: in a block of four chunks the compiler runs out of registers.
        for i in 0..4 {
            let power = Self::broadcast(cpu, &quad.powers[i], quad.lane);
            Self::multiply_add(&mut sum, limbs, &power);
            limbs = Self::quad_blocks(cpu, quad, i);
            double_round(rows);
        }
        let result = Self::add(Self::carry(cpu, sum), limbs);
        double_round(rows);
        result
    }
}
