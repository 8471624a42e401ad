//! Nanoseconds a packet by back-end, size of the group and length of text, sealed and opened, hot, on one
//! thread: the median of many groups. `cargo bench -p hpetun-aead`, and names of back-ends to measure only
//! those.

use std::hint::black_box;

use hpetun_aead::{Backend, Key, Packet, Plan, TAG_LEN, probe};
use quanta::Clock;

const HEADER: usize = 16;
const GROUPS: [usize; 7] = [1, 2, 3, 4, 8, 16, 46];
const LENGTHS: [usize; 4] = [16, 128, 576, 1420];
const SAMPLES: usize = 1500;

fn main() {
    let names: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let backends: Vec<_> = Backend::available()
        .filter(|backend| names.is_empty() || names.iter().any(|name| name == backend.name()))
        .collect();
    let clock = Clock::new();
    let start = clock.raw();
    let report = probe(
        || clock.delta_as_nanos(start, clock.raw()),
        std::time::Duration::from_millis(1),
    );
    println!("The probe within a millisecond:\n{report}\n");
    print!("{:9} {:>7}", "text", "packets");
    for backend in &backends {
        print!(" {:>19}", format!("{backend}"));
    }
    println!("  (seal, open)");
    for length in LENGTHS {
        for count in GROUPS {
            print!("{length:9} {count:7}");
            for backend in &backends {
                let (seal, open) = measure(&clock, *backend, count, length);
                print!(" {seal:>12.0} {open:>6.0}");
            }
            println!();
        }
    }
}

fn group(buffer: &mut [u8], size: usize) -> Vec<Packet<'_>> {
    (0..)
        .zip(buffer.chunks_mut(size))
        .filter_map(|(counter, segment)| Packet::new(counter, &mut segment[HEADER..]))
        .collect()
}

/// Medians, a packet.
fn measure(clock: &Clock, backend: Backend, count: usize, length: usize) -> (f64, f64) {
    let key = Key::new(&[7; 32], Plan::of(backend).expect("it is available"));
    let size = HEADER + length + TAG_LEN;
    let mut buffer = vec![0x5a; count * size];
    let (mut seal, mut open) = (Vec::with_capacity(SAMPLES), Vec::with_capacity(SAMPLES));
    for _ in 0..SAMPLES {
        let mut packets = group(&mut buffer, size);
        let start = clock.raw();
        key.seal_group(black_box(&mut packets));
        let between = clock.raw();
        key.open_group(black_box(&mut packets));
        let end = clock.raw();
        assert!(packets.iter().all(Packet::is_authentic));
        seal.push(clock.delta_as_nanos(start, between));
        open.push(clock.delta_as_nanos(between, end));
    }
    let median = |times: &mut Vec<u64>| {
        times.sort_unstable();
        times[times.len() / 2] as f64 / count as f64
    };
    (median(&mut seal), median(&mut open))
}
