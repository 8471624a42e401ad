//! Does the time that a call takes depend on secrets? By hand, on a quiet machine: Welch's t-test of two
//! classes of inputs that differ in nothing but secrets, in random order, as in dudect (Reparaz, Balasch and
//! Verbauwhede, 2017). A |t| that stays below 4.5 however many samples there are speaks against a dependence;
//! one that grows with their square root speaks for it. The last line is a control that does depend on them.
//!
//! `cargo run --release -p hpetun-aead --example constant_time [SAMPLES]`

use std::hint::black_box;

use hpetun_aead::{Backend, Key, Packet, Plan, TAG_LEN};
use quanta::Clock;
use ring::rand::{SecureRandom, SystemRandom};

const PACKETS: usize = 4;
const SIZE: usize = 300 + TAG_LEN;
const LEN: usize = PACKETS * SIZE;

const INPUTS: usize = 128;

struct Input {
    class: bool,
    key: [u8; 32],
    /// Texts or sealed packets.
    bytes: [u8; LEN],
}

/// Mean and variance of one class (Welford).
#[derive(Clone, Copy, Default)]
struct Class {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Class {
    fn push(&mut self, value: f64) {
        self.count += 1.0;
        let before = value - self.mean;
        self.mean += before / self.count;
        self.squares += before * (value - self.mean);
    }

    fn error(&self) -> f64 {
        self.squares / (self.count - 1.0) / self.count
    }
}

/// The largest |t| of the samples below each of several percentiles: interruptions blur the upper ones.
fn largest_t(samples: &[(bool, u64)]) -> f64 {
    let mut sorted: Vec<u64> = samples.iter().map(|(_, time)| *time).collect();
    sorted.sort_unstable();
    [50, 75, 90, 95, 99, 100]
        .map(|percent| {
            let limit = sorted[(sorted.len() - 1) * percent / 100];
            let mut classes = [Class::default(); 2];
            for (class, time) in samples.iter().filter(|(_, time)| *time <= limit) {
                classes[usize::from(*class)].push(*time as f64);
            }
            let [a, b] = classes;
            ((a.mean - b.mean) / (a.error() + b.error()).sqrt()).abs()
        })
        .into_iter()
        .fold(0.0, f64::max)
}

fn group(buffer: &mut [u8]) -> Vec<Packet<'_>> {
    (0..)
        .zip(buffer.chunks_mut(SIZE))
        .filter_map(|(counter, bytes)| Packet::new(counter, bytes))
        .collect()
}

struct Lab {
    clock: Clock,
    random: SystemRandom,
    samples: usize,
}

impl Lab {
    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).expect("the kernel has random bytes");
        bytes
    }

    /// |t| of what `run` takes: it gets an input, and returns the time of the call alone. There are new
    /// inputs every 2048 calls.
    fn measure(&self, mut inputs: impl FnMut() -> Vec<Input>, mut run: impl FnMut(&Input) -> u64) -> f64 {
        let mut samples = Vec::with_capacity(self.samples);
        while samples.len() < self.samples {
            let inputs = inputs();
            let choices = self.random::<2048>().map(|byte| usize::from(byte) % INPUTS);
            samples.extend(choices.map(|choice| (inputs[choice].class, run(&inputs[choice]))));
        }
        // The first ones warm up.
        largest_t(&samples[self.samples / 50..])
    }

    fn time(&self, call: impl FnOnce()) -> u64 {
        let start = self.clock.raw();
        call();
        self.clock.raw() - start
    }

    /// Inputs of two classes, in an order that is left to chance, so that no class has addresses of its own.
    /// Their class is not looked at between here and the end of a measurement, since a branch would be a
    /// difference too.
    fn inputs(&self, mut make: impl FnMut(bool) -> ([u8; 32], [u8; LEN])) -> Vec<Input> {
        let classes = self.random::<INPUTS>().map(|byte| byte & 1 == 1);
        classes
            .map(|class| {
                let (key, bytes) = make(class);
                Input { class, key, bytes }
            })
            .into()
    }

    /// One key and texts against random ones, to seal or to open; or random ones against others.
    fn secrets(&self, plan: Plan, to_open: bool, alike: bool) -> f64 {
        let fixed = (self.random(), self.random());
        let inputs = || {
            let mut inputs = self.inputs(|is_random| {
                if is_random || alike {
                    (self.random(), self.random())
                } else {
                    fixed
                }
            });
            if to_open {
                for input in &mut inputs {
                    Key::new(&input.key, plan).seal_group(&mut group(&mut input.bytes));
                }
            }
            inputs
        };
        let mut buffer = [0; LEN];
        self.measure(inputs, |input| {
            let key = Key::new(&input.key, plan);
            buffer = input.bytes;
            let mut packets = group(&mut buffer);
            if to_open {
                let time = self.time(|| key.open_group(black_box(&mut packets)));
                assert!(packets.iter().all(Packet::is_authentic));
                time
            } else {
                self.time(|| key.seal_group(black_box(&mut packets)))
            }
        })
    }

    /// A tag that is wrong in its first byte against one that is wrong in its last.
    fn tag(&self, plan: Plan) -> f64 {
        let bytes = self.random::<32>();
        let key = Key::new(&bytes, plan);
        let mut sealed = self.random::<LEN>();
        key.seal_group(&mut group(&mut sealed));
        let inputs = || {
            self.inputs(|is_last| {
                let mut forged = sealed;
                forged[if is_last { SIZE - 1 } else { SIZE - TAG_LEN }] ^= 1;
                (bytes, forged)
            })
        };
        let mut buffer = [0; LEN];
        self.measure(inputs, |input| {
            buffer = input.bytes;
            let mut packets = group(&mut buffer);
            let time = self.time(|| key.open_group(black_box(&mut packets)));
            assert!(!packets[0].is_authentic());
            time
        })
    }

    /// A comparison that stops at the first difference.
    fn control(&self) -> f64 {
        let expected = self.random::<LEN>();
        let inputs = || {
            self.inputs(|is_last| {
                let mut other = expected;
                other[if is_last { LEN - 1 } else { 0 }] ^= 1;
                ([0; 32], other)
            })
        };
        self.measure(inputs, |input| {
            self.time(|| {
                black_box(
                    black_box(&input.bytes)
                        .iter()
                        .zip(&expected)
                        .all(|(a, b)| black_box(a) == b),
                );
            })
        })
    }
}

fn main() {
    let samples = std::env::args()
        .nth(1)
        .map_or(Ok(500_000), |text| text.parse())
        .expect("a number of samples");
    let lab = Lab {
        clock: Clock::new(),
        random: SystemRandom::new(),
        samples,
    };
    println!(
        "largest |t| of {samples} samples{:14} {:>6} {:>6} {:>6} {:>6}",
        "", "seal", "open", "tag", "noise"
    );
    for backend in Backend::available() {
        let plan = Plan::of(backend).expect("it is available");
        let [seal, open, tag, noise] = [
            lab.secrets(plan, false, false),
            lab.secrets(plan, true, false),
            lab.tag(plan),
            lab.secrets(plan, false, true),
        ];
        println!("{backend:40} {seal:6.2} {open:6.2} {tag:6.2} {noise:6.2}");
    }
    println!(
        "{:40} {:>6} {:>6} {:6.2}",
        "control: a comparison that stops early",
        "",
        "",
        lab.control()
    );
}
