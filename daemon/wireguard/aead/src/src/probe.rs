//! Measures the back-ends on this processor.

use std::fmt;
use std::hint::black_box;
use std::time::Duration;

use crate::backend::Backend;
use crate::key::Key;
use crate::packet::{Packet, TAG_LEN};
use crate::plan::{Plan, Shape};

const SHORT_TEXT: usize = 128;
const LONG_TEXT: usize = 1420;
/// Packets of a group of "4 and more".
const MANY: usize = 16;
const STRIDE: usize = LONG_TEXT + TAG_LEN;

/// What one back-end took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurement {
    pub backend: Backend,
    pub shape: Shape,
    /// Nanoseconds a packet, with the processor busy: the fastest of all rounds.
    pub hot: u64,
    /// Nanoseconds of one long packet after a pause; `None` for the other shapes.
    pub cold: Option<u64>,
}

/// What the probe found.
#[derive(Clone, Debug)]
pub struct ProbeReport {
    measurements: Vec<Measurement>,
    rounds: u32,
    pause: u64,
}

/// Measures all available back-ends, sealing. `now` gives nanoseconds of a clock that never goes back. It
/// takes about `budget`: a quarter are pauses, in which nothing runs but the clock, so that wide units may go
/// to sleep; what is measured after one is cold. The first round runs whatever the budget is, some 60 us.
pub fn probe(mut now: impl FnMut() -> u64, budget: Duration) -> ProbeReport {
    let budget = u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX);
    let start = now();
    let mut buffer = vec![0u8; MANY * STRIDE];
    let keys: Vec<_> = Backend::available()
        .filter_map(|backend| Some((backend, Key::new(&[0x5a; 32], Plan::of(backend).ok()?))))
        .collect();
    let mut measurements: Vec<_> = keys
        .iter()
        .flat_map(|(backend, _)| {
            Shape::all().map(|shape| Measurement {
                backend: *backend,
                shape,
                hot: u64::MAX,
                cold: None,
            })
        })
        .collect();

    let single = Shape {
        packets: 1,
        is_long: true,
    };
    let pauses = 2 * keys.len() as u64;
    let pause = budget / 4 / pauses;
    let mut rounds = 0;
    loop {
        for measurement in &mut measurements {
            let Some((_, key)) = keys.iter().find(|(backend, _)| *backend == measurement.backend) else {
                continue;
            };
            let is_cold = rounds < 2 && measurement.shape == single;
            if is_cold {
                let pause_start = now();
                while now().saturating_sub(pause_start) < pause {
                    std::hint::spin_loop();
                }
                let time = seal(key, measurement.shape, &mut buffer, &mut now);
                measurement.cold = Some(measurement.cold.map_or(time, |cold| cold.min(time)));
            }
            let time = seal(key, measurement.shape, &mut buffer, &mut now);
            measurement.hot = measurement.hot.min(time);
        }
        rounds += 1;
        let elapsed = now().saturating_sub(start);
        // As long as another round of this length fits.
        if elapsed.saturating_add(elapsed / u64::from(rounds)) > budget {
            return ProbeReport {
                measurements,
                rounds,
                pause,
            };
        }
    }
}

/// Nanoseconds a packet of one group.
fn seal(key: &Key, shape: Shape, buffer: &mut [u8], now: &mut impl FnMut() -> u64) -> u64 {
    let count = if shape.packets == 4 { MANY } else { shape.packets };
    let length = TAG_LEN + if shape.is_long { LONG_TEXT } else { SHORT_TEXT };
    let mut packets: Vec<_> = (0..)
        .zip(buffer.chunks_mut(STRIDE))
        .take(count)
        .filter_map(|(counter, bytes)| Packet::new(counter, &mut bytes[..length]))
        .collect();
    let start = now();
    key.seal_group(black_box(&mut packets));
    now().saturating_sub(start) / count as u64
}

impl ProbeReport {
    pub fn measurements(&self) -> &[Measurement] {
        &self.measurements
    }

    /// For every shape the back-end that was fastest; for one long packet, the one that was so after a pause.
    /// Among equals the plainer one: `ring` comes first.
    pub fn plan(&self) -> Plan {
        let ring = Plan::of(Backend::Ring).expect("ring is everywhere");
        Shape::all().fold(ring, |plan, shape| {
            self.measurements
                .iter()
                .filter(|measurement| measurement.shape == shape)
                .min_by_key(|measurement| measurement.cold.unwrap_or(measurement.hot))
                .and_then(|fastest| plan.with(shape, fastest.backend).ok())
                .unwrap_or(plan)
        })
    }
}

/// A line a back-end: nanoseconds a packet in groups of 1, 2, 3 and 16, short and long, then cold.
impl fmt::Display for ProbeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:13}", "ns a packet")?;
        for text in [SHORT_TEXT, LONG_TEXT] {
            for packets in [1, 2, 3, MANY] {
                write!(f, " {:>7}", format!("{packets}x{text}"))?;
            }
        }
        writeln!(f, " {:>7}", "cold")?;
        for backend in self.measurements.chunk_by(|a, b| a.backend == b.backend) {
            write!(f, "{:13}", backend[0].backend)?;
            for measurement in backend {
                write!(f, " {:>7}", measurement.hot)?;
            }
            match backend.iter().find_map(|measurement| measurement.cold) {
                Some(cold) => writeln!(f, " {cold:>7}")?,
                None => writeln!(f)?,
            }
        }
        write!(
            f,
            "{} rounds; cold is one packet of {LONG_TEXT} bytes after {} us",
            self.rounds,
            self.pause / 1000
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that advances by 100 ns a reading.
    fn ticking() -> impl FnMut() -> u64 {
        let mut time = 0;
        move || {
            time += 100;
            time
        }
    }

    #[test]
    fn measures_every_shape_of_every_backend_within_the_budget() {
        let mut clock = ticking();
        let mut last = 0;
        let report = probe(
            || {
                last = clock();
                last
            },
            Duration::from_micros(200),
        );
        let mut backends: Vec<_> = report
            .measurements()
            .iter()
            .map(|measurement| measurement.backend)
            .collect();
        backends.dedup();
        assert_eq!(backends, Backend::available().collect::<Vec<_>>());
        assert_eq!(report.measurements().len(), 8 * backends.len());
        assert!(
            report
                .measurements()
                .iter()
                .all(|measurement| measurement.hot <= 100)
        );
        assert!(last <= 200_000, "took {last} ns");
        assert!(report.rounds > 2, "{report}");
    }

    #[test]
    fn one_round_runs_without_a_budget() {
        let report = probe(ticking(), Duration::ZERO);
        assert_eq!(report.rounds, 1);
        assert!(
            report
                .measurements()
                .iter()
                .all(|measurement| measurement.hot < u64::MAX)
        );
    }

    #[test]
    fn the_plan_takes_the_fastest_and_for_one_long_packet_the_fastest_when_cold() {
        let measurement = |backend, shape, hot, cold| Measurement {
            backend,
            shape,
            hot,
            cold,
        };
        let many = Shape {
            packets: 4,
            is_long: true,
        };
        let single = Shape {
            packets: 1,
            is_long: true,
        };
        let Some(other) = Backend::available().nth(1) else {
            return;
        };
        let report = ProbeReport {
            measurements: vec![
                measurement(Backend::Ring, many, 700, None),
                measurement(other, many, 400, None),
                measurement(Backend::Ring, single, 700, Some(900)),
                measurement(other, single, 600, Some(2000)),
            ],
            rounds: 1,
            pause: 0,
        };
        let plan = report.plan();
        assert_eq!(plan.backend(many), other);
        assert_eq!(plan.backend(single), Backend::Ring);
        assert_eq!(
            plan.backend(Shape {
                packets: 2,
                is_long: false
            }),
            Backend::Ring,
            "not measured"
        );
    }
}
