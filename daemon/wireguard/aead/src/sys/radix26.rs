//! Five limbs of 26 bits, for a multiplier of 32-bit integers.
//!
//! Bounds: a carried element has limbs below 2^26 + 2^10, a block's are below 2^26, so the sum of both is
//! below 2^27 + 2^10, and five times a limb of a factor below 2^29. A product is below 2^56 + 2^40, and a sum
//! of 4 times 5 of them below 2^61.

use super::avx2::VectorAvx2 as V;
use super::chacha::double_round;
use super::field::{Field, Quad};
use super::vector::{Cpu, Vector};

const MASK: u64 = (1 << 26) - 1;

#[derive(Clone, Copy, Debug)]
pub(super) struct Radix26;

/// The limbs, and five times the upper four: a product of weight 2^130 counts five times at weight 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factor {
    r: [V; 5],
    x5: [V; 4],
}

impl Field for Radix26 {
    type V = V;
    type Element = [V; 5];
    type Factor = Factor;
    type Sum = [V; 5];

    const TOP: u64 = 1 << 24;

    #[inline(always)]
    fn element(cpu: Cpu<V>, low: V, high: V, top: V) -> [V; 5] {
        let mask = V::splat64(cpu, MASK);
        [
            low.and(mask),
            low.shr64::<26>().and(mask),
            low.shr64::<52>().or(high.shl64::<12>()).and(mask),
            high.shr64::<14>().and(mask),
            high.shr64::<40>().or(top),
        ]
    }

    #[inline(always)]
    fn factor(_: Cpu<V>, r: [V; 5]) -> Factor {
        let mut x5 = [r[0]; 4];
        for i in 0..4 {
            x5[i] = r[i + 1].add64(r[i + 1].shl64::<2>());
        }
        Factor { r, x5 }
    }

    #[inline(always)]
    fn broadcast(cpu: Cpu<V>, factor: &Factor, lane: usize) -> Factor {
        let mut result = *factor;
        for limb in result.r.iter_mut().chain(&mut result.x5) {
            *limb = V::splat64(cpu, limb.word64(lane));
        }
        result
    }

    #[inline(always)]
    fn add(a: [V; 5], b: [V; 5]) -> [V; 5] {
        [
            a[0].add64(b[0]),
            a[1].add64(b[1]),
            a[2].add64(b[2]),
            a[3].add64(b[3]),
            a[4].add64(b[4]),
        ]
    }

    #[inline(always)]
    fn zero(cpu: Cpu<V>) -> [V; 5] {
        [V::splat64(cpu, 0); 5]
    }

    #[inline(always)]
    fn multiply_add(sum: &mut [V; 5], a: [V; 5], b: &Factor) {
        for (i, limb) in a.into_iter().enumerate() {
            for (k, sum) in sum.iter_mut().enumerate() {
                let factor = if k >= i { b.r[k - i] } else { b.x5[4 + k - i] };
                *sum = sum.add64(limb.multiply32(factor));
            }
        }
    }

    #[inline(always)]
    fn carry(cpu: Cpu<V>, mut d: [V; 5]) -> [V; 5] {
        let mask = V::splat64(cpu, MASK);
        // Two chains side by side.
        for from in [3, 0, 4, 1, 0, 2, 1, 3] {
            let above = d[from].shr64::<26>();
            d[from] = d[from].and(mask);
            let above = if from == 4 {
                above.add64(above.shl64::<2>())
            } else {
                above
            };
            d[(from + 1) % 5] = d[(from + 1) % 5].add64(above);
        }
        d
    }

    #[inline(always)]
    fn transpose(elements: [[V; 5]; 8]) -> [[V; 5]; 8] {
        let mut result = elements;
        for limb in 0..5 {
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
    fn reduce(cpu: Cpu<V>, element: [V; 5]) -> (V, V) {
        let mask = V::splat64(cpu, MASK);
        let mut h = element;
        // Twice around: the first leaves limbs of their width but the lowest, which may be 2^10 more, and the
        // second all.
        for _ in 0..2 {
            let mut carry = V::splat64(cpu, 0);
            for limb in &mut h {
                let sum = limb.add64(carry);
                carry = sum.shr64::<26>();
                *limb = sum.and(mask);
            }
            h[0] = h[0].add64(carry).add64(carry.shl64::<2>());
        }
        // Five more reach 2^130 if the number is no less than 2^130 - 5; without bit 130 they are the result
        // then.
        let mut above = V::splat64(cpu, 5);
        for limb in h {
            above = limb.add64(above).shr64::<26>();
        }
        let mut carry = above.add64(above.shl64::<2>());
        for limb in &mut h {
            let sum = limb.add64(carry);
            carry = sum.shr64::<26>();
            *limb = sum.and(mask);
        }
        let [h0, h1, h2, h3, h4] = h;
        (
            h0.or(h1.shl64::<26>()).or(h2.shl64::<52>()),
            h2.shr64::<12>().or(h3.shl64::<14>()).or(h4.shl64::<40>()),
        )
    }

    #[inline(always)]
    fn absorb(cpu: Cpu<V>, rows: &mut [V; 16], element: [V; 5], quad: &Quad<'_, Self>) -> [V; 5] {
        for _ in 0..5 {
            double_round(rows);
        }
        Self::absorb_alone(cpu, element, quad)
    }
}
